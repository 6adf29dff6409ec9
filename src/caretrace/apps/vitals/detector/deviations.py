"""Deteriorations put into recordings, so that a model can be taught and chosen without anybody's labels.

A deviation is a ramp that some channels follow, each in the direction in which it goes when somebody gets worse:
pulse and breathing up, saturation down, pressures mostly down, temperature mostly up (the directions in which NEWS2
gives points). Which channels, how far, how fast and for how long is drawn wide. The truth about a recording, where
there is one, is never looked at.

A deviation must not betray itself by anything but its course. So values are rounded as the monitor rounds them (a
temperature that creeps by thousandths would tell), and the mean pressure follows the other two as it does in a body.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

# Chance that a channel goes up rather than down, and how far it goes against that of the others.
DIRECTIONS: dict[str, tuple[float, float]] = {
    "hr": (1.0, 1.0),
    "spo2": (0.0, 1.0),
    "resp": (1.0, 1.0),
    "temp": (0.7, 1.0),
}
PRESSURES = ("sbp", "dbp", "map")
PRESSURE_FALLS, PRESSURE_RISE = 0.65, 0.4  # chance; share of the size when it rises instead
TAKES_PART = 0.7  # chance that a channel answers; two of the first three or the pressures always do
HIGHEST_SPO2 = 100.0


@dataclasses.dataclass(frozen=True)
class DeviationSettings:
    """How deviations are drawn; times in steps, sizes in the channels' usual spread within a subject.

    Args:
        channels: Signals, in order.
        spread: Usual standard deviation within a subject, [channel], in the channel's unit.
        rounding: What values are multiples of, [channel]; 0 where they are not rounded.
        per_step: Mean number that begin per step.
        abrupt: Share that rise quickly.
        quick_rise: Shortest and longest rise of those.
        slow_rise: The same of the others.
        hold: Shortest and longest time at full size.
        fall: Shortest and longest way back.
        size: Smallest and largest.
        highest: Most that each channel can show, [channel]; infinite where there is no such bound.
    """

    channels: tuple[str, ...]
    spread: tuple[float, ...]
    rounding: tuple[float, ...]
    per_step: float
    quick_rise: tuple[float, float]
    slow_rise: tuple[float, float]
    hold: tuple[float, float]
    fall: tuple[float, float]
    highest: tuple[float, ...]
    abrupt: float = 0.55
    size: tuple[float, float] = (1.2, 4.5)


@dataclasses.dataclass(frozen=True)
class Deviated:
    """A recording with deviations in it.

    Args:
        values: [channel, step].
        during: [step], True while any deviation lasts.
        sudden: [step], True in the first steps of an abrupt one.
        onset: [deviation], step (with a fraction) after which it begins.
        end: [deviation], step at which it is over.
        abrupt: [deviation], which rise quickly.
    """

    values: FloatArray
    during: npt.NDArray[np.bool_]
    sudden: npt.NDArray[np.bool_]
    onset: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    abrupt: npt.NDArray[np.bool_]


def deviate(
    values: FloatArray, settings: DeviationSettings, sudden_steps: float, rng: np.random.Generator
) -> Deviated:
    """Put deviations into one recording.

    Args:
        values: [channel, step], in the channels' units; NaN stays NaN. Not changed.
        settings: How deviations are drawn.
        sudden_steps: How long after its rise an abrupt deviation still counts as sudden.
        rng: Source of chance.
    """
    steps = values.shape[1]
    added = np.zeros(values.shape)
    during, sudden = np.zeros(steps, bool), np.zeros(steps, bool)
    drawn: list[tuple[float, float, bool]] = []
    for _ in range(int(rng.poisson(settings.per_step * steps))):
        onset, abrupt = float(rng.uniform(0, steps)), bool(rng.random() < settings.abrupt)
        rise = _between(rng, settings.quick_rise if abrupt else settings.slow_rise)
        hold, fall = _between(rng, settings.hold), _between(rng, settings.fall)
        end = onset + rise + hold + fall
        if during[int(onset) : int(np.ceil(end))].any():
            continue
        # A step's value is the mean of what it saw, so that half of a step counts half.
        since = np.arange(steps) + 0.5 - onset
        ramp = np.clip(np.minimum(since / rise, (rise + hold + fall - since) / fall), 0, 1)
        added += _course(ramp, settings, rng)
        during |= ramp > 0
        if abrupt:
            sudden |= (since > 0) & (since < rise + sudden_steps)
        drawn.append((onset, min(end, steps), abrupt))
    drawn.sort()
    table = np.array(drawn, np.float64).reshape(-1, 3)
    return Deviated(
        _shown(values, added, settings), during, sudden, table[:, 0], table[:, 1], table[:, 2] > 0
    )


def _between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _course(
    ramp: npt.NDArray[np.float64], settings: DeviationSettings, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """What a deviation adds to each channel, [channel, step]."""
    names = settings.channels
    size = _between(rng, settings.size) * np.exp(rng.normal(0, 0.4, len(names)))
    pressure = -1.0 if rng.random() < PRESSURE_FALLS else PRESSURE_RISE
    part = rng.random(len(names)) < TAKES_PART
    core = [i for i, name in enumerate(names) if name in ("hr", "spo2", "resp", "sbp")]
    if part[core].sum() < min(2, len(core)):
        part[rng.choice(core, min(2, len(core)), replace=False)] = True
    added = np.zeros((len(names), ramp.size))
    for place, name in enumerate(names):
        if not part[place]:
            continue
        if name in PRESSURES:
            sign = pressure
        else:
            up, share = DIRECTIONS[name]
            sign = share if rng.random() < up else -share
        # Some channels hold out for a while before they answer.
        reserve = rng.uniform(0, 0.4) if rng.random() < 0.4 else 0.0
        added[place] = (
            sign * size[place] * settings.spread[place] * np.maximum(ramp - reserve, 0) / (1 - reserve)
        )
    if "hr" in names and rng.random() < 0.2:  # an irregular pulse
        row = names.index("hr")
        added[row] += ramp * rng.normal(0, rng.uniform(0.5, 1.5), ramp.size) * settings.spread[row]
    if {"sbp", "dbp", "map"} <= set(names):
        systolic, diastolic = (added[names.index(name)] for name in ("sbp", "dbp"))
        added[names.index("map")] = (systolic + 2 * diastolic) / 3
    return added


def _shown(values: FloatArray, added: npt.NDArray[np.float64], settings: DeviationSettings) -> FloatArray:
    """Values as a monitor would show them."""
    shown = np.minimum(values + added, np.array(settings.highest)[:, None])
    rounding = np.array(settings.rounding)[:, None]
    rounded = np.where(rounding > 0, np.rint(shown / np.maximum(rounding, 1e-9)) * rounding, shown)
    return np.where(added != 0, rounded, values).astype(np.float32)
