"""A service in a process of its own, and a client that costs little: HTTP by hand over kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ward_run import CHANNELS, values

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_START_SECONDS = 60.0
BARE = """
import asyncio, concurrent.futures, socket, sqlite3, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def take(request):
    await request.body()
    return Response(b'{"accepted":100}', media_type="application/json")

async def parse(request):
    given = await request.json()
    return Response(b'{"accepted":%d}' % len(given["samples"]), media_type="application/json")

disk = concurrent.futures.ThreadPoolExecutor(1)
kept = disk.submit(sqlite3.connect, sys.argv[1], isolation_level=None).result()
for order in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE kept (body BLOB)"):
    disk.submit(kept.execute, order).result()

async def keep(request):
    body = await request.body()
    order = "INSERT INTO kept VALUES (?)"
    await asyncio.get_running_loop().run_in_executor(disk, kept.execute, order, (body,))
    return Response(b'{"accepted":100}', media_type="application/json")

sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
routes = {"/vitals": take, "/parsed": parse, "/kept": keep}
app = Starlette(routes=[Route(path, end, methods=["POST"]) for path, end in routes.items()])
config = uvicorn.Config(app, loop="uvloop", http="httptools", log_config=None, access_log=False)
uvicorn.Server(config).run(sockets=[sock])
"""


class Service(NamedTuple):
    """A process that answers.

    Args:
        process: To be killed.
        port: On this machine.
        seconds: From its start until it was ready.
    """

    process: subprocess.Popen[bytes]
    port: int
    seconds: float


def start_service(run: Path, state: Path, store: str | None = None, options: tuple[str, ...] = ()) -> Service:
    """`caretrace serve`, ready; the token of `state` is asked for."""
    began = time.monotonic()
    command = [
        *(sys.executable, "-m", "caretrace.cli", "serve", str(run), "--state", str(state), "--port", "0"),
        *("--json", "--limit", "requests_per_second=1e6", "--limit", "burst=1000000"),
        *(("--store", store) if store else ()),
        *options,
    ]
    with (state / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={"OMP_NUM_THREADS": "1", **os.environ}
        )
    told = b""
    assert process.stdout is not None
    while b"address" not in told or b"}" not in told:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the service did not start: {(state / 'log').read_text()[-2000:]}")
        told += line
    process.stdout.close()
    port = int(json.loads(told)["address"].rsplit(":", 1)[1])
    while not _ready(port):
        if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
            raise SystemExit(f"the service is not ready: {(state / 'log').read_text()[-2000:]}")
        time.sleep(0.02)
    return Service(process, port, time.monotonic() - began)


def start_bare(kept: Path) -> Service:
    """The least that could answer: Starlette that reads the body; `/parsed` parses it, `/kept` commits it."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(kept)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    process.stdout.close()
    return Service(process, port, time.monotonic() - began)


@contextlib.contextmanager
def running(service: Service) -> Iterator[Service]:
    """Stop it at the end."""
    try:
        yield service
    finally:
        service.process.send_signal(signal.SIGTERM)
        try:
            service.process.wait(30)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Bodies:
    """Batches of a ward whose monitors send once a second, seven channels each.

    Args:
        beds: Patients.
        size: Samples of a batch.
        rows: One object per sample, rather than columns.
    """

    def __init__(self, beds: int, size: int = 100, *, rows: bool = True, name: str = "b") -> None:
        self.size, self._rows, self._name, self._number = size, rows, name, 0
        rng = np.random.default_rng(1)
        width = len(CHANNELS)
        self._groups = max(1, beds * width // size)
        drawn = values(rng, 4096).ravel()
        self._parts = []
        for group in range(self._groups):
            at = group * size + np.arange(size)
            for variant in range(8):
                shown = drawn[((at // width) * 31 + variant * 517) % 4096 * width + at % width].tolist()
                who = (at // width).tolist()
                self._parts.append((who, [CHANNELS[i % width] for i in at.tolist()], shown))
        self._made = [self._render(*part) for part in self._parts]

    def _render(self, who: list[int], names: list[str], shown: list[float]) -> bytes:
        if self._rows:
            samples = [
                {"subject_id": a, "channel": b, "value": c, "time": "@"}
                for a, b, c in zip(who, names, shown, strict=True)
            ]
            text = json.dumps({"batch_id": "%", "samples": samples}, separators=(",", ":"))
            return text.replace('"@"', "@").encode()
        times = ["@"] * len(who)
        columns = {"batch_id": "%", "subject_id": who, "channel": names, "value": shown, "time": times}
        return json.dumps(columns, separators=(",", ":")).replace('"@"', "@").encode()

    def __call__(self) -> bytes:
        """The next batch, of this moment."""
        number = self._number
        self._number += 1
        made = self._made[(number % self._groups) * 8 + (number // self._groups) % 8]
        return made.replace(b"@", b"%.3f" % time.time()).replace(
            b'"%"', b'"%s-%d"' % (self._name.encode(), number), 1
        )


class Answer(NamedTuple):
    """One request.

    Args:
        status: Of HTTP; 0 where the connection broke.
        seconds: Until it was answered.
        body: What was said.
        headers: As bytes.
    """

    status: int
    seconds: float
    body: bytes
    headers: bytes


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self._began = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        self._done(0, b"", b"")

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send; the future is the answer."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._began, self._buffer = time.perf_counter(), b""
        waiting = self._waiting
        if self.transport is None:
            self._done(0, b"", b"")
        else:
            self.transport.write(request)
        return waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[: end + 2]
        found = _LENGTH.search(head)
        size = int(found.group(1)) if found else 0
        if len(self._buffer) >= end + 4 + size:
            self._done(int(head[9:12]), self._buffer[end + 4 : end + 4 + size], head)

    def _done(self, status: int, body: bytes, head: bytes) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(status, time.perf_counter() - self._began, body, head))


def request(body: bytes, token: str | None, path: str = "/vitals", method: str = "POST") -> bytes:
    """The bytes of a request."""
    allowed = b"authorization: Bearer %s\r\n" % token.encode() if token else b""
    return (
        b"%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\n%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (method.encode(), path.encode(), allowed, len(body))
    ) + body


async def connect(port: int, count: int) -> list[Connection]:
    """So many connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


async def closed_loop(
    port: int,
    make: Callable[[], bytes],
    token: str | None,
    connections: int,
    seconds: float,
    path: str = "/vitals",
) -> list[Answer]:
    """As much as is answered: every connection asks again as soon as it was answered."""
    end, answers = time.perf_counter() + seconds, []

    async def ask(connection: Connection) -> None:
        while time.perf_counter() < end and connection.transport is not None:
            answers.append(await connection.ask(request(make(), token, path)))

    open_ = await connect(port, connections)
    await asyncio.gather(*(ask(each) for each in open_))
    _close(open_)
    return answers


async def open_loop(
    port: int,
    make: Callable[[], bytes],
    token: str | None,
    per_second: float,
    seconds: float,
    path: str = "/vitals",
    most: int = 256,
) -> tuple[list[Answer], int]:
    """So many requests a second, answered or not; and how many found no free connection among `most`."""
    free = await connect(port, 8)
    every, answers, tasks, unsent = list(free), [], set(), 0
    began = time.perf_counter()

    async def ask(connection: Connection, due: float) -> None:
        waited = time.perf_counter() - due
        answer = await connection.ask(request(make(), token, path))
        answers.append(answer._replace(seconds=answer.seconds + waited))
        free.append(connection)

    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        now = time.perf_counter()
        if due > now:
            await asyncio.sleep(due - now)
        elif number % 16 == 0:
            await asyncio.sleep(0)
        while free and free[-1].transport is None:  # the service ends those that nobody uses
            every.remove(free.pop())
        if not free and len(every) < most:
            free += (made := await connect(port, 8))
            every += made
        if not free:
            unsent += 1
            continue
        task = asyncio.ensure_future(ask(free.pop(), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    _close(every)
    return answers, unsent


def _close(connections: list[Connection]) -> None:
    for each in connections:
        if each.transport is not None:
            each.transport.close()


async def listen(port: int, token: str | None, heard: Callable[[str, dict[str, object]], None]) -> None:
    """Read server-sent events until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        writer.write(request(b"", token, "/stream", "GET"))
        kind = ""
        while line := await reader.readline():
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: ") and kind == "alarm":
                heard(kind, json.loads(line[6:]))
    finally:
        writer.close()
