"""The quality report: what was read, loaded, quarantined and flagged, and proof that it adds up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from caretrace.errors import DatasetError

# Flags that every table has.
NO_EVENT = "no_event"
NO_EVENT_MEANING = "loaded, but no event of the mapping applied and no other flag of this table explains it"
DICTIONARY = "dictionary"
DICTIONARY_MEANING = "looked up by other tables; has no events of its own"
NO_TIME = "no_time"
NO_TIME_MEANING = "an event of the mapping applied but had no time, so it was not written"
ENDS_BEFORE_START = "ends_before_start"
ENDS_BEFORE_START_MEANING = "ends before it starts; kept as written"
OVERLAPPING = "overlapping"
OVERLAPPING_MEANING = "starts before an earlier one of the same subject has ended; both kept as written"


@dataclasses.dataclass
class FlagCount:
    """How often one flag was raised.

    Args:
        meaning: In words.
        rows: Rows that carry it.
        rows_without_event: Those among them that became no event.
        by: Count per value of the flag's `by`, if it has one.
    """

    meaning: str
    rows: int
    rows_without_event: int
    by: dict[str, int] | None = None


@dataclasses.dataclass
class TableQuality:
    """What happened to the rows of one table or view.

    Args:
        files: Files read, below the raw folder; empty for a view.
        rows_read: Rows in those files.
        rows_loaded: Rows that could be used.
        rows_quarantined: Rows set aside in `quarantine/`.
        events: Measurements written from them.
        rows_without_event: Loaded rows that became no measurement.
        quarantined: Reason → rows.
        flags: Name → count.
    """

    files: list[str]
    rows_read: int
    rows_loaded: int = 0
    rows_quarantined: int = 0
    events: int = 0
    rows_without_event: int = 0
    quarantined: dict[str, int] = dataclasses.field(default_factory=dict)
    flags: dict[str, FlagCount] = dataclasses.field(default_factory=dict)

    def check(self, name: str) -> None:
        """Rows read = rows loaded + rows quarantined, by reason too.

        Raises:
            DatasetError: They do not add up; nothing may be written then.
        """
        if self.rows_read != self.rows_loaded + self.rows_quarantined or self.rows_quarantined != sum(
            self.quarantined.values()
        ):
            raise DatasetError(
                f"{name}: {self.rows_read} rows read but {self.rows_loaded} loaded and "
                f"{self.rows_quarantined} quarantined ({self.quarantined}); "
                "this is a fault of caretrace, please report it"
            )


def report(
    header: Mapping[str, Any],
    tables: Mapping[str, TableQuality],
    views: Mapping[str, TableQuality],
    around: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the report together.

    Args:
        header: Source, versions and the like; comes first.
        tables: Per raw table.
        views: Per view; its rows were counted in its table already.
        around: What was not mapped, missing, unknown or never read; comes last.

    Returns:
        JSON values, as written to `metadata/quality.json`.

    Raises:
        DatasetError: The rows of a table do not add up.
    """
    for name, table in tables.items():
        table.check(name)
    read = sum(table.rows_read for table in tables.values())
    quarantined = sum(table.rows_quarantined for table in tables.values())
    return {
        **header,
        "rows_read": read,
        "rows_loaded": sum(table.rows_loaded for table in tables.values()),
        "rows_quarantined": quarantined,
        "fraction_quarantined": quarantined / read if read else 0.0,
        "events": sum(table.events for table in (*tables.values(), *views.values())),
        "tables": {name: _plain(table) for name, table in tables.items()},
        "views": {name: _plain(view) for name, view in views.items()},
        **around,
    }


def _plain(table: TableQuality) -> dict[str, Any]:
    values = dataclasses.asdict(table)
    values["flags"] = {
        name: {key: value for key, value in flag.items() if value is not None}
        for name, flag in values["flags"].items()
    }
    return values
