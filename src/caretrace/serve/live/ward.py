"""The ward as a function of its log: entries in, scores and alarms out. No clock but the one it is given, no thread.

Whoever calls `take` with the same entries in the same order gets the same ward, however the entries are cut into calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caretrace.serve.live.follower import SCORES, Follower
from caretrace.serve.live.grid import Round, StepGrid
from caretrace.serve.live.lifecycle import FLAT, PROBE_OFF, Lifecycle
from caretrace.serve.live.model import LiveModel
from caretrace.serve.live.recent import Recent
from caretrace.serve.live.samples import CHANNELS, NOTHING
from caretrace.serve.live.sensors import Sensors, plausible_bounds
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.store.columns import Samples
from caretrace.serve.store.log import Entry

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
_ROOM = 64  # slots at first; doubled when they are used up
_FREE = np.iinfo(np.int64).min  # no subject may have this id in a snapshot


class Scored(NamedTuple):
    """Steps with their scores, as the store keeps them.

    Args:
        subject: [row].
        step: [row], whole steps since 1970.
        values: [row, channel].
        scores: [row, score].
    """

    subject: IntArray
    step: IntArray
    values: FloatArray
    scores: FloatArray


@dataclasses.dataclass
class Counts:
    """For the metrics, since the start."""

    samples: int = 0
    implausible: int = 0
    steps: int = 0


class Ward:
    """Everybody who is watched.

    Args:
        model: With what.
        settings: How.
    """

    def __init__(self, model: LiveModel, settings: LiveSettings) -> None:
        self.model, self.settings = model, settings
        self.seq = 0  # place in the log up to which everything is in here
        self.slot_of: dict[int, int] = {}
        self._subject = np.full(0, _FREE)
        self._free: list[int] = []
        self.counts = Counts()
        self.grid = StepGrid(
            list(model.channels),
            len(CHANNELS),
            model.step_seconds,
            model.max_gap_seconds,
            settings.late_seconds,
        )
        self._follower = None if model.scorer is None else Follower(model.scorer)
        self._sensors = Sensors(model.names, model.step_seconds)
        length = max(2, round(settings.history_hours * 3600 / model.step_seconds))
        self.recent = Recent(len(CHANNELS), len(model.channels), len(SCORES), length)
        self.lifecycle = Lifecycle(model)
        self._since = np.zeros(0)  # [slot], when the recording began, epoch seconds
        self._scored: list[Scored] = []
        self._low, self._high = plausible_bounds(CHANNELS)
        self._places = {reason: SCORES.index(reason) for reason in model.alarms}
        self._reasons = (*self._places, PROBE_OFF, FLAT)
        self._awake: dict[str, npt.NDArray[np.bool_]] = {}

    def take(self, entries: Sequence[Entry], *, alarms: bool = True) -> None:
        """Take entries of the log, in order.

        Args:
            entries: The next ones.
            alarms: False to only remember: what they led to is in the store.
        """
        if not entries:
            return
        self.seq = entries[-1].seq
        samples = Samples.joined([entry.samples for entry in entries])
        slots = self._slots(samples.subject)
        real = samples.channel != NOTHING
        self.counts.samples += int(real.sum())
        self.recent.take(slots[real], samples.take(real))
        good = ~real
        channel, value = samples.channel[real], samples.value[real]
        good[real] = (value >= self._low[channel]) & (value <= self._high[channel])
        self.counts.implausible += int(good.size - good.sum())
        for each in self.grid.take(slots[good], samples.take(good)):
            self._step(each, alarms)

    def subjects(self) -> IntArray:
        """[slot], who is kept there; meaningless where nobody is."""
        return self._subject

    def leave(self, subject: int, now: float) -> None:
        """Nobody expects anything of a subject any more."""
        slot = self.slot_of.pop(subject)
        self.lifecycle.gone(subject, now)
        self.grid.clear(slot)
        self.recent.clear(slot)
        self._subject[slot] = _FREE
        self._free.append(slot)
        for awake in self._awake.values():
            awake[slot] = False

    def take_scored(self) -> Scored | None:
        """Steps since the last call."""
        if not self._scored:
            return None
        parts, self._scored = self._scored, []
        return Scored(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What must be kept to go on after a restart, machines and alarms apart."""
        parts = {"grid": self.grid.arrays(), "sensors": self._sensors.arrays()}
        if self._follower is not None:
            parts["follower"] = self._follower.arrays()
        named = {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        last = {f"recent/{name}": getattr(self.recent, name).copy() for name in ("value", "time", "newest")}
        return {**named, **last, "subject": self._subject.copy(), "since": self._since.copy()}

    def restore(self, seq: int, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from there."""
        self.seq = seq
        self._grow(len(arrays["subject"]))
        self._subject, self._since = arrays["subject"].copy(), arrays["since"].copy()
        self.slot_of = {int(who): slot for slot, who in enumerate(self._subject) if who != _FREE}
        self._free = [slot for slot, who in enumerate(self._subject) if who == _FREE][::-1]
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for name, array in arrays.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = array
        self.grid.restore(parts["grid"])
        self._sensors.restore(parts["sensors"])
        if self._follower is not None:
            self._follower.restore(parts["follower"])
        for name, array in parts["recent"].items():
            setattr(self.recent, name, array.copy())

    def wake(self) -> None:
        """Machines were restored: look which are not at rest."""
        for subject, slot in self.slot_of.items():
            for reason in self._places:
                self._awake[reason][slot] = self.lifecycle.awake(subject, reason)
            for reason in (PROBE_OFF, FLAT):
                self._awake[reason][slot] = any(
                    self.lifecycle.awake(subject, f"{reason}:{name}") for name in self.model.names
                )

    def quiet_limit(self, slots: IntArray, least: float) -> npt.NDArray[np.float64]:
        """[row], longest silence that is usual for these subjects, seconds; at least `least`."""
        steps = self._sensors.usual[slots].min(axis=1)
        return np.maximum(least, 1.5 * steps * self.model.step_seconds)

    def since(self, slot: int) -> float:
        """When the recording of a subject began, epoch seconds."""
        return float(self._since[slot])

    def remember(self, scored: Scored) -> None:
        """Steps from the store, to be drawn; in order."""
        slots = self._slots(scored.subject)
        order = np.argsort(slots, kind="stable")
        begins = np.flatnonzero(np.diff(slots[order], prepend=-1))
        number = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        for n in range(int(number.max(initial=-1)) + 1):
            at = order[number == n]
            self.recent.push(slots[at], scored.step[at], scored.values[at], scored.scores[at])

    def _slots(self, subjects: IntArray) -> IntArray:
        unique, where = np.unique(subjects, return_inverse=True)
        found = np.empty(len(unique), np.int64)
        for place, subject in enumerate(unique.tolist()):
            slot = self.slot_of.get(subject)
            found[place] = self._enter(subject) if slot is None else slot
        return found[where]

    def _enter(self, subject: int) -> int:
        if not self._free:
            self._grow(max(_ROOM, 2 * len(self._subject)))
        slot = self._free.pop()
        self.slot_of[subject], self._subject[slot] = slot, subject
        return slot

    def _grow(self, slots: int) -> None:
        before = len(self._subject)
        if slots <= before:
            return
        for part in (self.grid, self._sensors, self.recent, self._follower):
            if part is not None:
                part.grow(slots)
        more = slots - before
        self._subject = np.concatenate([self._subject, np.full(more, _FREE)])
        self._since = np.concatenate([self._since, np.full(more, np.nan)])
        for reason in self._reasons:
            awake = self._awake.get(reason, np.zeros(before, bool))
            self._awake[reason] = np.concatenate([awake, np.zeros(more, bool)])
        self._free += range(slots - 1, before - 1, -1)

    def _step(self, each: Round, alarms: bool) -> None:
        self.counts.steps += len(each.slot)
        time = np.asarray(each.step * self.model.step_seconds + self.model.known_after, np.float64)
        if each.fresh.any():
            self._begin(each.slot[each.fresh], time[each.fresh], alarms)
        off, flat = self._sensors.step(each.slot, each.values)
        scores = np.full((len(each.slot), len(SCORES)), np.nan, np.float32)
        if self._follower is not None:
            scores = self._follower.step(each.slot, each.values)
        if not alarms:
            return
        self.recent.push(each.slot, each.step, each.values, scores)
        self._scored.append(Scored(self._subject[each.slot], each.step, each.values, scores))
        self._judge(each.slot, time, scores)
        self._watch(each.slot, time, off, flat)

    def _begin(self, slots: IntArray, times: npt.NDArray[np.float64], alarms: bool) -> None:
        self._sensors.reset(slots)
        if self._follower is not None:
            self._follower.reset(slots)
        self._since[slots] = times
        if alarms:
            for slot in slots.tolist():
                self.lifecycle.begin(int(self._subject[slot]))

    def _judge(self, slots: IntArray, times: npt.NDArray[np.float64], scores: FloatArray) -> None:
        """Only machines that are not at rest, or are about to wake, are asked."""
        for reason, place in self._places.items():
            awake, score = self._awake[reason], scores[:, place]
            raise_at = self.model.alarms[reason].raise_at
            for row in np.flatnonzero(awake[slots] | (score >= raise_at)).tolist():
                slot = int(slots[row])
                subject = int(self._subject[slot])
                self.lifecycle.score(
                    subject, reason, float(times[row]), float(score[row]), float(self._since[slot])
                )
                awake[slot] = self.lifecycle.awake(subject, reason)

    def _watch(
        self,
        slots: IntArray,
        times: npt.NDArray[np.float64],
        off: npt.NDArray[np.bool_],
        flat: npt.NDArray[np.bool_],
    ) -> None:
        """Sensors: those in trouble, and those that were."""
        for reason, trouble in ((PROBE_OFF, off), (FLAT, flat)):
            was = self._awake[reason]
            for row in np.flatnonzero(trouble.any(1) | was[slots]).tolist():
                slot, waiting = int(slots[row]), False
                subject = int(self._subject[slot])
                for channel, name in enumerate(self.model.names):
                    self.lifecycle.sensor(
                        subject, reason, name, float(times[row]), bool(trouble[row, channel])
                    )
                    waiting |= self.lifecycle.awake(subject, f"{reason}:{name}")
                was[slot] = waiting
