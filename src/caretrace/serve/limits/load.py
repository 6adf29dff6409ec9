"""How much is being asked at this moment: what a connection must know to turn a batch away before reading it.

In a crowd few batches are worked on at once: each then takes about as long as without the crowd, and the disk takes
nearly as many, since turning the others away costs the time that more at once would need.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable

import orjson
from prometheus_client import Counter

from caretrace.serve.limits.address import SECURITY_HEADERS

log = logging.getLogger("caretrace.serve")
REFUSED = Counter("caretrace_batches_turned_away", "Batches refused before they were read.", ("status",))
_MOST_SENDERS = 10_000
_CROWD = 4  # batches turned away in a second for each that is taken
_FEW = 2  # batches worked on at once in a crowd
_TOO_MUCH = "more batches than can be taken; send the same one again later"
_TOO_OFTEN = "too many requests at once; ask again later"


class Load:
    """Batches being worked on, and senders who were told to wait.

    Args:
        most: Batches worked on at once where there is no crowd.
        overload: Says why the ward takes no other now; None while it takes them.
        retry_seconds: What `Retry-After` says at the least.
    """

    def __init__(self, most: int, overload: Callable[[], str | None], retry_seconds: int = 1) -> None:
        self._most, self._overload = most, overload
        self._inside, self._room = 0, most
        self._waiting: OrderedDict[bytes, float] = OrderedDict()
        self._busy = _refusal(503, "Service Unavailable", _TOO_MUCH, retry_seconds)
        self._often = _refusal(429, "Too Many Requests", _TOO_OFTEN, retry_seconds)
        self._counts = {self._busy: REFUSED.labels("503"), self._often: REFUSED.labels("429")}
        self._refused = self._taken = 0  # in this second
        self._second = -math.inf

    def refusal(self, sender: bytes) -> bytes | None:
        """The answer that turns a batch away, or None where it may come in.

        Args:
            sender: The credential it came with, or its address.
        """
        now, until = time.monotonic(), self._waiting.get(sender)
        self._turn(now)
        if until is not None and now < until:
            answer = self._often
        elif self._inside >= self._room or self._overload() is not None:
            answer = self._busy
        else:
            return None
        self._counts[answer].inc()
        self._refused += 1
        return answer

    def enter(self) -> None:
        """A batch is there, all of it, and is worked on until it leaves."""
        self._inside += 1
        self._taken += 1

    def leave(self) -> None:
        """A batch that came in is answered, or its connection is lost."""
        self._inside -= 1

    def wait(self, sender: bytes, seconds: float) -> None:
        """This sender was told to wait: until then its batches need not be looked at."""
        self._waiting[sender] = time.monotonic() + seconds
        self._waiting.move_to_end(sender)
        if len(self._waiting) > _MOST_SENDERS:
            self._waiting.popitem(last=False)

    def _turn(self, now: float) -> None:
        """Once a second: see whether there is a crowd, and say so in one line however many they are."""
        if now - self._second < 1:
            return
        crowded = self._refused > _CROWD * self._taken
        self._room = min(_FEW, self._most) if crowded else self._most
        if self._refused:
            log.warning("turned away %d batches, took %d: more than can be taken", self._refused, self._taken)
        self._refused, self._taken, self._second = 0, 0, now


def sender_of(authorization: bytes | None, client: tuple[str, int] | None) -> bytes:
    """What stands for a sender: the credential, or the address of who has none."""
    return authorization or (client[0] if client else "unknown").encode()


def refusal_of(detail: str, retry_seconds: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of an answer that says to come again."""
    body = orjson.dumps({"detail": detail})
    headers = [
        *SECURITY_HEADERS,
        (b"cache-control", b"no-store"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(retry_seconds).encode()),
    ]
    return body, headers


def _refusal(status: int, phrase: str, detail: str, retry_seconds: int) -> bytes:
    """A whole answer, rendered once."""
    body, headers = refusal_of(detail, retry_seconds)
    lines = [b"HTTP/1.1 %d %s" % (status, phrase.encode()), *(b"%s: %s" % each for each in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
