"""Samples as they arrive → steps of the grid, the same whatever the batches they arrive in.

A step of a subject is open until a sample of the same subject says that its time is over; then it is closed for good,
its value is the mean of what it got, and what comes for it later is late: kept in the log, but not scored. Nothing
else closes a step. So steps, gaps and new recordings are those that `data.grid.stretches` makes of the same samples,
and they depend on the order of the log alone, not on when we looked at it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from caretrace.serve.store.columns import Samples

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
NEVER = -(2**40)  # a step long before 1970


@dataclasses.dataclass(frozen=True)
class Round:
    """One step each of different subjects.

    Args:
        slot: [row], where the subject is kept.
        step: [row], whole steps since 1970.
        values: [row, channel]; NaN where nothing was measured.
        fresh: [row], whether a recording begins with it.
    """

    slot: IntArray
    step: IntArray
    values: FloatArray
    fresh: npt.NDArray[np.bool_]


class StepGrid:
    """The open steps of everybody.

    Args:
        channels: Which places in `CHANNELS` are put on the grid, in order.
        n_channels: How many channels samples can have.
        step_seconds: Length of a step.
        max_gap_seconds: A recording ends where nothing is measured for longer.
        late_seconds: How long after its end a step still takes samples.
    """

    def __init__(
        self,
        channels: list[int],
        n_channels: int,
        step_seconds: float,
        max_gap_seconds: float,
        late_seconds: float = 0.0,
    ) -> None:
        self._place = np.full(n_channels + 1, -1)  # the last is for rows of no channel
        self._place[channels] = np.arange(len(channels))
        self._width = len(channels)
        self._step = round(step_seconds * 1e6)
        self._gap = int(max_gap_seconds / step_seconds)
        self._late = round(late_seconds * 1e6)
        self.closed = np.zeros(0, np.int64)  # [slot], steps before this one take nothing any more
        self.last = np.zeros(0, np.int64)  # [slot], last step that was given
        self.too_late = 0
        self._slot = np.zeros(0, np.int64)
        self._when = np.zeros(0, np.int64)
        self._channel = np.zeros(0, np.int64)
        self._value = np.zeros(0, np.float64)

    def grow(self, slots: int) -> None:
        """Make room."""
        more = np.full(slots - len(self.closed), NEVER)
        self.closed, self.last = np.concatenate([self.closed, more]), np.concatenate([self.last, more])

    def clear(self, slot: int) -> None:
        """Somebody else gets this place."""
        kept = self._slot != slot
        self._keep(kept)
        self.closed[slot] = self.last[slot] = NEVER

    def take(self, slots: IntArray, samples: Samples) -> Iterator[Round]:
        """Take samples, in the order of the log, and give the steps that they close.

        Args:
            slots: [sample], where each sample's subject is kept.
            samples: In order of the log.
        """
        if len(slots):
            self._add(slots, samples)
        ripe = self._when < self.closed[self._slot]
        if not ripe.any():
            return
        rows = self._rows(ripe)
        self._keep(~ripe)
        yield from self._rounds(*rows)

    def open_since(self) -> tuple[IntArray, IntArray]:
        """Slots with an open step that has samples, and the newest such step of each."""
        slots, where = np.unique(self._slot, return_inverse=True)
        newest = np.full(len(slots), NEVER)
        np.maximum.at(newest, where, self._when)
        return slots, newest

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What must be kept to go on after a restart."""
        return {
            "closed": self.closed.copy(),
            "last": self.last.copy(),
            "held_slot": self._slot.copy(),
            "held_when": self._when.copy(),
            "held_channel": self._channel.copy(),
            "held_value": self._value.copy(),
        }

    def restore(self, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        """Go on from there."""
        self.closed, self.last = (np.array(arrays[name], np.int64) for name in ("closed", "last"))
        self._slot, self._when, self._channel = (
            np.array(arrays[name], np.int64) for name in ("held_slot", "held_when", "held_channel")
        )
        self._value = np.array(arrays["held_value"], np.float64)

    def _add(self, slots: IntArray, samples: Samples) -> None:
        micro = np.rint(samples.time * 1e6).astype(np.int64)
        when, over = micro // self._step, (micro - self._late) // self._step
        order = np.argsort(slots, kind="stable")
        slot, when, over = slots[order], when[order], over[order]
        # Running maximum per slot: slots are lifted apart, so that one pass serves all.
        segment = np.cumsum(np.diff(slot, prepend=slot[:1]) != 0)
        lift = segment * (over.max(initial=0) - over.min(initial=0) + 1)
        closed = np.maximum(np.maximum.accumulate(over + lift) - lift, self.closed[slot])
        np.maximum.at(self.closed, slot, over)
        place = self._place[samples.channel[order]]
        late = (when < closed) & (place >= 0)
        self.too_late += int(late.sum())
        kept = ~late & (place >= 0)
        self._slot = np.concatenate([self._slot, slot[kept]])
        self._when = np.concatenate([self._when, when[kept]])
        self._channel = np.concatenate([self._channel, place[kept]])
        self._value = np.concatenate([self._value, samples.value[order][kept].astype(np.float64)])

    def _keep(self, kept: npt.NDArray[np.bool_]) -> None:
        self._slot, self._when = self._slot[kept], self._when[kept]
        self._channel, self._value = self._channel[kept], self._value[kept]

    def _rows(self, ripe: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray, FloatArray]:
        """Closed steps in order of slot and step: [row] slot, [row] step, [row, channel] means."""
        slot, when, channel = self._slot[ripe], self._when[ripe], self._channel[ripe]
        order = np.lexsort((channel, when, slot))
        slot, when, channel = slot[order], when[order], channel[order]
        changed = (np.diff(slot, prepend=-1) != 0) | (np.diff(when, prepend=NEVER) != 0)
        cells = np.flatnonzero(changed | (np.diff(channel, prepend=-1) != 0))
        sums = np.add.reduceat(self._value[ripe][order], cells)
        counts = np.diff(cells, append=len(slot))
        row = np.cumsum(changed) - 1
        values = np.full((int(row[-1]) + 1, self._width), np.nan, np.float32)
        values[row[cells], channel[cells]] = sums / counts
        return slot[changed], when[changed], values

    def _rounds(self, slot: IntArray, step: IntArray, values: FloatArray) -> Iterator[Round]:
        first = np.diff(slot, prepend=-1) != 0
        before = np.where(first, self.last[slot], np.concatenate([[NEVER], step[:-1]]))
        fresh = step - before > self._gap
        self.last[slot] = step  # the last row of a slot wins
        # Steps without a sample within a recording count: a stored recording has them, too.
        counts = np.where(fresh, 1, step - before)
        ends = np.cumsum(counts)
        owner = np.repeat(np.arange(len(slot)), counts)
        back = ends[owner] - 1 - np.arange(ends[-1])
        every = np.full((len(owner), self._width), np.nan, np.float32)
        every[ends - 1] = values
        begins = np.flatnonzero(np.diff(slot[owner], prepend=-1))
        number = np.arange(len(owner)) - np.repeat(begins, np.diff(begins, append=len(owner)))
        order = np.argsort(number, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            mine = owner[part]
            yield Round(slot[mine], step[mine] - back[part], every[part], fresh[mine])
