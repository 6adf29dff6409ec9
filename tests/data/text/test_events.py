"""Texts of a dataset → rows of a matrix, the same for every event that says the same."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.data.batch import NO_TEXT
from caretrace.data.text import Filled, embed_dataset, embed_texts, fit_on_training
from caretrace.dataset import Dataset
from caretrace.errors import DatasetError

from ...tiny import write_meds
from .toy_encoder import ToyEncoder

SAID = [
    "Lactate: 4.2",
    None,
    "",
    "  \n",
    "Heparin",
    "Lactate: 4.2",
    "lactate: 4.2",
    " Heparin",
    "Väsopressin",
]


def write_dataset(path: Path) -> Dataset:
    splits = {1: "train", 2: "tuning", 3: "held_out"}
    write_meds(
        path, [(subject, float(h), "DRUG//a", None) for subject in splits for h in range(len(SAID))], splits
    )
    for file in Dataset(path).files():
        pl.read_parquet(file).with_columns(pl.Series(schema.TEXT_VALUE, SAID)).write_parquet(file)
    return Dataset(path)


def test_every_event_gets_the_vector_of_its_text(tmp_path):
    dataset, encoder = write_dataset(tmp_path / "meds"), ToyEncoder()
    embedded = embed_dataset(dataset, encoder, tmp_path / "store")
    assert embedded.texts.to_list() == [" Heparin", "Heparin", "Lactate: 4.2", "Väsopressin", "lactate: 4.2"]
    assert embedded.filled == Filled(texts=5, new=5, truncated=0)
    ids = embedded.ids(dataset.scan().collect()[schema.TEXT_VALUE])
    assert ids.dtype == np.int64
    said = SAID * 3
    assert [row for row, text in zip(ids, said, strict=True) if not (text or "").strip()] == [NO_TEXT] * 9
    for row, text in zip(ids, said, strict=True):
        if row != NO_TEXT:
            np.testing.assert_array_equal(embedded.matrix[row], encoder.encode([text])[0].astype(np.float16))
    assert len(set(ids.tolist())) == 6


def test_in_memory_there_are_only_the_texts_of_the_dataset(tmp_path):
    dataset, encoder = write_dataset(tmp_path / "meds"), ToyEncoder()
    embed_texts(
        pl.Series([f"of another hospital {number}" for number in range(50)]), encoder, tmp_path / "store"
    )
    on_disk = embed_dataset(dataset, encoder, tmp_path / "store")
    small = on_disk.in_memory()
    assert (len(on_disk.matrix), len(small.matrix)) == (55, 5)
    texts = dataset.scan().collect()[schema.TEXT_VALUE]
    one, other = on_disk.ids(texts), small.ids(texts)
    np.testing.assert_array_equal(one == NO_TEXT, other == NO_TEXT)
    there = one != NO_TEXT
    np.testing.assert_array_equal(on_disk.matrix[one[there]], small.matrix[other[there]])


def test_the_matrix_is_what_text_embedding_takes(tmp_path):
    import torch

    from caretrace.backbones.text_embedding import TextEmbedding

    embedded = embed_dataset(write_dataset(tmp_path / "meds"), ToyEncoder(), tmp_path / "store")
    ids = torch.from_numpy(embedded.ids(pl.Series(SAID)))
    small = embedded.in_memory()
    layer = TextEmbedding(embedded.matrix, d_model=3)
    hidden = layer(ids)
    assert hidden.shape == (len(SAID), 3)
    assert (hidden[1] == 0).all()
    assert torch.equal(hidden[0], hidden[5])
    same = TextEmbedding(torch.from_numpy(small.matrix), d_model=3)
    same.load_state_dict(layer.state_dict())
    torch.testing.assert_close(same(torch.from_numpy(small.ids(pl.Series(SAID)))), hidden)


def test_a_text_that_was_not_embedded_is_refused_and_not_shown(tmp_path):
    embedded = embed_texts(pl.Series(["a", "b"]), ToyEncoder(), tmp_path)
    with pytest.raises(DatasetError, match="1 of 3 texts were not embedded") as caught:
        embedded.ids(pl.Series(["a", None, "Mr Smith"]))
    assert "Smith" not in str(caught.value)


def test_a_dataset_without_texts(tmp_path, tiny_dataset):
    embedded = embed_dataset(Dataset(tiny_dataset), ToyEncoder(), tmp_path)
    assert embedded.filled == Filled(0, 0, 0)
    assert embedded.matrix.shape == (0, 8)
    texts = Dataset(tiny_dataset).scan().collect()[schema.TEXT_VALUE]
    assert (embedded.ids(texts) == NO_TEXT).all()
    assert embedded.in_memory().matrix.shape == (0, 8)


def test_progress_is_passed_on(tmp_path):
    calls = []
    embed_dataset(
        write_dataset(tmp_path / "meds"),
        ToyEncoder(),
        tmp_path / "s",
        lambda done, total: calls.append((done, total)),
    )
    assert calls == [(5, 5)]


@pytest.mark.data
@pytest.mark.slow
def test_the_texts_of_the_mimic_iv_demo(tmp_path, caretrace_data):
    from caretrace.ingest import ingest

    ingest("mimic-iv", caretrace_data / "mimic-iv-demo-2.2", tmp_path / "meds")
    dataset = Dataset(tmp_path / "meds")
    encoder = fit_on_training(dataset, width=32, max_texts=5000)
    embedded = embed_dataset(dataset, encoder, tmp_path / "store")
    assert len(embedded.texts) > 50_000
    assert "Heparin Sodium" in " ".join(embedded.texts)
    vectors = embedded.in_memory().matrix.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    assert (np.abs(norms - 1) < 0.01).mean() > 0.99
    ids = embedded.ids(dataset.scan().collect()[schema.TEXT_VALUE])
    assert (ids != NO_TEXT).sum() > 200_000
