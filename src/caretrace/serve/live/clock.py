"""The ward's clock: the wall's, but it never goes back, however somebody sets the machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable

_JUMP = 1.0  # seconds that the wall may be ahead before we follow it


class WardClock:
    """Epoch seconds that pass as seconds do.

    Set back, the machine's clock would make silent monitors look alive for as long; so we count on by ourselves. Set
    ahead (or after the machine slept), we follow.

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
        now = self._offset + self._steady()
        ahead = self._wall() - now
        if ahead > _JUMP:
            self._offset += ahead
            now += ahead
        return now
