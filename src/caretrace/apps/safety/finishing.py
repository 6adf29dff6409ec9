"""The last touch on what the network says: other readings mixed in where that helps, and chances that hold.

Everything here is fitted on tuning blocks. Boosted trees and linear models read the same steps; how much of each is
mixed in is chosen per target. Then levels and shares are recalibrated, and quantiles are moved until as many tuning
values lie below them as should (conformalised quantile regression, Romano, Patterson and Candès 2019, a shift per
quantile).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from caretrace.apps.safety.hospital_steps import CRISIS, LEVELS
from caretrace.apps.safety.model import QUANTILES, SCALES
from caretrace.apps.safety.sequences import HOUR, Sequences
from caretrace.evaluation.forecasting import pinball

Floats = NDArray[np.float64]
Readings = Mapping[str, Mapping[str, Floats]]

CRISIS_LEVEL = 3  # critical or breakdown
RECALL = 0.8  # share of the hours in crisis that warnings shall reach
FEWEST = 100  # tuning values without which nothing is mixed or moved
_PARTS = 10
_FLOOR = 1e-6
_BINS, _DRAWS = 12, 200


@dataclasses.dataclass(frozen=True)
class Finish:
    """What is done to each target.

    Args:
        share: Target → reading → its share; they add up to 1.
        shape: Target → numbers of its calibration: slope and a shift per level, slope and shift of a share, or a
            shift of the logarithm of minutes per quantile.
        reliability: Crisis target → stated chance, and the lowest and highest share of crises that tuning hours
            with such a chance are compatible with, `[bin, 3]`.
        threshold: Crisis target → chance from which on a warning reaches `RECALL` of the tuning hours in crisis.
    """

    share: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    shape: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    reliability: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    threshold: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(cls, tuning: Sequences, readings: Readings, *, seed: int = 0) -> Finish:
        """Choose shares, then calibrate.

        Args:
            tuning: Steps with targets.
            readings: Name → target → what it says at each step; the first is the network, which has every target.
            seed: Of the intervals of reliability.
        """
        share: dict[str, dict[str, float]] = {}
        shape: dict[str, list[float]] = {}
        reliability: dict[str, list[list[float]]] = {}
        threshold: dict[str, float] = {}
        for name in tuning.targets:
            value = tuning.steps[name].cast(pl.Float64).to_numpy()
            rows = np.flatnonzero(~np.isnan(value))
            if len(rows) < FEWEST or len(np.unique(value[rows])) < 2:
                continue
            value, day = value[rows], (tuning.steps[HOUR].to_numpy()[rows] // 24).astype(np.int64)
            said = {kind: each[name][rows] for kind, each in readings.items() if name in each}
            share[name] = _best_shares(name, value, said)
            mixed = _mix(name, said, share[name])
            shape[name] = _fit_shape(name, value, mixed, len(np.unique(day)))
            if name in CRISIS:
                stated, crisis = reach(_shaped(name, mixed, shape[name])), value >= CRISIS_LEVEL
                reliability[name] = _reliability(stated, crisis, day, seed)
                if crisis.any():
                    threshold[name] = float(np.quantile(stated[crisis], 1 - RECALL))
        return cls(share, shape, reliability, threshold)

    def apply(self, readings: Readings) -> dict[str, Floats]:
        """Target → what is said in the end, of the shape of what the first reading says."""
        found = {}
        for name, own in next(iter(readings.values())).items():
            said = {kind: each[name] for kind, each in readings.items() if name in each}
            mixed = _mix(name, said, self.share[name]) if name in self.share else own
            found[name] = _shaped(name, mixed, self.shape[name]) if name in self.shape else mixed
        return found

    def interval(self, target: str, chance: Floats) -> tuple[Floats, Floats]:
        """Lowest and highest chance of a crisis that tuning hours with this stated chance are compatible with."""
        table = self.reliability.get(target)
        if not table:
            return np.zeros_like(chance), np.ones_like(chance)
        at, low, high = np.asarray(table).T
        return np.minimum(np.interp(chance, at, low), chance), np.maximum(np.interp(chance, at, high), chance)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Finish:
        """What `to_dict` made."""
        return cls(**value)


def reach(levels: Floats) -> Floats:
    """Chance of a crisis, from chances of the levels."""
    return np.asarray(levels[..., CRISIS_LEVEL:].sum(-1))


def _mix(name: str, said: Mapping[str, Floats], share: Mapping[str, float]) -> Floats:
    """Weighted mean of the readings; of quantiles on the scale they are fitted on."""
    if name in SCALES:
        return _from_scale(name, sum_of(share[kind] * _to_scale(name, said[kind]) for kind in share))
    return sum_of(share[kind] * said[kind] for kind in share)


def sum_of(parts: Iterable[Floats]) -> Floats:
    """Sum of arrays."""
    return functools.reduce(np.add, parts)


def _to_scale(name: str, value: Floats) -> Floats:
    return np.asarray(SCALES[name][0](torch.from_numpy(np.maximum(value, _FLOOR))).numpy(), dtype=np.float64)


def _from_scale(name: str, value: Floats) -> Floats:
    return np.asarray(SCALES[name][1](torch.from_numpy(value)).numpy(), dtype=np.float64)


def _best_shares(name: str, value: Floats, said: Mapping[str, Floats]) -> dict[str, float]:
    """Shares in tenths with the lowest loss; readings without a share are left out."""
    kinds = list(said)
    tenths = (each for each in itertools.product(range(_PARTS + 1), repeat=len(kinds)) if sum(each) == _PARTS)
    shares = [
        {kind: part / _PARTS for kind, part in zip(kinds, each, strict=True) if part} for each in tenths
    ]
    return min(shares, key=lambda share: _loss(name, value, _mix(name, said, share)))


def _loss(name: str, value: Floats, said: Floats) -> float:
    if name in SCALES:
        return float(pinball(value, said, QUANTILES).mean())
    if name in CRISIS:
        return float(-np.log(np.maximum(said[np.arange(len(value)), value.astype(int)], _FLOOR)).mean())
    said = np.clip(said, _FLOOR, 1 - _FLOOR)
    return float(-(value * np.log(said) + (1 - value) * np.log(1 - said)).mean())


def _fit_shape(name: str, value: Floats, said: Floats, days: int) -> list[float]:
    if name in SCALES:
        over = _to_scale(name, value)[:, None] - _to_scale(name, said)
        return [float(np.quantile(over[:, place], level)) for place, level in enumerate(QUANTILES)]
    start = np.zeros(1 + (LEVELS if name in CRISIS else 1))

    def loss(numbers: Floats) -> float:
        # A pull towards leaving everything as it is, worth one day: what is common to two months of tuning
        # blocks, such as a wave of influenza, is not common to all years.
        return _loss(name, value, _shaped(name, said, numbers)) + float(numbers @ numbers) / days

    return [float(number) for number in minimize(loss, start, method="L-BFGS-B").x]


def _shaped(name: str, said: Floats, numbers: Floats | list[float]) -> Floats:
    numbers = np.asarray(numbers)
    if name in SCALES:
        return np.sort(_from_scale(name, _to_scale(name, said) + numbers), -1)
    slope, shift = np.exp(numbers[0]), numbers[1:]
    if name in CRISIS:
        logit = slope * np.log(np.maximum(said, _FLOOR)) + shift
        power = np.exp(logit - logit.max(-1, keepdims=True))
        return np.asarray(power / power.sum(-1, keepdims=True))
    said = np.clip(said, _FLOOR, 1 - _FLOOR)
    return np.asarray(1 / (1 + np.exp(-(slope * np.log(said / (1 - said)) + shift[0]))))


def _reliability(
    stated: Floats, crisis: NDArray[np.bool_], day: NDArray[np.int64], seed: int
) -> list[list[float]]:
    """Mean chance of each bin, and the 95 % interval of the share of crises in it; days are resampled."""
    edges = np.unique(np.quantile(stated, 1 - np.geomspace(1, 0.01, _BINS)))
    place = np.digitize(stated, edges[1:-1])
    _, days = np.unique(day, return_inverse=True)
    count, n_days = max(len(edges) - 1, 1), int(days.max()) + 1
    hours, crises = np.zeros((n_days, count)), np.zeros((n_days, count))
    np.add.at(hours, (days, place), 1.0)
    np.add.at(crises, (days, place), crisis.astype(float))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_days, np.full(n_days, 1 / n_days), _DRAWS).astype(float)
    # Half an imagined crisis in one imagined hour: no bin without a crisis is sure of it.
    shares = (weights @ crises + 0.5) / (weights @ hours + 1.0)
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    total = np.bincount(place, minlength=count)
    mean = np.bincount(place, stated, minlength=count) / np.maximum(total, 1)
    table = np.stack([mean, low, high], -1)[total > 0]
    return [[float(number) for number in row] for row in table[np.argsort(table[:, 0], kind="stable")]]
