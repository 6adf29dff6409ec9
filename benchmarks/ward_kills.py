"""Kill a loaded service again and again, with kill -9, and count what was acknowledged and is gone, or is there twice.

Senders never stop; somebody acknowledges alarms all the while. Afterwards the log is read from its beginning by a ward
that was never disturbed: its alarms must be those in the store, each once, at the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cases import say
from sqlalchemy import Connection as Rows
from sqlalchemy import func, select
from ward_client import Bodies, Connection, Service, connect, listen, request, running, start_service

from caretrace.serve.live.model import live_model
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.live.ward import Ward
from caretrace.serve.security.tokens import Tokens
from caretrace.serve.store.store import Store
from caretrace.serve.store.tables import ALARMS, BATCHES, TRANSITIONS

SENDERS, BEDS = 4, 140
MOST_SECONDS = 5.0  # until ready again


class Found(NamedTuple):
    """What the kills did.

    Args:
        kills: How many.
        acknowledged: Samples.
        alarms: In the store.
        answers: Acknowledgements of alarms.
        lost: Batches, alarms and acknowledgements that are gone.
        doubled: Alarms and changes that are there twice, or that the log does not explain.
        slowest: Seconds from a start until ready.
    """

    kills: int
    acknowledged: int
    alarms: int
    answers: int
    lost: int
    doubled: int
    slowest: float


class Seen:
    """What the service has promised."""

    def __init__(self) -> None:
        self.batches: dict[str, int] = {}
        self.heard: set[str] = set()
        self.answered: set[str] = set()


def survive(run: Path, folder: Path, kills: int, seed: int, store: str | None = None) -> Found:
    """Kill, restart, and count.

    Args:
        run: A vitals run.
        folder: To work in.
        kills: How many.
        seed: Of the moments.
        store: Address of an empty store; SQLite in `folder` without.
    """
    state = folder / "killed"
    state.mkdir()
    url = store or f"sqlite:///{state / 'ward.db'}"
    token = Tokens(state / "tokens.json").add("nurse", "clinician", days=1)
    draw, seen, make, slowest = random.Random(seed), Seen(), Bodies(BEDS, 70, name=f"kill{seed}"), 0.0
    for number in range(kills):
        service = start_service(run, state, url)
        slowest = max(slowest, service.seconds)
        asyncio.run(_until_killed(service, token, make, seen, draw.uniform(0.2, 2.5)))
        say(
            f"kill {number + 1}: {len(seen.batches)} batches, {len(seen.heard)} alarms, {len(seen.answered)} answers"
        )
    with running(start_service(run, state, url)) as last:
        slowest = max(slowest, last.seconds)
        asyncio.run(asyncio.sleep(2.0))  # what was on the disk and not scored yet
    kept = Store(url)
    try:
        return kept.read(lambda rows: _counted(rows, kept, run, seen, kills, slowest))
    finally:
        kept.close()


async def _until_killed(
    service: Service, token: str, make: Callable[[], bytes], seen: Seen, seconds: float
) -> None:
    connections = await connect(service.port, SENDERS + 1)
    tasks = [asyncio.ensure_future(_send(each, token, make, seen)) for each in connections[:-1]]
    tasks += [
        asyncio.ensure_future(_answer(connections[-1], token, seen)),
        asyncio.ensure_future(listen(service.port, token, lambda _, alarm: seen.heard.add(str(alarm["id"])))),
    ]
    await asyncio.sleep(seconds)
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    await asyncio.sleep(0.05)  # answers that were on their way still count
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, ValueError):
            await task


async def _send(connection: Connection, token: str, make: Callable[[], bytes], seen: Seen) -> None:
    while connection.transport is not None:
        answer = await connection.ask(request(make(), token))
        if answer.status == 200:
            taken = json.loads(answer.body)
            seen.batches[taken["batch_id"]] = taken["accepted"]
        elif answer.status == 503:
            await asyncio.sleep(0.02)
        elif answer.status:
            raise SystemExit(f"a batch was answered {answer.status}: {answer.body.decode()}")
        await asyncio.sleep(0.005)


async def _answer(connection: Connection, token: str, seen: Seen) -> None:
    while connection.transport is not None:
        listed = await connection.ask(request(b"", token, "/alarms?state=active", "GET"))
        if listed.status == 200:
            for alarm in json.loads(listed.body)["alarms"][:5]:
                path = f"/alarms/{alarm['id']}/acknowledge"
                if (await connection.ask(request(b'{"why":"seen"}', token, path))).status == 200:
                    seen.answered.add(alarm["id"])
        await asyncio.sleep(0.05)


def _counted(rows: Rows, kept: Store, run: Path, seen: Seen, kills: int, slowest: float) -> Found:
    stored = {
        row.batch_id: row.samples for row in rows.execute(select(BATCHES.c.batch_id, BATCHES.c.samples))
    }
    alarms = {row.id: row for row in rows.execute(select(ALARMS))}
    acted = select(TRANSITIONS.c.alarm_id).where(TRANSITIONS.c.state == "acknowledged")
    lost = [name for name, count in seen.batches.items() if stored.get(name) != count]
    lost += sorted(seen.heard - alarms.keys())
    lost += sorted(seen.answered - set(rows.scalars(acted)))
    expected, found = _undisturbed(kept, run), _raised(alarms)
    lost += [str(each) for each in expected - found]
    doubled = [str(each) for each in found - expected]
    for table, keys in (
        (TRANSITIONS, ("alarm_id", "time", "state")),
        (ALARMS, ("subject_id", "reason", "raised")),
    ):
        columns = [table.c[key] for key in keys]
        twice = select(*columns).where(table.c.state != "snoozed").group_by(*columns).having(func.count() > 1)
        doubled += [str(row) for row in rows.execute(twice)]
    for name in [*lost[:3], *doubled[:3]]:
        say(f"lost or doubled: {name}")
    total = sum(seen.batches.values())
    return Found(kills, total, len(alarms), len(seen.answered), len(lost), len(doubled), slowest)


def _raised(alarms: dict[str, Any]) -> set[tuple[int, str, float]]:
    return {
        (row.subject_id, row.reason, row.raised) for row in alarms.values() if row.kind == "physiological"
    }


def _undisturbed(kept: Store, run: Path) -> set[tuple[int, str, float]]:
    """What a ward raises that reads the whole log at once."""
    ward = Ward(live_model(run.name, run / "bundle"), LiveSettings())
    for entries in kept.log.read(0, kept.log.last):
        ward.take(entries)
    raised = {alarm.id: alarm for alarm in ward.lifecycle.take().alarms if alarm.kind == "physiological"}
    return {(alarm.subject_id, alarm.reason, alarm.raised) for alarm in raised.values()}
