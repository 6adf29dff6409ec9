"""Curves for the report: ROC, precision-recall, calibration, risks by label, decision curve.

Everything is on fixed grids and JSON-ready; bands come from resampling subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.evaluation.calibration import BINS, calibration_curve, mass_bins
from caretrace.evaluation.checks import BoolArray, FloatArray, checked_probabilities
from caretrace.evaluation.discrimination import tie_groups
from caretrace.evaluation.intervals import Resamples

GRID = np.linspace(0.0, 1.0, 101)
RISK_EDGES = np.linspace(0.0, 1.0, 21)
DECISION_THRESHOLDS = np.round(np.arange(1, 100) / 100, 2)


def curves(
    labels: npt.ArrayLike,
    scores_by_model: Mapping[str, npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Every curve of every model, as lists.

    Args:
        labels: [n], 0 or 1.
        scores_by_model: {model: [n] risks}.
        subject_ids: [n], who each row belongs to.
        replicates: Resamples behind the bands.
        seed: The same seed gives the same bands.
        level: Coverage of the bands, point by point.

    Returns:
        {"prevalence", "decision": {"threshold", "treat_all", "treat_none"}, "models": {model: {"roc":
        {"fpr", "tpr", "low", "high"}, "pr": {"recall", "precision", "low", "high"}, "calibration":
        {"predicted", "observed", "low", "high", "count"}, "histogram": {"edges", "negative",
        "positive"}, "decision": {"threshold", "net_benefit"}}}}.

    Raises:
        CohortError: One class only, or unusable labels, risks or subjects.
    """
    resamples = Resamples(labels, subject_ids, replicates, seed)
    truth = resamples.labels
    tracers = {
        model: _Tracer(checked_probabilities(scores, truth.size, f"scores of {model}"), resamples)
        for model, scores in scores_by_model.items()
    }
    bands: dict[str, list[tuple[FloatArray, FloatArray, FloatArray]]] = {model: [] for model in tracers}
    for weights in resamples.chunks():
        for column in weights.T:
            by_row = column[resamples.subject]
            for model, tracer in tracers.items():
                bands[model].append(tracer.trace(by_row))
    prevalence = float(truth.mean())
    return {
        "prevalence": prevalence,
        "decision": {
            "threshold": DECISION_THRESHOLDS.tolist(),
            "treat_all": (prevalence - (1 - prevalence) * _odds(DECISION_THRESHOLDS)).tolist(),
            "treat_none": [0.0] * DECISION_THRESHOLDS.size,
        },
        "models": {model: tracer.to_dict(bands[model], level) for model, tracer in tracers.items()},
    }


def net_benefit(
    labels: BoolArray, risks: FloatArray, thresholds: FloatArray = DECISION_THRESHOLDS
) -> FloatArray:
    """Net benefit of acting on risks at or above each threshold, in true positives per row.

    Vickers and Elkin 2006, https://doi.org/10.1177/0272989X06295361: TP/n - FP/n · p/(1-p).

    Args:
        labels: [n] booleans.
        risks: [n], probabilities.
        thresholds: [thresholds], within (0, 1).
    """
    positive, negative = np.sort(risks[labels]), np.sort(risks[~labels])
    true = positive.size - np.searchsorted(positive, thresholds, side="left")
    false = negative.size - np.searchsorted(negative, thresholds, side="left")
    return np.asarray((true - false * _odds(thresholds)) / labels.size)


class _Tracer:
    """The curves of one model as a function of a weight per row."""

    def __init__(self, risks: FloatArray, resamples: Resamples) -> None:
        self._labels, self._risks = resamples.labels, risks
        self._order, starts = tie_groups(risks)
        self._last = np.append(starts[1:], risks.size) - 1
        self._bin = mass_bins(risks, BINS)

    def trace(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """TPR on the FPR grid, precision on the recall grid, observed share per calibration bin."""
        ranked = weights[self._order]
        positive = np.where(self._labels[self._order], ranked, 0.0)
        true = np.cumsum(positive)[self._last]
        flagged = np.cumsum(ranked)[self._last]
        recall, false_rate = true / true[-1], (flagged - true) / (flagged[-1] - true[-1])
        count = np.bincount(self._bin, weights=weights)
        observed = np.bincount(self._bin, weights=weights * self._labels)
        share = np.divide(observed, count, out=np.full(count.size, np.nan), where=count > 0)
        return _tpr_on_grid(false_rate, recall), _precision_on_grid(recall, true, flagged), share

    def to_dict(self, bands: list[tuple[FloatArray, FloatArray, FloatArray]], level: float) -> dict[str, Any]:
        """Point estimates and bands as lists."""
        tpr, precision, _ = self.trace(np.ones(self._labels.size))
        (tpr_low, tpr_high), (pr_low, pr_high), (share_low, share_high) = (
            _band(np.array([band[part] for band in bands]), level) for part in range(3)
        )
        points = calibration_curve(self._labels, self._risks, BINS, level)
        by_label = [np.histogram(self._risks[self._labels == side], RISK_EDGES)[0] for side in (False, True)]
        return {
            "roc": {
                "fpr": GRID.tolist(),
                "tpr": tpr.tolist(),
                "low": tpr_low.tolist(),
                "high": tpr_high.tolist(),
            },
            "pr": {
                "recall": GRID[1:].tolist(),
                "precision": precision.tolist(),
                "low": pr_low.tolist(),
                "high": pr_high.tolist(),
            },
            "calibration": {
                "predicted": points.predicted.tolist(),
                "observed": points.observed.tolist(),
                # The wider of both: Wilson holds in bins without an outcome, the bootstrap in clusters.
                "low": np.fmin(points.low, share_low).tolist(),
                "high": np.fmax(points.high, share_high).tolist(),
                "count": points.count.tolist(),
            },
            "histogram": {
                "edges": RISK_EDGES.tolist(),
                "negative": by_label[0].tolist(),
                "positive": by_label[1].tolist(),
            },
            "decision": {
                "threshold": DECISION_THRESHOLDS.tolist(),
                "net_benefit": net_benefit(self._labels, self._risks).tolist(),
            },
        }


def _tpr_on_grid(false_rate: FloatArray, true_rate: FloatArray) -> FloatArray:
    """The ROC curve at fixed false positive rates; at a vertical step, its upper end."""
    x, y = np.append(0.0, false_rate), np.append(0.0, true_rate)
    top = np.append(x[1:] > x[:-1], True)
    return np.interp(GRID, x[top], y[top])


def _precision_on_grid(recall: FloatArray, true: FloatArray, flagged: FloatArray) -> FloatArray:
    """Precision at the first threshold that reaches each recall above 0 (a step, as in average precision)."""
    first = np.minimum(np.searchsorted(recall, GRID[1:] - 1e-12), recall.size - 1)
    return np.asarray(true[first] / np.maximum(flagged[first], 1.0))


def _band(samples: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Percentiles over replicates [replicates, points]; NaN marks a bin that a replicate left empty."""
    present = ~np.isnan(samples)
    filled = np.where(present.any(axis=0), samples, 0.0)
    low, high = np.nanquantile(filled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _odds(thresholds: FloatArray) -> FloatArray:
    return thresholds / (1 - thresholds)
