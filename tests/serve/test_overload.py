"""Batches that cannot be taken are turned away before anything reads them, and nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from caretrace.serve.limits.load import Load, sender_of
from caretrace.serve.limits.protocol import BoundedProtocol
from caretrace.serve.settings import Limits


class Held:
    """A service whose batches are answered when it is let go, and what it was asked."""

    def __init__(self, load: Load) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.begun = 0
        self._loop = asyncio.new_event_loop()
        self._go = asyncio.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        limits = Limits(header_seconds=2, body_bytes=1000)
        made = functools.partial(BoundedProtocol, limits=limits, load=load)
        config = uvicorn.Config(self.app, http=made, interface="asgi3", lifespan="off", log_config=None)  # type: ignore[arg-type]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def app(self, scope, receive, send):
        self.begun += 1
        if any(name == b"early" for name, _ in scope["headers"]):
            await send({"type": "http.response.start", "status": 429, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        self.asked.append((scope["path"], (await receive()).get("body", b"")))
        if scope["path"] == "/vitals":
            await self._go.wait()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
        )
        await send({"type": "http.response.body", "body": b"ok"})

    def go(self):
        self._loop.call_soon_threadsafe(self._go.set)

    def hold(self):
        self._loop.call_soon_threadsafe(self._go.clear)

    def stop(self):
        self.go()
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        self._loop.close()


@contextlib.contextmanager
def held(load: Load) -> Iterator[Held]:
    service = Held(load)
    try:
        yield service
    finally:
        service.stop()


class Client:
    """A socket that writes what it is told and reads one answer at a time."""

    def __init__(self, service: Held) -> None:
        self._socket = socket.create_connection(("127.0.0.1", service.port), timeout=60)
        self._left = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        while b"\r\n\r\n" not in self._left:
            self._left += self._more()
        head, _, rest = self._left.partition(b"\r\n\r\n")
        size = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(rest) < size:
            rest += self._more()
        self._left = rest[size:]
        return int(head[9:12]), head

    def timeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def closed(self) -> bool:
        return self._socket.recv(100) == b""

    def _more(self) -> bytes:
        found = self._socket.recv(65536)
        if not found:
            raise ConnectionError("it was closed")
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


def batch(body: bytes = b"{}", *fields: bytes, length: int | None = None) -> bytes:
    lines = [
        b"POST /vitals HTTP/1.1",
        b"host: x",
        *fields,
        b"content-length: %d" % (len(body) if length is None else length),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


GET = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


def until(condition):
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


@pytest.fixture
def full():
    """A service with room for one batch, which is there."""
    with held(Load(1, lambda: None)) as service, Client(service) as first:
        first.send(batch(b"first"))
        until(lambda: service.asked)
        yield service, first


def test_a_batch_too_many_is_told_to_come_again_and_nothing_reads_it(full):
    service, first = full
    with Client(service) as other:
        other.send(batch(b"second"))
        status, head = other.answer()
        assert status == 503
        assert b"\r\nretry-after: 1" in head
        assert b"content-security-policy" in head
        assert b"cache-control: no-store" in head
    assert service.asked == [("/vitals", b"first")]
    service.go()
    assert first.answer()[0] == 200


def test_there_is_room_again_when_one_is_answered_or_gone(full):
    service, first = full
    service.go()
    assert first.answer()[0] == 200
    with Client(service) as other:
        other.send(batch(b"second"))
        assert other.answer()[0] == 200
    service.hold()
    with Client(service) as lost:
        lost.send(batch(b"lost"))
        until(lambda: service.begun == 3)

    def comes_in():
        with Client(service) as other:
            other.send(batch(b"fourth"))
            with contextlib.suppress(TimeoutError):
                other.timeout(0.1)
                return other.answer()[0] != 503
            return True

    until(comes_in)


def test_who_is_turned_away_keeps_the_connection_and_everything_else_is_answered(full):
    service, _ = full
    with Client(service) as other:
        for _ in range(3):
            other.send(batch(b"x" * 500))
            assert other.answer()[0] == 503
        other.send(GET)
        assert other.answer()[0] == 200
        other.send(batch() + GET)  # in one piece
        assert [other.answer()[0], other.answer()[0]] == [503, 200]
    assert [path for path, _ in service.asked] == ["/vitals", "/health", "/health"]


def test_answers_keep_the_order_of_what_was_asked(full):
    service, first = full
    first.send(batch(b"behind it"))
    service.go()
    assert first.answer()[0] == 200
    assert first.answer()[0] in (200, 503)


@pytest.mark.parametrize("size", [1, 7, 60, 200])
def test_a_batch_that_comes_in_pieces_is_answered_once_it_is_there(full, size):
    service, _ = full
    whole = batch(b"y" * 300)
    with Client(service) as other:
        head = whole.index(b"\r\n\r\n") + 4
        other.send(whole[: head + 1])
        for start in range(head + 1, len(whole), size * 10):
            other.send(whole[start : start + size * 10])
        assert other.answer()[0] == 503
        other.send(GET)
        assert other.answer()[0] == 200
    assert ("/vitals", b"y" * 300) not in service.asked


@pytest.mark.parametrize(
    "fields",
    [
        (b"content-length: 2",),
        (b"Content-Length: 2",),
        (b"transfer-encoding: chunked",),
        (b"Transfer-Encoding : chunked",),
        (b"x: a\nTransfer-Encoding: chunked",),
        (b" folded: line",),
        (b"expect: 100-continue",),
    ],
)
def test_where_a_length_could_be_doubted_the_parser_decides(full, fields):
    service, _ = full
    with Client(service) as other, contextlib.suppress(ConnectionError):
        other.send(batch(b"{}", *fields))
        other.timeout(0.5)
        with contextlib.suppress(TimeoutError):
            assert other.answer()[0] != 503  # 400, a continuation, or nothing yet


def test_a_body_beyond_what_may_be_sent_goes_the_long_way(full):
    service, _ = full
    with Client(service) as other:
        other.send(batch(b"", length=1001))
        until(lambda: service.begun == 2)


def test_who_trickles_a_refused_body_is_cut_off(full):
    service, _ = full
    with Client(service) as other:
        other.send(batch(b"z", length=900))
        assert other.closed()


def test_a_body_that_trickles_in_takes_nobodys_place():
    with held(Load(1, lambda: None)) as service, Client(service) as slow, Client(service) as quick:
        service.go()
        slow.send(batch(b"s", length=900))
        until(lambda: service.begun)
        quick.send(batch(b"q"))
        assert quick.answer()[0] == 200


def test_who_was_answered_before_the_body_was_there_takes_nobodys_place():
    with held(Load(1, lambda: None)) as service, Client(service) as hasty, Client(service) as calm:
        service.go()
        whole = batch(b"h" * 300, b"early: yes")
        hasty.send(whole[:-100])
        assert hasty.answer()[0] == 429
        hasty.send(whole[-100:])
        threading.Event().wait(0.1)
        calm.send(batch(b"c"))
        assert calm.answer()[0] == 200


def test_no_room_while_the_ward_is_behind():
    trouble: list[str] = ["behind"]
    with held(Load(9, lambda: trouble[0] if trouble else None)) as service, Client(service) as client:
        service.go()
        client.send(batch())
        assert client.answer()[0] == 503
        trouble.clear()
        client.send(batch())
        assert client.answer()[0] == 200


def test_who_was_told_to_wait_is_turned_away_and_nobody_else():
    load = Load(9, lambda: None)
    load.wait(sender_of(b"Bearer hasty", None), 30)
    with held(load) as service, Client(service) as client:
        service.go()
        client.send(batch(b"{}", b"authorization: Bearer hasty"))
        status, head = client.answer()
        assert status == 429
        assert b"\r\nretry-after: " in head
        for fields in ([], [b"Authorization:  Bearer calm"]):  # on the same connection, as through a proxy
            client.send(batch(b"{}", *fields))
            assert client.answer()[0] == 200


def test_waiting_ends():
    load = Load(9, lambda: None)
    load.wait(b"a", -1)
    assert load.refusal(b"a") is None


def test_a_crowd_is_when_far_more_are_turned_away_than_taken(monkeypatch):
    now = 0.0
    monkeypatch.setattr("caretrace.serve.limits.load.time.monotonic", lambda: now)
    load = Load(12, lambda: None)

    def room_after(refused: int) -> int:
        """Batches that come in at once, after a second in which twelve did and so many were turned away."""
        nonlocal now
        while load.refusal(b"a") is None:
            load.enter()
            inside.append(1)
        for _ in range(refused - 1):
            load.refusal(b"a")
        load._taken = 12
        for _ in inside:
            load.leave()
        inside.clear()
        now += 1.5
        while load.refusal(b"a") is None:
            load.enter()
            inside.append(1)
        return len(inside)

    inside: list[int] = []
    assert room_after(12) == 12  # one for each: two gateways are a little too many
    assert room_after(200) == 2
    assert room_after(12) == 12
