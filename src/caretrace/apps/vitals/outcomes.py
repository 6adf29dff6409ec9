"""What the scores of the first day say of what really happened later: death, sepsis, kidney injury.

Nobody taught the model any of this. Stays whose outcome came within the first day are left out, for there is nothing
left to foresee.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from caretrace import schema
from caretrace.apps.vitals.policy import Scores
from caretrace.dataset import Dataset
from caretrace.evaluation.discrimination import auroc

FIRST_SECONDS = 86_400.0
_PREFIXES = ("OUTCOME//", schema.DEATH)
FEWEST = 5  # subjects of each kind


def outcomes(
    dataset: Dataset,
    split: str | None,
    scores: Sequence[Scores],
    margin: Sequence[npt.NDArray[np.float64]],
    replicates: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """AUROC of a stay's highest score of the first day, by outcome that the dataset carries.

    Args:
        dataset: With outcomes as codes `OUTCOME//…` or `MEDS_DEATH`.
        split: Which subjects.
        scores: Of the recordings as they were, in order.
        margin: [step] for each of them.
        replicates: Resamples of subjects.
        seed: Of the resamples.
    """
    events = (
        dataset.scan(split)
        .filter(pl.any_horizontal(pl.col(schema.CODE).str.starts_with(prefix) for prefix in _PREFIXES))
        .filter(pl.col(schema.NUMERIC_VALUE).is_null())
        .group_by(schema.SUBJECT_ID, schema.CODE)
        .agg(pl.col(schema.TIME).min().dt.epoch("us") / 1e6)
        .collect()
    )
    highest, begins = _first_day(scores, margin)
    found = {}
    for code in events[schema.CODE].unique().sort():
        at = dict(
            events.filter(pl.col(schema.CODE) == code).select(schema.SUBJECT_ID, schema.TIME).iter_rows()
        )
        kept = [who for who in highest if at.get(who, np.inf) > begins[who] + FIRST_SECONDS]
        label = np.array([who in at for who in kept])
        score = np.array([highest[who] for who in kept])
        if min(label.sum(), (~label).sum()) >= FEWEST:
            found[code] = _ranked(label, score, replicates, seed)
    return found


def _first_day(
    scores: Sequence[Scores], margin: Sequence[npt.NDArray[np.float64]]
) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """Highest score within the first day of each subject, and when the recording begins."""
    highest: dict[int, float] = {}
    begins: dict[int, float] = {}
    for each, values in zip(scores, margin, strict=True):
        begins.setdefault(each.subject, float(each.times[0]))
        early = values[each.times <= begins[each.subject] + FIRST_SECONDS]
        if early.size:
            highest[each.subject] = max(highest.get(each.subject, -np.inf), float(early.max()))
    return highest, begins


def _ranked(
    label: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], replicates: int, seed: int
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(min(replicates, 500)):
        drawn = rng.integers(0, label.size, label.size)
        if 0 < label[drawn].sum() < label.size:
            draws.append(auroc(label[drawn], score[drawn]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "auroc": float(auroc(label, score)),
        "low": float(low),
        "high": float(high),
        "n": float(label.size),
        "positives": float(label.sum()),
    }
