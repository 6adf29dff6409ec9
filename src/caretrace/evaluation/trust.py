"""Whom a model serves worse, and what it gains by keeping silent when it is unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.evaluation.checks import checked_labels, checked_probabilities, checked_scores
from caretrace.evaluation.discrimination import auprc, auroc, brier
from caretrace.evaluation.intervals import Resamples, bootstrap_intervals

# Values of one grouping that get a row of their own; the rest is "other".
MOST_VALUES = 12
# Shares of the samples that are answered, the least certain left out first.
COVERAGES = tuple(round(1 - 0.05 * step, 2) for step in range(19))


def subgroup_table(
    outcomes: npt.ArrayLike,
    risks: npt.ArrayLike,
    subjects: npt.ArrayLike,
    groups: Mapping[str, Sequence[str]],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Figures within each group; intervals resample subjects of the group.

    `calibration` is observed over expected deaths (1 is right, above 1: the stated risks are too low). A group with
    one outcome only has counts and no figures.

    Args:
        outcomes: 0 or 1, [sample].
        risks: Probabilities, [sample].
        subjects: Subject of each sample.
        groups: Grouping such as `sex` → value of each sample, [sample].
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Rows of `group`, `grouping`, `value`, `n`, `subjects`, `positives`, `mean_risk`, and `auroc`, `ece`,
        `calibration` with `value`, `low`, `high`, or None.
    """
    labels = checked_labels(outcomes)
    probabilities = checked_probabilities(risks, labels.size)
    whose = np.asarray(subjects)
    rows = []
    for grouping, given in groups.items():
        values = _merged(np.asarray(given, dtype=object))
        for value in sorted(set(values)):
            here = np.asarray([each == value for each in values])
            rows.append(
                {
                    "group": f"{grouping}: {value}",
                    "grouping": grouping,
                    "value": value,
                    **_figures(labels[here], probabilities[here], whose[here], replicates, seed),
                }
            )
    return rows


def _merged(values: np.ndarray) -> list[str]:
    """The commonest values as they are, the others as "other"."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    common = set(names[np.argsort(-counts, kind="stable")][:MOST_VALUES])
    return [value if value in common else "other" for value in values.astype(str)]


def _figures(
    labels: npt.NDArray[np.bool_],
    risks: npt.NDArray[np.float64],
    subjects: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    positives = int(labels.sum())
    found: dict[str, Any] = {
        "n": labels.size,
        "subjects": len(np.unique(subjects)),
        "positives": positives,
        "mean_risk": float(risks.mean()),
        "auroc": None,
        "ece": None,
        "calibration": None,
    }
    if 0 < positives < labels.size:
        found |= bootstrap_intervals(
            labels, {"model": risks}, subjects, ("auroc", "ece"), replicates=replicates, seed=seed
        )["model"]
        found["calibration"] = _observed_over_expected(
            labels, risks, Resamples(labels, subjects, replicates, seed)
        )
    return found


def _observed_over_expected(
    labels: npt.NDArray[np.bool_], risks: npt.NDArray[np.float64], resamples: Resamples
) -> dict[str, float]:
    def per_subject(values: np.ndarray) -> np.ndarray:
        return np.bincount(resamples.subject, weights=values, minlength=resamples.n_subjects)

    observed, expected = per_subject(labels.astype(np.float64)), per_subject(risks)
    ratios = [(observed @ weights) / (expected @ weights) for weights in resamples.chunks()]
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return {"value": float(labels.sum() / risks.sum()), "low": float(low), "high": float(high)}


def abstention_curve(
    outcomes: npt.ArrayLike, risks: npt.ArrayLike, uncertainty: npt.ArrayLike
) -> list[dict[str, float | None]]:
    """How good the answers are if those it is least sure of are left to people (El-Yaniv and Wiener 2010).

    An ensemble whose spread says nothing gives a flat curve; only a curve that rises (falls, for Brier) says that
    silence is spent on the right samples.

    Args:
        outcomes: 0 or 1, [sample].
        risks: Probabilities, [sample].
        uncertainty: Larger is less sure, [sample], such as the standard deviation of the members' logits.

    Returns:
        One row per coverage: `coverage`, `n`, `positives`, `auroc`, `auprc`, `brier`; None where only one outcome
        is left.
    """
    labels = checked_labels(outcomes)
    probabilities = checked_probabilities(risks, labels.size)
    order = np.argsort(checked_scores(uncertainty, labels.size, "uncertainty"), kind="stable")
    rows = []
    for coverage in COVERAGES:
        kept = np.sort(order[: max(1, round(coverage * labels.size))])
        outcome, risk = labels[kept], probabilities[kept]
        both = 0 < outcome.sum() < outcome.size
        rows.append(
            {
                "coverage": coverage,
                "n": outcome.size,
                "positives": int(outcome.sum()),
                "auroc": auroc(outcome, risk) if both else None,
                "auprc": auprc(outcome, risk) if both else None,
                "brier": brier(outcome, risk),
            }
        )
    return rows
