"""The service's clock: the wall's, but it never goes back, however the machine's is set; and its times in words."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable

_JUMP = 1.0  # seconds that the wall may be ahead before we follow it


class Clock:
    """Epoch seconds that pass as seconds do.

    Set back, the machine's clock would make silent monitors look alive, and expired tokens valid, for as long; so we
    count on by ourselves. Set ahead (or after the machine slept), we follow.

    Args:
        wall: Epoch seconds, may jump.
        steady: Seconds since whenever, never jumps.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()

    def __call__(self) -> float:
        """The time, epoch seconds."""
        steady, wall = self._steady(), self._wall()
        if wall - (self._offset + steady) > _JUMP:
            self._offset = wall - steady
        return self._offset + steady


def iso(seconds: float | None, digits: str = "milliseconds") -> str | None:
    """Epoch seconds as ISO 8601 in UTC.

    Args:
        seconds: Epoch seconds; what is not finite, or None, is no time.
        digits: How finely, a `timespec` of `datetime.isoformat`.
    """
    if seconds is None or not math.isfinite(seconds):
        return None
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")
