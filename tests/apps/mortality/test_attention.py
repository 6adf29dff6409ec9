"""Attention on demand and in training: complete, bounded, and without a trace in the training."""

import numpy as np
import pytest
import torch

from caretrace.application.attention import attention_of_subject
from caretrace.application.run import Run
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.apps.mortality import attention
from caretrace.apps.mortality.attention import attention_of, save_attention
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.model import MortalityModel
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError

from ...tiny import QUICK
from .test_model import samples

APPLICATION = load_application("mortality")
SETTINGS = (*QUICK, "training.members=1", "backbone=transformer", "n_layers=2", "backbone_settings.n_heads=2")
ITS = samples([9, 0, 30, 4])


def model(**change) -> MortalityModel:
    torch.manual_seed(0)
    values = {"backbone": "transformer", "d_model": 16, "n_layers": 2, "step_hours": 0.0, "pooling_heads": 2}
    settings = MortalityConfig(**{**values, **change})
    return MortalityModel(settings, n_codes=7, n_types=11, n_static=3).eval()


def test_everything_is_there_and_sums_up():
    batch, made = ITS.batch(range(4)), model()
    found = attention_of(made, batch)
    assert found["layers"].shape == (2, 4, 4, 30, 30)  # layer, batch, head, step, step
    assert found["pooling"].shape == (4, 2, 30)
    assert found["hidden"].shape == (4, 30, 16)
    assert found["query"].shape == (2, 8)
    torch.testing.assert_close(found["layers"].sum(-1), torch.ones(2, 4, 4, 30))
    torch.testing.assert_close(found["pooling"].sum(-1)[[0, 2, 3]], torch.ones(3, 2))
    assert (found["pooling"].transpose(1, 2)[batch.padding_mask] == 0).all()
    value = made.pooling.value(found["hidden"]).unflatten(-1, (2, -1))
    pooled = torch.einsum("bhs,bshd->bhd", found["pooling"], value).flatten(1)
    torch.testing.assert_close(pooled, made.pooling(found["hidden"], found["padding"]))


def test_a_backbone_without_attention_has_its_pooling():
    assert set(attention_of(model(backbone="gru"), ITS.batch(range(4)))) == {
        "pooling", "hidden", "query", "padding", "logit",
    }  # fmt: skip


def test_a_file_holds_what_was_computed(tmp_path):
    made, batch = model(), ITS.batch(range(4))
    kept = save_attention(tmp_path / "a.npz", made, batch, 64)
    assert kept == {"samples": 4, "steps": 30, "first_step": 0}
    found = attention_of(made, batch)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert set(stored) == set(found)
        for name, value in found.items():
            np.testing.assert_allclose(stored[name], value.numpy(), atol=2e-3, err_msg=name)


@pytest.mark.parametrize(("limit", "samples_kept", "steps"), [(40_000, 2, 30), (5_000, 1, 22)])
def test_a_file_keeps_to_its_size(tmp_path, monkeypatch, limit, samples_kept, steps):
    monkeypatch.setattr(attention, "_MEGABYTE", limit)
    made = model()
    batch = samples([30] * 4).batch(range(4))
    kept = save_attention(tmp_path / "a.npz", made, batch, 1)
    with np.load(tmp_path / "a.npz") as stored:
        size = sum(stored[name].nbytes for name in ("layers", "pooling", "hidden", "padding"))
    assert size <= limit
    assert (kept["samples"], kept["steps"]) == (samples_kept, pytest.approx(steps, abs=6))
    if kept["samples"] == 1:  # the latest steps are kept
        assert kept["first_step"] + kept["steps"] == 30


def test_looking_leaves_no_trace_in_the_training(tiny_dataset, tmp_path):
    dataset = Dataset(tiny_dataset)
    for name, extra in (("seen", ["save_attention_every=5"]), ("unseen", [])):
        train(APPLICATION, dataset, load(MortalityConfig, None, [*SETTINGS, *extra]), tmp_path / name)
    weights = [(tmp_path / name / "bundle" / "model.safetensors").read_bytes() for name in ("seen", "unseen")]
    assert weights[0] == weights[1]
    files = sorted((tmp_path / "seen" / "attention" / "member-0").iterdir())
    assert [file.name for file in files] == ["batch-000005.npz", "batch-000010.npz", "batch-000015.npz"]
    with np.load(files[0], allow_pickle=False) as stored:
        assert stored["layers"].shape[:2] == (2, 32)
        assert stored["layers"].dtype == np.float16
    assert not (tmp_path / "unseen" / "attention").exists()


def test_of_any_subject(tiny_run, tiny_dataset, tmp_path):
    dataset = Dataset(tiny_dataset)
    found = attention_of_subject(APPLICATION, Run(tiny_run), dataset, 4, tmp_path / "a.npz", member=1)
    assert found["samples"] == 1
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["pooling"].astype(float).sum(-1), 1.0, atol=2e-2)
    with pytest.raises(CohortError, match="subject 999999 has no label"):
        attention_of_subject(APPLICATION, Run(tiny_run), dataset, 999_999, tmp_path / "b.npz")
    with pytest.raises(ConfigError, match="member 7: the run has 2"):
        attention_of_subject(APPLICATION, Run(tiny_run), dataset, 4, tmp_path / "b.npz", member=7)
