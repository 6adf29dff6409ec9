"""From scores to alarms a ward would keep switched on: hysteresis, delay, one alarm per trouble.

    quiet ──raise_at──▶ pending ──delay──▶ active ──acknowledge──▶ acknowledged
      ▲                    │                 ▲  │                      │  │
      └──────below─────────┘                 │  └──below clear_at──────┼──▶ cleared ──▶ quiet
                                             └───────remind────────────┘

A machine serves one subject and one reason. Its state after a sample depends on the samples so far and on
nothing else, so that a stream and a stored recording give the same alarms, however they are cut into batches,
and every alarm can be reproduced from its inputs. A sample without a score changes nothing: silence of a
sensor neither clears an alarm nor lets a pending one mature; `technical.py` raises its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from caretrace.errors import ConfigError, InputError

FloatArray = npt.NDArray[np.float64]
State = Literal["quiet", "pending", "active", "acknowledged", "cleared"]
_REMEMBERED = ("number", "up_since", "low_since", "raised", "cleared", "acknowledged")
_BETWEEN, _ABOVE = 1, 2  # level of a score: from `clear_at`, from `raise_at`; 0 is below both


@dataclasses.dataclass(frozen=True)
class AlarmSettings:
    """When a score becomes an alarm, and when it stops being one.

    Args:
        raise_at: Score from which an alarm is pending.
        clear_at: Score below which an alarm is on its way out; at most `raise_at` (hysteresis).
        delay_seconds: How long the score must stay up before anybody hears of it (15 s cut alarms by 60 %, AAMI).
        clear_seconds: How long the score must stay down before the alarm is over.
        join_seconds: Trouble that is back this soon is the same alarm again, not another one.
        remind_seconds: An acknowledged alarm sounds again when the score is still up after this long.
    """

    raise_at: float
    clear_at: float
    delay_seconds: float = 15.0
    clear_seconds: float = 60.0
    join_seconds: float = 300.0
    remind_seconds: float = 900.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.raise_at) or not self.clear_at <= self.raise_at:
            raise ConfigError(
                f"raise_at {self.raise_at}, clear_at {self.clear_at}: give finite scores, clear_at at most raise_at"
            )
        for name in ("delay_seconds", "clear_seconds", "join_seconds", "remind_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: got {getattr(self, name)}; give 0 or a number of seconds")


@dataclasses.dataclass(frozen=True)
class Transition:
    """What happened to an alarm.

    Args:
        alarm: Number of the alarm within its machine, from 0.
        time: When, seconds.
        state: What it is from then on.
        score: Score at that moment; NaN where a person acted.
        by: Who acted; empty where nobody did.
        why: What they gave as reason.
    """

    alarm: int
    time: float
    state: State
    score: float
    by: str = ""
    why: str = ""


class AlarmMachine:
    """The alarms of one subject for one reason.

    Args:
        settings: When a score becomes an alarm.
    """

    def __init__(self, settings: AlarmSettings) -> None:
        self.settings = settings
        self.state: State = "quiet"
        self._number = -1  # alarms so far, less one
        self._up_since = math.nan  # pending since
        self._low_since = math.nan  # active, but below `clear_at` since
        self._raised = math.nan
        self._cleared = -math.inf
        self._acknowledged = math.nan
        self._last = -math.inf

    @property
    def last(self) -> float:
        """Time of the last sample it was given, seconds; -inf before the first."""
        return self._last

    def advance(self, times: npt.ArrayLike, scores: npt.ArrayLike) -> list[Transition]:
        """Take samples, one or many, in order of time.

        Args:
            times: [samples], seconds, rising, later than those before.
            scores: [samples]; NaN where there is none.

        Returns:
            What happened, in order.

        Raises:
            InputError: Times that do not rise, or another number of scores.
        """
        when, score = np.asarray(times, np.float64), np.asarray(scores, np.float64)
        if when.shape != score.shape or when.ndim != 1:
            raise InputError(f"alarms: got {when.shape} times and {score.shape} scores; give one of each")
        if not (np.diff(when, prepend=self._last) > 0).all():
            at = int(np.flatnonzero(~(np.diff(when, prepend=self._last) > 0))[0])
            raise InputError(
                f"alarms: sample {at} at {when[at]} s does not come after the one before; sort by time"
            )
        if when.size:
            self._last = float(when[-1])
        return list(self._run(when, score))

    def acknowledge(self, time: float, by: str, why: str) -> list[Transition]:
        """Somebody has seen the alarm; it sounds again after `remind_seconds`.

        Raises:
            InputError: There is no active alarm.
        """
        if self.state != "active":
            raise InputError(f"alarms: nothing to acknowledge, the alarm is {self.state}")
        self.state, self._acknowledged = "acknowledged", time
        return [Transition(self._number, time, "acknowledged", math.nan, by, why)]

    def snooze(self, time: float, until: float, by: str, why: str) -> list[Transition]:
        """Somebody has seen the alarm, and asks not to hear of it until then, however the score stands.

        Raises:
            InputError: There is no alarm, or `until` has passed.
        """
        if self.state not in ("active", "acknowledged"):
            raise InputError(f"alarms: nothing to snooze, the alarm is {self.state}")
        if not until > time:
            raise InputError("alarms: snooze until a time to come")
        self.state, self._acknowledged = "acknowledged", until - self.settings.remind_seconds
        return [Transition(self._number, time, "acknowledged", math.nan, by, why)]

    def forget(self) -> None:
        """A new recording begins: what was pending is over; an alarm that people know of stays."""
        if self.state == "pending":
            self.state = "quiet"

    def memory(self) -> dict[str, float | str | None]:
        """What must be kept to go on after a restart; None where there is nothing. JSON can hold it."""
        kept = {name: getattr(self, f"_{name}") for name in _REMEMBERED}
        return {
            "state": self.state,
            **{name: value if math.isfinite(value) else None for name, value in kept.items()},
        }

    @classmethod
    def recalled(cls, settings: AlarmSettings, memory: Mapping[str, Any]) -> AlarmMachine:
        """A machine that goes on where another stood when its `memory` was taken."""
        machine = cls(settings)
        machine.state = memory["state"]
        for name in _REMEMBERED:
            if memory[name] is not None:
                setattr(machine, f"_{name}", memory[name])
        return machine

    def _run(self, when: FloatArray, score: FloatArray) -> Iterator[Transition]:
        """Level by level: within a run of equal levels only the clock can change anything."""
        known = ~np.isnan(score)
        when, score = when[known], score[known]
        level = (score >= self.settings.raise_at).astype(np.int8) + (score >= self.settings.clear_at)
        edges = np.flatnonzero(np.diff(level)) + 1
        for low, high in zip([0, *edges], [*edges, len(level)], strict=True):
            if low < high:
                yield from self._level(int(level[low]), when[low:high], score[low:high])

    def _level(self, level: int, when: FloatArray, score: FloatArray) -> Iterator[Transition]:
        if self.state in ("quiet", "pending"):
            if not (yield from self._upwards(level, when, score)):
                return
            when, score = when[when > self._raised], score[when > self._raised]
        if self.state == "acknowledged" and level >= _BETWEEN:
            yield from self._remind(when, score)
        if level >= _BETWEEN:
            self._low_since = math.nan
            return
        yield from self._downwards(when, score)

    def _upwards(self, level: int, when: FloatArray, score: FloatArray) -> Generator[Transition, None, bool]:
        """Whether the alarm became active within the run."""
        if level < _ABOVE:
            if self.state == "pending":
                self.state = "quiet"
            return False
        if self.state != "pending":
            self.state, self._up_since = "pending", float(when[0])
        at = int(np.searchsorted(when, self._up_since + self.settings.delay_seconds))
        if at == len(when):
            return False
        self._raised = float(when[at])
        if self._up_since - self._cleared > self.settings.join_seconds:
            self._number += 1
        self.state, self._low_since = "active", math.nan
        yield Transition(self._number, self._raised, "active", float(score[at]))
        return True

    def _remind(self, when: FloatArray, score: FloatArray) -> Iterator[Transition]:
        at = int(np.searchsorted(when, self._acknowledged + self.settings.remind_seconds))
        if at < len(when):
            self.state = "active"
            yield Transition(self._number, float(when[at]), "active", float(score[at]))

    def _downwards(self, when: FloatArray, score: FloatArray) -> Iterator[Transition]:
        if not len(when):
            return
        if math.isnan(self._low_since):
            self._low_since = float(when[0])
        at = int(np.searchsorted(when, self._low_since + self.settings.clear_seconds))
        if at < len(when):
            self.state, self._cleared = "quiet", float(when[at])
            yield Transition(self._number, self._cleared, "cleared", float(score[at]))


def raised(transitions: list[Transition]) -> list[Transition]:
    """The first `active` of every alarm: what a metric counts; reminders and returns are not new alarms."""
    first: dict[int, Transition] = {}
    for each in transitions:
        if each.state == "active":
            first.setdefault(each.alarm, each)
    return list(first.values())
