"""A batch of samples as it came in: checked once, then trusted."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.config import CONCEPTS
from caretrace.errors import InputError, unknown_name
from caretrace.serve.store.columns import Samples
from caretrace.serve.store.log import NewBatch

CHANNELS = tuple(CONCEPTS.values())
NUMBER = {name: number for number, name in enumerate(CHANNELS)}
NOTHING = -1  # the channel of a row that says only that nothing was measured until then
UNITS = {
    "hr": "bpm",
    "spo2": "%",
    "resp": "breaths/min",
    "sbp": "mmHg",
    "dbp": "mmHg",
    "map": "mmHg",
    "temp": "°C",
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
OURS = "caretrace-"  # batch ids of the service itself
# 1970 to 2262: what int64 nanoseconds can hold, so that no tool downstream overflows.
_FIRST, _LAST = 0.0, 9_223_372_036.0


class BadSampleError(InputError):
    """A batch that cannot be taken; the message names field and row."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples that are sent together, and are kept together or not at all.

    Args:
        batch_id: The sender's name for it; sent again with it, a batch is not kept twice.
        subject: [sample] int64, whose.
        time: [sample] float64, epoch seconds.
        channel: [sample] int16, a place in `CHANNELS`.
        value: [sample] float32, in `UNITS`.

    Raises:
        BadSampleError: Anything that is not so.
    """

    batch_id: str
    subject: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    channel: npt.NDArray[np.int16]
    value: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.batch_id) or self.batch_id.startswith(OURS):
            raise BadSampleError(
                f"batch_id: {self.batch_id[:40]!r} cannot be used; give 1 to 128 letters, digits or . _ : @ + -, "
                f"beginning with a letter or digit, not with {OURS!r}"
            )
        lengths = {len(getattr(self, name)) for name in ("subject", "time", "channel", "value")}
        if len(lengths) != 1 or lengths == {0}:
            raise BadSampleError(
                f"samples: columns of {sorted(lengths)} samples; give at least one, all alike"
            )
        _require(
            np.isfinite(self.value), "value", self.value, "give a finite number, or leave the sample out"
        )
        good = (self.time >= _FIRST) & (self.time <= _LAST)  # NaN is neither
        _require(good, "time", self.time, "give a time from 1970 to 2262")
        known = (self.channel >= 0) & (self.channel < len(CHANNELS))
        _require(known, "channel", self.channel, f"channels are {', '.join(CHANNELS)}")

    def __len__(self) -> int:
        return len(self.subject)

    @cached_property
    def samples(self) -> Samples:
        """Its samples in order of time: within a batch the order in which they stand means nothing."""
        columns = Samples(self.subject, self.time, self.channel, self.value)
        if (self.time[1:] >= self.time[:-1]).all():
            return columns
        return columns.take(np.argsort(self.time, kind="stable"))

    def within(self, now: float, ahead: float) -> None:
        """Refuse samples from the future: they would make everything that follows look late.

        Args:
            now: The ward's clock, epoch seconds.
            ahead: How far ahead of it a monitor's clock may be, seconds.

        Raises:
            BadSampleError: There is one.
        """
        if float(self.samples.time[-1]) > now + ahead:
            what = f"more than {ahead:g} s ahead of the ward's clock ({now:.0f}); set the monitor's clock"
            _require(self.time <= now + ahead, "time", self.time, what)

    def new(self, received: float) -> NewBatch:
        """What the store appends to its log."""
        return NewBatch(self.batch_id, received, self.samples)


def channel_number(name: str, row: int) -> int:
    """Place of a channel.

    Raises:
        BadSampleError: There is none of this name.
    """
    if name not in NUMBER:
        raise BadSampleError(f"samples[{row}].channel: {unknown_name('channel', str(name)[:40], CHANNELS)}")
    return NUMBER[name]


def _require(good: npt.NDArray[np.bool_], field: str, given: npt.NDArray[Any], remedy: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise BadSampleError(f"samples[{row}].{field}: got {given[row]:g}; {remedy}")
