"""Deteriorations put into recordings, so that a model can be taught and chosen without anybody's labels.

A deviation is a ramp that several channels follow *together*, as they do when somebody gets worse: `PATTERNS` says
which, in the directions of published criteria, and a share of deviations is any mixture at all. How far, how fast,
for how long, what holds out and what does not answer is drawn wide. The truth about a recording, where there is one,
is never looked at.

A deviation must not betray itself by anything but its course. So values are rounded as the monitor rounds them (a
temperature that creeps by thousandths would tell), and the mean pressure lies between the other two where it lies in
the recordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What goes together.

    Args:
        moves: Channel → how far it usually goes, in the usual spread within a subject.
        abrupt: Share that comes abruptly.
        weight: How often it is drawn.
        irregular: Whether the pulse becomes irregular.
    """

    moves: Mapping[str, float]
    abrupt: float
    weight: float
    irregular: bool = False


# Directions: infection by SIRS and qSOFA (HR > 90, RR > 20, 38 °C, systolic <= 100 late), blood loss by ATLS classes
# (pulse first, pressure later), the others by what defines them. Sizes, shares and weights are assumed.
PATTERNS: Mapping[str, Pattern] = {
    "infection": Pattern(
        {"hr": 3.0, "spo2": -1.2, "resp": 2.0, "sbp": -1.6, "dbp": -1.2, "temp": 3.0}, 0.1, 0.2
    ),
    "breathing fails": Pattern({"hr": 1.5, "spo2": -4.5, "resp": 2.2, "sbp": 0.4, "dbp": 0.3}, 0.5, 0.22),
    "blood loss": Pattern(
        {"hr": 4.0, "spo2": -0.7, "resp": 1.5, "sbp": -2.4, "dbp": -1.5, "temp": -0.4}, 0.5, 0.2
    ),
    "fast rhythm": Pattern(
        {"hr": 5.0, "spo2": -0.5, "resp": 0.6, "sbp": -1.2, "dbp": -0.6}, 0.85, 0.16, irregular=True
    ),
    "slow rhythm": Pattern({"hr": -3.5, "sbp": -2.0, "dbp": -1.2}, 0.7, 0.04),
    "slow breathing": Pattern({"resp": -3.0, "spo2": -3.5, "hr": -0.8}, 0.4, 0.05),
    "any": Pattern({}, 0.5, 0.13),
}
# "any": chance that a channel goes up, and how far it goes beside the others; pressures go together.
ANY_UP = {"hr": 0.8, "spo2": 0.0, "resp": 0.8, "temp": 0.7}
ANY_SIZE, ANY_TAKES_PART, ANY_FEWEST = 2.5, 0.6, 2
PRESSURES = ("sbp", "dbp", "map")
PRESSURE_FALLS, PRESSURE_RISE = 0.65, 0.4  # chance; share of the size when it rises instead
# Chance not to answer, to hold out, and for how much of the ramp at most.
SILENT, RESERVED, RESERVE = 0.1, 0.5, 0.5
SIZE_SPREAD = 0.35  # log sd between channels
IRREGULAR = (0.3, 1.8)  # usual spreads; also of one in ten others
HIGHEST_SPO2 = 100.0


@dataclasses.dataclass(frozen=True)
class Course:
    """Shortest and longest times of a kind of deviation, steps.

    Args:
        rise: Until full size.
        hold: At full size.
        fall: The way back.
    """

    rise: tuple[float, float]
    hold: tuple[float, float]
    fall: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class DeviationSettings:
    """How deviations are drawn; times in steps, sizes in the channels' usual spread within a subject.

    Args:
        channels: Signals, in order.
        spread: Usual standard deviation within a subject, [channel], in the channel's unit.
        rounding: What values are multiples of, [channel]; 0 where they are not rounded.
        highest: Most that each channel can show, [channel]; infinite where there is no such bound.
        per_step: Mean number that begin per step.
        quick: Times of abrupt ones.
        slow: Times of the others.
        thermal: Least rise of a temperature, which follows slowly.
        pulse_share: Share of the pulse pressure by which the mean pressure lies above the diastolic one.
        size: Smallest and largest factor on the moves of a pattern.
    """

    channels: tuple[str, ...]
    spread: tuple[float, ...]
    rounding: tuple[float, ...]
    highest: tuple[float, ...]
    per_step: float
    quick: Course
    slow: Course
    thermal: float = 0.0
    pulse_share: float = 1 / 3
    size: tuple[float, float] = (0.5, 1.5)


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
    patterns = list(PATTERNS.values())
    weights = np.array([pattern.weight for pattern in patterns])
    for _ in range(int(rng.poisson(settings.per_step * steps))):
        pattern = patterns[int(rng.choice(len(patterns), p=weights / weights.sum()))]
        onset, abrupt = float(rng.uniform(0, steps)), bool(rng.random() < pattern.abrupt)
        course = settings.quick if abrupt else settings.slow
        ramp = _Ramp(
            onset, _between(rng, course.rise), _between(rng, course.hold), _between(rng, course.fall)
        )
        if during[int(onset) : int(np.ceil(ramp.end))].any():
            continue
        added += _moved(ramp, pattern, settings, rng, steps)
        share = ramp.share(steps)
        during |= share > 0
        if abrupt:
            # A step's value is the mean of what it saw, so that half of a step counts half.
            since = np.arange(steps) + 0.5 - onset
            sudden |= (since > 0) & (since < ramp.rise + sudden_steps)
        drawn.append((onset, min(ramp.end, steps), abrupt))
    drawn.sort()
    table = np.array(drawn, np.float64).reshape(-1, 3)
    return Deviated(
        _shown(values, added, settings), during, sudden, table[:, 0], table[:, 1], table[:, 2] > 0
    )


@dataclasses.dataclass(frozen=True)
class _Ramp:
    onset: float
    rise: float
    hold: float
    fall: float

    @property
    def end(self) -> float:
        return self.onset + self.rise + self.hold + self.fall

    def share(self, steps: int, least_rise: float = 0.0) -> DoubleArray:
        """How far it has gone, 0 to 1, [step]."""
        since = np.arange(steps) + 0.5 - self.onset
        left = self.end - (np.arange(steps) + 0.5)
        return np.clip(np.minimum(since / max(self.rise, least_rise), left / self.fall), 0, 1)


def _between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _moved(
    ramp: _Ramp, pattern: Pattern, settings: DeviationSettings, rng: np.random.Generator, steps: int
) -> DoubleArray:
    """What a deviation adds to each channel, [channel, step]."""
    names, size = settings.channels, _between(rng, settings.size)
    added = np.zeros((len(names), steps))
    present = {name: move for name, move in pattern.moves.items() if name in names}
    moves = present or _any(names, rng)
    answers = rng.random(len(moves)) >= SILENT
    answers[rng.integers(len(moves))] = True
    for (name, move), does in zip(moves.items(), answers, strict=True):
        if not does:
            continue
        share = ramp.share(steps, settings.thermal if name == "temp" else 0.0)
        # Some channels hold out for a while before they answer.
        reserve = rng.uniform(0, RESERVE) if rng.random() < RESERVED else 0.0
        place = names.index(name)
        factor = move * size * settings.spread[place] * np.exp(rng.normal(0, SIZE_SPREAD))
        added[place] = factor * np.maximum(share - reserve, 0) / (1 - reserve)
    if "hr" in names and (pattern.irregular or rng.random() < 0.1):
        place, jumps = names.index("hr"), rng.uniform(*IRREGULAR)
        added[place] += ramp.share(steps) * rng.normal(0, jumps, steps) * settings.spread[place]
    if {"sbp", "dbp", "map"} <= set(names):
        systolic, diastolic = (added[names.index(name)] for name in ("sbp", "dbp"))
        added[names.index("map")] = diastolic + settings.pulse_share * (systolic - diastolic)
    elif "map" in names and "map" not in moves and "sbp" in moves:
        place = names.index("map")
        added[place] = moves["sbp"] * size * settings.spread[place] * ramp.share(steps)
    return added


def _any(names: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    """Any mixture of channels."""
    pressure = -1.0 if rng.random() < PRESSURE_FALLS else PRESSURE_RISE
    part = rng.random(len(names)) < ANY_TAKES_PART
    part[rng.choice(len(names), min(ANY_FEWEST, len(names)), replace=False)] = True
    signs = [
        pressure if name in PRESSURES else 1.0 if rng.random() < ANY_UP[name] else -1.0 for name in names
    ]
    return {name: ANY_SIZE * sign for name, sign, takes in zip(names, signs, part, strict=True) if takes}


def _shown(values: FloatArray, added: DoubleArray, settings: DeviationSettings) -> FloatArray:
    """Values as a monitor would show them."""
    shown = np.minimum(values + added, np.array(settings.highest)[:, None])
    rounding = np.array(settings.rounding)[:, None]
    rounded = np.where(rounding > 0, np.rint(shown / np.maximum(rounding, 1e-9)) * rounding, shown)
    return np.where(added != 0, rounded, values).astype(np.float32)
