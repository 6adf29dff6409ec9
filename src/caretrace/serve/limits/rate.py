"""How often one caller may ask: a bucket of tokens each, refilled at a steady rate."""

from __future__ import annotations

from collections import OrderedDict

MOST_CALLERS = 10_000


class Rate:
    """Requests of each caller.

    Args:
        per_second: Sustained.
        burst: At once.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, who: str, now: float) -> float:
        """Take one; returns 0, or in how many seconds to ask again.

        Args:
            who: Name of the caller, or the address.
            now: Seconds of a clock that only goes forward.
        """
        left, at = self._buckets.pop(who, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._per_second)
        enough = left >= 1
        self._buckets[who] = (left - 1 if enough else left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)  # who has not asked for longest has a full bucket by now
        return 0.0 if enough else (1 - left) / self._per_second
