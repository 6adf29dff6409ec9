"""The store as the service sees it: a log of batches, rows, and one writer for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from caretrace.serve.store.columns import pack, unpack
from caretrace.serve.store.engine import Database
from caretrace.serve.store.log import Accepted, BatchLog, NewBatch
from caretrace.serve.store.records import upsert
from caretrace.serve.store.retention import forget_snapshots
from caretrace.serve.store.tables import SCORED, SNAPSHOTS
from caretrace.serve.store.writer import Writer

T = TypeVar("T")


class Store:
    """An open store.

    Args:
        url: SQLAlchemy address.
        shared: Whether other processes append to its log, too (PostgreSQL).
        owner: Whether to own it; a worker joins the store that its leader owns.

    Raises:
        CaretraceError: It cannot be used; the message says why.
    """

    def __init__(self, url: str, *, shared: bool = False, owner: bool = True) -> None:
        self.database = Database(url, owner=owner)
        self.log = BatchLog(self.database.reading, shared=shared)
        self.writer = Writer(self.database, self.log)
        self.writer.start()

    def close(self) -> None:
        """Write what was submitted and let go of the store."""
        self.writer.stop()
        self.database.close()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Read something, all of it as of one moment."""
        with self.database.reading.connect() as connection:
            return work(connection)

    async def ask(self, work: Callable[[Connection], T]) -> T:
        """Read something without holding up the event loop."""
        return await asyncio.to_thread(self.read, work)

    def submit(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Write something with the next group; done when it is on the disk."""
        return self.writer.submit(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write something; it is on the disk when this returns.

        Raises:
            ResourceError: It is not.
        """
        found: T = await asyncio.wrap_future(self.submit(work))
        return found

    async def append(self, batch: NewBatch) -> Accepted:
        """Append a batch to the log; it is on the disk when this returns.

        Raises:
            BatchConflictError: Its id came before with other samples.
            ResourceError: It is not on the disk.
        """
        accepted: Accepted = await asyncio.wrap_future(self.writer.append(batch))
        return accepted

    def probe(self) -> str | None:
        """Why the store cannot be used, or None."""
        return self.writer.trouble or self.log.trouble


def write_scored(connection: Connection, seq: int, span: tuple[float, float], data: bytes) -> None:
    """Steps that were scored up to a place of the log."""
    row = {"seq": seq, "first_time": span[0], "last_time": span[1], "data": data}
    upsert(connection, SCORED, [row])


def read_scored(connection: Connection, since: float, until: float) -> list[dict[str, Any]]:
    """Scored steps of a time, as arrays, in order of the log; epoch seconds."""
    asked = (
        select(SCORED.c.data)
        .where(SCORED.c.last_time >= since, SCORED.c.first_time <= until)
        .order_by(SCORED.c.seq)
    )
    return [unpack(bytes(data)) for data in connection.scalars(asked)]


def write_snapshot(
    connection: Connection, seq: int, bundle: str, made: float, arrays: dict[str, Any]
) -> None:
    """What the scorer remembers after a place of the log; older ones are forgotten."""
    row = {"seq": seq, "bundle": bundle, "made": made, "data": pack(arrays)}
    upsert(connection, SNAPSHOTS, [row])
    forget_snapshots(connection)


def read_snapshot(connection: Connection, bundle: str, until: int) -> tuple[int, dict[str, Any]] | None:
    """The newest snapshot of a bundle not beyond a place: its place and its arrays."""
    asked = (
        select(SNAPSHOTS.c.seq, SNAPSHOTS.c.data)
        .where(SNAPSHOTS.c.bundle == bundle, SNAPSHOTS.c.seq <= until)
        .order_by(SNAPSHOTS.c.seq.desc())
    )
    row = connection.execute(asked).first()
    return None if row is None else (int(row[0]), unpack(bytes(row[1])))
