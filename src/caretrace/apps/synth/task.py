"""From a MEDS dataset to histories: which diagnoses make a visit, whose they are, how old and of which sex.

A visit is a stay in hospital: all diagnoses up to the same discharge, the first at or after them. Where no
discharge follows (claims without one), diagnoses of one time are a visit.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.config import HistoryConfig
from caretrace.dataset import Dataset
from caretrace.errors import CohortError
from caretrace.evaluation.histories import Histories

DAYS_A_YEAR = 365.25
AGE_MOST = 120  # years; older is a birth that was shifted or mistyped
_SEXES = {"F": 0, "M": 1}
_VISIT, _END, _AGE, _SEX = "visit", "end", "age", "sex"


@dataclasses.dataclass(frozen=True, eq=False)
class Collected:
    """Histories of one split.

    Args:
        histories: Subjects in increasing order of their id.
        subject_id: `[subject]`.
        attrition: What was left out and why, subjects.
        unknown: Codes outside the vocabulary, which became `<unk>`, tokens.
    """

    histories: Histories
    subject_id: np.ndarray[tuple[int], np.dtype[np.int64]]
    attrition: dict[str, int]
    unknown: int


def read_vocabulary(
    dataset: Dataset, config: HistoryConfig | None = None, split: str | None = None
) -> Vocabulary:
    """The codes of a dataset, as written there, without the prefix.

    By default of all splits: which codes a code system has says nothing about a subject, and figures need it.
    Were held-out codes that training lacks thrown together as `<unk>`, held-out subjects would be nearer to any
    other held-out sample than training is, and the floor would be too high.

    Args:
        dataset: Where from.
        config: Which codes, and how many subjects of the split must have one.
        split: Whose codes; None for all.

    Raises:
        CohortError: Nobody has such a code.
    """
    chosen = config or HistoryConfig()
    table = (
        _diagnoses(dataset, split, chosen)
        .group_by(schema.CODE)
        .agg(pl.col(schema.SUBJECT_ID).n_unique().alias("n"))
        .filter(pl.col("n") >= chosen.min_subjects)
        .collect()
    )
    if table.is_empty():
        raise CohortError(
            f"{dataset.path}: nobody has a code that begins with {chosen.prefix!r}; "
            "`caretrace inspect` lists the codes there are, name theirs as `prefix`"
        )
    return Vocabulary.of(table[schema.CODE].to_list())


def collect_histories(
    dataset: Dataset, split: str | None, vocabulary: Vocabulary, config: HistoryConfig | None = None
) -> Collected:
    """Histories of the subjects of a split, as arrays.

    Args:
        dataset: Where from.
        split: One of `schema.SPLITS`, or None for all subjects.
        vocabulary: Codes and their numbers; others become `<unk>`, once a visit.
        config: What makes a history.

    Raises:
        CohortError: Nobody is left.
    """
    chosen = config or HistoryConfig()
    tokens = _with_visits(dataset, split, chosen).collect()
    people = _people(dataset, split, tokens)
    usable = people.filter(pl.col(_SEX).is_not_null() & pl.col(_AGE).is_between(0, AGE_MOST))
    attrition = {
        "with a diagnosis": len(people),
        "sex unknown": people[_SEX].null_count(),
        "age unknown or impossible": len(people.filter(pl.col(_SEX).is_not_null())) - len(usable),
        "kept": len(usable),
    }
    if usable.is_empty():
        raise CohortError(f"{dataset.path}: nobody in {split or 'any split'} is left: {attrition}")
    known = pl.DataFrame({schema.CODE: vocabulary.codes, "number": np.arange(len(vocabulary.codes))})
    coded = (
        tokens.join(usable.select(schema.SUBJECT_ID), on=schema.SUBJECT_ID, how="semi")
        .join(known, on=schema.CODE, how="left")
        .with_columns(pl.col("number").fill_null(vocabulary.n_codes - 1))
    )
    unknown = int((coded["number"] == vocabulary.n_codes - 1).sum())
    keys = [schema.SUBJECT_ID, _VISIT]
    coded = coded.select(*keys, "number").unique().sort(*keys, "number")
    visits = coded.group_by(keys, maintain_order=True).len()
    counts = visits.group_by(schema.SUBJECT_ID, maintain_order=True).len()
    histories = Histories(
        age=usable[_AGE].to_numpy(),
        sex=usable[_SEX].to_numpy(),
        visit_count=counts["len"].to_numpy(),
        code_count=visits["len"].to_numpy(),
        code=coded["number"].to_numpy(),
        n_codes=vocabulary.n_codes,
    )
    return Collected(histories, usable[schema.SUBJECT_ID].to_numpy(), attrition, unknown)


def _diagnoses(dataset: Dataset, split: str | None, config: HistoryConfig) -> pl.LazyFrame:
    return (
        dataset.scan(split)
        .filter(pl.col(schema.CODE).str.starts_with(config.prefix) & pl.col(schema.TIME).is_not_null())
        .select(
            schema.SUBJECT_ID,
            schema.TIME,
            pl.col(schema.CODE).str.strip_prefix(config.prefix),
        )
    )


def _with_visits(dataset: Dataset, split: str | None, config: HistoryConfig) -> pl.LazyFrame:
    """One row per diagnosis: subject, visit (0, 1, … in order of time), code, time."""
    ends = (
        dataset.scan(split)
        .filter(
            (pl.col(schema.CODE) == schema.HOSPITAL_DISCHARGE)
            | pl.col(schema.CODE).str.starts_with(schema.HOSPITAL_DISCHARGE + schema.CODE_SEPARATOR)
        )
        .select(schema.SUBJECT_ID, pl.col(schema.TIME).alias(_END))
        .unique()
        .sort(_END)
    )
    rows = (
        _diagnoses(dataset, split, config)
        .sort(schema.TIME)
        .join_asof(
            ends, left_on=schema.TIME, right_on=_END, by=schema.SUBJECT_ID, strategy="forward",
            check_sortedness=False,
        )
        .with_columns(pl.coalesce(_END, schema.TIME).alias(_END))
        .with_columns((pl.col(_END).rank("dense").over(schema.SUBJECT_ID) - 1).alias(_VISIT))
    )  # fmt: skip
    return rows.filter(pl.col(_VISIT) < config.max_visits) if config.max_visits else rows


def _people(dataset: Dataset, split: str | None, tokens: pl.DataFrame) -> pl.DataFrame:
    """One row per subject with a diagnosis: sex (null if unknown) and age at the first visit, whole years."""
    prefix = schema.GENDER + schema.CODE_SEPARATOR
    measurements = dataset.scan(split)
    sex = (
        measurements.filter(pl.col(schema.CODE).str.starts_with(prefix))
        .group_by(schema.SUBJECT_ID)
        .agg(pl.col(schema.CODE).first().str.strip_prefix(prefix))
        .select(
            schema.SUBJECT_ID,
            pl.col(schema.CODE).replace_strict(_SEXES, default=None, return_dtype=pl.Int64).alias(_SEX),
        )
    )
    birth = (
        measurements.filter(pl.col(schema.CODE) == schema.BIRTH)
        .group_by(schema.SUBJECT_ID)
        .agg(pl.col(schema.TIME).min().alias("birth"))
    )
    age = ((pl.col(schema.TIME) - pl.col("birth")).dt.total_days() / DAYS_A_YEAR).floor().cast(pl.Int64)
    return (
        tokens.lazy()
        .group_by(schema.SUBJECT_ID)
        .agg(pl.col(schema.TIME).min())
        .join(sex, on=schema.SUBJECT_ID, how="left")
        .join(birth, on=schema.SUBJECT_ID, how="left")
        .select(schema.SUBJECT_ID, _SEX, age.alias(_AGE))
        .sort(schema.SUBJECT_ID)
        .collect()
    )
