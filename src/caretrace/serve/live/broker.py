"""Server-sent events: one stream of numbered events, kept for a while, so that whoever comes back misses nothing.

Events are made once, as bytes, and told apart by ward; a reader is a place in the stream, so a slow one costs nothing
but its own delay. Ids rise for ever, over restarts, too.
"""

from __future__ import annotations

import asyncio
import bisect
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any, NamedTuple

import orjson

_MOST_BYTES = 32 * 2**20  # of events that are kept: a large ward's are long


class Event(NamedTuple):
    """One event.

    Args:
        id: Rising.
        ward: Whose; None is for all.
        data: As it goes over the wire.
    """

    id: int
    ward: str | None
    data: bytes


class Broker:
    """The stream.

    Args:
        keep: Events that a reader who comes back can still get.
        missed: What a reader is told who comes back too late for that: payloads of `alarm` events by ward.
    """

    def __init__(self, keep: int, missed: Callable[[], Iterable[tuple[str, Any]]]) -> None:
        self._keep, self._missed = keep, missed
        self._events: list[Event] = []
        self._bytes = 0
        self._next = 1
        self._end = 1  # ids from here on are not ours yet
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: set[asyncio.Event] = set()
        self.evicted = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Readers live in this loop."""
        self._loop = loop

    def reserve(self, first: int, count: int) -> None:
        """Use these ids from now on."""
        with self._lock:
            self._next, self._end = max(self._next, first), first + count

    @property
    def left(self) -> int:
        """Ids that are reserved and not used."""
        return self._end - self._next

    @property
    def readers(self) -> int:
        """How many read."""
        return len(self._readers)

    @property
    def newest(self) -> int:
        """Id of the last event."""
        return self._next - 1

    def publish(self, kind: str, payload: Any, ward: str | None = None) -> None:
        """Tell everybody; may be called from any thread.

        Args:
            kind: `samples`, `scores`, `alarm` or `beat`.
            payload: Becomes JSON.
            ward: Whose; None tells all.
        """
        body = orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
        with self._lock:
            self._events.append(Event(self._next, ward, _frame(self._next, kind, body)))
            self._next += 1
            self._bytes += len(self._events[-1].data)
            if len(self._events) > 2 * self._keep or self._bytes > _MOST_BYTES:
                gone = len(self._events) // 2
                self._bytes -= sum(len(each.data) for each in self._events[:gone])
                del self._events[:gone]
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def follow(self, after: int | None, wards: Collection[str] | None) -> AsyncIterator[bytes]:
        """Events as they happen.

        Args:
            after: Id of the last event the reader has; None for what comes from now on.
            wards: Which; None for all.
        """
        woken = asyncio.Event()
        self._readers.add(woken)
        try:
            cursor = self.newest if after is None else min(after, self.newest)
            yield b"retry: 2000\n\n"
            if after is not None and self._is_missed(cursor):
                cursor = self.newest
                yield b"".join(
                    _frame(cursor, "alarm", orjson.dumps(payload))
                    for ward, payload in self._missed()
                    if wards is None or ward in wards
                )
            while True:
                woken.clear()
                fresh = self._after(cursor)
                if fresh:
                    cursor = fresh[-1].id
                    chunk = b"".join(
                        each.data
                        for each in fresh
                        if wards is None or each.ward is None or each.ward in wards
                    )
                    if chunk:
                        yield chunk
                    continue
                await woken.wait()
        finally:
            self._readers.discard(woken)

    def _after(self, cursor: int) -> list[Event]:
        with self._lock:
            return self._events[bisect.bisect_right(self._events, cursor, key=lambda each: each.id) :]

    def _is_missed(self, cursor: int) -> bool:
        with self._lock:
            return bool(cursor < self._next - 1 and (not self._events or self._events[0].id > cursor + 1))

    def _wake(self) -> None:
        for woken in self._readers:
            woken.set()


def _frame(number: int, kind: str, body: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), body)
