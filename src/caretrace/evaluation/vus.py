"""Volume under the precision-recall surface: how well scores find events whose edges nobody knows exactly.

Paparrizos et al. 2022, "Volume Under the Surface", https://doi.org/10.14778/3551793.3551830. An event's
label is stretched on both sides by a slope, for every width from 0 to `window`; precision and recall under
these soft labels give one curve per width, and the mean area under them is the volume. No threshold and no
width is chosen. Their code walks through widths, thresholds and events in turn; with w(t) the stretched label

    TP(threshold) = sum of w over the steps at or above it        (one running sum per width)
    recall        = TP / (P + (TP outside of events) / 2), at most 1, times the share of events touched

so that a width costs one running sum over the sorted steps, and subjects can stand one after the other:
no slope reaches into the next one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caretrace.errors import ConfigError
from caretrace.evaluation.checks import (
    BoolArray,
    FloatArray,
    checked_labels,
    checked_scores,
    checked_subjects,
    require_both_classes,
)

IntArray = npt.NDArray[np.int64]

# How many thresholds the published implementation takes, evenly over the sorted steps.
THRESHOLDS = 250


class Volumes(NamedTuple):
    """Volumes under the two surfaces, 0 to 1.

    Args:
        pr: Under precision and recall.
        roc: Under true and false positive rate.
    """

    pr: float
    roc: float


def volumes(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    window: int,
    subjects: npt.ArrayLike | None = None,
    thresholds: int = THRESHOLDS,
) -> Volumes:
    """VUS-PR and VUS-ROC of scores per step.

    Args:
        labels: [n], 1 inside an event; the steps of a subject stand together, in order of time.
        scores: [n], higher means more likely inside an event.
        window: Widest stretch of an event, steps, half of it on each side.
        subjects: [n], whose step it is; None for one series.
        thresholds: How many thresholds, evenly over the sorted steps.

    Raises:
        CohortError: One class only, lengths that differ, or scores that are not finite.
        ConfigError: A negative window, or fewer than two thresholds.
    """
    if window < 0 or thresholds < 2:
        raise ConfigError(
            f"volumes: got window {window} and {thresholds} thresholds; give 0 or more and at least 2"
        )
    truth = checked_labels(labels)
    checked = checked_scores(scores, truth.size)
    require_both_classes(truth, "volumes")
    owner = np.zeros(truth.size, np.int64) if subjects is None else checked_subjects(subjects, truth.size)[0]
    order = np.argsort(-checked, kind="stable")
    falling = checked[order]
    threshold = falling[np.linspace(0, truth.size - 1, thresholds).astype(int)]
    flagged = np.searchsorted(-falling, -threshold, side="right")
    events = _Events(truth, owner)
    areas = [_areas(events, width, checked, order, threshold, flagged) for width in range(window + 1)]
    pr, roc = np.mean(areas, axis=0)
    return Volumes(float(pr), float(roc))


class _Events:
    """Runs of labels within one subject, and how far each may be stretched."""

    def __init__(self, truth: BoolArray, owner: IntArray) -> None:
        self.truth = truth
        new = np.flatnonzero(owner[1:] != owner[:-1]) + 1
        first, last = np.concatenate([[0], new]), np.concatenate([new, [truth.size]]) - 1
        begins = truth & np.concatenate([[True], ~truth[:-1] | (owner[1:] != owner[:-1])])
        ends = truth & np.concatenate([~truth[1:] | (owner[1:] != owner[:-1]), [True]])
        self.start, self.end = np.flatnonzero(begins), np.flatnonzero(ends)
        subject = np.searchsorted(first, self.start, side="right") - 1
        self.first, self.last = first[subject], last[subject]

    def stretched(self, width: int) -> FloatArray:
        """Labels [n] with a slope of half a width on both sides of every event."""
        weights = self.truth.astype(np.float64)
        for step in range(1, width // 2 + 1):
            slope = np.sqrt(1 - step / width)
            after, before = self.end + step, self.start - step
            np.add.at(weights, after[after <= self.last], slope)
            np.add.at(weights, before[before >= self.first], slope)
        return np.minimum(weights, 1.0)

    def spans(self, width: int) -> tuple[IntArray, IntArray]:
        """First and last step of every stretched event; those that meet are one."""
        low = np.maximum(self.start - width // 2, self.first)
        high = np.minimum(self.end + width // 2, self.last)
        apart = (high[:-1] < low[1:]) | (self.last[:-1] < self.first[1:])
        return low[np.concatenate([[True], apart])], high[np.concatenate([apart, [True]])]


def _areas(
    events: _Events, width: int, scores: FloatArray, order: IntArray, threshold: FloatArray, flagged: IntArray
) -> tuple[float, float]:
    """Areas under the precision-recall and the ROC curve for one width."""
    positives = events.truth.sum()
    stretched = events.stretched(width)[order]
    true = np.cumsum(stretched)[flagged - 1]
    outside = np.cumsum(stretched * ~events.truth[order])[flagged - 1]
    low, high = events.spans(width)
    bounds = np.stack([low, high + 1], 1).ravel()
    highest = np.maximum.reduceat(np.append(scores, -np.inf), bounds)[::2]
    touched = len(highest) - np.searchsorted(np.sort(highest), threshold, side="left")
    wanted = positives + outside / 2
    recall = np.minimum(true / wanted, 1.0) * touched / len(highest)
    precision = true / flagged
    false_rate = (flagged - true) / (scores.size - wanted)
    pr = float((np.diff(recall, prepend=0.0) * precision).sum())
    x, y = np.concatenate([[0.0], false_rate, [1.0]]), np.concatenate([[0.0], recall, [1.0]])
    return pr, float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
