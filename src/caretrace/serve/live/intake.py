"""Taking batches: what the hub and every further worker do alike. Light: nothing here knows of models."""

from __future__ import annotations

import time
from collections.abc import Callable

from caretrace.errors import CaretraceError
from caretrace.serve.live import metrics
from caretrace.serve.live.samples import Batch
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.store.log import Accepted
from caretrace.serve.store.store import Store

_LOOK_SECONDS = 0.25


class OverloadedError(CaretraceError, TimeoutError):
    """More than can be taken; try again after `retry_after` seconds."""

    retry_after = 1


class Intake:
    """Takes batches as long as the disk and the scoring keep up.

    Args:
        store: Where they are kept.
        settings: Of the live ward.
        clock: The ward's clock, epoch seconds.
        most_unscored: Batches that scoring may be behind.
        speed: Seconds of the ward's clock in one second.
    """

    def __init__(
        self,
        store: Store,
        settings: LiveSettings,
        clock: Callable[[], float],
        most_unscored: int,
        speed: float = 1.0,
    ) -> None:
        self.settings = settings
        self._store, self._clock, self._speed = store, clock, speed
        self._most_unscored = most_unscored
        self._taking = 0  # batches on their way to the disk
        self._looked = 0.0

    def overload(self) -> str | None:
        """Why another batch would be refused; None while it would be taken."""
        if max(self._taking, self._store.writer.waiting) >= self.settings.most_waiting:
            return "vitals: more batches than the disk can take; send it again in a second"
        if self._store.log.unscored >= self._most_unscored:
            self._look()
            return "vitals: scoring is behind; send it again in a second"
        return None

    def check_load(self) -> None:
        """Refuse before any work is done.

        Raises:
            OverloadedError: Too much is waiting.
        """
        why = self.overload()
        if why is not None:
            raise OverloadedError(why)

    async def accept(self, batch: Batch) -> Accepted:
        """Keep a batch; it is on the disk when this returns.

        Raises:
            OverloadedError: Too much is waiting.
            BadSampleError: Samples from the future.
            BatchConflictError: Its id came before with other samples.
            ResourceError: It cannot be stored.
        """
        self.check_load()
        batch.within(self._clock(), self.settings.future_seconds * self._speed)
        began = time.perf_counter()
        self._taking += 1
        try:
            accepted = await self._store.append(batch.new(time.time()))
        finally:
            self._taking -= 1
        metrics.COMMIT.observe(time.perf_counter() - began)
        metrics.BATCHES.labels("duplicate" if accepted.duplicate else "new").inc()
        if not accepted.duplicate:
            metrics.SAMPLES.inc(accepted.accepted)
        return accepted

    def _look(self) -> None:
        """Who refuses appends nothing, and would never hear that another process has scored since."""
        now = time.monotonic()
        if self._store.log.shared and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._store.submit(self._store.log.look)
