"""The log of batches: appended once each, in one order, read again after a restart.

On PostgreSQL several processes may append. Each takes a lock of the transaction, asks for the newest place, inserts
behind it and commits: so places have no gaps, and whoever sees one sees all before it.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from caretrace.errors import CaretraceError
from caretrace.serve.store.columns import Samples
from caretrace.serve.store.records import SCORED_POSITION
from caretrace.serve.store.tables import BATCHES, POSITIONS

_LOG = logging.getLogger(__name__)
_AT_ONCE = 500  # batches read, or asked for, together
_APPEND = 0x6C6F6763  # PostgreSQL's advisory lock of who appends, until the commit


class BatchConflictError(CaretraceError):
    """A batch id that came before with other samples."""


@dataclasses.dataclass(frozen=True)
class NewBatch:
    """A batch to append.

    Args:
        batch_id: The sender's name for it.
        received: Epoch seconds.
        samples: Sorted by time.
    """

    batch_id: str
    received: float
    samples: Samples


@dataclasses.dataclass(frozen=True)
class Entry:
    """A batch of the log.

    Args:
        seq: Its place, from 1, without gaps.
        received: When it arrived, epoch seconds.
        samples: Sorted by time.
    """

    seq: int
    received: float
    samples: Samples


@dataclasses.dataclass(frozen=True)
class Accepted:
    """A batch is on the disk.

    Args:
        batch_id: The sender's name for it.
        accepted: Samples in it.
        duplicate: Whether it was there before.
    """

    batch_id: str
    accepted: int
    duplicate: bool


class BatchLog:
    """Appends batches and hands those on the disk to whoever scores them.

    Args:
        reading: Engine to read with.
        shared: Whether other processes append, too.
    """

    def __init__(self, reading: Engine, *, shared: bool = False) -> None:
        self._reading, self.shared = reading, shared
        self._fresh: list[Entry] = []
        self._lock = threading.Lock()
        self.trouble: str | None = None
        with reading.connect() as connection:
            self._last, self._scored = _state(connection)
        self._numbers: list[int] = []
        self._unsure = False  # a commit failed, and may have happened all the same

    def append(self, connection: Connection, batches: Sequence[NewBatch]) -> list[Any]:
        """Within a transaction: one answer per batch, an exception where an id came with other samples."""
        if self.shared:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _APPEND})
            self.look(connection)  # a statement of its own: it must see what was committed while we waited
        elif self._unsure:
            self._last = _newest(connection)
            self._unsure = False
        known = _known(connection, [batch.batch_id for batch in batches])
        encoded = [batch.samples.encode() for batch in batches]
        rows: list[dict[str, Any]] = []
        answers: list[Any] = []
        self._numbers, number = [], self._last
        for batch, data in zip(batches, encoded, strict=True):
            size, before = len(batch.samples.subject), known.get(batch.batch_id)
            if before is None:
                number += 1
                known[batch.batch_id] = data
                rows.append(_row(number, batch, data))
                answers.append(Accepted(batch.batch_id, size, duplicate=False))
                self._numbers.append(number)
                continue
            self._numbers.append(0)
            answers.append(
                Accepted(batch.batch_id, size, duplicate=True)
                if before == data
                else BatchConflictError(
                    f"batch_id: {batch.batch_id!r} came before with other samples; "
                    "give every batch an id of its own"
                )
            )
        if rows:
            connection.execute(insert(BATCHES), rows)
        return answers

    def committed(self, batches: Sequence[NewBatch], answers: Sequence[Any]) -> None:
        """They are on the disk: the scorer may have them."""
        del answers
        fresh = [
            Entry(number, batch.received, batch.samples)
            for number, batch in zip(self._numbers, batches, strict=True)
            if number
        ]
        if fresh:
            with self._lock:
                self._last = max(self._last, fresh[-1].seq)
                if not self.shared:
                    self._fresh += fresh

    def failed(self) -> None:
        """A commit failed: what the newest place is must be asked again."""
        self._unsure = True

    def look(self, connection: Connection) -> None:
        """Ask how far the log reaches, and how far it has been scored: others append, and another may score."""
        last, scored = _state(connection)
        with self._lock:
            self._last, self._scored = max(self._last, last), max(self._scored, scored)

    def take(self, after: int = 0) -> list[Entry]:
        """What has arrived since the last call, in order.

        Args:
            after: Place of the newest entry that was taken; where others append, what lies behind it is read.
        """
        if self.shared:
            return self._take_shared(after)
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return fresh

    def _take_shared(self, after: int) -> list[Entry]:
        try:
            with self._reading.connect() as connection:
                self.look(connection)
                entries = _entries(connection, after, self._last) if self._last > after else []
        except SQLAlchemyError as error:  # the ward goes on without: it has clocks to watch
            if self.trouble is None:
                self.trouble = f"the store cannot be read: {str(error).split(chr(10), 1)[0]}"
                _LOG.error(self.trouble)
            return []
        self.trouble = None
        with self._lock:
            self._scored = max(self._scored, entries[-1].seq if entries else after)
        return entries

    @property
    def last(self) -> int:
        """Place of the newest batch on the disk."""
        with self._lock:
            return self._last

    def first_since(self, connection: Connection, received: float) -> int:
        """The place before the first batch that arrived at this time or later, epoch seconds."""
        asked = select(func.min(BATCHES.c.seq)).where(BATCHES.c.received >= received)
        found = connection.scalar(asked)
        return int(found) - 1 if found is not None else _newest(connection)

    @property
    def unscored(self) -> int:
        """Batches that nobody has taken yet; in a worker, as of its last commit or look."""
        return max(0, self._last - self._scored) if self.shared else len(self._fresh)

    def read(self, after: int, until: int) -> Iterator[list[Entry]]:
        """Batches of places `after` + 1 to `until`, some at a time."""
        while after < until:
            with self._reading.connect() as connection:
                entries = _entries(connection, after, until)
            if not entries:
                return
            yield entries
            after = entries[-1].seq


def _entries(connection: Connection, after: int, until: int) -> list[Entry]:
    """The first batches of places `after` + 1 to `until`."""
    asked = (
        select(BATCHES.c.seq, BATCHES.c.received, BATCHES.c.data)
        .where(BATCHES.c.seq > after, BATCHES.c.seq <= until)
        .order_by(BATCHES.c.seq)
        .limit(_AT_ONCE)
    )
    rows = connection.execute(asked).all()
    return [Entry(int(seq), received, Samples.decode(bytes(data))) for seq, received, data in rows]


def _state(connection: Connection) -> tuple[int, int]:
    """The newest place, and the place up to which the log has been scored, in one question."""
    newest = select(func.max(BATCHES.c.seq)).scalar_subquery()
    scored = select(POSITIONS.c.value).where(POSITIONS.c.name == SCORED_POSITION).scalar_subquery()
    found = connection.execute(select(newest, scored)).one()
    return int(found[0] or 0), int(found[1] or 0)


def _newest(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(BATCHES.c.seq))) or 0)


def _known(connection: Connection, ids: list[str]) -> dict[str, bytes]:
    asked = select(BATCHES.c.batch_id, BATCHES.c.data).where(BATCHES.c.batch_id.in_(ids))
    return {name: bytes(data) for name, data in connection.execute(asked)}


def _row(number: int, batch: NewBatch, data: bytes) -> dict[str, Any]:
    samples = batch.samples
    return {
        "seq": number,
        "batch_id": batch.batch_id,
        "received": batch.received,
        "samples": len(samples.time),
        "first_time": float(samples.time[0]),
        "last_time": float(samples.time[-1]),
        "data": data,
    }
