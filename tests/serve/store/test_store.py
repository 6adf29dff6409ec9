"""The store: each batch once, in one order, committed before it is acknowledged; migrations; one writer."""

import asyncio
import threading

import numpy as np
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, inspect, select

from caretrace.errors import ConfigError, InputError, OutputExistsError, ResourceError
from caretrace.serve.store import records
from caretrace.serve.store.columns import Samples, pack, unpack
from caretrace.serve.store.log import BatchConflictError, NewBatch
from caretrace.serve.store.migrations import MIGRATIONS, migrate
from caretrace.serve.store.records import Alarm, Change, MachineRow
from caretrace.serve.store.retention import retain
from caretrace.serve.store.store import Store, read_scored, read_snapshot, write_scored, write_snapshot
from caretrace.serve.store.tables import BATCHES, METADATA, SNAPSHOTS, TRANSITIONS


def samples(n=3, first=1_700_000_000.0):
    return Samples(
        np.arange(n, dtype=np.int64),
        first + np.arange(n),
        np.zeros(n, np.int16),
        np.linspace(70, 80, n).astype(np.float32),
    )


def new(name, n=3, received=1_700_000_000.0):
    return NewBatch(name, received, samples(n, received))


def an_alarm(name, state, when):
    return Alarm(
        id=name,
        subject_id=7,
        reason="sudden",
        kind="physiological",
        state=state,
        raised=when,
        changed=when,
        score=1.5,
        threshold=1.0,
        words="words",
        by=None,
        why=None,
        snoozed_until=None,
        bundle="b",
        policy="{}",
        since=None,
    )


@pytest.fixture
def store(store_url):
    opened = Store(store_url)
    yield opened
    opened.close()


def rows(store):
    return store.read(
        lambda c: c.execute(select(BATCHES.c.seq, BATCHES.c.batch_id).order_by(BATCHES.c.seq)).all()
    )


def test_a_batch_is_kept_once_and_its_repetition_gets_the_same_answer(store):
    async def send():
        first = await store.append(new("a"))
        again = await store.append(new("a"))
        both = await asyncio.gather(*(store.append(new("b", 2)) for _ in range(5)))
        return first, again, both

    first, again, both = asyncio.run(send())
    assert (first.accepted, first.duplicate) == (3, False)
    assert (again.accepted, again.duplicate) == (3, True)
    assert sorted(each.duplicate for each in both) == [False, True, True, True, True]
    assert rows(store) == [(1, "a"), (2, "b")]
    assert [entry.seq for entry in store.log.take()] == [1, 2]


def test_an_id_that_comes_with_other_samples_is_refused_and_the_others_are_kept(store):
    async def send():
        await store.append(new("a"))
        return await asyncio.gather(store.append(new("a", 4)), store.append(new("c")), return_exceptions=True)

    refused, kept = asyncio.run(send())
    assert isinstance(refused, BatchConflictError)
    assert "came before with other samples" in str(refused)
    assert not kept.duplicate


def test_batches_of_many_senders_are_committed_together_and_in_order(store):
    async def send():
        await asyncio.gather(*(store.append(new(f"b{n}")) for n in range(300)))

    asyncio.run(send())
    assert [seq for seq, _ in rows(store)] == list(range(1, 301))
    taken = store.log.take()
    assert [entry.seq for entry in taken] == list(range(1, 301))
    read = [entry for part in store.log.read(100, 250) for entry in part]
    assert [entry.seq for entry in read] == list(range(101, 251))
    np.testing.assert_array_equal(read[0].samples.value, taken[100].samples.value)


def test_a_job_that_fails_takes_nobody_with_it(store):
    started, go = threading.Event(), threading.Event()

    def slow(_):
        started.set()
        go.wait(5)

    def wrong(connection):
        records.write_position(connection, "wrong", 1)
        raise ValueError("no")

    first = store.submit(slow)
    started.wait(5)
    failing, good = store.submit(wrong), store.submit(lambda c: records.write_position(c, "good", 7))
    kept = store.writer.append(new("a"))
    go.set()
    first.result(5)
    with pytest.raises(ValueError, match="no"):
        failing.result(5)
    good.result(5)
    assert kept.result(5).accepted == 3
    assert store.read(lambda c: records.read_position(c, "good")) == 7
    assert store.read(lambda c: records.read_position(c, "wrong")) == 0


def test_what_cannot_be_committed_is_not_acknowledged_and_the_next_is(store):
    broken = store.log.append
    store.log.append = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with pytest.raises(ResourceError, match=r"No space left.*nothing was kept"):
        store.writer.append(new("a")).result(5)
    assert "No space left" in store.probe()
    store.log.append = broken
    assert not store.writer.append(new("a")).result(5).duplicate
    assert store.probe() is None
    assert rows(store) == [(1, "a")]


def test_a_store_is_of_one_service_at_a_time_and_is_there_after_it(store_url, monkeypatch):
    monkeypatch.setattr("caretrace.serve.store.engine._PATIENCE", 0.3)
    first = Store(store_url)
    first.writer.append(new("a")).result(5)
    with pytest.raises(OutputExistsError, match="in use by another service"):
        Store(store_url)
    first.close()
    again = Store(store_url)
    assert again.log.last == 1
    assert again.writer.append(new("a")).result(5).duplicate
    again.close()


def test_alarms_machines_and_positions_come_back(store):
    alarm = an_alarm("a1", "active", 10.0)
    row = MachineRow(7, "sudden", "a1", {"state": "active", "number": 0, "raised": 10.0})

    def write(connection):
        records.write_alarms(connection, [alarm], [Change("a1", 10.0, "active", 1.5)])
        records.write_machines(connection, [row, MachineRow(8, "stale", None, None)])
        return records.reserve_events(connection, 100), records.reserve_events(connection, 100)

    assert store.submit(write).result(5) == (1, 101)
    store.submit(
        lambda c: records.write_alarms(c, [alarm], [Change("a1", 12.0, "acknowledged", by="n", why="seen")])
    ).result(5)
    assert store.read(lambda c: records.read_alarms(c, subject_id=7)) == [alarm]
    assert store.read(lambda c: records.read_alarms(c, states=["cleared"])) == []
    assert [c.state for c in store.read(lambda c: records.read_changes(c, "a1"))] == [
        "active",
        "acknowledged",
    ]
    assert store.read(records.read_machines) == [row]
    store.submit(lambda c: records.write_machines(c, [MachineRow(7, "sudden", None, None)])).result(5)
    assert store.read(records.read_machines) == []


def test_snapshots_and_scored_steps_come_back_and_only_two_snapshots_are_kept(store):
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4))}

    def write(connection):
        for seq in (3, 5, 9):
            write_snapshot(connection, seq, "m", 1.0, arrays)
        write_scored(connection, 9, (100.0, 200.0), pack({"step": np.arange(3)}))

    store.submit(write).result(5)
    seq, found = store.read(lambda c: read_snapshot(c, "m", 100))
    assert seq == 9
    np.testing.assert_array_equal(found["x"], arrays["x"])
    assert store.read(lambda c: read_snapshot(c, "m", 8))[0] == 5
    assert store.read(lambda c: read_snapshot(c, "other", 100)) is None
    assert store.read(lambda c: c.scalar(select(func.count()).select_from(SNAPSHOTS))) == 2
    assert len(store.read(lambda c: read_scored(c, 150.0, 300.0))) == 1
    assert store.read(lambda c: read_scored(c, 201.0, 300.0)) == []


def test_what_is_old_goes_but_nothing_that_a_restart_needs(store):
    for n in range(4):
        store.writer.append(new(f"b{n}", received=1000.0 + n)).result(5)
    old, active = an_alarm("a1", "cleared", 1.0), an_alarm("a2", "active", 1.0)

    def write(connection):
        records.write_alarms(
            connection, [old, active], [Change("a1", 1.0, "cleared"), Change("a2", 1.0, "active")]
        )
        return retain(connection, 1e9, 1, 1, 1)

    assert tuple(store.submit(write).result(5)) == (0, 0, 1)  # without a snapshot all samples are needed
    store.submit(lambda c: write_snapshot(c, 3, "m", 1.0, {"x": np.zeros(1)})).result(5)
    assert store.submit(lambda c: retain(c, 1e9, 1, 1, 1)).result(5).batches == 2
    assert [seq for seq, _ in rows(store)] == [3, 4]
    assert store.submit(lambda c: retain(c, 1e9, None, None, None)).result(5) == (0, 0, 0)
    assert [alarm.id for alarm in store.read(records.read_alarms)] == ["a2"]
    assert store.read(lambda c: c.scalar(select(func.count()).select_from(TRANSITIONS))) == 1


def test_migrations_are_applied_once_and_a_newer_store_is_refused(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'm.db'}")
    extra = Table("extra", MetaData(), Column("x", Integer))
    with engine.begin() as connection:
        assert migrate(connection) == len(MIGRATIONS)
        assert migrate(connection) == 0
        assert migrate(connection, (*MIGRATIONS, extra.create)) == 1
        assert inspect(connection).has_table("extra")
    with (
        engine.begin() as connection,
        pytest.raises(ConfigError, match="schema version 3, this program knows 2"),
    ):
        migrate(connection)
    assert {table.name for table in METADATA.sorted_tables} <= set(inspect(engine).get_table_names())
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("mysql://x/y", ConfigError, "give sqlite"),
        ("nonsense", ConfigError, "not an address"),
        ("sqlite:///:memory:", ConfigError, "would lose"),
        ("sqlite:////proc/nothing/ward.db", ResourceError, "choose a folder"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, error, said):
    with pytest.raises(error, match=said):
        Store(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ward.db"
    path.write_text("not a database, but somebody's notes " * 200)
    with pytest.raises(ResourceError, match="file is not a database"):
        Store(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


def test_sqlite_syncs_every_commit(tmp_path):
    opened = Store(f"sqlite:///{tmp_path / 'w.db'}")
    with opened.database.writing.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    opened.close()


def test_damaged_columns_are_told():
    encoded = samples().encode()
    with pytest.raises(InputError, match="damaged"):
        Samples.decode(encoded[:-1])
    with pytest.raises(InputError, match="damaged"):
        unpack(b"\x80\x04canary")
    decoded = Samples.decode(encoded)
    for one, other in zip(decoded, samples(), strict=True):
        np.testing.assert_array_equal(one, other)
