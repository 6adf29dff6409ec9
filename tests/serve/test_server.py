"""The service as it is started: in a process of its own, over sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from caretrace.errors import ResourceError
from caretrace.serve.settings import Limits, ServeSettings
from caretrace.serve.start import serve


class Running:
    """A service that was started by the command line."""

    def __init__(self, run: Path, state: Path, *options: str) -> None:
        command = [sys.executable, "-m", "caretrace.cli", "serve", str(run), "--port", "0", "--json"]
        self.log = (state.parent / f"{state.name}.log").open("w+")
        self.process = subprocess.Popen(
            [*command, "--state", str(state), *options], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        line = self.process.stdout.readline()
        assert line, self.said()
        self.port = int(json.loads(line)["address"].rsplit(":", 1)[1])
        assert self.get("/health")[0] == 200  # ready means ready

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def memory(self) -> float:
        """Resident MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def stop(self) -> str:
        """What it logged, once it has gone well."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        self.process.stdout.close()
        said = self.said()
        self.log.close()
        assert code == 0, said
        return said


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def begin(run: Path, *options: str) -> Running:
            running = Running(run, tmp_path_factory.mktemp("served") / "state", *options)
            stack.callback(lambda: running.process.poll() is None and running.stop())
            return running

        yield begin


@pytest.fixture(scope="module")
def running(start: Callable[..., Running], tiny_run: Path) -> Running:
    return start(tiny_run, "--limit", "header_seconds=1", "--limit", "request_seconds=1")


def closed_after(sock: socket.socket, send: bytes, pause: float, limit: float) -> float:
    """Seconds until the other side closes, while bytes trickle."""
    began = time.monotonic()
    sock.settimeout(0.01)
    for number in range(int(limit / pause)):
        try:
            sock.sendall(send[number % len(send) : number % len(send) + 1])
            if sock.recv(4096) == b"":
                return time.monotonic() - began
        except TimeoutError:
            pass
        except OSError:
            return time.monotonic() - began
        time.sleep(pause)
    raise AssertionError(f"still open after {limit} s")


def test_headers_that_trickle_are_closed(running: Running) -> None:
    assert Limits().header_seconds < 15
    with running.socket() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert 0.8 < closed_after(sock, b"abc", 0.1, 10) < 4


def test_silence_is_closed(running: Running) -> None:
    with running.socket() as sock:
        sock.settimeout(10)
        assert sock.recv(10) == b""


def test_a_second_request_that_trickles_is_closed_too(running: Running) -> None:
    with running.socket() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in sock.recv(4096)
        sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        assert closed_after(sock, b"abc", 0.1, 10) < 4


def test_a_body_that_trickles_is_408(running: Running) -> None:
    with running.socket() as sock:
        sock.sendall(b"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
        sock.settimeout(10)
        assert b" 408 " in sock.recv(4096)


def test_a_header_without_end_is_closed(running: Running) -> None:
    before = running.memory()
    with running.socket() as sock, contextlib.suppress(OSError):
        sock.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
        for _ in range(1000):
            sock.sendall(b"a" * 64 * 1024)
        raise AssertionError("64 MB of header were taken")
    assert running.memory() - before < 16


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_300_mb_is_413_and_costs_little(running: Running, chunked: bool) -> None:
    running.get("/health")
    before, most = running.memory(), 0.0
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 300000000"
    part = b" " * 2**20
    answer = b""
    with running.socket() as sock, contextlib.suppress(OSError):
        sock.sendall(b"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\n" + how + b"\r\n\r\n")
        try:
            for number in range(300):
                sock.sendall(b"100000\r\n" + part + b"\r\n" if chunked else part)
                if number % 10 == 0:
                    most = max(most, running.memory() - before)
        except OSError:  # it need not listen to the end
            pass
        answer = sock.recv(4096)
    assert not answer or b" 413 " in answer
    assert max(most, running.memory() - before) <= 64
    assert running.get("/health")[0] == 200


def test_413_is_said_before_the_body_is_sent(running: Running) -> None:
    with running.socket() as sock:
        sock.sendall(b"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300000000\r\n\r\n")
        sock.settimeout(10)
        answer = sock.recv(4096)
        assert b" 413 " in answer
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("header", [b"X-Request-Id: a\nb", b"X-Request-Id: a\r\n b", b"X-Request-Id: a\rb"])
def test_a_newline_in_a_request_id_is_400(running: Running, header: bytes) -> None:
    with running.socket() as sock:
        sock.sendall(
            b"GET /bundles HTTP/1.1\r\nHost: 127.0.0.1\r\n" + header + b"\r\nConnection: close\r\n\r\n"
        )
        assert b" 400 " in sock.recv(4096).split(b"\r\n", 1)[0]


@pytest.mark.parametrize(
    "path", ["/predict/../x", "/predict/%2e%2e", "//proc", "/predict//proc", "/predict/a%23b", "/predict/a#b"]
)
def test_odd_names_are_400_over_the_wire(running: Running, path: str) -> None:
    with running.socket() as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
        assert b" 400 " in sock.recv(4096).split(b"\r\n", 1)[0]


def test_a_port_in_use_is_said(running: Running, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=f"port {running.port} cannot be listened on.*--port"):
        serve(ServeSettings((), tmp_path, port=running.port), lambda _address: None)


def test_it_stops_when_asked_and_its_log_names_no_subject(running: Running) -> None:
    """The last of this file: it stops the service."""
    token = "caretrace_" + "x" * 43
    running.get("/subjects/987654321012/timeline", Authorization=f"Bearer {token}")
    running.get("/bundles?subject_id=987654321012")
    assert running.get("/nothing/987654321012")[0] == 404
    said = running.stop()
    assert "/subjects/{subject_id}/timeline" in said
    assert "987654321012" not in said
    assert token not in said
    assert "Traceback" not in said
