"""Alarms and what happened to them, machines, beds and positions: rows in and out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from caretrace.serve.store.tables import ALARMS, BEDS, MACHINES, POSITIONS, TRANSITIONS

SCORED_POSITION, EVENTS_POSITION = "scored", "events"


@dataclasses.dataclass(frozen=True)
class Alarm:
    """An alarm as it is now. Times in epoch seconds.

    Args:
        id: The same whenever it is computed again from the same samples.
        subject_id: Whose.
        reason: What for.
        kind: `physiological` or `technical`.
        state: `active`, `acknowledged` or `cleared`.
        raised: When it was first active.
        changed: When its state last changed.
        score: When it was raised.
        threshold: From which score it is an alarm.
        words: For people.
        by: Who acted last.
        why: Their reason.
        snoozed_until: Silent until then.
        bundle: Which model said so.
        policy: The machine's settings, as JSON.
        since: When the recording began that the score rests on.
    """

    id: str
    subject_id: int
    reason: str
    kind: str
    state: str
    raised: float
    changed: float
    score: float | None
    threshold: float | None
    words: str
    by: str | None
    why: str | None
    snoozed_until: float | None
    bundle: str
    policy: str
    since: float | None


@dataclasses.dataclass(frozen=True)
class Change:
    """What happened to an alarm.

    Args:
        alarm_id: Which.
        time: When, epoch seconds.
        state: What it is from then on, or `snoozed`.
        score: At that moment; None where a person acted.
        by: Who acted.
        why: Their reason.
    """

    alarm_id: str
    time: float
    state: str
    score: float | None = None
    by: str | None = None
    why: str | None = None


@dataclasses.dataclass(frozen=True)
class MachineRow:
    """A machine that is not at rest; without memory it is, and its row goes.

    Args:
        subject_id: Whose.
        reason: What for.
        alarm_id: The alarm it is about.
        memory: What it remembers.
    """

    subject_id: int
    reason: str
    alarm_id: str | None
    memory: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Bed:
    """Who lies where.

    Args:
        subject_id: Who.
        bed: Name of the bed; None where nobody said.
        ward: Name of the ward.
        placed: Since when, epoch seconds.
        by: Who said so.
    """

    subject_id: int
    bed: str | None
    ward: str
    placed: float
    by: str


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or put them in the place of those with the same primary key."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key.columns]
    others = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), list(rows))


def write_alarms(connection: Connection, alarms: Sequence[Alarm], changes: Sequence[Change]) -> None:
    """Alarms as they are now, and what happened to them."""
    upsert(connection, ALARMS, [dataclasses.asdict(alarm) for alarm in alarms])
    if changes:
        connection.execute(insert(TRANSITIONS), [dataclasses.asdict(change) for change in changes])


def write_machines(connection: Connection, machines: Sequence[MachineRow]) -> None:
    """Machines that moved."""
    kept = [
        {**dataclasses.asdict(each), "memory": json.dumps(dict(each.memory))}
        for each in machines
        if each.memory is not None
    ]
    upsert(connection, MACHINES, kept)
    for each in machines:
        if each.memory is None:
            connection.execute(
                delete(MACHINES).where(
                    MACHINES.c.subject_id == each.subject_id, MACHINES.c.reason == each.reason
                )
            )


def read_machines(connection: Connection) -> list[MachineRow]:
    """Every machine that was not at rest."""
    return [
        MachineRow(int(row.subject_id), row.reason, row.alarm_id, json.loads(row.memory))
        for row in connection.execute(select(MACHINES))
    ]


def read_alarms(
    connection: Connection,
    *,
    ids: Collection[str] | None = None,
    subject_id: int | None = None,
    states: Collection[str] | None = None,
    since: float | None = None,
    limit: int = 10_000,
) -> list[Alarm]:
    """Alarms, the newest first.

    Args:
        connection: To read with.
        ids: Only these.
        subject_id: Only this subject's.
        states: Only in these states.
        since: Only those that changed at this time or later, epoch seconds.
        limit: At most so many.
    """
    asked = select(ALARMS).order_by(ALARMS.c.raised.desc(), ALARMS.c.id).limit(limit)
    if ids is not None:
        asked = asked.where(ALARMS.c.id.in_(list(ids)))
    if subject_id is not None:
        asked = asked.where(ALARMS.c.subject_id == subject_id)
    if states is not None:
        asked = asked.where(ALARMS.c.state.in_(list(states)))
    if since is not None:
        asked = asked.where(ALARMS.c.changed >= since)
    return [Alarm(**row) for row in connection.execute(asked).mappings()]


def read_changes(connection: Connection, alarm_id: str) -> list[Change]:
    """What happened to an alarm, in order."""
    asked = select(TRANSITIONS).where(TRANSITIONS.c.alarm_id == alarm_id).order_by(TRANSITIONS.c.n)
    return [
        Change(row.alarm_id, row.time, row.state, row.score, row.by, row.why)
        for row in connection.execute(asked)
    ]


def read_beds(connection: Connection) -> list[Bed]:
    """Who lies where."""
    return [Bed(**row) for row in connection.execute(select(BEDS)).mappings()]


def write_beds(connection: Connection, beds: Sequence[Bed]) -> None:
    """Say who lies where from now on."""
    upsert(connection, BEDS, [dataclasses.asdict(bed) for bed in beds])


def read_position(connection: Connection, name: str) -> int:
    """A named number; 0 where nobody has written it."""
    return int(connection.scalar(select(POSITIONS.c.value).where(POSITIONS.c.name == name)) or 0)


def write_position(connection: Connection, name: str, value: int) -> None:
    """Remember a named number."""
    upsert(connection, POSITIONS, [{"name": name, "value": value}])


def reserve_events(connection: Connection, count: int) -> int:
    """The first of so many event ids that nobody else will use."""
    first = max(1, read_position(connection, EVENTS_POSITION))
    write_position(connection, EVENTS_POSITION, first + count)
    return first
