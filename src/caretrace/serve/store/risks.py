"""Risks that somebody asked to keep: of each subject the newest of each application."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from caretrace.serve.store.tables import RISKS


@dataclasses.dataclass(frozen=True)
class Risk:
    """A risk that was predicted once. Times in epoch seconds.

    Args:
        subject_id: Whose.
        app: Which application predicted it.
        time: What was measured later was not read.
        risk: Calibrated probability.
        low: The ensemble's mean logit less two standard deviations of its members' logits, calibrated: how far the
            members disagree, not how often the outcome falls within. None of a single member.
        high: The same, two above.
        bundle: Which run.
        kept: When it was stored.
        by: Who asked for it.
        note: What else must be said of it; None where nothing.
    """

    subject_id: int
    app: str
    time: float
    risk: float
    low: float | None
    high: float | None
    bundle: str
    kept: float
    by: str
    note: str | None = None


def write_risks(connection: Connection, risks: Sequence[Risk]) -> None:
    """Keep risks; one for an earlier moment than that which is there changes nothing."""
    if not risks:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(RISKS)
    keys = [column.name for column in RISKS.primary_key.columns]
    others = {
        column.name: statement.excluded[column.name] for column in RISKS.columns if column.name not in keys
    }
    newer = statement.excluded["time"] >= RISKS.c.time
    changed = statement.on_conflict_do_update(index_elements=keys, set_=others, where=newer)
    connection.execute(changed, [dataclasses.asdict(each) for each in risks])


def read_risks(connection: Connection, subject_id: int | None = None) -> dict[int, Risk]:
    """The newest risk of everybody, or of one; of several applications the one for the latest moment."""
    asked = select(RISKS).order_by(RISKS.c.time, RISKS.c.app)
    if subject_id is not None:
        asked = asked.where(RISKS.c.subject_id == subject_id)
    return {int(row["subject_id"]): Risk(**row) for row in connection.execute(asked).mappings()}


def forget_risks(connection: Connection, before: float) -> int:
    """Remove what was stored before a time, epoch seconds; how many."""
    return connection.execute(delete(RISKS).where(RISKS.c.kept < before)).rowcount
