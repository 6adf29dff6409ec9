"""A request handed on to the leader over its socket, and the answer handed back, both as they come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

import httptools

from caretrace.serve.limits.load import refusal_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FROM = b"caretrace-from"  # scheme, address and port of the caller, from worker to leader
_CHUNK = 2**16
_RETRY_SECONDS = 2  # a leader that was killed is back within a few
# Of one connection alone (RFC 9110, 7.6.1); `expect` has been answered by us, `date` is said by each server itself.
_REQUEST_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
    | {b"expect", FROM}
)
_ANSWER_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date"})


class LeaderAwayError(Exception):
    """The leader hung up before its answer was whole."""


class Forwarder:
    """Hands requests on.

    Args:
        leader: Path of the leader's socket.
        most: Requests at once; more are answered 503.
    """

    def __init__(self, leader: str, most: int) -> None:
        self._leader, self._most = leader, most
        self._open: set[_Exchange] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one answer; 503 while there is no leader."""
        if len(self._open) >= self._most:
            await _unavailable(send, "too much is being asked of the service at once; ask again")
            return
        loop, exchange = asyncio.get_running_loop(), _Exchange(scope, send)
        self._open.add(exchange)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._leader)
            await loop.sock_sendall(sock, _head(scope))
            await exchange.run(sock, receive)
        except (OSError, LeaderAwayError):
            await exchange.broken()
        finally:
            sock.close()
            self._open.discard(exchange)

    def end_streams(self) -> None:
        """This process ends: so do answers that would have no end of their own; their readers come back."""
        for exchange in self._open:
            exchange.end_stream()


class _Exchange:
    """One request on its way to the leader, and its answer on the way back."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        self._headless = scope["method"] == "HEAD"
        self._read = self._begun = self._stream = False
        self._ending = asyncio.Event()

    async def run(self, sock: socket.socket, receive: Receive) -> None:
        """Until the answer is whole, or the caller has gone.

        Raises:
            LeaderAwayError: The leader hung up.
            OSError: The same.
        """
        answering = asyncio.ensure_future(self._answer(sock))
        others = [asyncio.ensure_future(self._ask(sock, receive)), asyncio.ensure_future(self._ending.wait())]
        try:
            await asyncio.wait([answering, *others], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (answering, *others):
                task.cancel()
            await asyncio.gather(answering, *others, return_exceptions=True)
        if self._ending.is_set():
            await self.broken()

    def end_stream(self) -> None:
        """End the answer if it has no end of its own."""
        if self._stream:
            self._ending.set()

    async def broken(self) -> None:
        """The leader is away: say so if nothing was said yet; a stream simply ends, its reader comes back."""
        if not self._begun:
            await _unavailable(self._send, "the service's leader is being started again; ask again")
        elif self._stream:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        # Else nothing: the server closes the connection of an answer that is not whole.

    async def _ask(self, sock: socket.socket, receive: Receive) -> None:
        """Send the body on; returns when the caller has gone."""
        loop, open_ = asyncio.get_running_loop(), True
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part, more = message.get("body", b""), message.get("more_body", False)
            self._read = not more
            if not open_:
                continue
            if self._chunked:
                part = _chunk(part) + (b"" if more else _chunk(b"", last=True))
            try:
                await loop.sock_sendall(sock, part)
            except OSError:  # refused before all was read; the answer says why
                open_ = False

    async def _answer(self, sock: socket.socket) -> None:
        loop, answer = asyncio.get_running_loop(), _Answer(headless=self._headless)
        parser = httptools.HttpResponseParser(answer)
        answer.status_of = parser.get_status_code
        while not answer.whole:
            data = await loop.sock_recv(sock, _CHUNK)
            if not data:
                raise LeaderAwayError
            parser.feed_data(data)
            for message in answer.take():
                if message["type"] == "http.response.start":
                    self._begin(message)
                await self._send(message)

    def _begin(self, start: Message) -> None:
        self._begun = True
        if not self._read:  # what follows on this connection is the rest of a body that nobody wants
            start["headers"].append((b"connection", b"close"))
        self._stream = any(
            name == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in start["headers"]
        )


class _Answer:
    """Collects what the parser finds."""

    def __init__(self, *, headless: bool) -> None:
        self._headless = headless
        self._headers: list[tuple[bytes, bytes]] = []
        self._found: list[Message] = []
        self.status_of: Callable[[], int] = int
        self.whole = False

    def take(self) -> list[Message]:
        """What was found since the last call, as ASGI says it."""
        found, self._found = self._found, []
        return found

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if name.lower() not in _ANSWER_HOP:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The answer begins."""
        self._found.append(
            {"type": "http.response.start", "status": self.status_of(), "headers": self._headers}
        )
        if self._headless:
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        """A piece."""
        self._found.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        """The end."""
        if not self.whole:
            self.whole = True
            self._found.append({"type": "http.response.body", "body": b"", "more_body": False})


class Told:
    """The leader's side: what a worker hands on, as if its caller had come here.

    Args:
        app: What comes behind.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """With the caller's own address and scheme."""
        if scope["type"] == "http":
            told = dict(scope["headers"]).get(FROM, b"http - 0").decode("latin-1")
            scheme, address, port = told.split(" ")
            headers = [each for each in scope["headers"] if each[0] != FROM]
            client = None if address == "-" else (address, int(port))
            scope = {**scope, "headers": headers, "client": client, "scheme": scheme}
        await self._app(scope, receive, send)


def _head(scope: Scope) -> bytes:
    """The request as it came, but for what belongs to its connection."""
    target = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers = [(name, value) for name, value in scope["headers"] if name not in _REQUEST_HOP]
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        headers = [each for each in headers if each[0] != b"content-length"]
        headers.append((b"transfer-encoding", b"chunked"))
    address, port = scope.get("client") or ("-", 0)
    headers += [
        (FROM, f"{scope.get('scheme', 'http')} {address} {port}".encode("latin-1")),
        (b"connection", b"close"),
    ]
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode("ascii"), target)]
    lines += [b"%b: %b" % each for each in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _chunk(part: bytes, *, last: bool = False) -> bytes:
    """A piece of a body of unknown length."""
    if not part:
        return b"0\r\n\r\n" if last else b""
    return b"%x\r\n%b\r\n" % (len(part), part)


async def _unavailable(send: Send, why: str) -> None:
    body, headers = refusal_of(why, _RETRY_SECONDS)
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
