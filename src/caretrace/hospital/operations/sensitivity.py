"""What the assumed coefficients matter: each moved by a fifth, one at a time, all else and all chance equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caretrace.errors import ConfigError, unknown_name
from caretrace.hospital.operations.bands import ISOLATED, TARGETS, measure_routine
from caretrace.hospital.operations.config import OperationsConfig, parameters
from caretrace.hospital.staff.parameters import Parameter

Floats = NDArray[np.float64]
ROUTINE = tuple(key for key in TARGETS if key not in ISOLATED)
SHARES = ("share", "beds taken", "ward occupancy", "prevalence", "correlation")  # how units of shares begin


@dataclasses.dataclass(frozen=True)
class Effect:
    """What one coefficient does to one band.

    Args:
        parameter: For example `flow.work_up_minutes`.
        band: Name of the band.
        low: Change of the measured value with the coefficient lowered, mean over seeds.
        high: With it raised.
        half_width: Half the band's width: a change beyond it could carry the value out of the band.
        noise: Standard error that chance alone gives such a change (the median over coefficients).
    """

    parameter: str
    band: str
    low: float
    high: float
    half_width: float
    noise: float

    @property
    def matters(self) -> bool:
        """Whether either change is larger than half the band's width and than chance explains (three errors)."""
        return max(abs(self.low), abs(self.high)) > max(self.half_width, 3 * self.noise)


def sensitivity(
    config: OperationsConfig | None = None,
    names: Sequence[str] | None = None,
    change: float = 0.2,
    days: int = 10,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Callable[[float], None] | None = None,
) -> list[Effect]:
    """One-at-a-time sensitivity of the bands to the assumed coefficients.

    The effects measured by designs of their own are left out: they rest on published coefficients alone.

    All arms run with the seeds of the reference, so that differences are due to the coefficient more than to
    chance. A small city (`size=0.3`) for some days is enough to rank them.

    Args:
        config: The reference; by default a small city.
        names: Coefficients, for example `flow.work_up_minutes`; by default all that are assumed.
        change: How far, as a share of the value; shares stay below 1.
        days: Length of each replication.
        seeds: Replications, at least two.
        progress: Called with 1 after each coefficient.

    Raises:
        ConfigError: A name is unknown, or there are too few days or seeds.
    """
    base = config or OperationsConfig(size=0.3)
    known = {row.name: row for row in parameters(base)}
    for name in names or ():
        if name not in known:
            raise ConfigError(unknown_name("coefficient", name, known))
    if len(set(seeds)) < 2:
        raise ConfigError(f"seeds: got {list(seeds)}; give at least two different ones, to tell chance apart")
    chosen = list(names) if names is not None else [row.name for row in known.values() if row.assumed]
    reference = _measure(base, days, seeds)
    moved = {}
    for name in chosen:
        arms = [_moved(base, known[name], factor) for factor in (1 - change, 1 + change)]
        moved[name] = np.stack([_measure(arm, days, seeds) - reference for arm in arms])
        if progress is not None:
            progress(1)
    return _effects(moved)


def _effects(moved: dict[str, Floats]) -> list[Effect]:
    """Means and noise of changes, `[arm, seed, band]` per coefficient."""
    errors = [change.std(axis=1, ddof=1) / change.shape[1] ** 0.5 for change in moved.values()]
    noise = np.median(np.concatenate(errors), axis=0)
    return [
        Effect(name, target.name, float(low), float(high), target.within, float(noise[i]))
        for name, change in moved.items()
        for i, target in enumerate(TARGETS[key] for key in ROUTINE)
        for low, high in [change.mean(axis=1)[:, i]]
    ]


def _moved(config: OperationsConfig, row: Parameter, factor: float) -> OperationsConfig:
    group, field = row.name.split(".")
    part: Any = getattr(config, group)
    value = row.value * factor
    if 0 < row.value < 1 and row.unit.startswith(SHARES):
        value = min(value, 0.99)
    return dataclasses.replace(config, **{group: dataclasses.replace(part, **{field: value})})


def _measure(config: OperationsConfig, days: int, seeds: Sequence[int]) -> Floats:
    """Every band in every replication, `[seed, band]`."""
    values = [measure_routine(config, seed, days) for seed in seeds]
    return np.array([[value[key] for key in ROUTINE] for value in values])
