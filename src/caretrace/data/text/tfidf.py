"""The offline text encoder: words and character n-grams, weighted by TF-IDF, reduced by a truncated SVD.

Needs no download, and is fitted on the texts of training subjects only: latent semantic analysis, Deerwester
et al. 1990, https://doi.org/10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9.

encoder.json          settings and vocabulary
encoder.safetensors   inverse document frequencies and components
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from caretrace import schema
from caretrace.data.inputs import SAMPLE, Inputs
from caretrace.data.text.events import has_text
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, DatasetError
from caretrace.files import read_json, write_json

KIND = "tfidf"
_FORMAT = 1
_PARTS = ("words", "characters")
# Arguments of sklearn's CountVectorizer: single words and pairs; two to four characters within a word.
_ANALYSIS: Mapping[str, Mapping[str, Any]] = {
    "words": {"analyzer": "word", "token_pattern": r"(?u)\b\w+\b", "ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
_MAX_TERMS: Mapping[str, int] = {"words": 8192, "characters": 16384}
# A term must come from this many subjects, or it could tell who they are: the vocabulary travels in bundles.
_MIN_SUBJECTS = 5


@dataclasses.dataclass(frozen=True)
class TfidfEncoder:
    """Texts → unit vectors; a text without any known word or n-gram → zeros.

    Args:
        terms: Part (`words`, `characters`) → its terms, in the order of the columns.
        idf: Part → inverse document frequency of each term, float32 [term].
        components: Right singular vectors over the terms of both parts, float32 [width, term].
    """

    terms: Mapping[str, tuple[str, ...]]
    idf: Mapping[str, np.ndarray]
    components: np.ndarray

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        subjects: Sequence[int],
        *,
        width: int = 128,
        max_texts: int = 50_000,
        seed: int = 0,
    ) -> TfidfEncoder:
        """Learn vocabulary, weights and components.

        Args:
            texts: Texts, text i of subject `subjects[i]`; only distinct pairs matter, in any order.
            subjects: Whose they are. A term is kept if at least five of them have it (fewer where there are
                fewer than a hundred), so that a name in somebody's text stays with them.
            width: Numbers per vector; fewer if there are fewer texts or terms.
            max_texts: Learn from at most this many texts, drawn at random.
            seed: Seed of the draw and of the randomised SVD (Halko et al. 2011, arXiv:0909.4061).

        Raises:
            DatasetError: There is no text, or no term that enough subjects share.
        """
        distinct, incidence = _by_subject(texts, subjects, max_texts, seed)
        least = min(_MIN_SUBJECTS, max(1, incidence.shape[0] // 20))
        terms = {part: _shared_terms(part, distinct, incidence, least) for part in _PARTS}
        if not any(terms.values()):
            raise DatasetError(
                f"no word of {len(distinct)} texts occurs with {least} or more subjects, so no encoder can be fitted; "
                "use a pretrained encoder, or leave texts out"
            )
        counts = {part: _count(part, terms[part], distinct) for part in _PARTS}
        idf = {part: _idf(counts[part]) for part in _PARTS}
        return cls(terms, idf, _components(_weigh(counts, idf), width, seed))

    @property
    def name(self) -> str:
        """For people."""
        return KIND

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return len(self.components)

    @functools.cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        """Everything that was learned, as a hash."""
        learned = hashlib.sha256(json.dumps([self.terms[part] for part in _PARTS]).encode())
        for values in (*(self.idf[part] for part in _PARTS), self.components):
            learned.update(values.tobytes())
        return {"kind": KIND, "format": _FORMAT, "learned": learned.hexdigest(), "width": self.width}

    @property
    def truncated(self) -> int:
        """None: a text may have any length."""
        return 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One vector per text, float32 [text, width], of length 1 or 0."""
        counts = {part: _count(part, self.terms[part], texts) for part in _PARTS}
        vectors = np.asarray(_weigh(counts, self.idf) @ self.components.T, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def save(self, folder: Path) -> None:
        """Write `encoder.json` and `encoder.safetensors` into a folder, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"idf.{part}": self.idf[part] for part in _PARTS} | {"components": self.components}
        save_file(tensors, folder / "encoder.safetensors")
        terms = {part: list(self.terms[part]) for part in _PARTS}
        write_json(folder / "encoder.json", {"kind": KIND, "format": _FORMAT, "terms": terms})

    @classmethod
    def load(cls, folder: Path) -> TfidfEncoder:
        """Read what `save` wrote; it gives the same vectors to the last bit.

        Raises:
            BundleError: A file is missing or damaged, or they do not belong together.
        """
        try:
            terms = read_json(folder / "encoder.json")["terms"]
            tensors = load_file(folder / "encoder.safetensors")
            found = cls(
                {part: tuple(terms[part]) for part in _PARTS},
                {part: tensors[f"idf.{part}"] for part in _PARTS},
                tensors["components"],
            )
            sizes = [len(found.terms[part]) for part in _PARTS]
            if [len(found.idf[part]) for part in _PARTS] != sizes or found.components.shape[1] != sum(sizes):
                raise ValueError("vocabulary and weights are of different sizes")  # noqa: TRY301
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BundleError(
                f"{folder}: no text encoder, or a damaged one ({type(error).__name__}: {error}); fit it again, or copy "
                "encoder.json and encoder.safetensors again"
            ) from None
        return found


def fit_on_training(
    dataset: Dataset, *, width: int = 128, max_texts: int = 50_000, seed: int = 0
) -> TfidfEncoder:
    """Fit the offline encoder on the texts of a dataset's training subjects, and of nobody else.

    Args:
        dataset: The MEDS dataset.
        width: Numbers per vector; fewer if there are fewer texts or terms.
        max_texts: Learn from at most this many distinct texts, drawn at random.
        seed: Seed of the draw and of the SVD.

    Raises:
        DatasetError: No training subject has a text.
    """
    training = dataset.splits.lazy().filter(pl.col(schema.SPLIT) == schema.TRAIN).select(schema.SUBJECT_ID)
    # Other tools need not keep splits in folders, so the table of splits decides, not the folder.
    pairs = (
        dataset.scan(schema.TRAIN if dataset.files(schema.TRAIN) else None)
        .filter(has_text())
        .select(schema.SUBJECT_ID, schema.TEXT_VALUE)
        .join(training, on=schema.SUBJECT_ID, how="semi")
        .unique()
        .collect()
    )
    if pairs.is_empty():
        raise DatasetError(
            f"{dataset.path}: no training subject has a text, so no encoder can be fitted on them; leave texts out"
        )
    texts, subjects = pairs[schema.TEXT_VALUE].to_list(), pairs[schema.SUBJECT_ID].to_list()
    return TfidfEncoder.fit(texts, subjects, width=width, max_texts=max_texts, seed=seed)


def fit_on_inputs(train: Inputs, *, width: int = 128, max_texts: int = 50_000, seed: int = 0) -> TfidfEncoder:
    """Fit the offline encoder on what a model may see of its training subjects, and on nothing else.

    Stricter than `fit_on_training`: texts after a prediction time are left out, too.

    Args:
        train: Inputs of training subjects; no other split may be passed in.
        width: Numbers per vector; fewer if there are fewer texts or terms.
        max_texts: Learn from at most this many distinct texts, drawn at random.
        seed: Seed of the draw and of the SVD.

    Raises:
        DatasetError: No training subject has a text.
    """
    whose = train.labels.with_row_index(SAMPLE).select(SAMPLE, schema.SUBJECT_ID)
    pairs = (
        train.measurements.filter(has_text())
        .join(whose, on=SAMPLE, how="inner")
        .select(schema.SUBJECT_ID, schema.TEXT_VALUE)
        .unique()
    )
    if pairs.is_empty():
        raise DatasetError(
            "no training subject has a text before a prediction time, so no encoder can be fitted; leave texts out "
            "with text=none"
        )
    texts, subjects = pairs[schema.TEXT_VALUE].to_list(), pairs[schema.SUBJECT_ID].to_list()
    return TfidfEncoder.fit(texts, subjects, width=width, max_texts=max_texts, seed=seed)


def _by_subject(
    texts: Sequence[str], subjects: Sequence[int], max_texts: int, seed: int
) -> tuple[list[str], Any]:
    """The distinct texts to learn from, sorted, and who has them: sparse [subject, text]."""
    from scipy.sparse import csr_array

    frame = pl.DataFrame(
        {"text": texts, "subject": subjects}, schema={"text": pl.String, "subject": pl.Int64}
    )
    distinct = frame["text"].unique().sort()
    if distinct.is_empty():
        raise DatasetError("there is no text to fit an encoder on; leave texts out")
    if len(distinct) > max_texts:
        drawn = np.random.default_rng(seed).choice(len(distinct), max_texts, replace=False)
        distinct = distinct[np.sort(drawn)]
    columns = pl.DataFrame({"text": distinct}).with_row_index("column")
    pairs = frame.unique().join(columns, on="text", how="inner")
    row = pairs["subject"].rank("dense").to_numpy().astype(np.int64) - 1
    column = pairs["column"].to_numpy().astype(np.int64)
    shape = (int(row.max()) + 1, len(distinct))
    return distinct.to_list(), csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)


def _shared_terms(part: str, texts: list[str], incidence: Any, least: int) -> tuple[str, ...]:
    """The terms that most subjects have, at least `least` of them; alphabetical."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(**_ANALYSIS[part], dtype=np.float32)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # "empty vocabulary": nothing but punctuation
        return ()
    names = vectorizer.get_feature_names_out()
    holders = np.bincount((incidence @ counts).tocoo().col, minlength=len(names))
    # Alphabetical already, so a stable sort settles ties the same way every time.
    order = np.argsort(-holders, kind="stable")[: _MAX_TERMS[part]]
    return tuple(sorted(str(names[column]) for column in order if holders[column] >= least))


def _count(part: str, terms: Sequence[str], texts: Sequence[str]) -> Any:
    """How often each term stands in each text, sparse float32 [text, term]."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    if not terms:
        return csr_array((len(texts), 0), dtype=np.float32)
    vectorizer = CountVectorizer(**_ANALYSIS[part], vocabulary=list(terms), dtype=np.float32)
    return csr_array(vectorizer.transform(texts))


def _idf(counts: Any) -> np.ndarray:
    """Smoothed inverse document frequency, as in scikit-learn: ln((1 + texts) / (1 + texts with it)) + 1."""
    having = np.bincount(counts.tocoo().col, minlength=counts.shape[1])
    return (np.log((1 + counts.shape[0]) / (1 + having)) + 1).astype(np.float32)


def _weigh(counts: Mapping[str, Any], idf: Mapping[str, np.ndarray]) -> Any:
    """(1 + ln count) × idf, each part of a text scaled to length 1: sparse [text, terms of both parts]."""
    from scipy.sparse import hstack
    from sklearn.preprocessing import normalize

    weighted = []
    for part in _PARTS:
        block = counts[part].copy()
        block.data = (1 + np.log(block.data)) * idf[part][block.indices]
        weighted.append(normalize(block) if block.shape[1] else block)
    return hstack(weighted, format="csr")


def _components(weights: Any, width: int, seed: int) -> np.ndarray:
    """The `width` directions that keep most of the texts' weights, float32 [width, term]."""
    from sklearn.utils.extmath import randomized_svd

    _, _, components = randomized_svd(weights, min(width, *weights.shape), n_iter=5, random_state=seed)
    return np.ascontiguousarray(components, dtype=np.float32)
