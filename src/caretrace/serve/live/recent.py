"""What the page draws: the last samples of everybody, and the last hours of steps and scores."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caretrace.serve.store.columns import Samples

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Course(NamedTuple):
    """Steps of one subject, in order.

    Args:
        step: [step], whole steps since 1970.
        values: [step, channel]; NaN where nothing was measured.
        scores: [step, score].
    """

    step: IntArray
    values: FloatArray
    scores: FloatArray


class Recent:
    """Written by the thread that scores, read by others: a reader may miss the newest step, no more.

    Args:
        n_channels: Channels that samples can have.
        n_grid: Channels of the grid.
        n_scores: Scores of a step.
        length: Steps that are kept.
    """

    def __init__(self, n_channels: int, n_grid: int, n_scores: int, length: int) -> None:
        self._length = length
        self.value = np.zeros((0, n_channels), np.float32)
        self.time = np.zeros((0, n_channels))  # of `value`
        self.newest = np.zeros(0)  # time of the last sample of any channel
        self.arrived = np.zeros(0)  # when we last got one, seconds of the machine's steady clock
        self.changed = np.zeros(0, bool)
        self._count = np.zeros(0, np.int64)
        self._step = np.zeros((0, length), np.int64)
        self._values = np.zeros((0, length, n_grid), np.float32)
        self._scores = np.zeros((0, length, n_scores), np.float32)

    def grow(self, slots: int) -> None:
        """Make room for so many subjects."""
        more = slots - len(self.newest)
        for name, start in (
            *(
                ("value", np.nan),
                ("time", -np.inf),
                ("newest", -np.inf),
                ("arrived", -np.inf),
                ("changed", False),
            ),
            *(("_count", 0), ("_step", 0), ("_values", np.nan), ("_scores", np.nan)),
        ):
            array = getattr(self, name)
            added = np.full((more, *array.shape[1:]), start, array.dtype)
            setattr(self, name, np.concatenate([array, added]))

    def clear(self, slot: int) -> None:
        """Somebody else gets this place."""
        self.value[slot], self.time[slot], self.newest[slot] = np.nan, -np.inf, -np.inf
        self._count[slot], self.changed[slot] = 0, False

    def take(self, slots: IntArray, samples: Samples) -> None:
        """Samples, in order of the log."""
        order = np.argsort(samples.time, kind="stable")
        slot, channel, when = slots[order], samples.channel[order], samples.time[order]
        newer = when >= self.time[slot, channel]
        slot, channel, when = slot[newer], channel[newer], when[newer]
        self.value[slot, channel] = samples.value[order][newer]  # the last of equals wins
        self.time[slot, channel] = when
        np.maximum.at(self.newest, slot, when)
        self.changed[slot], self.arrived[slot] = True, time.monotonic()

    def push(self, slot: IntArray, step: IntArray, values: FloatArray, scores: FloatArray) -> None:
        """One step each of different subjects."""
        at = self._count[slot] % self._length
        self._step[slot, at], self._values[slot, at], self._scores[slot, at] = step, values, scores
        self._count[slot] += 1

    def course(self, slot: int, since_step: int) -> Course:
        """The steps of a subject from a step on."""
        count = int(self._count[slot])
        at = np.arange(max(0, count - self._length), count) % self._length
        at = at[self._step[slot, at] >= since_step]
        return Course(self._step[slot, at], self._values[slot, at], self._scores[slot, at])

    def last(self, slot: int) -> FloatArray | None:
        """Scores of the newest step."""
        count = int(self._count[slot])
        return None if not count else self._scores[slot, (count - 1) % self._length]
