"""Checked tables → measurements: compiles the events and flags of a table to Ibis and runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis

from caretrace import schema
from caretrace.ingest.cells import CLOCK_CHANGE
from caretrace.ingest.checks import CLOCK_CHANGES
from caretrace.ingest.engines.base import POSITION, Engine, Share
from caretrace.ingest.expressions import UNKNOWN_PART
from caretrace.ingest.joins import joined
from caretrace.ingest.mapping import Event, SourceMapping, Table, View
from caretrace.ingest.number_text import number_text
from caretrace.ingest.quality import (
    DICTIONARY,
    DICTIONARY_MEANING,
    ENDS_BEFORE_START,
    ENDS_BEFORE_START_MEANING,
    NO_EVENT,
    NO_EVENT_MEANING,
    NO_TIME,
    NO_TIME_MEANING,
    OVERLAPPING,
    OVERLAPPING_MEANING,
    FlagCount,
    TableQuality,
)
from caretrace.ingest.quantities import FLAGS as QUANTITY_FLAGS
from caretrace.ingest.tables import EARLIER_END, QUANTITY_FLAG

# Tables that all events go to, with the keys that break ties of time: table, event, row.
EVENTS, CODES = "_events", "_codes"
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
        schema.PARENT_CODES: "string",
        "count": "int64",
        "_table": "int16",
        "_event": "int16",
    }
)


def prepare_tables(engine: Engine) -> None:
    """Make the empty tables that `write_events` appends to."""
    engine.create_empty(EVENTS, _EVENT_COLUMNS)
    engine.create_empty(CODES, _CODE_COLUMNS)


def write_events(
    engine: Engine,
    table: Table | View,
    rows: Mapping[str, Any],
    mapping: SourceMapping,
    quality: TableQuality,
    share: Share,
) -> None:
    """Append the events of one table and count them, its flags and the rows that became no event.

    Args:
        engine: Where the tables are.
        table: Table or view whose events to write.
        rows: Name → Ibis expression of every table, view and value table that is there.
        mapping: The source.
        quality: Filled in place.
        share: Told how much is done.
    """
    beside, names = joined(table, rows, mapping)
    # Behind a name: the joins would else be compiled anew for every event.
    beside = engine.staged("_mapped", beside)
    names = {name: beside[name] for name in names}
    order = [*mapping.tables, *mapping.views].index(table.name)
    emitted, found = [], []
    untimed = ibis.literal(False)
    for index, event in enumerate(table.events):
        applies = _true(event.when.compile(names)) if event.when is not None else ibis.literal(True)
        time = None if event.time is None else event.time.compile(names)
        emits = applies if time is None else applies & time.notnull()
        if time is not None:
            untimed = untimed | (applies & time.isnull())
        emitted.append(emits)
        found.append(_measurements(beside.filter(emits), table, event, names, (order, index)))
    if quality.rows_loaded and found:
        _append(engine, found, share)
    _count(engine, beside, table, names, emitted, untimed, quality)


def _measurements(
    rows: Any, table: Table | View, event: Event, names: Mapping[str, Any], order: tuple[int, int]
) -> Any:
    """What one event makes of the rows it applies to, with what is said of its codes."""

    def text(template: Any, empty: str | None = None) -> Any:
        value = ibis.null("string") if template is None else template.compile(names, empty)
        return value.cast("string")

    time = ibis.null("timestamp") if event.time is None else event.time.compile(names)
    value = ibis.null("float32") if event.numeric_value is None else event.numeric_value.compile(names)
    return rows.select(
        **{
            schema.SUBJECT_ID: rows[table.subject],
            schema.TIME: time.cast("timestamp(6)"),
            schema.CODE: text(event.code, UNKNOWN_PART),
            schema.NUMERIC_VALUE: value.cast("float32"),
            schema.TEXT_VALUE: text(event.text_value),
            "_table": ibis.literal(order[0], "int16"),
            "_event": ibis.literal(order[1], "int16"),
            POSITION: rows[POSITION],
            schema.DESCRIPTION: text(event.description),
            schema.UNIT: text(event.unit),
            schema.EVENT_TYPE: text(event.event_type),
            schema.PARENT_CODES: _several([text(parent) for parent in event.parent_codes]),
        }
    )


def _append(engine: Engine, events: list[Any], share: Share) -> None:
    """Append the measurements of all events of a table in one statement, and their codes in another."""
    found = engine.staged("_found", ibis.union(*events) if len(events) > 1 else events[0])
    engine.insert(EVENTS, found.select(*_EVENT_COLUMNS.names), lambda done: share(done / 2))
    codes = found.group_by(schema.CODE, schema.UNIT, schema.EVENT_TYPE, "_table", "_event").aggregate(
        **{name: found[name].min() for name in (schema.DESCRIPTION, schema.PARENT_CODES)},
        count=found.count(),
    )
    engine.insert(CODES, codes.select(*_CODE_COLUMNS.names), lambda done: share((1 + done) / 2))


def _several(codes: list[Any]) -> Any:
    """Codes as one text with a line each, empty ones left out; lists have no minimum on every engine."""
    whole = ibis.literal("")
    for code in codes:
        whole = whole + ibis.coalesce(code + "\n", "")
    return whole.nullif("")


def _flags(table: Table | View, rows: Any, names: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Every flag a row of the table may carry: name → (condition, meaning)."""
    flags = {flag.name: (_true(flag.when.compile(names)), flag.meaning) for flag in table.flags}
    if isinstance(table, Table) and table.period is not None:
        start, end = rows[table.period.start], rows[table.period.end]
        flags[ENDS_BEFORE_START] = (_true(end < start), ENDS_BEFORE_START_MEANING)
        flags[OVERLAPPING] = (_true(start < rows[EARLIER_END]), OVERLAPPING_MEANING)
    if isinstance(table, Table) and table.quantity is not None:
        for name, meaning in QUANTITY_FLAGS.items():
            flags[name] = (_true(rows[QUANTITY_FLAG] == name), meaning)
    if CLOCK_CHANGE in rows.columns:
        for name, meaning in CLOCK_CHANGES.items():
            flags[name] = (_true(rows[CLOCK_CHANGE] == name), meaning)
    return flags


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
    described = _flags(table, rows, names)
    flags = {name: condition for name, (condition, _) in described.items()} | {NO_TIME: untimed}
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
    meanings = {name: meaning for name, (_, meaning) in described.items()} | {NO_TIME: NO_TIME_MEANING}
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
    found = rows.select(_by=number_text(value)).group_by("_by").aggregate(rows=ibis._.count())
    counted = {str(entry["_by"]): int(entry["rows"]) for entry in engine.fetch(found).to_pylist()}
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _true(condition: Any) -> Any:
    """A condition that is unknown (an empty value in it) does not hold."""
    if isinstance(condition, bool):
        return ibis.literal(condition)
    return ibis.coalesce(condition, False)
