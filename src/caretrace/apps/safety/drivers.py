"""What drives a forecast of a crisis, in words an organisation can act on, and one warning per hour asked for.

A group of channels is put back to what is usual for the hospital at that time of day, over the whole window that is
read; by how much the chance of a crisis changes is the group's effect. That is a statement about the model. What a
change would do to the hospital is asked of the simulator (`caretrace bench safety_what_if`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.apps.safety.finishing import Finish, reach
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS
from caretrace.apps.safety.sequences import HOUR, SEQUENCE, Sequences
from caretrace.apps.safety.training import Fitted, finished, readings_of
from caretrace.errors import ConfigError

Floats = NDArray[np.float64]

LEVEL_WORDS = ("normal", "busy", "strained", "critical", "breakdown")
RAISES, LOWERS = "raises", "lowers"
SMALLEST_EFFECT = 0.005  # of a chance; less is not worth a word


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that say one thing.

    Args:
        words: What they say; `{value}` and `{usual}` are those of the first channel.
        channels: Their names.
        percent: Whether the first channel is a share.
    """

    words: str
    channels: tuple[str, ...]
    percent: bool = False

    def say(self, value: float, usual: float) -> str:
        """The words with the numbers of one hour."""
        plain = self.words.split(" ({value}")[0].split(" (level {value}")[0]
        if np.isnan(value) or np.isnan(usual):
            return plain
        told = [f"{100 * each:.0f} %" if self.percent else f"{each:.0f}" for each in (value, usual)]
        # Where the first channel is as usual, the others of the group speak.
        return plain if told[0] == told[1] else self.words.format(value=told[0], usual=told[1])


GROUPS = (
    Group(
        "patients who wait longer than their urgency allows ({value}, usually {usual})",
        ("overdue", "overdue_per_place", "STATE//waiting", "STATE//last_wait//h", "untriaged",
         "unseen_level_2", "unseen_level_3", "unseen_level_4", "unseen_level_5"),
    ),
    Group(
        "admitted patients without a bed ({value}, usually {usual})",
        ("boarding", "boarding_per_place", "STATE//boarders", "STATE//longest_boarding//h"),
    ),
    Group(
        "ambulance crews held at the door ({value}, usually {usual})",
        ("crews_held", "crews_held_per_place", "STATE//crews_waiting"),
    ),
    Group(
        "patients in the department ({value}, usually {usual})",
        ("in_department", "in_department_per_place", "STATE//patients", "STATE//nedocs", "STATE//ventilated",
         "arrivals_last_hour"),
    ),
    Group(
        "ambulances free in the city ({value}, usually {usual})",
        ("share_of_crews_free", "STATE//crews_free", "STATE//crews"),
        percent=True,
    ),
    Group(
        "crowding in the city's other hospitals",
        ("city_overdue_per_place", "city_crews_held_per_place", "city_boarding_per_place",
         "city_in_department_per_place"),
    ),
    Group(
        "nurses on duty ({value}, usually {usual})", ("STATE//nurses", "STATE//physicians", "STATE//ward_nurses")
    ),
    Group("beds taken on the wards ({value}, usually {usual})", ("STATE//ward_busy", "STATE//intensive_busy")),
    Group("how strained the last hours were (level {value}, usually {usual})", ("last_level",)),
    Group(
        "time of day, weekday and season",
        ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "weekend", "season_sin", "season_cos"),
    ),
    Group(
        "weather and events",
        ("WEATHER//temperature//°C", "WEATHER//rain//mm", "planned_within_24_h", "on//public holiday",
         "on//festival", "on//heat wave", "on//influenza", "on//flood", "on//IT outage"),
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Driver:
    """One reason.

    Args:
        words: What it is, with the number of this hour and the usual one.
        direction: `raises` or `lowers` the chance of a crisis.
        effect: By how much, against the usual.
    """

    words: str
    direction: str
    effect: float


@dataclasses.dataclass(frozen=True)
class BreakdownWarning:
    """What is said of one hospital at one hour.

    Args:
        site: The hospital.
        hour: Since the start of the dataset.
        hours_ahead: Of the forecast.
        probability: Of a crisis (critical or breakdown).
        low: Lowest chance that tuning hours with this one are compatible with.
        high: Highest.
        level: The most probable level, in words.
        warned: Whether the chance is so high that warnings of this kind reach four of five crises.
        reasons: What drives it, the strongest first.
    """

    site: str
    hour: float
    hours_ahead: int
    probability: float
    low: float
    high: float
    level: str
    warned: bool
    reasons: tuple[Driver, ...]


def predict_system_breakdown(
    fitted: Fitted,
    hospital: Sequences,
    rows: Sequence[int],
    hours_ahead: int = 8,
    most: int = 3,
    together: int = 32,
) -> list[BreakdownWarning]:
    """One warning per hour asked for, with its reasons.

    Several horizons of the same hours: `outlooks`.

    Args:
        fitted: The models.
        hospital: Hours of hospitals; what lies before a row in its sequence is read with it.
        rows: Rows of `hospital.steps`, any number.
        hours_ahead: 0, 1, 8 or 24.
        most: Reasons at most.
        together: Rows at a time; says how much memory it takes, and changes nothing else.

    Raises:
        ConfigError: A horizon that is not foreseen.
    """
    if hours_ahead not in HORIZONS_HOURS:
        raise ConfigError(
            f"hours_ahead: got {hours_ahead}; foreseen are {', '.join(map(str, HORIZONS_HOURS))}"
        )
    target, usual = CRISIS[HORIZONS_HOURS.index(hours_ahead)], Usual(hospital)
    found = []
    for first in range(0, len(rows), together):
        some = np.asarray(rows[first : first + together])
        found += _warn(fitted, hospital, some, [target], usual, most)[target]
    return found


def outlooks(
    fitted: Fitted,
    hospital: Sequences,
    rows: Sequence[int],
    usual: Usual,
    hours_ahead: Sequence[int],
    most: int,
) -> dict[int, list[BreakdownWarning]]:
    """As `predict_system_breakdown` for several horizons, from one reading of the hours.

    Args:
        fitted: The models.
        hospital: Hours of hospitals.
        rows: Rows of `hospital.steps`, a few.
        usual: Of the same hospitals.
        hours_ahead: Horizons, each 0, 1, 8 or 24; reasons are those of the first.
        most: Reasons at most.
    """
    targets = [CRISIS[HORIZONS_HOURS.index(ahead)] for ahead in hours_ahead]
    found = _warn(fitted, hospital, np.asarray(rows), targets, usual, most)
    return {ahead: found[target] for ahead, target in zip(hours_ahead, targets, strict=True)}


def levels_at_end(fitted: Fitted, windows: Sequences, targets: Sequence[str]) -> dict[str, Floats]:
    """Chances of the levels at the last hour of each sequence, `[sequence, level]`, by target."""
    return finished(fitted, windows.kind, readings_of(fitted, windows, windows.begins[1:] - 1, targets))


def windows_before(hospital: Sequences, rows: NDArray[np.int64], hours: int) -> Sequences:
    """The hours that end with each row, one sequence per row."""
    begins = hospital.begins
    own = begins[np.searchsorted(begins, rows, side="right") - 1]
    first = np.maximum(own, rows - hours + 1)
    length = rows - first + 1
    place = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, rows, strict=True)])
    steps = hospital.steps[place].with_columns(pl.Series(SEQUENCE, np.repeat(np.arange(len(rows)), length)))
    return dataclasses.replace(hospital, steps=steps)


class Usual:
    """What is usual for each hospital at each hour of the day: the median over what the dataset has of it."""

    def __init__(self, hospital: Sequences) -> None:
        self.channels = [name for group in GROUPS for name in group.channels if name in hospital.numeric]
        self.table = (
            hospital.steps.with_columns(_clock=(pl.col(HOUR) % 24).cast(pl.Int64))
            .group_by("site", "_clock")
            .agg(pl.col(name).cast(pl.Float64).fill_nan(None).median() for name in self.channels)
            .sort("site", "_clock")
        )

    def of(self, steps: pl.DataFrame) -> pl.DataFrame:
        """One row per step."""
        keys = steps.select("site", _clock=(pl.col(HOUR) % 24).cast(pl.Int64))
        return keys.join(self.table, on=["site", "_clock"], how="left", maintain_order="left")


def _warn(
    fitted: Fitted,
    hospital: Sequences,
    rows: NDArray[np.int64],
    targets: Sequence[str],
    usual: Usual,
    most: int,
) -> dict[str, list[BreakdownWarning]]:
    """Target → one warning per row; reasons stand with the first target alone."""
    windows = windows_before(hospital, rows, fitted.config.window_hours)
    typical = usual.of(windows.steps)
    there = [group for group in GROUPS if most and set(group.channels) & set(usual.channels)]
    variants = [windows.steps, *(_put_back(windows.steps, typical, group, usual) for group in there)]
    count = len(rows)
    steps = pl.concat(
        each.with_columns(pl.col(SEQUENCE) + number * count) for number, each in enumerate(variants)
    )
    levels = levels_at_end(fitted, dataclasses.replace(windows, steps=steps), targets)
    last = windows.begins[1:] - 1
    now, then = windows.steps[last].to_dicts(), typical[last].to_dicts()
    found = {}
    for target in targets:
        each = levels[target].reshape(len(variants), count, -1)
        chance = reach(each)
        reasons = [
            _reasons(there, chance[0, number] - chance[1:, number], now[number], then[number], most)
            if target == targets[0]
            else ()
            for number in range(count)
        ]
        found[target] = _warnings(fitted.finishes.get(hospital.kind), target, each[0], now, reasons)
    return found


def _warnings(
    finish: Finish | None,
    target: str,
    levels: Floats,
    now: list[dict[str, Any]],
    reasons: list[tuple[Driver, ...]],
) -> list[BreakdownWarning]:
    """One warning per hour, from the chances of its levels, `[hour, level]`."""
    chance, count = reach(levels), len(levels)
    low, high = finish.interval(target, chance) if finish else (np.zeros(count), np.ones(count))
    limit = finish.threshold.get(target, 0.5) if finish else 0.5
    return [
        BreakdownWarning(
            str(now[number]["site"]),
            float(now[number][HOUR]),
            HORIZONS_HOURS[CRISIS.index(target)],
            float(chance[number]),
            float(low[number]),
            float(high[number]),
            LEVEL_WORDS[int(levels[number].argmax())],
            bool(chance[number] >= limit),
            reasons[number],
        )
        for number in range(count)
    ]


def _put_back(steps: pl.DataFrame, typical: pl.DataFrame, group: Group, usual: Usual) -> pl.DataFrame:
    """The steps as they would be were one group of channels as usual."""
    channels = [name for name in group.channels if name in usual.channels]
    return steps.with_columns(typical[name].cast(steps.schema[name]).alias(name) for name in channels)


def _reasons(
    groups: Sequence[Group], effects: Floats, now: dict[str, object], usual: dict[str, object], most: int
) -> tuple[Driver, ...]:
    found = []
    for place in np.argsort(-np.abs(effects), kind="stable")[:most]:
        effect = float(effects[place])
        if abs(effect) >= SMALLEST_EFFECT:
            first = groups[place].channels[0]
            words = groups[place].say(_number(now.get(first)), _number(usual.get(first)))
            found.append(Driver(words, RAISES if effect > 0 else LOWERS, effect))
    return tuple(found)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
