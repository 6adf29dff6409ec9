"""Judging forecasts: quantiles, shares, and warnings that come before the trouble.

Hours of one week, and patients of one day, share what happens there. Intervals therefore resample whole groups
(weeks, as a rule), never rows; all models see the same draws, so that differences are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caretrace.errors import CohortError, ConfigError

Floats = npt.NDArray[np.float64]
# Sums over the rows of each group `[group, sum]`, and what a figure makes of their totals `[…, sum]`.
Sums = Floats
Figure = Callable[[Floats], Floats]


def pinball(value: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row, mean over the levels (Koenker and Bassett 1978).

    Args:
        value: `[n]`, what happened.
        quantiles: `[n, level]`.
        levels: Of the quantiles, between 0 and 1.

    Returns:
        `[n]`, in the unit of the values.
    """
    at = np.asarray(levels)
    over = value[:, None] - quantiles
    return np.asarray(np.maximum(at * over, (at - 1) * over).mean(1))


@dataclasses.dataclass(frozen=True)
class Judged:
    """Rows to be judged together.

    Args:
        value: `[n]`, what happened.
        group: `[n]`, which rows are resampled together.
        replicates: Of the bootstrap.
        seed: Of the bootstrap.
        level: Coverage of the intervals.
    """

    value: Floats
    group: npt.NDArray[np.int64]
    replicates: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if len(self.value) != len(self.group) or not len(self.value):
            raise CohortError(
                f"{len(self.value)} values and {len(self.group)} groups: give one of each per row"
            )
        if self.replicates < 2:
            raise ConfigError(f"replicates: got {self.replicates}; an interval needs at least 2")

    def compare(
        self, sums: Mapping[str, Mapping[str, Floats]], figures: Mapping[str, Figure], model: str
    ) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, dict[str, dict[str, float]]]]:
        """Every figure of every model with its interval, and the model's paired differences.

        Args:
            sums: Model → figure → `[n, sum]`, what each row adds.
            figures: Name → what it makes of totals `[…, sum]`.
            model: Whose differences to the others are wanted.

        Returns:
            {model: {figure: {"value", "low", "high"}}} and {other: {figure: {"difference", "low", "high"}}}.
        """
        found: dict[str, dict[str, dict[str, float]]] = {}
        draws: dict[str, dict[str, Floats]] = {}
        weights = self._weights()
        for name, each in sums.items():
            found[name], draws[name] = {}, {}
            for figure, make in figures.items():
                per_group = self._grouped(each[figure])
                value, drawn = make(per_group.sum(0)), make(weights @ per_group)
                draws[name][figure] = drawn
                found[name][figure] = {"value": float(value), **self._interval(drawn)}
        paired = {
            other: {
                figure: {
                    "difference": found[model][figure]["value"] - found[other][figure]["value"],
                    **self._interval(draws[model][figure] - draws[other][figure]),
                }
                for figure in figures
            }
            for other in sums
            if other != model
        }
        return found, paired

    def _weights(self) -> Floats:
        """`[replicate, group]`, how often each group is drawn."""
        rng = np.random.default_rng(self.seed)
        n = len(np.unique(self.group))
        return np.stack(
            [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(self.replicates)]
        ).astype(float)

    def _grouped(self, rows: Floats) -> Sums:
        _, place = np.unique(self.group, return_inverse=True)
        return np.stack([np.bincount(place, weights=column) for column in rows.T], -1)

    def _interval(self, drawn: Floats) -> dict[str, float]:
        tail = 50 * (1 - self.level)
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        return {"low": float(low), "high": float(high)}


def r2_sums(value: Floats, forecast: Floats) -> Floats:
    """What each row adds to `r2`: 1, y, y², squared error."""
    return np.stack([np.ones_like(value), value, value**2, (value - forecast) ** 2], -1)


def r2(total: Floats) -> Floats:
    """Share of the variance that is foreseen, from totals of `r2_sums`; below 0 if the mean is better."""
    n, y, squares, errors = np.moveaxis(total, -1, 0)
    return np.asarray(1 - errors / np.maximum(squares - y**2 / n, 1e-12))


def mean_sums(value: Floats) -> Floats:
    """What each row adds to `mean`."""
    return np.stack([np.ones_like(value), value], -1)


def mean(total: Floats) -> Floats:
    """Mean of a figure of each row, from totals of `mean_sums`."""
    return np.asarray(total[..., 1] / np.maximum(total[..., 0], 1e-12))


@dataclasses.dataclass(frozen=True)
class Warnings:
    """What a warning at a threshold would have done.

    Args:
        threshold: Score from which on it warns.
        recall: Share of the hours in crisis that were warned of.
        false_per_week: Warnings without a crisis, per site and week; hours of one warning in a row count once.
        precision: Share of the warned hours that were hours in crisis.
        lead_hours: Median hours from the first warning of a crisis to its beginning; NaN if none was foreseen.
    """

    threshold: float
    recall: float
    false_per_week: float
    precision: float
    lead_hours: float


def warnings_at_recall(score: Floats, crisis: npt.NDArray[np.bool_], horizon: int, recall: float) -> Warnings:
    """Judge warnings at the highest threshold that reaches a recall.

    Args:
        score: `[site, hour]`, risk of a crisis `horizon` hours later; NaN where none was asked for.
        crisis: `[site, hour]`, whether that later hour was one.
        horizon: Hours ahead.
        recall: To be reached.

    Raises:
        CohortError: No crisis among the hours that were asked for.
    """
    asked = ~np.isnan(score)
    positive = np.sort(score[asked & crisis])[::-1]
    if not len(positive):
        raise CohortError("no hour of crisis to warn of; take a longer dataset")
    threshold = float(positive[int(np.ceil(recall * len(positive))) - 1])
    warned = asked & (np.nan_to_num(score, nan=-np.inf) >= threshold)
    false = warned & ~crisis
    begins = false & ~np.pad(false[:, :-1], ((0, 0), (1, 0)))
    hours = asked.sum()
    return Warnings(
        threshold=threshold,
        recall=float((warned & crisis).sum() / len(positive)),
        false_per_week=float(begins.sum() / max(hours, 1) * 168),
        precision=float((warned & crisis).sum() / max(warned.sum(), 1)),
        lead_hours=_lead(warned, crisis, horizon),
    )


def _lead(warned: npt.NDArray[np.bool_], crisis: npt.NDArray[np.bool_], horizon: int) -> float:
    """Hours from the first warning in an unbroken row to the beginning of the crisis it was about."""
    leads = []
    for alarm, truth in zip(warned, crisis, strict=True):
        for begin in np.flatnonzero(truth & ~np.pad(truth[:-1], (1, 0))):
            if not alarm[begin]:
                continue
            first = begin
            while first > 0 and alarm[first - 1]:
                first -= 1
            leads.append(horizon + int(begin - first))
    return float(np.median(leads)) if leads else float("nan")
