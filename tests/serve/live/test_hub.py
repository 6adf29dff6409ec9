"""The hub: what is acknowledged is scored once, alarms are stored before they are told, and a restart loses nothing."""

import asyncio
import dataclasses
import json
import time

import numpy as np
import pytest

from caretrace.errors import InputError, ResourceError
from caretrace.serve.live.hub import Hub
from caretrace.serve.live.intake import OverloadedError
from caretrace.serve.live.samples import BadSampleError
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.store import records
from caretrace.serve.store.store import Store

from .small import START, STEP, batch, model, recording

QUICK = LiveSettings(tick_seconds=0.01, snapshot_seconds=0.2, commit_seconds=0.05, future_seconds=1e9)
NOW = START + 1300


def hub_on(url, raise_at=None, settings=QUICK, now=NOW):
    return Hub(Store(url), {}, live=settings, model=model(raise_at), clock=lambda: now)


async def until(test, seconds=60.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


async def started(url, **more):
    hub = hub_on(url, **more)
    await hub.start()
    await until(lambda: not hub.ready())
    return hub


async def send(hub, samples, size, name="b"):
    for number, low in enumerate(range(0, len(samples.time), size)):
        await hub.accept(
            batch(samples.take(np.arange(low, min(low + size, len(samples.time)))), f"{name}{number}")
        )


async def scored_all(hub):
    await until(lambda: hub._ward.seq == hub.store.log.last and hub._scoring._stored == hub._ward.seq)


def physiological(found):
    return {a["id"]: a for a in found if a["kind"] == "physiological"}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ward.db'}"


def test_alarms_are_heard_answered_and_come_back_after_a_restart(url):
    limits = {
        "sudden": -9.0,
        "lasting": 0.122,
    }  # the first is an alarm from the beginning, the second comes and goes

    async def first():
        hub = await started(url, raise_at=limits)
        heard = []

        async def listen():
            async for chunk in hub.events(None):
                heard.append(chunk)  # noqa: PERF401 - what came before the cancel counts

        reading = asyncio.create_task(listen())
        await hub.place(100, "A-01", "A", "admin")
        await send(hub, recording(), 40)
        await scored_all(hub)
        found = physiological(await hub.alarms())
        active = [each for each in found.values() if each["state"] == "active"]
        answered = await hub.acknowledge(active[0]["id"], "nurse", "seen")
        slept = await hub.snooze(active[1]["id"], 15, "nurse", "back soon")
        with pytest.raises(InputError, match="nothing to acknowledge"):
            await hub.acknowledge(active[0]["id"], "nurse", "again")
        history = await hub.history(active[0]["id"])
        await asyncio.sleep(0.05)
        reading.cancel()
        found = await hub.alarms()
        await hub.stop()
        return found, answered, slept, history, b"".join(heard)

    found, answered, slept, history, heard = asyncio.run(first())
    assert len(physiological(found)) > 3
    assert (answered["state"], answered["by"], answered["why"]) == ("acknowledged", "nurse", "seen")
    assert slept["snoozed_until"] is not None
    assert [each["state"] for each in history][-1] == "acknowledged"
    assert history[-1]["who"] == "nurse"
    told = _events(heard)
    assert [number for number, _, _ in told] == sorted({number for number, _, _ in told})
    assert {kind for _, kind, _ in told} >= {"alarm", "scores"}
    assert {a["id"] for a in found} <= {payload["id"] for _, kind, payload in told if kind == "alarm"}

    async def second():
        hub = await started(url, raise_at=limits)
        again = await hub.alarms()
        in_memory = dict(hub._ward.lifecycle.alarms)
        ward, bed = hub.ward("A"), await hub.bed(100)
        missed = []

        async def listen():
            async for chunk in hub.events(told[-1][0]):
                missed.append(chunk)  # noqa: PERF401 - what came before the cancel counts

        reading = asyncio.create_task(listen())
        await asyncio.sleep(0.1)
        reading.cancel()
        await hub.stop()
        return again, in_memory, ward, bed, b"".join(missed)

    again, in_memory, ward, bed, missed = asyncio.run(second())
    assert again == found
    open_ids = {a["id"] for a in found if a["state"] != "cleared"}
    open_again = {alarm.id: alarm.reason for alarm in in_memory.values() if alarm.state != "cleared"}
    # The clock may have looked already, and found that nobody sends.
    assert {name for name, reason in open_again.items() if name in open_ids or reason != "stale"} == open_ids
    assert [each["bed"] for each in ward["beds"]] == ["A-01"]
    assert len(bed["times"]) == len(bed["values"]["hr"]) == len(bed["scores"]["sudden"]) > 50
    assert {payload["id"] for _, kind, payload in _events(missed) if kind == "alarm"} >= open_ids


def _events(data):
    found = []
    for frame in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
        if "id" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("at", [3, 11, 17])
def test_a_ward_that_dies_anywhere_ends_with_the_same_alarms(tmp_path, at):
    """Dies: nothing of it is finished, what it did not commit is lost."""
    samples = recording()

    async def undisturbed():
        hub = await started(f"sqlite:///{tmp_path / 'whole.db'}")
        await send(hub, samples, 60)
        await scored_all(hub)
        found = await hub.alarms()
        await hub.stop()
        return found

    async def disturbed():
        url, low = f"sqlite:///{tmp_path / 'killed.db'}", 0
        for high in (at * 60, (at + 7) * 60, len(samples.time)):
            hub = await started(url)
            await send(hub, samples.take(np.arange(low, min(high, len(samples.time)))), 60, f"part{low}-")
            low = high
            if high < len(samples.time):
                hub._scoring._commit = lambda snapshot: None  # dead: it can store nothing any more
                await asyncio.sleep(0.05)
            else:
                await scored_all(hub)
                found = await hub.alarms()
                doubled = hub.store.read(lambda c: _transitions(c, records))
            await hub.stop()
        return found, doubled

    expected = physiological(asyncio.run(undisturbed()))
    found, doubled = asyncio.run(disturbed())
    assert physiological(found) == expected
    assert len(expected) > 2
    assert doubled == []


def _transitions(connection, _):
    """Changes that stand twice in a history."""
    from sqlalchemy import func, select

    from caretrace.serve.store.tables import TRANSITIONS as T

    same = (T.c.alarm_id, T.c.time, T.c.state)
    return connection.execute(select(*same).group_by(*same).having(func.count() > 1)).all()


def test_an_alarm_is_computed_again_from_its_inputs(url):
    async def run():
        hub = await started(url)
        await send(hub, recording(), 50)
        await scored_all(hub)
        found = [await hub.reproduction(await hub.alarm(name)) for name in physiological(await hub.alarms())]
        await hub.stop()
        return found

    found = asyncio.run(run())
    # A machine that was not at rest when the recording began may raise at another moment; the others all come back.
    again = [each for each in found if each["reproduction"]["reproduced"]]
    assert len(again) >= 0.7 * len(found) > 2
    for each in again:
        assert each["reproduction"]["score"] == pytest.approx(each["score"], abs=2e-3)
        assert each["reproduction"]["samples"][-1].keys() == {"time", "hr", "spo2", "resp"}
        assert each["reproduction"]["policy"]["raise_at"] == pytest.approx(each["threshold"])


def test_silence_is_told_the_last_step_closed_and_who_is_gone_leaves(url):
    samples = recording(subjects=2, seconds=200)
    clock = [samples.time.max() + 1]

    async def run():
        live = dataclasses.replace(QUICK, grace_seconds=0.5)
        hub = Hub(Store(url), {}, live=live, model=model({"sudden": 9e9}), clock=lambda: clock[0])
        await hub.start()
        await until(lambda: not hub.ready())
        await send(hub, samples, 5000)
        await scored_all(hub)
        before = hub.ward()["beds"][0]["state"], len((await hub.bed(100))["times"])
        clock[0] += 60
        await until(lambda: hub.ward()["beds"][0]["state"] == "stale")
        await until(lambda: len(hub._ward.recent.course(hub._ward.slot_of[100], 0).step) == before[1] + 1)
        stale = [a for a in await hub.alarms() if a["reason"] == "stale"]
        clock[0] += 7 * 3600
        await until(lambda: not hub._ward.slot_of)
        await asyncio.sleep(0.3)
        after = [a for a in await hub.alarms() if a["reason"] == "stale"]
        await hub.stop()
        return before[0], stale, after

    before, stale, after = asyncio.run(run())
    assert before == "quiet"
    assert {a["subject_id"] for a in stale} == {100, 101}
    assert {a["state"] for a in stale} == {"active"}
    assert {a["state"] for a in after} == {"cleared"}


def test_a_probe_that_is_off_is_a_technical_alarm_and_clears(url):
    samples = recording(subjects=1, seconds=290, every=1.0)
    off = (samples.channel == 1) & (samples.time > START + 100) & (samples.time < START + 200)

    async def run():
        hub = await started(url, raise_at={"sudden": 9e9}, now=START + 291)
        await send(hub, samples.take(~off), 50)
        await scored_all(hub)
        # The clock stands at the end of the recording, so that its beginning may look stale.
        found = [alarm for alarm in await hub.alarms() if alarm["reason"] != "stale"]
        history = await hub.history(found[0]["id"])
        await hub.stop()
        return found, history

    [alarm], history = asyncio.run(run())
    assert (alarm["reason"], alarm["kind"], alarm["state"]) == ("probe_off", "technical", "cleared")
    assert "oxygen saturation" in alarm["words"]
    assert [each["state"] for each in history] == ["active", "cleared"]


def test_too_much_is_refused_and_the_future_too(url):
    async def run():
        settings = LiveSettings(most_waiting=2, tick_seconds=0.01)
        hub = await started(url, settings=settings)
        samples = recording(subjects=1, seconds=100)
        late = hub.store.submit(lambda _: time.sleep(0.3))
        answers = await asyncio.gather(
            *(hub.accept(batch(samples, f"b{n}")) for n in range(6)), return_exceptions=True
        )
        late.result(5)
        ahead = samples._replace(time=np.where(np.arange(len(samples.time)) == 3, NOW + 301, samples.time))
        with pytest.raises(BadSampleError, match=r"samples\[3\]\.time: got .*ahead of the ward's clock"):
            await hub.accept(batch(ahead, "future"))
        await hub.stop()
        return answers

    answers = asyncio.run(run())
    refused = [each for each in answers if isinstance(each, OverloadedError)]
    assert 2 <= len(refused) < 6
    assert not [each for each in answers if isinstance(each, Exception) and each not in refused]


def test_alarms_go_on_when_the_store_cannot_be_written_and_are_stored_later(url):
    async def run():
        hub = await started(url, raise_at={"sudden": -9.0})  # an alarm from the beginning, for good
        samples = recording()
        await send(hub, samples, 60)
        broken = hub._scoring._store.submit
        hub._scoring._store.submit = lambda work: broken(
            lambda _: (_ for _ in ()).throw(ResourceError("full"))
        )
        heard = []

        async def listen():
            async for chunk in hub.events(0):
                heard.append(chunk)  # noqa: PERF401 - what came before the cancel counts

        reading = asyncio.create_task(listen())
        await until(lambda: hub._ward.seq == hub.store.log.last and b"alarm" in b"".join(heard))
        name = next(
            p["id"] for _, kind, p in _events(b"".join(heard)) if kind == "alarm" and p["reason"] == "sudden"
        )
        with pytest.raises(ResourceError):
            await hub.acknowledge(name, "nurse", "seen")
        hub._scoring._store.submit = broken
        await scored_all(hub)
        reading.cancel()
        stored = {a["id"] for a in await hub.alarms()}
        told = {p["id"] for _, kind, p in _events(b"".join(heard)) if kind == "alarm"}
        await hub.stop()
        return stored, told

    stored, told = asyncio.run(run())
    assert told <= stored


def test_scoring_that_breaks_down_is_built_again(url):
    async def run():
        hub = await started(url)
        samples = recording()
        await send(hub, samples.take(np.arange(300)), 60)
        await scored_all(hub)

        def broken(*_, **__):
            raise RuntimeError("a fault")

        hub._ward.take = broken
        await send(hub, samples.take(np.arange(300, len(samples.time))), 60, "more")
        await until(lambda: any("broke down" in why for why in hub.ready()))
        await until(lambda: not hub.ready())
        await scored_all(hub)
        found = await hub.alarms()
        await hub.stop()
        return found

    assert len(physiological(asyncio.run(run()))) > 2


def test_steps_are_those_of_the_model(url):
    async def run():
        hub = await started(url)
        await send(hub, recording(subjects=1, seconds=100), 50)
        await scored_all(hub)
        found = await hub.bed(100, hours=2)
        long = await hub.bed(100, hours=48)
        with pytest.raises(InputError, match="nobody has heard"):
            await hub.bed(5)
        await hub.stop()
        return found, long

    found, long = asyncio.run(run())
    assert set(np.diff(found["times"])) == {STEP}
    np.testing.assert_array_equal(found["times"], long["times"])
    np.testing.assert_array_equal(found["values"]["hr"], long["values"]["hr"])
