"""The schema, version by version; what an older service wrote is brought up to date, nothing is lost.

Every version is one function here and one row in `caretrace_schema`, both in one transaction: a migration that is
interrupted has not happened. To change the schema, append a function to `MIGRATIONS`; never edit an old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, text

from caretrace.errors import ConfigError
from caretrace.serve.store.tables import (
    ALARMS,
    BATCHES,
    BEDS,
    MACHINES,
    METADATA,
    POSITIONS,
    RISKS,
    SCHEMA,
    SCORED,
    SNAPSHOTS,
    TRANSITIONS,
)

_LOCK = 0x63617265  # of PostgreSQL: two services that start together must not both migrate


def _first(connection: Connection) -> None:
    tables = [BATCHES, SCORED, SNAPSHOTS, BEDS, ALARMS, TRANSITIONS, MACHINES, POSITIONS]
    METADATA.create_all(connection, tables)


def _risks(connection: Connection) -> None:
    METADATA.create_all(connection, [RISKS])


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first, _risks)


def migrate(connection: Connection, migrations: tuple[Callable[[Connection], None], ...] = MIGRATIONS) -> int:
    """Bring a store up to date, within the transaction of a connection.

    Args:
        connection: With a transaction begun.
        migrations: Version 1, 2, …

    Returns:
        How many versions were applied.

    Raises:
        ConfigError: The store is of a newer version than this program.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if not inspect(connection).has_table(SCHEMA.name):
        SCHEMA.create(connection)
    applied = set(connection.scalars(select(SCHEMA.c.version)))
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise ConfigError(
            f"the store has schema version {newest}, this program knows {len(migrations)}; install the newer caretrace "
            "that wrote it, or name another store with --store"
        )
    for version, change in enumerate(migrations, start=1):
        if version not in applied:
            change(connection)
            connection.execute(insert(SCHEMA).values(version=version, applied=time.time()))
    return len(migrations) - newest
