"""A thin layer over a SimPy environment: actions after a delay, and a way to take the agenda to another future.

Cases are driven by callbacks of SimPy timeouts instead of generator processes. It costs one event per
activity, and, unlike a suspended generator, an agenda of (moment, action, value) can be copied: this is what
makes exact branches of the future possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy

Action = Callable[[Any], None]


class Agenda:
    """What is going to happen, and the clock.

    Args:
        now: Where the clock begins, in minutes.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._simpy = simpy.Environment(now)

    @property
    def now(self) -> float:
        """Minutes since the simulation began."""
        return float(self._simpy.now)

    def after(self, minutes: float, action: Action, value: Any = None) -> None:
        """Call `action` with a SimPy event that carries `value`, some minutes from now."""
        event = simpy.Timeout(self._simpy, minutes, value)
        event.callbacks.append(action)

    def run_until(self, minutes: float) -> None:
        """Let everything happen that is due before `minutes`."""
        self._simpy.run(until=minutes)

    def pending(self) -> list[tuple[float, Action, Any]]:
        """Moment, action and value of everything that is still to happen, in order."""
        # SimPy shows no agenda; its queue of (moment, priority, number, event) has been the same since 3.0.
        # Events without callbacks are what `run` leaves behind of its own stopping.
        return [
            (moment, event.callbacks[0], event.value)
            for moment, _, _, event in sorted(self._simpy._queue)
            if event.callbacks
        ]
