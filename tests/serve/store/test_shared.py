"""One log on PostgreSQL that several processes append to."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from caretrace.errors import OutputExistsError
from caretrace.serve.live.intake import Intake, OverloadedError
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.store import records
from caretrace.serve.store.store import Store
from caretrace.serve.store.tables import BATCHES

from . import appender
from .appender import batch

COUNT = 200


@pytest.fixture
def leader(new_database):
    opened = Store(new_database(), shared=True)
    yield opened
    opened.close()


@pytest.fixture
def worker(leader):
    opened = Store(leader.database.url.render_as_string(hide_password=False), shared=True, owner=False)
    yield opened
    opened.close()


def test_processes_side_by_side_keep_each_batch_once_in_places_without_gaps(leader):
    url = leader.database.url.render_as_string(hide_password=False)
    command = [sys.executable, str(Path(appender.__file__)), url]
    processes = [
        subprocess.Popen(
            [*command, name, str(COUNT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    taken, over = [], threading.Event()

    def follow():
        while True:
            last = over.is_set()
            found = leader.log.take(taken[-1].seq if taken else 0)
            taken.extend(found)
            if last and not found:
                return
            time.sleep(0.01)

    following = threading.Thread(target=follow)
    following.start()
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ours = {}
    asyncio.run(appender.append(leader, "c", COUNT, ours))
    answers = [ours, *(json.loads(process.communicate(timeout=60)[0]) for process in processes)]
    assert [process.returncode for process in processes] == [0, 0]
    over.set()
    following.join(30)
    kept = leader.read(
        lambda c: c.execute(select(BATCHES.c.seq, BATCHES.c.batch_id).order_by(BATCHES.c.seq)).all()
    )
    assert [seq for seq, _ in kept] == list(range(1, 5 * COUNT + 1))
    assert Counter(name for _, name in kept) == Counter(
        [f"{name}-{n}" for name in ("a", "b", "c", "same", "odd") for n in range(COUNT)]
    )
    assert [entry.seq for entry in taken] == [seq for seq, _ in kept]
    assert leader.log.unscored == 0
    for n in range(COUNT):
        assert sorted(each[f"same-{n}"] for each in answers) == ["duplicate", "duplicate", "new"]
        assert sorted(each[f"odd-{n}"] for each in answers) == ["conflict", "conflict", "new"]
    assert all(set(each.values()) == {"new", "duplicate", "conflict"} for each in answers)  # they met


def test_a_worker_joins_a_store_that_another_owns_and_nobody_else_may_own_it(leader, worker, monkeypatch):
    monkeypatch.setattr("caretrace.serve.store.engine._PATIENCE", 0.2)
    with pytest.raises(OutputExistsError, match="in use by another service"):
        Store(leader.database.url.render_as_string(hide_password=False), shared=True)
    assert worker.writer.append(batch("w", 1.0)).result(60).accepted == 3
    assert [entry.seq for entry in leader.log.take(0)] == [1]
    assert leader.writer.append(batch("w", 1.0)).result(60).duplicate


def test_a_commit_that_fails_leaves_no_gap(leader, worker):
    broken = worker.log.append

    def fails(connection, batches):
        broken(connection, batches)
        raise OSError(28, "No space left on device")

    worker.log.append = fails
    with pytest.raises(Exception, match="nothing was kept"):
        worker.writer.append(batch("w", 1.0)).result(60)
    worker.log.append = broken
    leader.writer.append(batch("l", 1.0)).result(60)
    worker.writer.append(batch("w", 1.0)).result(60)
    assert [entry.seq for entry in leader.log.take(0)] == [1, 2]


def test_who_appends_knows_how_far_scoring_is_behind_and_when_it_has_caught_up(leader, worker):
    async def send():
        intake = Intake(worker, LiveSettings(), time.time, most_unscored=5)
        for n in range(5):
            await worker.append(batch(f"b{n}", 1.0))
        assert leader.log.take(3)[-1].seq == 5  # the leader has taken them, and told nobody yet
        with pytest.raises(OverloadedError, match="scoring is behind"):
            intake.check_load()
        leader.submit(lambda c: records.write_position(c, records.SCORED_POSITION, 5)).result(60)
        until = time.monotonic() + 60
        while intake.overload() is not None:  # nothing is appended, yet it hears of it
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        assert worker.log.unscored == 0

    asyncio.run(send())
    assert leader.log.unscored == 0


def test_a_store_that_cannot_be_read_does_not_stop_the_scoring(leader, monkeypatch):
    leader.writer.append(batch("a", 1.0)).result(60)

    def connect():
        raise OperationalError("select", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(leader.database.reading, "connect", connect)
        assert leader.log.take(0) == []
        assert "cannot be read" in leader.probe()
    assert [entry.seq for entry in leader.log.take(0)] == [1]
    assert leader.probe() is None
