"""Group commit: whatever was submitted while the disk was busy is committed together, by one sync.

One thread writes. A submission is answered when its transaction is on the disk, not before. A group whose commit
fails is not acknowledged, none of it; a single job that fails takes nobody with it (it runs within a savepoint).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from caretrace.errors import ResourceError
from caretrace.serve.store.engine import Database

_LOG = logging.getLogger(__name__)
_MOST = 256  # batches in one transaction

Work = Callable[[Connection], Any]
Done = Callable[[Sequence[Any]], None]


class Log(Protocol):
    """What batches are appended to."""

    def append(self, connection: Connection, batches: Sequence[Any]) -> list[Any]:
        """Within a transaction; one answer per batch, an exception where one is refused."""
        ...

    def committed(self, batches: Sequence[Any], answers: Sequence[Any]) -> None:
        """They are on the disk."""
        ...

    def failed(self) -> None:
        """A commit failed; whether it happened all the same is not known."""
        ...


class Writer:
    """The thread that writes.

    Args:
        database: Where.
        log: Takes the batches.
    """

    def __init__(self, database: Database, log: Log) -> None:
        self._database, self._log = database, log
        self._batches: deque[tuple[Any, Future[Any]]] = deque()
        self._jobs: deque[tuple[Work, Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="caretrace-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what was submitted, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Batches that nobody has begun to write."""
        return len(self._batches)

    def append(self, batch: Any) -> Future[Any]:
        """Append a batch to the log; done when it is on the disk."""
        return self._submit(self._batches, batch)

    def submit(self, work: Work) -> Future[Any]:
        """Do something within the next transaction, before its batches; done when that is on the disk."""
        return self._submit(self._jobs, work)

    def _submit(self, queue: deque[tuple[Any, Future[Any]]], what: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._wake:
            if self._stopping:
                future.set_exception(
                    ResourceError("the store is being closed; send it again after the restart")
                )
                return future
            queue.append((what, future))
            self._wake.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._batches or self._jobs or self._stopping)
                if not (self._batches or self._jobs):
                    return
                jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
                batches = [self._batches.popleft() for _ in range(min(_MOST, len(self._batches)))]
            self._write(jobs, batches)

    def _write(self, jobs: list[tuple[Work, Future[Any]]], batches: list[tuple[Any, Future[Any]]]) -> None:
        items = [batch for batch, _ in batches]
        try:
            connection = self._database.write_connection()
            with connection.begin():
                done = [_within(connection, work) for work, _ in jobs]
                answers = self._log.append(connection, items) if items else []
        except Exception as error:  # noqa: BLE001 - the thread that writes must outlive whatever it was
            self._failed(error, [future for _, future in [*jobs, *batches]])
            return
        self.trouble = None
        # The scorer hears of batches first, so that an answer never precedes what it stands for.
        if items:
            self._log.committed(items, answers)
        for (_, future), answer in zip([*jobs, *batches], [*done, *answers], strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _failed(self, error: Exception, futures: list[Future[Any]]) -> None:
        if isinstance(error, DBAPIError):
            said = str(error.orig).strip().split("\n", 1)[0]
        else:
            said = str(error).split("\n", 1)[0]
        self.trouble = f"the store cannot be written: {said}"
        _LOG.error(self.trouble)
        self._log.failed()
        for future in futures:
            future.set_exception(ResourceError(f"{self.trouble}; nothing was kept, send it again later"))


def _within(connection: Connection, work: Work) -> Any:
    """What a job gives, or the exception it ended with; its own changes are undone then."""
    savepoint = connection.begin_nested()
    try:
        found = work(connection)
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        savepoint.rollback()
        return error
    savepoint.commit()
    return found
