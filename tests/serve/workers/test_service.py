"""A service of three processes on PostgreSQL, as it is started: one leads, two take batches; any of them may die."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import func, select

from caretrace.errors import ConfigError
from caretrace.serve.security.tokens import Tokens
from caretrace.serve.settings import ServeSettings
from caretrace.serve.store.store import Store, read_scored
from caretrace.serve.store.tables import BATCHES

from ..wire import read_until

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
READY_SECONDS = 5.0
PATIENCE = 30.0


def test_several_workers_need_a_store_that_several_can_write(tmp_path):
    with pytest.raises(
        ConfigError, match=r"--workers 3: SQLite is written by one process.*--store postgresql"
    ):
        ServeSettings((), tmp_path, workers=3)
    with pytest.raises(ConfigError, match="replay has a clock of its own"):
        ServeSettings((), tmp_path, workers=2, demo=tmp_path, store="postgresql://h/n")
    command = [sys.executable, "-m", "caretrace.cli", "serve", str(tmp_path), "--workers", "2"]
    done = subprocess.run([*command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "give a store that several can write" in " ".join(done.stderr.split())


class Workers:
    """A service with workers, and whom to kill."""

    def __init__(self, run, state, url, *options):
        from ward_client import start_service

        self.state, self.url, self.run = state, url, run
        self.tokens = {
            name: Tokens(state / "tokens.json").add(name, "clinician", wards=wards)
            for name, wards in (("gateway", None), ("ward-a", ["A"]))
        }
        self.tokens["admin"] = Tokens(state / "tokens.json").add("admin", "admin")
        service = start_service(run, state, url, ("--workers", "3", *options))
        self.process, self.port = service.process, service.port

    def pid(self, name):
        """Of the newest process of this name."""
        said = (self.state / "log").read_text()
        return int(re.findall(rf"{name} is process (\d+)", said)[-1])

    def ask(self, method, path, body=None, who="gateway", **headers):
        """On a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            if who is not None:
                headers["authorization"] = f"Bearer {self.tokens[who]}"
            given = None if body is None else json.dumps(body)
            connection.request(method, path, given, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    def get(self, path, **more):
        status, body, _ = self.ask("GET", path, **more)
        assert status == 200, body
        return json.loads(body)

    def ready_after(self):
        """Seconds until it is ready."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/ready", who=None)[0] == 200:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError((self.state / "log").read_text()[-3000:])

    def stop(self):
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        assert left(children, 20) == []
        assert not (self.state / "leader.sock").exists()
        return code


def left(processes, seconds):
    """Who still runs after so long; where nobody reaps orphans they stay as zombies, which do nothing."""
    alive = psutil.wait_procs(processes, timeout=seconds)[1]
    with contextlib.suppress(psutil.NoSuchProcess):
        return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    return []


@pytest.fixture(scope="module")
def start(tmp_path_factory, new_database):
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.syspath_prepend(BENCHMARKS)
        from ward_run import make_run

        run = make_run(tmp_path_factory.mktemp("run") / "ward", step_seconds=1.0, d_model=16)

        def begin():
            made = Workers(run, tmp_path_factory.mktemp("state"), new_database())
            stack.callback(lambda: made.process.poll() is None and made.stop())
            return made

        yield begin


@pytest.fixture(scope="module")
def service(start):
    return start()


def samples(batch_id, subject=1, value=80.0, n=1):
    now = time.time()
    return {
        "batch_id": batch_id,
        "samples": [
            {"subject_id": subject, "time": now + i * 1e-3, "channel": "hr", "value": value} for i in range(n)
        ],
    }


@pytest.mark.slow
def test_batches_are_taken_by_workers_and_everything_else_answers_on_any_connection(service):
    for n in range(20):  # on connections of their own: both workers have some
        assert service.ask("POST", "/vitals", samples(f"seen-{n}", subject=7))[0] == 200
    assert service.ask("PUT", "/beds/7", {"bed": "A-07", "ward": "A"})[0] == 200
    time.sleep(1.5)
    for _ in range(8):
        beds = service.get("/ward?ward=A")["beds"]
        assert [(bed["bed"], bed["values"]) for bed in beds] == [("A-07", {"hr": 80.0})]
        assert service.get("/me")["who"] == "gateway"
        assert "alarms" in service.get("/alarms")
    status, page, headers = service.ask("GET", "/", who=None)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"caretrace" in page
    assert int(headers["content-length"]) == len(page)
    said = (service.state / "log").read_text()
    assert "POST /vitals" not in said
    metrics = service.ask("GET", "/metrics", who=None)[1].decode()
    assert 'caretrace_batches_total{outcome="new"}' not in metrics  # the leader took none of them
    assert float(re.search(r"^caretrace_log_batches (\S+)", metrics, re.M)[1]) >= 20


@pytest.mark.slow
def test_who_may_not_is_refused_by_the_leader_which_writes_it_down(service):
    assert service.ask("POST", "/vitals", samples("x"), who=None)[0] == 401
    assert service.ask("POST", "/vitals", samples("x"), authorization="Bearer no", who=None)[0] == 401
    assert service.ask("PUT", "/beds/99", {"bed": "B-01", "ward": "B"})[0] == 200
    assert service.ask("POST", "/vitals", samples("y", subject=99), who="ward-a")[0] == 404
    assert service.ask("POST", "/vitals", samples("z", subject=7), who="ward-a")[0] in (200, 404)
    found = service.get("/audit?after=0", who="admin")
    assert found["intact"]
    denied = [(each["who"], each["what"]) for each in found["entries"] if each["outcome"] == "denied"]
    assert denied.count(("127.0.0.1", "enter POST /vitals")) == 2  # the caller's address, not the worker's
    assert ("ward-a", "send vital signs") in denied


@pytest.mark.slow
def test_what_cannot_be_taken_is_told_as_by_one_process(service):
    status, body, _ = service.ask("POST", "/vitals", {"batch_id": "n", "samples": []})
    assert status == 422, body
    with pytest.raises(ValueError, match="Out of range"):
        json.dumps(float("nan"), allow_nan=False)
    status, body, _ = service.ask("POST", "/vitals", samples("nan", value=float("nan")))
    assert (status, json.loads(body)["detail"][0]["loc"]) == (422, ["body", "samples", 0, "value"])
    assert service.ask("POST", "/vitals", samples("origin"), origin="http://elsewhere")[0] == 403
    assert service.ask("GET", "/bundles/%2e%2e/card")[0] == 400
    ahead = samples("future")
    ahead["samples"][0]["time"] += 3600
    assert b"ahead of the ward's clock" in service.ask("POST", "/vitals", ahead)[1]


@pytest.mark.slow
def test_a_flood_of_strangers_is_turned_away_before_the_leader_hears_of_it(service):
    answers = [service.ask("POST", "/vitals", samples("s"), who=None) for _ in range(300)]
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {401, 429}
    assert {headers["retry-after"] for status, _, headers in answers if status == 429} == {"1"}
    told = service.ask("GET", "/metrics", who=None)[1].decode()
    asked = re.findall(r'caretrace_requests_total{.*route="[^"]*",status="429"} (\S+)', told)
    assert sum(map(float, asked)) < statuses.count(
        429
    )  # both workers have heard once, and turned away the rest
    assert service.ask("GET", "/me")[0] == 200


@pytest.mark.slow
def test_the_same_batch_on_many_connections_at_once_is_kept_once(service):
    from ward_client import connect, request

    bodies = [json.dumps(samples(f"once-{n}", n=50)).encode() for n in range(20)]
    odd = [json.dumps(samples("odd", value=value)).encode() for value in range(60, 68)]

    async def send():
        connections, answers = await connect(service.port, 8), []
        for body in bodies:
            asked = [each.ask(request(body, service.tokens["gateway"])) for each in connections]
            answers.append(await asyncio.gather(*asked))
        asked = [
            each.ask(request(body, service.tokens["gateway"]))
            for each, body in zip(connections, odd, strict=True)
        ]
        answers.append(await asyncio.gather(*asked))
        for each in connections:
            each.transport.close()
        return answers

    *answers, conflicts = asyncio.run(send())
    for each in answers:
        assert {answer.status for answer in each} <= {200, 503}
        taken = [answer for answer in each if answer.status == 200]
        assert len({answer.body for answer in taken}) == 1
        assert sum(b"caretrace-duplicate" not in answer.headers for answer in taken) == 1
    assert sorted(a.status for a in conflicts if a.status != 503)[:2] in ([200, 409], [200])
    assert sum(a.status == 200 for a in conflicts) == 1


class Load:
    """Senders that never stop, on connections that are made anew when they break, and what they were promised."""

    def __init__(self, service, name):
        from ward_client import Bodies

        self.service, self.make = service, Bodies(140, 70, name=name)
        self.kept, self.heard, self.answered, self.odd = {}, set(), set(), []
        self.open, self.refused = [], 0

    async def __aenter__(self):
        self.tasks = [asyncio.ensure_future(self.send()) for _ in range(4)]
        self.tasks += [asyncio.ensure_future(each()) for each in (self.answer, self.listen)]
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        ended, left = await asyncio.wait(self.tasks, timeout=PATIENCE)
        assert not left
        assert [task.exception() for task in ended if not task.cancelled()] == []
        for connection in self.open:
            if connection.transport is not None:
                connection.transport.close()
        await asyncio.sleep(0.1)

    async def send(self):
        from ward_client import request

        token, body = self.service.tokens["gateway"], None
        async for connection in self.connections():
            while connection.transport is not None:
                body = body or self.make()
                answer = await connection.ask(request(body, token))
                if answer.status == 200:
                    taken = json.loads(answer.body)
                    self.kept[taken["batch_id"]] = taken["accepted"]
                    body = None
                elif answer.status in (429, 503):
                    self.refused += 1
                    await asyncio.sleep(0.02)
                elif answer.status:
                    self.odd.append(answer)
                await asyncio.sleep(0.005)

    async def answer(self):
        from ward_client import request

        token = self.service.tokens["gateway"]
        async for connection in self.connections():
            while connection.transport is not None:
                listed = await connection.ask(request(b"", token, "/alarms?state=active", "GET"))
                for alarm in json.loads(listed.body)["alarms"][:5] if listed.status == 200 else []:
                    path = f"/alarms/{alarm['id']}/acknowledge"
                    told = await connection.ask(request(b'{"why":"seen"}', token, path))
                    if told.status == 200:
                        self.answered.add(alarm["id"])
                await asyncio.sleep(0.05)

    async def listen(self):
        from ward_client import listen

        while True:
            with contextlib.suppress(OSError):
                await listen(
                    self.service.port,
                    self.service.tokens["gateway"],
                    lambda _, alarm: self.heard.add(str(alarm["id"])),
                )
            await asyncio.sleep(0.1)

    async def connections(self):
        from ward_client import connect

        while True:
            with contextlib.suppress(OSError):
                [connection] = await connect(self.service.port, 1)
                self.open.append(connection)
                yield connection
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leader", "worker 1"])
def test_kill_9_under_load_loses_and_doubles_nothing(start, name):
    service = start()

    rounds, slowest = int(os.environ.get("CARETRACE_KILLS", "1")), 0.0

    async def killed():
        nonlocal slowest
        async with Load(service, name.replace(" ", "")) as load:
            for _ in range(rounds):
                await asyncio.sleep(3)
                before, pid = len(load.kept), service.pid(name)
                os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                await asyncio.sleep(1.0)
                assert len(load.kept) > before  # the others went on
                while service.pid(name) == pid:
                    assert time.monotonic() - killed < PATIENCE
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(service.ready_after)
                slowest = max(slowest, time.monotonic() - killed)
            meanwhile = len(load.kept)
            await asyncio.sleep(3)
            assert len(load.kept) > meanwhile
            return load

    load = asyncio.run(killed())
    assert load.odd == []
    assert load.answered
    assert load.heard
    time.sleep(2.0)
    assert service.stop() == 0
    check(service, load)
    kept, heard, answered = sum(load.kept.values()), len(load.heard), len(load.answered)
    counts = f"{rounds} kills: {kept} samples, {heard} alarms, {answered} answers"
    print(f"{name}, {counts}; ready again after {slowest:.1f} s at most")
    if os.environ.get("CARETRACE_KILLS"):  # a machine that does nothing else
        assert slowest < READY_SECONDS


def check(service, load):
    """Nothing is lost, nothing is there twice, and live scores and alarms are those of a ward that reads the log."""
    from ward_kills import Seen, _counted

    seen = Seen()
    seen.batches, seen.heard, seen.answered = load.kept, load.heard, load.answered
    store = Store(service.url)
    try:
        found = store.read(lambda rows: _counted(rows, store, service.run, seen, 1, 0.0))
        assert (found.lost, found.doubled) == (0, 0)
        assert found.alarms > 0
        last, rows = store.read(
            lambda c: c.execute(select(func.max(BATCHES.c.seq), func.count()).select_from(BATCHES)).one()
        )
        assert last == rows  # no gaps
        live = [np.concatenate(parts) for parts in zip(*_columns(store.read(_all_scored)), strict=True)]
        expected = _batch_scores(store, service.run)
        order = np.lexsort((live[1], live[0]))
        np.testing.assert_array_equal(live[0][order], expected[0])
        np.testing.assert_array_equal(live[1][order], expected[1])
        np.testing.assert_allclose(live[2][order], expected[2], atol=1e-5)
    finally:
        store.close()


def _all_scored(connection):
    return read_scored(connection, 0.0, np.inf)


def _columns(rows):
    return [(row["subject"], row["step"], row["scores"]) for row in rows]


def _batch_scores(store, run):
    from caretrace.serve.live.model import live_model
    from caretrace.serve.live.settings import LiveSettings
    from caretrace.serve.live.ward import Ward

    ward = Ward(live_model(run.name, run / "bundle"), LiveSettings())
    for entries in store.log.read(0, store.log.last):
        ward.take(entries)
    scored = ward.take_scored()
    order = np.lexsort((scored.step, scored.subject))
    return scored.subject[order], scored.step[order], scored.scores[order]


@pytest.mark.slow
def test_a_stream_ends_with_its_leader_and_goes_on_where_it_was(service):
    """The last of this file's shared service: its leader is killed."""
    assert service.ask("PUT", "/beds/7", {"bed": "A-07", "ward": "A"})[0] == 200
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as sock:
        sock.sendall(
            f"GET /stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.tokens['gateway']}\r\n\r\n".encode()
        )
        data = read_until(sock, b"event: beat")
        os.kill(service.pid("leader"), signal.SIGKILL)
        while piece := sock.recv(65536) if not data.endswith(b"\r\n0\r\n\r\n") else b"":
            data += piece
        assert data.endswith(b"\r\n0\r\n\r\n")  # whole, so that a reader takes what it has, and comes back
    status, body, headers = service.ask("GET", "/ward")
    assert status in (200, 503), body
    assert status == 200 or headers["retry-after"]
    service.ready_after()
    assert {bed["subject_id"] for bed in service.get("/ward")["beds"]} >= {7}


@pytest.mark.slow
def test_it_ends_when_asked_though_somebody_reads_the_stream(start):
    service = start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as sock:
        sock.sendall(
            f"GET /stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.tokens['gateway']}\r\n\r\n".encode()
        )
        assert b"200 OK" in read_until(sock, b"\r\n\r\n")
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 8  # not the ten seconds that answers may still take
        data = b""
        while piece := sock.recv(65536):
            data += piece
        assert data.endswith(b"0\r\n\r\n")
    assert "Traceback" not in (service.state / "log").read_text()


@pytest.mark.slow
def test_without_whoever_watches_over_them_all_end(start):
    service = start()
    children = psutil.Process(service.process.pid).children(recursive=True)
    assert len(children) >= 3
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(PATIENCE)
    assert left(children, 20) == []
    again = Store(service.url)  # nobody owns it any more
    again.close()
