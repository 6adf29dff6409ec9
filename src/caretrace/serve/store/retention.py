"""What is kept for how long. Nothing goes that the next restart needs."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from caretrace.serve.store.risks import forget_risks
from caretrace.serve.store.tables import ALARMS, BATCHES, SCORED, SNAPSHOTS, TRANSITIONS

_DAY = 86_400.0
KEPT_SNAPSHOTS = 2


class Removed(NamedTuple):
    """Rows that went.

    Args:
        batches: Of the log; a batch that is sent again after its row went is taken for a new one.
        scored: Of scored steps.
        alarms: With their histories.
    """

    batches: int
    scored: int
    alarms: int


def retain(
    connection: Connection,
    now: float,
    samples_days: float | None,
    scores_days: float | None,
    alarms_days: float | None,
) -> Removed:
    """Remove what is older than was asked for.

    Args:
        connection: With a transaction begun.
        now: Epoch seconds.
        samples_days: How long batches are kept; None for ever.
        scores_days: How long scored steps, and risks, are kept.
        alarms_days: How long alarms that are over are kept.
    """
    needed = connection.scalar(select(func.min(SNAPSHOTS.c.seq)))
    batches = scored = alarms = 0
    if samples_days is not None and needed is not None:
        old = BATCHES.c.received < now - samples_days * _DAY
        batches = connection.execute(delete(BATCHES).where(old, BATCHES.c.seq < needed)).rowcount
    if scores_days is not None:
        scored = connection.execute(
            delete(SCORED).where(SCORED.c.last_time < now - scores_days * _DAY)
        ).rowcount
        forget_risks(connection, now - scores_days * _DAY)
    if alarms_days is not None:
        over = (ALARMS.c.state == "cleared") & (ALARMS.c.changed < now - alarms_days * _DAY)
        connection.execute(
            delete(TRANSITIONS).where(TRANSITIONS.c.alarm_id.in_(select(ALARMS.c.id).where(over)))
        )
        alarms = connection.execute(delete(ALARMS).where(over)).rowcount
    return Removed(batches, scored, alarms)


def forget_snapshots(connection: Connection) -> None:
    """Keep the newest snapshots only."""
    newest = select(SNAPSHOTS.c.seq).order_by(SNAPSHOTS.c.seq.desc()).limit(KEPT_SNAPSHOTS)
    kept = set(connection.scalars(newest))
    connection.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.seq.not_in(kept)))
