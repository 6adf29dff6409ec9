"""Intervals by resampling subjects, fast enough for a thousand replicates of every metric.

A replicate draws as many subjects as there are, with replacement, and keeps all rows of each drawn
subject (cluster bootstrap; Davison and Hinkley 1997, chapter 3). So a replicate is a weight per
subject, and each metric is a function of weighted sums. With k = threshold (distinct score of a
positive), P = positives, N = negatives, for many replicates at once:

    AUROC = sum_k pos_k (N - fp_k + tied_k / 2) / (P N)      fp_k = negatives at or above k
    AP    = sum_k pos_k tp_k / (tp_k + fp_k) / P             tp_k = positives at or above k

`pos` and `fp` are sparse matrices times the weights, Brier and ECE dense ones. All models see the
same weights, so differences between models are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from caretrace.errors import ConfigError, unknown_name
from caretrace.evaluation.calibration import BINS, ece, width_bins
from caretrace.evaluation.checks import (
    BoolArray,
    FloatArray,
    checked_labels,
    checked_probabilities,
    checked_scores,
    checked_subjects,
    require_both_classes,
)
from caretrace.evaluation.discrimination import auprc, auroc, brier, tie_groups

PLAIN = {"auroc": auroc, "auprc": auprc, "brier": brier, "ece": ece}
METRICS = tuple(PLAIN)
NEEDS_PROBABILITIES = frozenset({"brier", "ece"})
HIGHER_IS_BETTER = frozenset({"auroc", "auprc"})

# Replicates computed at once: few enough that the sums of 50,000 rows stay in the processor's cache.
CHUNK = 32


class Resamples:
    """Repeatable weights per subject; a replicate with one class only is drawn again, and counted.

    Attributes:
        labels: [n] booleans.
        subject: [n], position of each row's subject.
        n_subjects: Number of distinct subjects.
        replicates: Number of replicates.
        redrawn: Replicates drawn again because all their labels were equal; known after a pass.
    """

    def __init__(
        self, labels: npt.ArrayLike, subject_ids: npt.ArrayLike, replicates: int = 1000, seed: int = 0
    ) -> None:
        if replicates < 2:
            raise ConfigError(
                f"replicates: got {replicates}; an interval needs at least 2, and 1000 is usual"
            )
        self.labels: BoolArray = checked_labels(labels)
        require_both_classes(self.labels, "bootstrap")
        self.subject, self.n_subjects = checked_subjects(subject_ids, self.labels.size)
        self.replicates = replicates
        self.redrawn = 0
        self._seed = seed

    def chunks(self) -> Iterator[FloatArray]:
        """Weights [subjects, replicates of this chunk], the same on every pass."""
        positives = np.bincount(self.subject, weights=self.labels, minlength=self.n_subjects).astype(
            np.float64
        )
        rows = np.bincount(self.subject, minlength=self.n_subjects).astype(np.float64)
        rng = np.random.default_rng(self._seed)
        self.redrawn = 0
        for start in range(0, self.replicates, CHUNK):
            size = min(CHUNK, self.replicates - start)
            weights = np.empty((self.n_subjects, size))
            for column in range(size):
                weights[:, column] = self._draw(rng, positives, rows)
            yield weights

    def _draw(self, rng: np.random.Generator, positives: FloatArray, rows: FloatArray) -> FloatArray:
        while True:
            drawn = rng.integers(0, self.n_subjects, self.n_subjects)
            weights = np.bincount(drawn, minlength=self.n_subjects).astype(np.float64)
            if 0 < positives @ weights < rows @ weights:
                return weights
            self.redrawn += 1


@dataclass(frozen=True)
class Replicates:
    """Every metric of every model: on all rows, and in each replicate.

    Attributes:
        values: {model: {metric: value on all rows}}.
        samples: {model: {metric: [replicates]}}; position r is the same resample everywhere.
        redrawn: Replicates that had one class only and were drawn again.
    """

    values: dict[str, dict[str, float]]
    samples: dict[str, dict[str, FloatArray]]
    redrawn: int

    def intervals(self, level: float = 0.95) -> dict[str, dict[str, dict[str, float]]]:
        """{model: {metric: {"value", "low", "high"}}}, percentile intervals."""
        return {
            model: {
                metric: {"value": value, **_percentiles(self.samples[model][metric], level)}
                for metric, value in metrics.items()
            }
            for model, metrics in self.values.items()
        }

    def paired(self, model: str, level: float = 0.95) -> dict[str, dict[str, dict[str, float]]]:
        """{comparator: {metric: {"difference", "low", "high"}}}, `model` minus each other model.

        Raises:
            ConfigError: There is no such model.
        """
        if model not in self.values:
            raise ConfigError(unknown_name("model", model, self.values))
        return {
            other: {
                metric: {
                    "difference": self.values[model][metric] - value,
                    **_percentiles(self.samples[model][metric] - self.samples[other][metric], level),
                }
                for metric, value in metrics.items()
            }
            for other, metrics in self.values.items()
            if other != model
        }


def bootstrap(
    scores: Mapping[str, npt.ArrayLike], resamples: Resamples, metrics: Sequence[str] = METRICS
) -> Replicates:
    """Every metric of every model over the same resamples.

    Args:
        scores: {model: [n] scores}; `brier` and `ece` need probabilities.
        resamples: Labels, subjects and the repeatable draws.
        metrics: Names from `METRICS`.

    Raises:
        ConfigError: No model, or an unknown metric.
        CohortError: Scores of another length, not finite, or outside [0, 1] where that is needed.
    """
    for metric in metrics:
        if metric not in PLAIN:
            raise ConfigError(unknown_name("metric", metric, METRICS))
    if not scores or not metrics:
        raise ConfigError("bootstrap: got no scores or no metrics; give at least one model and one metric")
    labels, checked = resamples.labels, {}
    for model, values in scores.items():
        check = checked_probabilities if NEEDS_PROBABILITIES & set(metrics) else checked_scores
        checked[model] = check(values, labels.size, f"scores of {model}")
    engines = {model: _Weighted(values, resamples, metrics) for model, values in checked.items()}
    parts: dict[str, list[dict[str, FloatArray]]] = {model: [] for model in engines}
    for weights in resamples.chunks():
        for model, engine in engines.items():
            parts[model].append(engine(weights))
    return Replicates(
        values={model: {m: PLAIN[m](labels, values) for m in metrics} for model, values in checked.items()},
        samples={
            model: {metric: np.concatenate([part[metric] for part in chunks]) for metric in metrics}
            for model, chunks in parts.items()
        },
        redrawn=resamples.redrawn,
    )


def bootstrap_intervals(
    labels: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    metrics: Sequence[str] = METRICS,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, dict[str, float]]]:
    """Each metric with its percentile interval, {model: {metric: {"value", "low", "high"}}}.

    Args:
        labels: [n], 0 or 1.
        scores: {model: [n] scores}.
        subject_ids: [n], who each row belongs to.
        metrics: Names from `METRICS`.
        replicates: Number of resamples.
        seed: The same seed gives the same intervals.
        level: Coverage.

    Raises:
        ConfigError: No model, an unknown metric, or fewer than 2 replicates.
        CohortError: One class only, or unusable labels or scores.
    """
    resamples = Resamples(labels, subject_ids, replicates, seed)
    return bootstrap(scores, resamples, metrics).intervals(level)


def paired_differences(
    labels: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    model: str,
    metrics: Sequence[str] = METRICS,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, dict[str, float]]]:
    """`model` minus each other model on the same resamples as `bootstrap_intervals` with that seed.

    Returns:
        {comparator: {metric: {"difference", "low", "high"}}}.

    Raises:
        ConfigError: No such model, an unknown metric, or fewer than 2 replicates.
        CohortError: One class only, or unusable labels or scores.
    """
    resamples = Resamples(labels, subject_ids, replicates, seed)
    return bootstrap(scores, resamples, metrics).paired(model, level)


class _Weighted:
    """The metrics of one model as a function of weights [subjects, replicates]."""

    def __init__(self, scores: FloatArray, resamples: Resamples, metrics: Sequence[str]) -> None:
        labels, subject = resamples.labels, resamples.subject
        n_subjects = resamples.n_subjects
        self._metrics = metrics
        self._positives = np.bincount(subject, weights=labels, minlength=n_subjects)
        self._rows = np.bincount(subject, minlength=n_subjects).astype(np.float64)
        if {"auroc", "auprc"} & set(metrics):
            self._prepare_ranks(scores, labels, subject, n_subjects)
        if NEEDS_PROBABILITIES & set(metrics):
            gap = labels - scores
            cell = subject * BINS + width_bins(scores)
            gaps = np.bincount(cell, weights=gap, minlength=n_subjects * BINS)
            squares = np.bincount(subject, weights=gap**2, minlength=n_subjects)
            self._risk_sums = np.vstack([gaps.reshape(n_subjects, BINS).T, squares])

    def _prepare_ranks(
        self, scores: FloatArray, labels: BoolArray, subject: npt.NDArray[np.int64], n_subjects: int
    ) -> None:
        order, starts = tie_groups(scores)
        sizes = np.diff(np.append(starts, labels.size))
        group = np.empty(labels.size, dtype=np.int64)
        group[order] = np.repeat(np.arange(starts.size), sizes)
        thresholds = np.unique(group[labels])  # groups that hold a positive, best first
        # Each negative counts from the first threshold at or below it; beyond the last it never does.
        slot = np.searchsorted(thresholds, group, side="left")
        tied = ~labels & np.isin(group, thresholds)
        shape = (thresholds.size, n_subjects)

        def sums(rows: BoolArray) -> Any:
            ones = np.ones(int(rows.sum()))
            return sparse.csr_matrix((ones, (slot[rows], subject[rows])), shape=shape)

        self._positives_at = sums(labels)
        self._new_negatives_at = sums(~labels & (slot < thresholds.size))
        self._tied_negatives_at = sums(tied) if tied.any() else None

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        result: dict[str, FloatArray] = {}
        rows, positives = self._rows @ weights, self._positives @ weights
        if {"auroc", "auprc"} & set(self._metrics):
            result |= self._ranks(weights, positives, rows - positives)
        if NEEDS_PROBABILITIES & set(self._metrics):
            sums = self._risk_sums @ weights
            result |= {"ece": np.abs(sums[:BINS]).sum(axis=0) / rows, "brier": sums[BINS] / rows}
        return {metric: result[metric] for metric in self._metrics}

    def _ranks(
        self, weights: FloatArray, positives: FloatArray, negatives: FloatArray
    ) -> dict[str, FloatArray]:
        here = self._positives_at @ weights
        false = np.cumsum(self._new_negatives_at @ weights, axis=0)
        wins = negatives - false
        if self._tied_negatives_at is not None:
            wins = wins + (self._tied_negatives_at @ weights) / 2
        true = np.cumsum(here, axis=0)
        precision = true / np.maximum(true + false, 1.0)
        return {
            "auroc": (here * wins).sum(axis=0) / (positives * negatives),
            "auprc": (here * precision).sum(axis=0) / positives,
        }


def _percentiles(samples: FloatArray, level: float) -> dict[str, float]:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high)}
