"""Trouble with the sensor, kept apart from trouble with the patient.

A probe that is off, a line that is flat and a monitor that fell silent must be heard of, but as what they are.
While a channel has technical trouble its values say nothing, so a score that rests on it is not given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from caretrace.errors import ConfigError, InputError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class ChannelLimits:
    """What a working sensor of one channel shows.

    Args:
        low: Lowest value a living body can have.
        high: Highest value a living body can have.
        off_seconds: No value for this long: the probe is off.
        flat_seconds: The same value for this long: the line is flat; infinite for channels that may stand still.
        flat_samples: And in at least so many samples after the first: rounded, three of a minute apart agree by chance.
    """

    low: float
    high: float
    off_seconds: float = 30.0
    flat_seconds: float = math.inf
    flat_samples: int = 1

    def __post_init__(self) -> None:
        if not self.low < self.high or min(self.off_seconds, self.flat_seconds) <= 0:
            raise ConfigError(
                f"channel limits: got {self.low} to {self.high}, off after {self.off_seconds} s, flat after "
                f"{self.flat_seconds} s; give a low below the high, and seconds above 0"
            )


# All assumed, wide on purpose: SpO2 stands at 97 % for minutes, heart rate by the second does not.
LIMITS: Mapping[str, ChannelLimits] = {
    "hr": ChannelLimits(15, 300, flat_seconds=120, flat_samples=10),
    "spo2": ChannelLimits(30, 100, flat_seconds=1800, flat_samples=10),
    "resp": ChannelLimits(2, 90, flat_seconds=300, flat_samples=10),
    "sbp": ChannelLimits(30, 300, flat_seconds=300, flat_samples=10),
    "dbp": ChannelLimits(10, 200, flat_seconds=300, flat_samples=10),
    "map": ChannelLimits(15, 250, flat_seconds=300, flat_samples=10),
    "temp": ChannelLimits(25, 45),
}
PROBE_OFF, FLAT_LINE, IMPLAUSIBLE = "probe off", "flat line", "implausible value"
REASONS = (PROBE_OFF, FLAT_LINE, IMPLAUSIBLE)


class SignalWatch:
    """The sensors of one subject; what it says of a sample depends on that sample and earlier ones only.

    Args:
        channels: Signals, in order.
        step_seconds: Time between two samples.
        limits: Channel → limits; every channel must have some.

    Raises:
        ConfigError: A channel without limits.
    """

    def __init__(
        self,
        channels: tuple[str, ...],
        step_seconds: float,
        limits: Mapping[str, ChannelLimits] = LIMITS,
    ) -> None:
        missing = [name for name in channels if name not in limits]
        if missing:
            raise ConfigError(f"technical alarms: no limits for channel {missing[0]!r}; add them to `limits`")
        self.channels, self.step_seconds = channels, step_seconds
        self._limits = [limits[name] for name in channels]
        n = len(channels)
        self._last = np.full(n, np.nan, np.float32)  # last value seen
        self._unseen = np.zeros(n)  # samples since there was one
        self._unchanged = np.zeros(n)  # samples since it was another one

    def advance(self, values: FloatArray) -> dict[str, BoolArray]:
        """Look at samples, one or many.

        Args:
            values: [channel, sample]; NaN where the monitor showed nothing.

        Returns:
            Reason → [channel, sample], True while it holds.

        Raises:
            InputError: Another number of channels.
        """
        if values.ndim != 2 or values.shape[0] != len(self.channels):
            raise InputError(
                f"technical alarms: got values of shape {values.shape} for {len(self.channels)} channels"
            )
        found = {reason: np.zeros(values.shape, bool) for reason in REASONS}
        for row, limits in enumerate(self._limits):
            shown = values[row]
            known = ~np.isnan(shown)
            unseen, unchanged = self._count(row, shown, known)
            found[PROBE_OFF][row] = unseen * self.step_seconds >= limits.off_seconds
            still = max(limits.flat_seconds / self.step_seconds, limits.flat_samples)
            found[FLAT_LINE][row] = known & (unchanged >= still)
            found[IMPLAUSIBLE][row] = known & ((shown < limits.low) | (shown > limits.high))
        return found

    def _count(self, row: int, shown: FloatArray, known: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Samples since the last value, and since the last change of it, at every sample; remembers both."""
        at = np.arange(len(shown))
        seen = np.flatnonzero(known)
        before = np.concatenate([[self._last[row]], shown[seen[:-1]]]) if seen.size else shown[:0]
        changes = seen[shown[seen] != before]
        counts = []
        for events, carried in ((seen, self._unseen[row]), (changes, self._unchanged[row])):
            latest = np.searchsorted(events, at, side="right") - 1
            since = at + 1 + carried
            if events.size:
                since = np.where(latest >= 0, at - events[np.maximum(latest, 0)], since)
            counts.append(since)
        if len(shown):
            self._unseen[row], self._unchanged[row] = counts[0][-1], counts[1][-1]
        if seen.size:
            self._last[row] = shown[seen[-1]]
        return counts[0], counts[1]


def is_stale(last_seconds: float, now_seconds: float, limit_seconds: float = 10.0) -> bool:
    """Whether a stream has been silent too long: nothing arrived, so no sample could say so.

    Args:
        last_seconds: Time of the last sample.
        now_seconds: Time by the receiver's clock, same origin.
        limit_seconds: Longest silence that is normal.
    """
    return now_seconds - last_seconds > limit_seconds
