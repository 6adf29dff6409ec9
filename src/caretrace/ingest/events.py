"""Checked tables → measurements: compiles the events and flags of a table to Ibis and runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis

from caretrace import schema
from caretrace.ingest.engine import POSITION, Engine
from caretrace.ingest.expressions import UNKNOWN_PART
from caretrace.ingest.mapping import Event, SourceMapping, Table, ValueTable, View
from caretrace.ingest.quality import (
    DICTIONARY,
    DICTIONARY_MEANING,
    NO_EVENT,
    NO_EVENT_MEANING,
    NO_TIME,
    NO_TIME_MEANING,
    FlagCount,
    TableQuality,
)

# Tables that all events go to, with the keys that break ties of time: table, event, row.
EVENTS, CODES = "all_events", "all_codes"
ORDER = ("_table", "_event", POSITION)

_EVENT_COLUMNS = ibis.schema(
    {
        schema.SUBJECT_ID: "int64",
        schema.TIME: "timestamp(6)",
        schema.CODE: "string",
        schema.NUMERIC_VALUE: "float32",
        schema.TEXT_VALUE: "string",
        "_table": "int16",
        "_event": "int16",
        POSITION: "int64",
    }
)
_CODE_COLUMNS = ibis.schema(
    {
        schema.CODE: "string",
        schema.DESCRIPTION: "string",
        schema.UNIT: "string",
        schema.EVENT_TYPE: "string",
        "count": "int64",
        "_table": "int16",
        "_event": "int16",
    }
)


def prepare_tables(engine: Engine) -> None:
    """Make the empty tables that `write_events` appends to."""
    engine.connection.create_table(EVENTS, schema=_EVENT_COLUMNS, overwrite=True)
    engine.connection.create_table(CODES, schema=_CODE_COLUMNS, overwrite=True)


def write_events(
    engine: Engine,
    table: Table | View,
    rows: Mapping[str, Any],
    mapping: SourceMapping,
    quality: TableQuality,
) -> None:
    """Append the events of one table and count them, its flags and the rows that became no event.

    Args:
        engine: Where the tables are.
        table: Table or view whose events to write.
        rows: Name → Ibis expression of every table, view and value table that is there.
        mapping: The source.
        quality: Filled in place.
    """
    joined, names = _join(table, rows, mapping)
    order = [*mapping.tables, *mapping.views].index(table.name)
    emitted = []
    untimed = ibis.literal(False)
    for index, event in enumerate(table.events):
        applies = _true(event.when.compile(names)) if event.when is not None else ibis.literal(True)
        time = None if event.time is None else event.time.compile(names)
        emits = applies if time is None else applies & time.notnull()
        if time is not None:
            untimed = untimed | (applies & time.isnull())
        emitted.append(emits)
        if quality.rows_loaded:
            _append(engine, joined.filter(emits), table, event, names, (order, index))
    _count(engine, joined, table, names, emitted, untimed, quality)


def _append(
    engine: Engine,
    rows: Any,
    table: Table | View,
    event: Event,
    names: Mapping[str, Any],
    order: tuple[int, int],
) -> None:
    def text(template: Any, empty: str | None = None) -> Any:
        value = ibis.null("string") if template is None else template.compile(names, empty)
        return value.cast("string")

    time = ibis.null("timestamp") if event.time is None else event.time.compile(names)
    value = ibis.null("float32") if event.numeric_value is None else event.numeric_value.compile(names)
    found = rows.select(
        **{
            schema.SUBJECT_ID: rows[table.subject],
            schema.TIME: time.cast("timestamp(6)"),
            schema.CODE: text(event.code, UNKNOWN_PART),
            schema.NUMERIC_VALUE: value.cast("float32"),
            schema.TEXT_VALUE: text(event.text_value),
            "_table": ibis.literal(order[0], "int16"),
            "_event": ibis.literal(order[1], "int16"),
            POSITION: rows[POSITION],
        }
    )
    engine.insert(EVENTS, found)
    described = rows.select(
        **{
            schema.CODE: text(event.code, UNKNOWN_PART),
            schema.DESCRIPTION: text(event.description),
            schema.UNIT: text(event.unit),
            schema.EVENT_TYPE: text(event.event_type),
        }
    )
    codes = described.group_by(schema.CODE, schema.UNIT, schema.EVENT_TYPE).aggregate(
        **{schema.DESCRIPTION: described[schema.DESCRIPTION].min()},
        count=described.count(),
        _table=ibis.literal(order[0], "int16"),
        _event=ibis.literal(order[1], "int16"),
    )
    engine.insert(CODES, codes.select(*_CODE_COLUMNS.names))


def _join(table: Table | View, rows: Mapping[str, Any], mapping: SourceMapping) -> tuple[Any, dict[str, Any]]:
    """The rows of `table` beside those of the tables it joins, and the name of every column in formulas."""
    others: Mapping[str, Table | View | ValueTable] = {**mapping.tables, **mapping.views, **mapping.values}
    joined = rows[table.name]
    for name, columns in table.joins.items():
        other = others[name]
        side = rows[name].select(**{f"{name}.{column}": rows[name][column] for column in other.names})
        equal = [
            joined[ours] == side[f"{name}.{theirs}"] for ours, theirs in zip(columns, other.key, strict=True)
        ]
        joined = joined.left_join(side, equal)
    names = {column: joined[column] for column in table.names}
    for name in table.joins:
        names |= {f"{name}.{column}": joined[f"{name}.{column}"] for column in others[name].names}
    return joined, names


def _count(
    engine: Engine,
    rows: Any,
    table: Table | View,
    names: Mapping[str, Any],
    emitted: list[Any],
    untimed: Any,
    quality: TableQuality,
) -> None:
    """One pass over the rows for all counts."""
    number = sum((emits.cast("int64") for emits in emitted), start=ibis.literal(0, "int64"))
    flags = {flag.name: _true(flag.when.compile(names)) for flag in table.flags}
    flags[NO_TIME] = untimed
    explained = ibis.literal(False)
    for raised in flags.values():
        explained = explained | raised
    marked = rows.select(
        _number=number, _explained=explained, **{f"flag_{name}": value for name, value in flags.items()}
    )
    silent = marked["_number"] == 0
    counts = engine.fetch(
        marked.aggregate(
            events=marked["_number"].sum(),
            silent=silent.sum(),
            unexplained=(silent & ~marked["_explained"]).sum(),
            **{f"rows_{name}": marked[f"flag_{name}"].sum() for name in flags},
            **{f"silent_{name}": (marked[f"flag_{name}"] & silent).sum() for name in flags},
        )
    ).to_pylist()[0]
    counts = {name: int(value or 0) for name, value in counts.items()}
    quality.events, quality.rows_without_event = counts["events"], counts["silent"]
    meanings = {flag.name: flag.meaning for flag in table.flags} | {NO_TIME: NO_TIME_MEANING}
    for name in flags:
        if counts[f"rows_{name}"]:
            quality.flags[name] = FlagCount(meanings[name], counts[f"rows_{name}"], counts[f"silent_{name}"])
    if counts["unexplained"] and isinstance(table, Table):
        quality.flags[NO_EVENT] = FlagCount(NO_EVENT_MEANING, counts["unexplained"], counts["unexplained"])
    if not table.events and isinstance(table, Table):
        quality.flags = {DICTIONARY: FlagCount(DICTIONARY_MEANING, counts["silent"], counts["silent"])}
    for flag in table.flags:
        if flag.by is not None and flag.name in quality.flags:
            quality.flags[flag.name].by = _count_by(
                engine, rows.filter(flags[flag.name]), flag.by.compile(names)
            )


def _count_by(engine: Engine, rows: Any, value: Any) -> dict[str, int]:
    found = rows.select(_by=value.cast("string")).group_by("_by").aggregate(rows=ibis._.count())
    counted = {str(entry["_by"]): int(entry["rows"]) for entry in engine.fetch(found).to_pylist()}
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _true(condition: Any) -> Any:
    """A condition that is unknown (an empty value in it) does not hold."""
    if isinstance(condition, bool):
        return ibis.literal(condition)
    return ibis.coalesce(condition, False)
