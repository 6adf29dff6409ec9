"""How well scores rank: AUROC, average precision, their curves; and the Brier score.

These are the plain versions, one data set at a time. `intervals` computes the same numbers for a
thousand resamples at once, and the tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caretrace.evaluation.checks import (
    BoolArray,
    FloatArray,
    checked_labels,
    checked_probabilities,
    checked_scores,
    require_both_classes,
)


@dataclass(frozen=True)
class Curve:
    """Points of a curve, in the order a threshold falls from above the highest score.

    Attributes:
        x: False positive rate (ROC) or recall (precision-recall), [points].
        y: True positive rate (ROC) or precision (precision-recall), [points].
        threshold: A row counts as positive when its score is at least this, [points].
    """

    x: FloatArray
    y: FloatArray
    threshold: FloatArray


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half.

    Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747.

    Args:
        labels: [n], 0 or 1.
        scores: [n], higher means more likely positive.

    Raises:
        CohortError: One class only, lengths that differ, or scores that are not finite.
    """
    positives, negatives, _ = _counts_by_threshold(labels, scores, "auroc")
    below = negatives.sum() - np.cumsum(negatives)
    twice_wins = (positives * (2 * below + negatives)).sum()  # whole numbers: exact
    return float(twice_wins / (2 * positives.sum() * negatives.sum()))


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Average precision: precision at each threshold, weighted by the recall it adds.

    Equal scores share one threshold, as in scikit-learn; there is no interpolation (Davis and
    Goadrich 2006, https://doi.org/10.1145/1143844.1143874, say why not).

    Args:
        labels: [n], 0 or 1.
        scores: [n], higher means more likely positive.

    Raises:
        CohortError: One class only, lengths that differ, or scores that are not finite.
    """
    positives, negatives, _ = _counts_by_threshold(labels, scores, "auprc")
    true = np.cumsum(positives)
    precision = true / (true + np.cumsum(negatives))
    return float((positives * precision).sum() / positives.sum())


def brier(labels: npt.ArrayLike, risks: npt.ArrayLike) -> float:
    """Mean squared difference of risk and outcome (Brier 1950); defined for one class too.

    Args:
        labels: [n], 0 or 1.
        risks: [n], probabilities.

    Raises:
        CohortError: Lengths that differ, or risks outside [0, 1].
    """
    truth = checked_labels(labels)
    return float(np.mean((checked_probabilities(risks, truth.size) - truth) ** 2))


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike, max_points: int = 400) -> Curve:
    """Points of the ROC curve from (0, 0) to (1, 1), thinned evenly for drawing.

    Raises:
        CohortError: As `auroc`.
    """
    positives, negatives, threshold = _counts_by_threshold(labels, scores, "roc_curve")
    false_rate = np.concatenate([[0.0], np.cumsum(negatives) / negatives.sum()])
    true_rate = np.concatenate([[0.0], np.cumsum(positives) / positives.sum()])
    # The first point flags nobody; a finite threshold keeps the curve JSON-ready.
    above = np.nextafter(threshold[0], np.inf)
    keep = _thin(false_rate.size, max_points)
    return Curve(false_rate[keep], true_rate[keep], np.concatenate([[above], threshold])[keep])


def pr_curve(labels: npt.ArrayLike, scores: npt.ArrayLike, max_points: int = 400) -> Curve:
    """Points of the precision-recall curve, one per threshold, thinned evenly for drawing.

    Raises:
        CohortError: As `auprc`.
    """
    positives, negatives, threshold = _counts_by_threshold(labels, scores, "pr_curve")
    true = np.cumsum(positives)
    keep = _thin(true.size, max_points)
    precision = true / (true + np.cumsum(negatives))
    return Curve((true / positives.sum())[keep], precision[keep], threshold[keep])


def tie_groups(scores: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows from the highest score to the lowest, and where each group of equal scores starts.

    Returns:
        `order` [n], row numbers; `starts` [groups], positions in `order`.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    return order.astype(np.int64), starts.astype(np.int64)


def _counts_by_threshold(
    labels: npt.ArrayLike, scores: npt.ArrayLike, what: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Positives and negatives at each distinct score, from the highest score to the lowest."""
    truth: BoolArray = checked_labels(labels)
    checked = checked_scores(scores, truth.size)
    require_both_classes(truth, what)
    order, starts = tie_groups(checked)
    positives = np.add.reduceat(truth[order].astype(np.int64), starts)
    sizes = np.diff(np.append(starts, truth.size))
    return positives, sizes - positives, checked[order[starts]]


def _thin(points: int, most: int) -> npt.NDArray[np.int64]:
    """Positions of at most `most` points, both ends kept."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(np.int64))
