"""The first that a request meets: pure ASGI, so that what is refused costs next to nothing."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from prometheus_client import Counter, Gauge, Histogram

from caretrace.serve.limits.address import (
    SECURITY_HEADERS,
    cross_site,
    foreign_host,
    odd_path,
    odd_request_id,
)
from caretrace.serve.limits.body import GoneError, TooLargeError, not_a_number, read_body, too_deep
from caretrace.serve.limits.load import Load, sender_of
from caretrace.serve.limits.rate import Rate
from caretrace.serve.security.caller import Caller
from caretrace.serve.security.gate import Gate, cookie_of
from caretrace.serve.settings import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("caretrace.serve")
REQUESTS = Counter("caretrace_requests", "Requests by route and status.", ("method", "route", "status"))
SECONDS = Histogram("caretrace_request_seconds", "Time to answer.", ("route",))
IN_FLIGHT = Gauge("caretrace_in_flight", "Requests being worked on.")

# Answered however busy we are: whoever watches the service must see that it lives.
WATCHED = frozenset({"/health", "/ready", "/metrics"})
STREAM = "/stream"
VITALS = "/vitals"  # come by the hundred a second: not in the log unless refused
_TABLES = ("application/vnd.apache.parquet", "application/octet-stream")
_NO_JSON = (*_TABLES, "application/hl7-v2", "x-application/hl7-v2+er7")
MOST_UPLOADS = 2


class Refusal(Exception):  # noqa: N818 - no error of ours: an answer
    """An answer given before any route is asked.

    Args:
        status: Of HTTP.
        detail: What was got, what is allowed; text, or as FastAPI names fields.
        headers: Beside the usual ones.
    """

    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(status)
        self.status, self.detail = status, detail
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


class Guard:
    """Middleware that bounds every request.

    Args:
        app: What comes behind.
        gate: Who may come in.
        limits: How much.
        load: Told who must wait, so that connections turn them away.
    """

    def __init__(self, app: App, *, gate: Gate, limits: Limits, load: Load) -> None:
        self._app, self._gate, self._limits, self._load = app, gate, limits, load
        self._rate = Rate(limits.requests_per_second, limits.burst)
        self._unknown = Rate(limits.unknown_per_second, limits.unknown_burst)
        self._working = self._streams = self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            await self._guarded(scope, receive, answer)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except GoneError:
            answer.status = 499  # as proxies call it; nobody is there to read an answer
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the service, nor its text be logged
            _log_fault(scope, error)
            await answer.refuse(Refusal(500, "a fault of the service; it is written in its log"))
        finally:
            answer.count()

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._check_form(scope, headers)
        caller = self._gate.identify(
            _text(headers.get(b"authorization")), cookie_of(_text(headers.get(b"cookie")))
        )
        scope.setdefault("state", {})["caller"] = caller
        path = scope["path"]
        if path in WATCHED:
            await self._app(scope, receive, answer.send)
            return
        self._check_rate(scope, caller, headers)
        if path == STREAM:
            await self._stream(scope, receive, answer)
        else:
            await self._work(scope, receive, answer, headers)

    def _check_form(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if odd_path(scope.get("raw_path") or scope["path"].encode()):
            raise Refusal(400, "an address may not hold `..`, `//`, `#`, backslashes or control characters")
        if odd_request_id(headers.get(b"x-request-id")):
            raise Refusal(400, "x-request-id: up to 64 letters, digits and . _ : -")
        if self._gate.open and foreign_host(headers):
            raise Refusal(
                403, "without tokens only this machine is answered; make one with `caretrace token add`"
            )
        if cross_site(scope["method"], headers, scope.get("scheme", "http")):
            raise Refusal(403, "a change must come from this service's own page, or carry no `Origin`")

    def _check_rate(self, scope: Scope, caller: Caller | None, headers: dict[bytes, bytes]) -> None:
        """Who is known has a rate of their own; everybody else at one address shares a lower one."""
        if caller is None:
            wait = self._unknown.wait(_address(scope), time.monotonic())
        else:
            wait = self._rate.wait(caller.who, time.monotonic())
        if wait:
            self._load.wait(sender_of(headers.get(b"authorization"), scope.get("client")), wait)
            seconds = max(self._limits.retry_seconds, math.ceil(wait))
            raise Refusal(429, "too many requests at once; ask again later", retry_after=str(seconds))

    async def _stream(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if self._streams >= self._limits.streams:
            raise self._busy()
        self._streams += 1
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._streams -= 1

    async def _work(
        self, scope: Scope, receive: Receive, answer: _Answer, headers: dict[bytes, bytes]
    ) -> None:
        if self._working >= self._limits.in_flight or _behind(scope):
            raise self._busy()
        kind = (_text(headers.get(b"content-type")) or "").split(";", 1)[0].strip().lower()
        table = kind in _TABLES
        if table and self._uploads >= MOST_UPLOADS:
            raise self._busy()
        self._working += 1
        self._uploads += table
        IN_FLIGHT.set(self._working)
        try:
            most = self._limits.upload_bytes if table else self._limits.body_bytes
            if scope["state"]["caller"] is None:
                most = min(most, self._limits.unknown_bytes)
            body = await self._body(receive, headers, most)
            if body and kind not in _NO_JSON:
                self._check_json(body)
            await self._app(scope, _replay(body, receive), answer.send)
        finally:
            self._working -= 1
            self._uploads -= table
            IN_FLIGHT.set(self._working)

    async def _body(self, receive: Receive, headers: dict[bytes, bytes], most: int) -> bytes:
        """The body; nothing is read of one that says that it is too large."""
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return b""
        too_large = Refusal(413, f"the body may have {most:,} bytes; send it in parts", connection="close")
        if length is not None and not length.isdigit():
            raise Refusal(400, "content-length: a number of bytes", connection="close")
        if length is not None and int(length) > most:
            raise too_large
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                return await read_body(receive, most)
        except TooLargeError:
            raise too_large from None
        except TimeoutError:
            raise Refusal(
                408, f"the body was not there within {self._limits.request_seconds:g} s", connection="close"
            ) from None

    def _check_json(self, body: bytes) -> None:
        if too_deep(body, self._limits.json_depth):
            raise Refusal(400, f"JSON nests deeper than {self._limits.json_depth} levels")
        where = not_a_number(body)
        if where is not None:
            told = ".".join(map(str, where))
            problem = {
                "loc": ["body", *where],
                "msg": f"{told}: NaN and infinities are no values; leave out what was not measured, or send null",
                "type": "finite_number",
            }
            raise Refusal(422, [problem])

    def _busy(self) -> Refusal:
        return Refusal(
            503,
            "too much is being asked of the service at once; ask again",
            retry_after=str(self._limits.retry_seconds),
        )


class _Answer:
    """What is sent, with the headers that every answer has; counted when it is over."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._began = time.perf_counter()
        self._id = dict(scope["headers"]).get(b"x-request-id")
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            given = {name.lower() for name, _ in headers}
            headers += [each for each in SECURITY_HEADERS if each[0] not in given]
            if b"cache-control" not in given:
                headers.append((b"cache-control", b"no-store"))
            if self._id is not None and not odd_request_id(self._id):
                headers.append((b"x-request-id", self._id))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a refusal, unless an answer has begun."""
        if self.status:
            return
        body = orjson.dumps({"detail": refusal.detail})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *refusal.headers,
        ]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        """Into the metrics and the log: the route, never what stands in its address."""
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path", None) or "(none)"
        method = self._scope["method"] if self._scope["method"].isalpha() else "(odd)"
        REQUESTS.labels(method[:8], route, str(self.status)).inc()
        if route != STREAM:
            SECONDS.labels(route).observe(seconds)
        often = self.status < 300 and (route in WATCHED or route == VITALS)
        level = logging.DEBUG if often else logging.INFO
        if log.isEnabledFor(level):
            shown = (self._id or b"-").decode("ascii", "replace") if not odd_request_id(self._id) else "-"
            log.log(level, "%s %s %s %.1f ms id=%s", method[:8], route, self.status, seconds * 1e3, shown)


def _behind(scope: Scope) -> bool:
    """Whether the live ward has enough to do without another batch; said before the batch is read."""
    if scope["path"] != VITALS or "app" not in scope:
        return False
    hub = getattr(scope["app"].state, "hub", None)
    return hub is not None and hub.overload() is not None


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes: the end of the connection."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _log_fault(scope: Scope, error: Exception) -> None:
    """Kind and place of a fault; its message could hold a patient's data."""
    places = " < ".join(
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)[-6:]
    )
    route = getattr(scope.get("route"), "path", "(none)")
    log.error("%s %s: %s at %s", scope["method"], route, type(error).__name__, places)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address {client[0]}" if client else "address unknown"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
