"""The offline encoder: fitted on training subjects only, the same for a seed, equal after a round trip."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from caretrace import schema
from caretrace.data.text import TextEncoder, TfidfEncoder, fit_on_training, load_encoder, save_encoder, tfidf
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, DatasetError

from ...tiny import write_meds
from .toy_encoder import ToyEncoder

DRUGS = ("Heparin Sodium", "Norepinephrine", "Vancomycin", "Furosemide", "Insulin Glargine")
TEXTS = [f"{drug}: {dose} mg IV" for drug in DRUGS for dose in (5, 10, 20, 50)]


def by_many(texts: list[str], subjects: int = 8) -> tuple[list[str], list[int]]:
    """Every text with every subject."""
    return texts * subjects, [subject for subject in range(subjects) for _ in texts]


def fitted(texts: list[str] = TEXTS, **settings) -> TfidfEncoder:
    return TfidfEncoder.fit(*by_many(texts), **{"width": 16, **settings})


def learned(encoder: TfidfEncoder) -> list:
    parts = [encoder.idf["words"], encoder.idf["characters"], encoder.components]
    return [encoder.terms, *(part.tolist() for part in parts)]


def test_texts_that_say_the_same_are_near():
    encoder = fitted()
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode(
        ["heparin sodium: 5 mg IV", "Heparin Sodium 50 mg", "Vancomycin: 5 mg IV", "Norepinefrine"]
    )
    near = vectors @ encoder.encode(["Heparin Sodium: 5 mg IV", "Norepinephrine: 20 mg IV"]).T
    assert near[0, 0] > 0.95
    assert near[1, 0] > near[2, 0] + 0.2
    assert near[3, 1] > near[3, 0] + 0.2  # misspelt: the characters tell


def test_vectors_are_of_length_one_and_a_strange_text_is_zeros():
    encoder = fitted()
    vectors = encoder.encode([*TEXTS, "日本", "§§§", ""])
    assert vectors.shape == (23, encoder.width) == (23, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1.0] * 20 + [0.0] * 3, atol=1e-6)


def test_the_same_seed_gives_the_same_encoder_in_any_order():
    texts, subjects = by_many(TEXTS)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[row] for row in order] * 2, [subjects[row] for row in order] * 2
    one, other = (TfidfEncoder.fit(*each, width=16) for each in ((texts, subjects), shuffled))
    assert learned(one) == learned(other)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != TfidfEncoder.fit(texts, subjects, width=8).fingerprint


def test_the_seed_decides_what_is_drawn():
    drawn = [fitted(seed=seed, max_texts=6).fingerprint for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_directions_are_those_of_the_exact_decomposition():
    """A second opinion: scikit-learn's TF-IDF and NumPy's full SVD."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoder = fitted(width=6)
    blocks = [
        TfidfVectorizer(
            **tfidf._ANALYSIS[part], vocabulary=list(encoder.terms[part]), sublinear_tf=True, dtype=np.float64
        ).fit_transform(sorted(TEXTS))
        for part in ("words", "characters")
    ]
    weights = np.concatenate([block.toarray() for block in blocks], axis=1)
    _, _, exact = np.linalg.svd(weights, full_matrices=False)
    overlap = np.linalg.svd(exact[:6] @ encoder.components.T.astype(np.float64))[1]
    np.testing.assert_allclose(overlap, 1, atol=1e-3)  # the same space


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(tmp_path):
    encoder = fitted()
    save_encoder(encoder, tmp_path / "text")
    assert sorted(path.name for path in (tmp_path / "text").iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
    ]
    loaded = load_encoder(tmp_path / "text")
    assert loaded.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    json.loads((tmp_path / "text" / "encoder.json").read_text())
    load_file(tmp_path / "text" / "encoder.safetensors")


def damage_json(folder: Path) -> None:
    (folder / "encoder.json").write_text((folder / "encoder.json").read_text()[:50])


def damage_tensors(folder: Path) -> None:
    (folder / "encoder.safetensors").write_bytes(b"x" * 40)


def another_vocabulary(folder: Path) -> None:
    content = json.loads((folder / "encoder.json").read_text())
    content["terms"]["words"].pop()
    (folder / "encoder.json").write_text(json.dumps(content))


def another_kind(folder: Path) -> None:
    (folder / "encoder.json").write_text('{"kind": "tfidff"}')


def gone(folder: Path) -> None:
    (folder / "encoder.safetensors").unlink()


@pytest.mark.parametrize("damage", [damage_json, damage_tensors, another_vocabulary, another_kind, gone])
def test_a_damaged_encoder_is_refused(tmp_path, damage):
    save_encoder(fitted(), tmp_path)
    damage(tmp_path)
    with pytest.raises(BundleError, match="text encoder"):
        load_encoder(tmp_path)


def test_an_encoder_of_somebody_else_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="only TfidfEncoder and PretrainedEncoder"):
        save_encoder(ToyEncoder(), tmp_path)


def test_one_text_is_enough():
    encoder = TfidfEncoder.fit(["Lactate: 4.2"], [1])
    assert encoder.width == 1
    np.testing.assert_allclose(np.abs(encoder.encode(["Lactate: 4.2"])), [[1.0]], atol=1e-6)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_words_are_no_encoder(texts):
    with pytest.raises(DatasetError, match="encoder"):
        TfidfEncoder.fit(texts, [1] * len(texts))


def test_what_one_subject_alone_says_is_not_in_the_vocabulary():
    """The vocabulary travels in bundles: a name in somebody's note must not."""
    texts, subjects = by_many(TEXTS, subjects=200)
    encoder = TfidfEncoder.fit([*texts, "seen by Dr Quackenbush"], [*subjects, 7], width=8)
    terms = [term for part in encoder.terms.values() for term in part]
    assert "heparin" in terms
    assert not [term for term in terms if "quack" in term or "nbush" in term]
    many = TfidfEncoder.fit([*texts, *["seen by Dr Quackenbush"] * 10], [*subjects, *range(10)], width=8)
    assert "quackenbush" in many.terms["words"]


# --- outside the training split ------------------------------------------------------------------


def write_dataset(path: Path, changed: tuple[str, ...] = ()) -> Path:
    """12 subjects with a few texts each; those of the `changed` splits say something else."""
    splits = {subject: schema.SPLITS[subject % 3] for subject in range(1, 13)}
    rows = [(subject, float(hour), "DRUG//a", None) for subject in splits for hour in range(4)]
    write_meds(path, rows, splits)
    for file in Dataset(path).files():
        frame = pl.read_parquet(file)
        said = [
            f"Unheard-of remedy number {subject}"
            if splits[subject] in changed
            else TEXTS[(subject * 7 + row) % 20]
            for row, subject in enumerate(frame[schema.SUBJECT_ID])
        ]
        frame.with_columns(pl.Series(schema.TEXT_VALUE, said)).write_parquet(file)
    return path


OTHERS = [("held_out",), ("tuning",), ("tuning", "held_out")]


@pytest.mark.parametrize("changed", OTHERS)
def test_the_encoder_has_seen_nobody_but_training_subjects(tmp_path, changed):
    clean, spoilt = (write_dataset(tmp_path / name, c) for name, c in (("clean", ()), ("spoilt", changed)))
    one, other = (fit_on_training(Dataset(path), width=8) for path in (clean, spoilt))
    assert learned(one) == learned(other)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("changed", OTHERS)
def test_the_check_turns_red_when_the_encoder_is_fitted_on_everyone(tmp_path, changed, monkeypatch):
    """The fault of the document's prototype."""
    clean, spoilt = (
        Dataset(write_dataset(tmp_path / name, c)) for name, c in (("clean", ()), ("spoilt", changed))
    )
    for dataset in (clean, spoilt):
        everyone = dataset.splits.with_columns(pl.lit(schema.TRAIN).alias(schema.SPLIT))
        monkeypatch.setitem(vars(dataset), "splits", everyone)
    monkeypatch.setattr(Dataset, "files", lambda self, split=None: sorted(self.path.glob("data/*/*.parquet")))
    one, other = (fit_on_training(dataset, width=8) for dataset in (clean, spoilt))
    assert learned(one) != learned(other)


def test_the_check_turns_red_when_training_subjects_change(tmp_path):
    clean, spoilt = (write_dataset(tmp_path / name, c) for name, c in (("clean", ()), ("spoilt", ("train",))))
    assert fit_on_training(Dataset(clean)).fingerprint != fit_on_training(Dataset(spoilt)).fingerprint


def test_a_dataset_whose_files_are_not_kept_by_split_is_read_by_its_table(tmp_path):
    """Another tool's dataset: all subjects in one folder, even in one that is called train."""
    path = write_dataset(tmp_path / "meds")
    expected = fit_on_training(Dataset(path), width=8)
    together = pl.concat([pl.read_parquet(file) for file in Dataset(path).files()])
    for folder in ("all", "train"):
        for file in Dataset(path).files():
            file.unlink()
        (path / "data" / folder).mkdir(exist_ok=True)
        together.sort(schema.SUBJECT_ID, schema.TIME).write_parquet(path / "data" / folder / "0.parquet")
        assert learned(fit_on_training(Dataset(path), width=8)) == learned(expected)


def test_without_texts_there_is_no_encoder(tiny_dataset):
    with pytest.raises(DatasetError, match="no training subject has a text"):
        fit_on_training(Dataset(tiny_dataset))
