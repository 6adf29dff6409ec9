"""A real server: a reader that stalls, and kill -9. CARETRACE_KILLS=100 asks for as many as the benchmark."""

import asyncio
import contextlib
import json
import os
import re
import socket
import time
from pathlib import Path

import pytest

from caretrace.serve.security.tokens import Tokens

from . import postgres
from .wire import read_until

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
READY_SECONDS = 5.0
FIRST = rb"\nid: (\d+)\n"


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """Tools of the benchmark, and a run to serve."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from ward_run import make_run

    return make_run(tmp_path / "ward", step_seconds=1.0, d_model=16)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_9_loses_and_doubles_nothing(ward, tmp_path, kind):
    from ward_kills import survive

    kills = int(os.environ.get("CARETRACE_KILLS", "3"))
    if kind == "sqlite":
        found = survive(ward, tmp_path, kills, seed=1)
    else:
        why = postgres.missing()
        if why:
            pytest.skip(why)
        with postgres.server() as url:
            found = survive(ward, tmp_path, kills, seed=2, store=url)
    assert (found.lost, found.doubled) == (0, 0)
    assert found.acknowledged > 1000
    assert found.alarms > 0
    if os.environ.get("CARETRACE_KILLS"):  # a machine that does nothing else
        assert found.slowest < READY_SECONDS


@pytest.mark.slow
def test_a_reader_that_stalls_is_cut_off_and_misses_nothing_when_it_is_back(ward, tmp_path):
    from ward_run import make_run

    calm = make_run(tmp_path / "calm")  # few alarms, so that the events of half a minute are kept
    from ward_client import Bodies, connect, request, running, start_service

    state = tmp_path / "state"
    state.mkdir()
    token = Tokens(state / "tokens.json").add("nurse", "clinician")
    with running(start_service(calm, state)) as service:
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", service.port))
        stalled.sendall(request(b"", token, "/stream", "GET"))

        async def load(seconds, enough):
            [connection] = await connect(service.port, 1)
            make, end, reached = Bodies(2100, name=f"stall{seconds}"), time.monotonic() + seconds, False
            while not reached and time.monotonic() < end:
                assert (await connection.ask(request(make(), token))).status in (200, 503)
                told = await connection.ask(request(b"", token, "/metrics", "GET"))
                reached = enough in told.body
            connection.transport.close()
            await asyncio.sleep(0.1)
            return reached

        asyncio.run(load(3, b"never"))
        found = re.search(FIRST, read_until(stalled, FIRST))
        last = int(found.group(1)) - 1  # the event after it was never whole
        assert asyncio.run(load(100, b"caretrace_stream_readers 0.0"))
        stalled.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            while stalled.recv(65536):  # what was on its way, then the end: the connection is closed
                pass
        stalled.close()
        again = socket.create_connection(("127.0.0.1", service.port))
        again.sendall(request(b"", token, f"/stream?after={last}", "GET"))
        again.settimeout(10)
        data, end = b"", time.monotonic() + 10
        while len(_ids(data)) < 3 and time.monotonic() < end:
            data += again.recv(65536)
        again.close()
        assert _ids(data)[:3] == [last + 1, last + 2, last + 3]


def _ids(data):
    """Ids of whole events."""
    return [
        int(frame.split(b"id: ")[1].split(b"\n")[0]) for frame in data.split(b"\n\n")[:-1] if b"id: " in frame
    ]


def test_a_reader_that_comes_back_too_late_gets_every_open_alarm():
    from caretrace.serve.live.broker import Broker

    async def read():
        broker = Broker(4, lambda: [("A", {"id": "a1"}), ("B", {"id": "b1"})])
        broker.reserve(100, 1000)
        for number in range(20):
            broker.publish("beat", {"n": number}, "A" if number % 2 else None)
        found = {}
        for after, wards in ((110, None), (118, None), (5, {"A"}), (117, {"B"}), (10**9, None)):
            stream, chunks = broker.follow(after, wards), []
            while True:
                try:
                    chunks.append(await asyncio.wait_for(anext(stream), 0.05))
                except (TimeoutError, StopAsyncIteration):
                    break
            found[after] = [
                json.loads(line[6:]) for line in b"".join(chunks).split(b"\n") if line[:6] == b"data: "
            ]
            await stream.aclose()
        assert broker.readers == 0
        return found

    found = asyncio.run(read())
    assert found[118] == [{"n": 19}]
    assert found[110] == [{"id": "a1"}, {"id": "b1"}] or found[110][-1] == {"n": 19}
    assert found[5] == [{"id": "a1"}]
    assert found[117] == [{"n": 18}]
    assert found[10**9] == []
