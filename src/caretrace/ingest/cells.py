"""One cell of a raw table: text → typed value, and what is wrong with it by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis

from caretrace.errors import InputError
from caretrace.ingest.checks import (
    has_comma,
    is_zoned,
    local_to_utc,
    plain_time,
    whole_number,
    zoned_time,
)
from caretrace.ingest.engines.base import FILE, POSITION, ROW, Engine, RawFile
from caretrace.ingest.expressions import LARGEST, stripped, unbounded_number
from caretrace.ingest.mapping import Column, Table

# Columns that say why a row is set aside.
COLUMN, VALUE, REASON = "_column", "_value", "_reason"
# Further columns of loaded rows: the text of a subject known by name, and what clock changes did to a time.
SUBJECT_NAME, CLOCK_CHANGE = "_subject_name", "_clock_change"

# Shifted dates (MIMIC) reach 2212; outside these years a nanosecond time stamp overflows.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261

_COMMA = "a number with a comma"
_UNREADABLE = {
    "subject": "not a whole number",
    "subject_name": "not a text",
    "int": "not a whole number",
    "number": "not a finite number (float32, decimal point)",
    "time": "not a time such as 2019-05-31 14:00:00 between 1678 and 2261",
    "clock": "not a duration such as 07:35",
}


def checked(engine: Engine, table: Table, text: Any, *, with_nul: bool, zone: str | None) -> Any:
    """Typed columns of a table of text, and what is wrong with each row by itself.

    Args:
        engine: Where it runs.
        table: What its columns hold.
        text: Ibis table of text.
        with_nul: The files hold a NUL byte somewhere.
        zone: Time zone of times that name none; None takes them as written.

    Returns:
        `FILE` (and `POSITION` where `text` has it), the columns of `table`, `COLUMN`, `VALUE` and `REASON` of the
        first problem; a column `zoned(name)` for every time; `CLOCK_CHANGE` where there is a zone.
    """
    carried = [name for name in (FILE, POSITION) if name in text.columns]
    times = [column.name for column in table.columns if column.kind == "time"]
    # In steps, each a view: an expression that stands in three places is computed three times.
    kept = {_cell(column.name): stripped(text[column.header]).nullif("") for column in table.columns}
    step = engine.staged("_cells", text.select(*carried, **kept))
    if zone is not None and times:
        local = {_local(name): plain_time(step[_cell(name)]) for name in times}
        step = engine.staged("_local", step.mutate(**local))
    typed = {column.name: _typed(engine, step, column, zone) for column in table.columns}
    step = engine.staged("_typed", step.mutate(**typed))
    values = {column.name: _in_range(step[column.name], column.kind) for column in table.columns}
    step = engine.staged("_in_range", step.mutate(**values))
    values = {column.name: step[column.name] for column in table.columns}
    cells = {column.name: step[_cell(column.name)] for column in table.columns}
    problems = []
    if with_nul:
        problems += [(cell.contains("\0"), name, cell, "a NUL byte") for name, cell in cells.items()]
    problems += [problem for column in table.columns for problem in _problems(column, cells, values)]
    own = table.subject_column
    beside = {SUBJECT_NAME: cells[own.name]} if own is not None and own.kind == "subject_name" else {}
    beside |= {zoned(name): is_zoned(cells[name], values[name]) for name in times}
    if zone is not None and times:
        changes = [local_to_utc(step[_local(name)], zone).flag for name in times]
        beside[CLOCK_CHANGE] = ibis.coalesce(*changes)
    return step.select(*carried, **values, **beside, **first_problem(problems))


def _cell(name: str) -> str:
    return f"_cell_{name}"


def _local(name: str) -> str:
    return f"_local_{name}"


def zoned(name: str) -> str:
    """The column that says whether the time `name` came with a time zone."""
    return f"_zoned_{name}"


def first_problem(problems: Sequence[tuple[Any, str, Any, Any]]) -> dict[str, Any]:
    """`COLUMN`, `VALUE` and `REASON` of the first problem of a row, null where it has none."""
    if not problems:
        return dict.fromkeys((COLUMN, VALUE, REASON), ibis.null("string"))
    when = [problem[0] for problem in problems]
    return {
        name: ibis.cases(*zip(when, [problem[index] for problem in problems], strict=True)).cast("string")
        for index, name in ((1, COLUMN), (2, VALUE), (3, REASON))
    }


def refuse_untrusted(
    engine: Engine, name: str, table: Table, files: Sequence[RawFile], zone: str | None
) -> None:
    """Refuse files whose cells show that the others cannot be trusted either.

    Args:
        engine: Holds the table `name`, made by `checked`.
        name: All rows of `table`.
        table: What its columns hold.
        files: Where it was read from.
        zone: Time zone of times that name none; None takes them as written.

    Raises:
        InputError: A subject id that is no int64, a decimal comma, or times with and without a zone.
    """
    rows = engine.table(name)
    comma = rows.filter(rows[REASON] == _COMMA)
    _refuse(
        engine, name, files, comma,
        "is a number with a comma; whether it parts decimals or thousands nobody can tell, so no number "
        "of this column can be trusted: write numbers like 12.5 and run again",
    )  # fmt: skip
    if table.subject_column is not None:
        own = table.subject_column.name
        _refuse(
            engine, name, files, rows.filter((rows[COLUMN] == own) & rows[VALUE].notnull()),
            "is not a whole number within int64, so nobody can say whose record this is; renumber the subjects",
        )  # fmt: skip
    if zone is None:
        _refuse_mixed_zones(engine, name, table, files)


def place(engine: Engine, name: str, files: Sequence[RawFile], position: int) -> tuple[str, int, Any]:
    """File, row and raw cells (an Arrow table) of one position."""
    import pyarrow as pa

    found = engine.raw_rows(name, files, pa.table({POSITION: pa.array([position], pa.int64())}))
    return found[FILE][0].as_py(), found[ROW][0].as_py(), found


def _refuse(engine: Engine, name: str, files: Sequence[RawFile], bad: Any, why: str) -> None:
    first = bad.order_by(POSITION).limit(1).select(POSITION, COLUMN, VALUE)
    for entry in engine.fetch(first).to_pylist():
        file, row, _ = place(engine, name, files, entry[POSITION])
        raise InputError(f"{file} row {row}, column {entry[COLUMN]}: {entry[VALUE]!r} {why}")


def _refuse_mixed_zones(engine: Engine, name: str, table: Table, files: Sequence[RawFile]) -> None:
    times = [column for column in table.columns if column.kind == "time"]
    if not times:
        return
    rows = engine.table(name)
    sums = {
        part: value
        for index, column in enumerate(times)
        for part, value in (
            (f"with_{index}", (rows[column.name].notnull() & rows[zoned(column.name)]).sum()),
            (f"all_{index}", rows[column.name].count()),
        )
    }
    counts = {
        part: int(value or 0) for part, value in engine.fetch(rows.aggregate(**sums)).to_pylist()[0].items()
    }
    for index, column in enumerate(times):
        with_zone, without = counts[f"with_{index}"], counts[f"all_{index}"] - counts[f"with_{index}"]
        if with_zone and without:
            odd = rows.filter(rows[column.name].notnull() & ~rows[zoned(column.name)])
            first = engine.fetch(odd.order_by(POSITION).limit(1).select(POSITION))[POSITION][0].as_py()
            file, row, raw = place(engine, name, files, first)
            written = next(
                column_name
                for column_name in raw.column_names
                if column_name.lower() == column.header.lower()
            )
            raise InputError(
                f"{file} row {row}, column {column.name}: {raw[written][0].as_py()!r} names no time zone, as "
                f"{without:,} times of this column, but {with_zone:,} others do; write all with or all without, "
                "or say what the others mean with --time-zone, for example --time-zone Europe/Berlin"
            )


def _typed(engine: Engine, step: Any, column: Column, zone: str | None) -> Any:
    text, kind = step[_cell(column.name)], column.kind
    if kind == "text":
        return text
    if kind == "subject_name":
        return engine.subject_number(text)
    if kind == "number":
        return unbounded_number(text)
    if kind == "time":
        local = plain_time(text) if zone is None else local_to_utc(step[_local(column.name)], zone).utc
        return ibis.coalesce(local, zoned_time(text))
    if kind == "clock":
        clock = r"^([0-9]{1,4}):([0-5][0-9])(:([0-5][0-9]))?$"
        hours, minutes, seconds = (text.re_extract(clock, group).try_cast("int64") for group in (1, 2, 4))
        return hours * 3600 + minutes * 60 + ibis.coalesce(seconds, 0)
    return whole_number(text)


def _in_range(value: Any, kind: str) -> Any:
    """A typed value, null where it cannot be held further on."""
    if kind == "number":
        return ibis.ifelse(value.abs() <= LARGEST, value, ibis.null("float64"))
    if kind == "time":
        return ibis.ifelse(value.year().between(_FIRST_YEAR, _LAST_YEAR), value, ibis.null("timestamp"))
    return value


def _problems(
    column: Column, cells: Mapping[str, Any], values: Mapping[str, Any]
) -> list[tuple[Any, str, Any, Any]]:
    text, value = cells[column.name], values[column.name]
    found = []
    if column.kind not in ("text", "subject_name"):
        reason = ibis.literal(_UNREADABLE[column.kind])
        if column.kind == "number":
            reason = ibis.ifelse(has_comma(text), _COMMA, reason)
        found.append((text.notnull() & value.isnull(), column.name, text, reason))
    if column.required or column.kind in ("subject", "subject_name"):
        found.append((text.isnull(), column.name, text, "empty, but needed"))
    return found
