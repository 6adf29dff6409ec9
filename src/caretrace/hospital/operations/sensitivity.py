"""What the assumed coefficients matter: each moved by a fifth, one at a time, all else and all chance equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from caretrace.errors import ConfigError, unknown_name
from caretrace.hospital.operations.bands import TARGETS, measure
from caretrace.hospital.operations.config import OperationsConfig, parameters


@dataclasses.dataclass(frozen=True)
class Effect:
    """What one coefficient does to one band.

    Args:
        parameter: For example `flow.work_up_minutes`.
        band: Name of the band.
        low: Change of the measured value with the coefficient lowered.
        high: With it raised.
        half_width: Half the band's width: a change beyond it could carry the value out of the band.
    """

    parameter: str
    band: str
    low: float
    high: float
    half_width: float

    @property
    def matters(self) -> bool:
        """Whether either change is larger than half the band's width."""
        return max(abs(self.low), abs(self.high)) > self.half_width


def sensitivity(
    config: OperationsConfig | None = None,
    names: Sequence[str] | None = None,
    change: float = 0.2,
    days: int = 10,
    seeds: Sequence[int] = (0,),
    progress: Callable[[float], None] | None = None,
) -> list[Effect]:
    """One-at-a-time sensitivity of every band to the assumed coefficients.

    Both arms run with the seeds of the reference, so that differences are due to the coefficient more than to
    chance. A small city (`size=0.3`) for some days is enough to rank them.

    Args:
        config: The reference; by default a small city.
        names: Coefficients, for example `flow.work_up_minutes`; by default all that are assumed.
        change: How far, as a share of the value.
        days: Length of each replication.
        seeds: Replications averaged.
        progress: Called with 1 after each coefficient.

    Raises:
        ConfigError: A name is unknown, or there are too few days.
    """
    base = config or OperationsConfig(size=0.3)
    known = {row.name: row for row in parameters(base)}
    for name in names or ():
        if name not in known:
            raise ConfigError(unknown_name("coefficient", name, known))
    chosen = list(names) if names is not None else [row.name for row in known.values() if row.assumed]
    reference = _mean(base, days, seeds)
    effects = []
    for name in chosen:
        low, high = (_mean(_moved(base, name, factor), days, seeds) for factor in (1 - change, 1 + change))
        effects += [
            Effect(name, target.name, low[key] - reference[key], high[key] - reference[key], target.within)
            for key, target in TARGETS.items()
        ]
        if progress is not None:
            progress(1)
    return effects


def _moved(config: OperationsConfig, name: str, factor: float) -> OperationsConfig:
    group, field = name.split(".")
    part: Any = getattr(config, group)
    moved = dataclasses.replace(part, **{field: getattr(part, field) * factor})
    return dataclasses.replace(config, **{group: moved})


def _mean(config: OperationsConfig, days: int, seeds: Sequence[int]) -> dict[str, float]:
    values = [measure(config, seed, days) for seed in seeds]
    return {key: sum(value[key] for value in values) / len(values) for key in TARGETS}
