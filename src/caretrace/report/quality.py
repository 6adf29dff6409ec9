"""The quality report of a dataset (`metadata/quality.json`, written by ingest) as rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caretrace.report.wording import finite, plural, readable

Json = Mapping[str, Any]

# Values of a flag that are listed.
_MOST = 5


@dataclass(frozen=True)
class TableQuality:
    """What became of one raw table or of a view of it; counts are rows, None where unknown.

    Args:
        table: Name of the raw table.
        view: Whether its rows were counted in a table already.
        read: Rows read.
        loaded: Rows that could be used.
        quarantined: Rows set aside as unusable.
        events: Measurements written.
    """

    table: str
    view: bool
    read: int | None
    loaded: int | None
    quarantined: int | None
    events: int | None


@dataclass(frozen=True)
class Remark:
    """Rows of a table that were quarantined or flagged.

    Args:
        table: Name of the raw table.
        what: Reason or flag, in words.
        rows: How many rows.
        kept: Flagged rows stay in the data; quarantined ones do not.
        flag: Short name of the flag, empty for quarantined rows.
        by: (value, rows) of the most frequent values that a flag tells apart.
    """

    table: str
    what: str
    rows: int | None
    kept: bool
    flag: str = ""
    by: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True)
class Quality:
    """The whole quality report.

    Args:
        tables: One entry per raw table or view that was read.
        remarks: Every quarantine reason and flag with its count.
        not_read: (file, why) of what was left alone.
        mixed_units: (code, units) of codes whose values come in several units.
    """

    tables: tuple[TableQuality, ...]
    remarks: tuple[Remark, ...]
    not_read: tuple[tuple[str, str], ...]
    mixed_units: tuple[tuple[str, str], ...] = ()

    def total(self, column: str) -> int | None:
        """Sum of `read`, `loaded`, `quarantined` (of tables) or `events` (of views too); None if unknown."""
        counted = [table for table in self.tables if column == "events" or not table.view]
        values = [getattr(table, column) for table in counted if getattr(table, column) is not None]
        return sum(values) if values else None


def read_quality(value: Json | None) -> Quality | None:
    """A `quality.json` value as rows, or None when there is none."""
    if value is None:
        return None
    named = [
        (name, row, kind == "views") for kind in ("tables", "views") for name, row in _rows(value.get(kind))
    ]
    return Quality(
        tables=tuple(_table(name, row, view) for name, row, view in named),
        remarks=tuple(remark for name, row, _ in named for remark in _remarks(name, row)),
        not_read=tuple(_not_read(value)),
        mixed_units=tuple(
            (code, ", ".join(map(str, units)))
            for code, units in _items(value.get("codes_with_mixed_units"))
            if isinstance(units, list)
        ),
    )


def _table(name: str, row: Json, view: bool) -> TableQuality:
    counts = (_integer(row.get(key)) for key in ("rows_read", "rows_loaded", "rows_quarantined", "events"))
    return TableQuality(name, view, *counts)


def _remarks(table: str, row: Json) -> Iterator[Remark]:
    for reason, rows in _items(row.get("quarantined")):
        yield Remark(table, readable(reason), _integer(rows), kept=False)
    for name, flag in _items(row.get("flags")):
        if isinstance(flag, Mapping):
            what, by = str(flag.get("meaning") or readable(name)), list(_items(flag.get("by")))[:_MOST]
            counts = tuple((entry, _integer(rows)) for entry, rows in by)
            yield Remark(table, what, _integer(flag.get("rows")), kept=True, flag=name, by=counts)
        else:
            yield Remark(table, readable(name), _integer(flag), kept=True, flag=name)


def _not_read(value: Json) -> Iterator[tuple[str, str]]:
    listed = value.get("not_mapped")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, Mapping):
            rows = f" ({plural(entry['rows'], 'row')})" if finite(entry.get("rows")) is not None else ""
            yield str(entry.get("file", "?")), str(entry.get("reason") or "no reason stored") + rows
        else:
            yield str(entry), "no reason stored"
    for name, reason in [*_items(listed), *_items(value.get("never_read"))]:
        yield name, str(reason or "no reason stored")
    for key, why in (
        ("missing_optional", "was not among the raw files; optional"),
        ("unknown_files", "unknown to this source's mapping"),
    ):
        files = value.get(key)
        for name in files if isinstance(files, list) else []:
            yield str(name), why


def _rows(value: Any) -> Iterator[tuple[str, Json]]:
    return ((name, row) for name, row in _items(value) if isinstance(row, Mapping))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    return ((str(name), entry) for name, entry in value.items()) if isinstance(value, Mapping) else iter(())


def _integer(value: Any) -> int | None:
    return int(value) if finite(value) is not None else None
