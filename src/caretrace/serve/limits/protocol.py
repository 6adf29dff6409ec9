"""HTTP whose headers end in time, and where batches that cannot be taken are turned away before anything reads them.

What is refused here meets no parser, no task and no middleware, so a flood of batches leaves time for those that are
taken.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from caretrace.serve.limits.load import Load, sender_of
from caretrace.serve.settings import Limits

_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it, macOS has not
_UNTAKEN_MILLISECONDS = 30_000
_BATCH = b"POST /vitals HTTP/1.1\r\n"
_END = b"\r\n\r\n"
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\n]*)")
# Where one of these stands, or anything odd, how long the body is is left to the parser: two programs that disagree
# about it can be made to take one message for two.
_LONG_WAY = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class BoundedProtocol(HttpToolsProtocol):
    """HTTP whose header must be whole within a time and a size; uvicorn leaves one open that trickles in.

    The clock starts with the connection, and again with the first byte of each later request.

    Args:
        limits: Time and size.
        load: Says whether a batch of vital signs may come in, and is told when it is answered.
    """

    def __init__(self, *args: Any, limits: Limits, load: Load, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits, self._load = limits, load
        self._clock: asyncio.TimerHandle | None = None
        self._header_size = self._unread = 0
        self._in_header, self._may_enter = True, False
        self._inside = False  # whether a batch of ours is worked on
        self._refusal = b""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first header."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and _USER_TIMEOUT is not None:  # who takes nothing for so long is gone
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _UNTAKEN_MILLISECONDS)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Turn a batch away if there are too many; count what belongs to a header."""
        if self._unread or (self._in_header and not self._header_size and data.startswith(_BATCH)):
            data = self._turned_away(data)
            if not data:
                return
        if self._in_header:
            if self._clock is None:
                self._wait()
            self._header_size += len(data)
        super().data_received(data)
        if (
            self._in_header
            and self._header_size > self._limits.header_bytes
            and not self.transport.is_closing()
        ):
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        """Keep a fragment, which no client sends, so that the guard sees it; the parser would drop it."""
        super().on_url(url.replace(b"#", b"%23"))

    def on_message_begin(self) -> None:
        """Another header begins."""
        if not self._in_header:
            self._in_header, self._header_size = True, 0
            self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header is whole."""
        self._in_header = False
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole; what comes next is a header, whenever it comes."""
        super().on_message_complete()
        self._in_header, self._header_size = True, 0
        if self._may_enter:  # not before: who sends a body slowly takes nobody's place
            self._may_enter, self._inside = False, True
            self._load.enter()

    def on_response_complete(self) -> None:
        """A batch is answered: there is room for another. Who was answered before the body was there never came in."""
        self._may_enter = False
        self._leave()
        super().on_response_complete()

    def _turned_away(self, data: bytes) -> bytes:
        """What is left of `data` once batches that cannot be taken are answered and dropped."""
        while data:
            if not self._unread and not self._begin_refusal(data):
                return data
            dropped = min(self._unread, len(data))
            self._unread -= dropped
            data = data[dropped:]
            if not self._unread:  # answered when all of it was sent, since many clients read nothing before
                self.transport.write(self._refusal)
                self._wait()
        return data

    def _begin_refusal(self, data: bytes) -> bool:
        """Whether what begins here is a batch to be turned away; `_unread` are its bytes then."""
        end = data.find(_END)
        if end < 0 or not data.startswith(_BATCH) or self._answering():
            return False
        fields = _plain_fields(data[len(_BATCH) : end])
        size = fields.get(b"content-length", b"")
        closing = b"close" in fields.get(b"connection", b"").lower()
        if closing or not size.isdigit() or int(size) > self._limits.body_bytes or _LONG_WAY & fields.keys():
            return False
        refusal = self._load.refusal(sender_of(fields.get(b"authorization"), self.client))
        if refusal is None:
            self._may_enter = True
            return False
        self._unread, self._refusal = end + len(_END) + int(size), refusal
        self._unset_keepalive_if_required()
        return True

    def _answering(self) -> bool:
        return self._inside or (self.cycle is not None and not self.cycle.response_complete)

    def _leave(self) -> None:
        if self._inside:
            self._inside = False
            self._load.leave()

    def _wait(self) -> None:
        self._stop()
        self._clock = self.loop.call_later(self._limits.header_seconds, self._too_late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_late(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.close()


def _plain_fields(head: bytes) -> dict[bytes, bytes]:
    """Header fields, names in lower case; none where a line is odd or a name comes twice."""
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        field = _FIELD.fullmatch(line)
        if field is None or (name := field[1].lower()) in fields:
            return {}
        fields[name] = field[2].rstrip()
    return fields
