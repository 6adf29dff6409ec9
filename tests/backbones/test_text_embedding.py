"""Texts by number: the same from memory and from disk, nothing where there is no text."""

import numpy as np
import pytest
import torch

from caretrace.backbones.text_embedding import TextEmbedding
from caretrace.data.batch import NO_TEXT
from caretrace.errors import ConfigError

MATRIX = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float16)
IDS = torch.tensor([[3, NO_TEXT, 0], [3, 4, NO_TEXT]])


def made(matrix) -> TextEmbedding:
    torch.manual_seed(0)
    return TextEmbedding(matrix, d_model=4)


@pytest.fixture
def on_disk(tmp_path) -> np.memmap:
    written = np.memmap(tmp_path / "texts", np.float16, "w+", shape=MATRIX.shape)
    written[:] = MATRIX
    written.flush()
    return np.memmap(tmp_path / "texts", np.float16, "r", shape=MATRIX.shape)


def test_a_text_is_its_row_projected():
    texts = made(torch.from_numpy(MATRIX))
    out = texts(IDS)
    assert out.shape == (2, 3, 4)
    for place, number in np.ndenumerate(IDS.numpy()):
        row = torch.from_numpy(MATRIX[number]).float()
        expected = torch.zeros(4) if number == NO_TEXT else texts.project(row)
        torch.testing.assert_close(out[place], expected)


def test_memory_and_disk_give_the_same(on_disk):
    one, other = made(torch.from_numpy(MATRIX)), made(on_disk)
    assert torch.equal(one(IDS), other(IDS))
    one(IDS).square().sum().backward()
    other(IDS).square().sum().backward()
    assert torch.equal(one.project.weight.grad, other.project.weight.grad)
    assert other.project.weight.grad.abs().sum() > 0


def test_single_precision_is_taken_as_well():
    torch.testing.assert_close(made(MATRIX.astype(np.float32))(IDS), made(MATRIX)(IDS))


def test_the_matrix_is_neither_trained_nor_saved(on_disk):
    for matrix in (torch.from_numpy(MATRIX), on_disk):
        texts = made(matrix)
        assert sorted(texts.state_dict()) == ["project.bias", "project.weight"]
        assert sorted(name for name, _ in texts.named_parameters()) == ["project.bias", "project.weight"]


def test_no_text_at_all_is_survived():
    nothing = torch.full((2, 3), NO_TEXT)
    assert (made(MATRIX)(nothing) == 0).all()
    assert made(MATRIX)(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 4)


@pytest.mark.parametrize(("wrong", "told"), [(5, "from 0 to 5, the matrix has 5"), (-2, "from -2 to 0")])
def test_texts_of_another_dataset_are_refused(wrong, told):
    with pytest.raises(ConfigError, match=f"text ids run {told}"):
        made(MATRIX)(torch.tensor([0, wrong]))


@pytest.mark.parametrize(
    "matrix", [MATRIX[0], MATRIX.astype(np.float64), torch.zeros(2, 3, dtype=torch.long)]
)
def test_a_matrix_of_another_kind_is_refused(matrix):
    with pytest.raises(ConfigError, match=r"it must be \[text, width\] of float16 or float32"):
        made(matrix)


def test_it_goes_through_autocast(on_disk):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = made(on_disk)(IDS)
    torch.testing.assert_close(out.float(), made(on_disk)(IDS), rtol=0.05, atol=0.05)
