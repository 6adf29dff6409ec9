"""What a worker hands on to the leader, and what comes back: both as if there were no worker between."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
import uvicorn

from caretrace.serve.workers.forward import Forwarder, Told

from ..wire import read_until

BIG = bytes(range(256)) * 20_000  # 5 MB


async def upstream(scope, receive, send):
    """The leader: its answers depend on the path."""
    if scope["type"] == "lifespan":
        return
    path, headers = scope["path"], dict(scope["headers"])

    async def answer(status, body, *more):
        await send({"type": "http.response.start", "status": status, "headers": list(more)})
        await send({"type": "http.response.body", "body": body})

    async def whole():
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                return body

    if path == "/echo":
        body = await whole()
        told = {
            "method": scope["method"],
            "target": scope["raw_path"].decode() + "?" + scope["query_string"].decode(),
            "client": scope["client"][0],
            "scheme": scope["scheme"],
            "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]],
            "size": len(body),
            "same": body == BIG,
        }
        await answer(200, json.dumps(told).encode(), (b"content-type", b"application/json"))
    elif path == "/big":
        length = (b"content-length", str(len(BIG)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for at in range(0, len(BIG), 100_000):
            more = at + 100_000 < len(BIG)
            await send({"type": "http.response.body", "body": BIG[at : at + 100_000], "more_body": more})
    elif path == "/cookies":
        await answer(201, b"ok", (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"2"))
    elif path in ("/204", "/304"):
        await answer(int(path[1:]), b"")
    elif path == "/refuse":  # before the body is read
        await answer(413, b'{"detail":"no"}', (b"content-length", b"15"), (b"connection", b"close"))
    elif path == "/stream":
        kind = headers.get(b"x-kind", b"text/event-stream")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        number = 0
        gone = asyncio.ensure_future(receive_until_gone(receive))
        while not gone.done():
            number += 1
            await send({"type": "http.response.body", "body": b"id: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.05)
        LEFT.set()
    elif path == "/die":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("gone in the middle")
    elif path == "/never":
        await asyncio.sleep(30)


async def receive_until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


LEFT = threading.Event()


@contextlib.contextmanager
def serving(app, sock):
    """A server in a thread."""
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        http="httptools",
        loop="uvloop",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Of a worker whose leader answers as above."""
    with both(str(tmp_path_factory.mktemp("leader") / "s")) as found:
        yield found


@contextlib.contextmanager
def both(path, leader=True, most=20):
    front = socket.create_server(("127.0.0.1", 0))
    with contextlib.ExitStack() as stack:
        if leader:
            behind = stack.enter_context(socket.socket(socket.AF_UNIX))
            behind.bind(path)
            stack.enter_context(serving(Told(upstream), behind))
        stack.enter_context(serving(Forwarder(path, most), front))
        yield front.getsockname()[1]


def ask(port, method, path, body=None, headers=None, **more):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {}, **more)
        answer = connection.getresponse()
        return answer, answer.read()


def test_a_request_arrives_as_it_was_sent(port):
    given = {
        "X-Twice": "one",
        "Authorization": "Bearer x",
        "caretrace-from": "https 6.6.6.6 1",
        "TE": "trailers",
    }
    answer, body = ask(port, "POST", "/echo?a=1&b=%2F", BIG, given)
    told = json.loads(body)
    assert (answer.status, told["method"], told["target"]) == (200, "POST", "/echo?a=1&b=%2F")
    assert (told["size"], told["same"]) == (len(BIG), True)
    assert (told["client"], told["scheme"]) == ("127.0.0.1", "http")  # not what the caller said of itself
    headers = dict(map(tuple, told["headers"]))
    assert headers["authorization"] == "Bearer x"
    assert headers["host"] == f"127.0.0.1:{port}"
    assert headers["content-length"] == str(len(BIG))
    assert {"te", "caretrace-from"} & headers.keys() == set()


def test_a_body_of_unknown_length_arrives(port):
    pieces = (BIG[at : at + 77_777] for at in range(0, len(BIG), 77_777))
    answer, body = ask(port, "PUT", "/echo", pieces, encode_chunked=True)
    assert answer.status == 200
    assert json.loads(body)["same"]


def test_odd_addresses_are_handed_on_as_they_are(port):
    for path in ("/echo/%2e%2e/x", "/echo//x", "/echo%23x"):
        answer, _ = ask(port, "GET", path)
        assert answer.status == 500  # of this leader, which knows no such path; it was asked
    assert json.loads(ask(port, "GET", "/echo?")[1])["size"] == 0


def test_an_answer_comes_back_as_it_was_given(port):
    answer, body = ask(port, "GET", "/big")
    assert (answer.getheader("content-length"), body) == (str(len(BIG)), BIG)
    answer, body = ask(port, "GET", "/cookies")
    assert (answer.status, body) == (201, b"ok")
    assert [value for name, value in answer.getheaders() if name == "set-cookie"] == ["a=1", "b=2"]
    assert len([name for name, _ in answer.getheaders() if name == "date"]) == 1
    assert answer.getheader("connection") is None
    answer, body = ask(port, "HEAD", "/cookies")
    assert (answer.status, answer.getheader("content-length"), body) == (201, "2", b"")
    for status in (204, 304):
        answer, body = ask(port, "GET", f"/{status}")
        assert (answer.status, body) == (status, b"")


def test_a_connection_is_kept_for_many_requests(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.connect()
        sock = connection.sock
        for number in range(20):
            connection.request("POST" if number % 2 else "GET", "/echo", b"x" * number)
            answer = connection.getresponse()
            assert json.loads(answer.read())["size"] == number
            assert connection.sock is sock


def test_a_refusal_before_the_body_was_read_is_told_and_ends_the_connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 300000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"x" * 100_000)
        data = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(4096):
                data += piece
        assert data.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in data
        assert data.endswith(b'{"detail":"no"}')


def test_a_stream_comes_piece_by_piece_and_its_source_hears_when_the_reader_leaves(port):
    LEFT.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        data = read_until(sock, b"id: 5\n\n")  # of a source that never ends
        assert b"transfer-encoding: chunked" in data.lower()
        pieces = [line for line in data.split(b"\r\n") if line.startswith(b"id: ")]
        assert pieces[:5] == [b"id: %d\n\n" % n for n in range(1, 6)]  # each a chunk of its own
        assert not LEFT.is_set()
    assert LEFT.wait(5)


def test_a_leader_that_dies_within_an_answer_leaves_it_unfinished(port):
    with pytest.raises(http.client.IncompleteRead):
        ask(port, "GET", "/die")


def test_without_a_leader_it_is_503_and_says_when_to_ask_again(tmp_path):
    with both(str(tmp_path / "none"), leader=False) as port:
        answer, body = ask(port, "POST", "/echo", b"x" * 1000)
        assert (answer.status, answer.getheader("retry-after")) == (503, "2")
        assert "started again" in json.loads(body)["detail"]
        assert answer.getheader("content-security-policy")


def test_too_many_at_once_are_refused(tmp_path):
    with both(str(tmp_path / "s"), most=1) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        sock.recv(4096)
        assert ask(port, "GET", "/echo")[0].status == 503
        sock.close()
        until = time.monotonic() + 60
        while ask(port, "GET", "/echo")[0].status == 503:
            assert time.monotonic() < until
            time.sleep(0.05)
