"""Grids → hidden vectors: a value that fills a gap is told from one that was measured."""

import dataclasses

import pytest
import torch

from caretrace.backbones import BACKBONES, build_backbone
from caretrace.backbones.grid_embedding import GridEmbedding
from caretrace.data.batch import GridBatch


@pytest.fixture
def grid() -> GridBatch:
    draw = torch.Generator().manual_seed(0)
    return GridBatch(
        values=torch.randn(2, 3, 7, generator=draw),
        observed=torch.rand(2, 3, 7, generator=draw) > 0.3,
        time_features=torch.randn(2, 2, 7, generator=draw),
    )


@pytest.fixture
def embedding() -> GridEmbedding:
    torch.manual_seed(1)
    return GridEmbedding(n_channels=3, n_features=2, d_model=8, dropout=0.0)


def test_each_step_is_its_own(embedding, grid):
    hidden, padding_mask = embedding(grid)
    assert hidden.shape == (2, 7, 8)
    assert not padding_mask.any()
    for name in ("values", "observed", "time_features"):
        changed = getattr(grid, name).clone()
        changed[:, 1, 4] = ~changed[:, 1, 4] if name == "observed" else changed[:, 1, 4] + 1
        other, _ = embedding(dataclasses.replace(grid, **{name: changed}))
        differs = (other != hidden).any(-1)
        assert differs[:, 4].all(), name
        assert not differs[:, [0, 1, 2, 3, 5, 6]].any(), name


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_reads_it(name, embedding, grid):
    backbone = build_backbone(name, d_model=8, n_layers=1, dropout=0.0)
    out = backbone(*embedding(grid))
    assert out.shape == (2, 7, 8)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in embedding.parameters())
