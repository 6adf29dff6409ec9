"""Raw text → checked tables: every row is either loaded with its types or quarantined with its reason.

A row is judged twice: by itself while its file is read (`load_table`), and then beside the other tables
(`judge`): whether its subject exists, its key is new and its quantity is possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from caretrace import schema
from caretrace.errors import InputError, unknown_name
from caretrace.ingest.engines.base import FILE, POSITION, ROW, Engine, Malformed, RawFile, Share
from caretrace.ingest.expressions import number
from caretrace.ingest.joins import joined
from caretrace.ingest.mapping import (
    JOINED_SUBJECT,
    QUANTITY_UNIT,
    QUANTITY_VALUE,
    Column,
    SourceMapping,
    Table,
)
from caretrace.ingest.quality import TableQuality
from caretrace.ingest.quantities import Converted, convert
from caretrace.ingest.reading import scan

# Columns that say why a row is set aside.
COLUMN, VALUE, REASON = "_column", "_value", "_reason"
# Further columns of loaded rows: the latest end of an earlier period, what is odd about a quantity.
EARLIER_END, QUANTITY_FLAG = "_earlier_end", "_quantity_flag"
_PARTS = (COLUMN, VALUE, REASON)
# Tables of the engine that every source has, and the text of a subject known by name.
SUBJECTS, QUANTITIES = "subjects", "quantities"
SUBJECT_NAME = "_subject_name"

# Shifted dates (MIMIC) reach 2212; outside these years a nanosecond time stamp overflows.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261

_UNREADABLE = {
    "subject": "not a whole number",
    "subject_name": "not a text",
    "int": "not a whole number",
    "number": "not a finite number (float32, decimal point)",
    "time": "not a time such as 2019-05-31 14:00:00 between 1678 and 2261",
    "clock": "not a duration such as 07:35",
}


def check_headers(table: Table, files: Sequence[RawFile]) -> None:
    """Every column the mapping uses stands in every file of the table.

    Raises:
        InputError: A column is missing; the message lists those that are there.
    """
    for file in files:
        for column in table.columns:
            if file.written(column.header) is not None:
                continue
            hint = ""
            if len(file.header) == 1 and any(mark in file.header[0] for mark in ";\t|"):
                hint = "; the file seems to use another separator than the comma: save it with commas"
            raise InputError(
                f"{file.label}: {unknown_name('column', column.header, file.header)}; the mapping needs it{hint}. "
                "Rename the column in the file or check that this is the version the source is for"
            )


def load_table(engine: Engine, table: Table, files: Sequence[RawFile], share: Share) -> list[Malformed]:
    """Read the files of `table` and store it as `all_NAME`: typed, with what is wrong with a row by itself.

    Returns:
        Lines that are no rows.

    Raises:
        InputError: A file that cannot be read, or a subject id beyond int64.
    """
    name, columns = f"all_{table.name}", [column.header for column in table.columns]

    def load(with_nul: bool) -> list[Malformed]:
        return engine.load(name, files, columns, lambda text: _checked(engine, table, text, with_nul), share)

    # The bytes are checked beside the engine's reading: unpacking twice costs no time on a second core.
    with ThreadPoolExecutor(max_workers=1) as beside:
        scans = [beside.submit(scan, file.path, file.label) for file in files]
        for found in scans:
            found.add_done_callback(lambda done: engine.interrupt() if done.exception() else None)
        try:
            malformed = load(with_nul=False)
        except InputError:
            for found in scans:  # what the bytes say is told before what became of the rows
                found.result()
            raise
    if any(found.result().has_nul for found in scans):
        malformed = load(with_nul=True)
    if table.subject_column is not None:
        _refuse_bad_subject_ids(engine, name, table.subject_column.name, files)
    return malformed


def _checked(engine: Engine, table: Table, text: Any, with_nul: bool) -> Any:
    """Typed columns of a table of text, and what is wrong with each row by itself."""
    cells = {column.name: text[column.header].strip().nullif("") for column in table.columns}
    values = {column.name: _typed(engine, cells[column.name], column.kind) for column in table.columns}
    problems = []
    if with_nul:
        problems += [(cell.contains("\0"), name, cell, "a NUL byte") for name, cell in cells.items()]
    problems += [problem for column in table.columns for problem in _problems(column, cells, values)]
    own = table.subject_column
    names = {SUBJECT_NAME: cells[own.name]} if own is not None and own.kind == "subject_name" else {}
    return text.select(FILE, **values, **names, **_first_problem(problems))


def judge(
    engine: Engine, table: Table, rows: Mapping[str, Any], mapping: SourceMapping, files: Sequence[RawFile]
) -> None:
    """Store what is wrong with the rows of a loaded table beside the others, as `bad_NAME`.

    Args:
        engine: Holds `all_NAME`.
        table: The table.
        rows: Name → rows of the tables it joins; its own are not there yet.
        mapping: The source.
        files: Its files, for messages.

    Raises:
        InputError: One subject twice.
    """
    if not _is_judged(table, mapping):
        return
    stored = engine.table(f"all_{table.name}")
    good = stored.filter(stored[REASON].isnull())
    found, names = joined(table, {**rows, table.name: good}, mapping, _judged_by(table))
    marks = 0
    own = table.subject_column
    if own is not None and table.name != mapping.subject_base:
        subjects = engine.table(SUBJECTS).select(_known=schema.SUBJECT_ID)
        found = _finished(found.left_join(subjects, found[own.name] == subjects["_known"]))
        reason = f"subject is not in {mapping.subjects}"
        found = _mark(found, marks, found["_known"].isnull(), (own.name, _subject_text(found, own), reason))
        marks += 1
    if table.subject_of is not None:
        parent = mapping.tables[table.subject_of]
        column = table.joins[parent.name][0]
        missing = found[f"{parent.name}.{parent.subject}"].isnull()
        why = (column, found[column].cast("string"), f"{column} is not in {parent.name}")
        found, marks = _mark(found, marks, missing, why), marks + 1
    if table.key:
        repeat = ibis.row_number().over(group_by=list(table.key), order_by=POSITION) > 0
        for key in table.key:
            repeat &= found[key].notnull()
        text = f"a second row with the same {' and '.join(table.key)}"
        why = (table.key[0], found[table.key[0]].cast("string"), text)
        found, marks = _mark(found, marks, repeat, why), marks + 1
    if table.quantity is not None:
        quantity, written = _converted(engine, table, found, names), table.quantity.value
        value = written.compile({name: quantity.rows[name] for name in names}).cast("string")
        why = (written.text, value, quantity.problem)
        found, marks = _mark(quantity.rows, marks, quantity.problem.notnull(), why), marks + 1
    first = {part: ibis.coalesce(*(found[f"{part}_{i}"] for i in range(marks))) for part in _PARTS}
    judged = found.select(POSITION, **first)
    engine.create(f"bad_{table.name}", judged.filter(judged[REASON].notnull()))
    if table.name == mapping.subjects and table.key:
        _refuse_repeated_subject(engine, table, files)


def _finished(rows: Any) -> Any:
    """A join that others may build on: ibis takes columns of an open one for those of another table."""
    return rows.select(*rows.columns)


def _mark(found: Any, index: int, when: Any, why: tuple[str, Any, Any]) -> Any:
    """`found` with the column, value and reason of one problem, null where it does not hold."""
    return found.mutate(
        **{
            f"{part}_{index}": ibis.ifelse(when, text, ibis.null("string")).cast("string")
            for part, text in zip(_PARTS, why, strict=True)
        }
    )


def _subject_text(rows: Any, column: Column) -> Any:
    return rows[SUBJECT_NAME] if column.kind == "subject_name" else rows[column.name].cast("string")


def loaded(engine: Engine, table: Table, rows: Mapping[str, Any], mapping: SourceMapping) -> Any:
    """The good rows of a judged table, as an Ibis expression with all that formulas may name."""
    good = engine.table(f"all_{table.name}")
    good = good.filter(good[REASON].isnull()).drop(COLUMN, VALUE, REASON)
    if _is_judged(table, mapping):
        bad = engine.table(f"bad_{table.name}")
        if engine.count(bad):
            good = good.anti_join(bad, POSITION)
    if table.subject_of is not None:
        parent = mapping.tables[table.subject_of]
        side = rows[parent.name]
        side = side.select(
            **{JOINED_SUBJECT: side[parent.subject], **{f"_of_{key}": side[key] for key in parent.key}}
        )
        equal = [
            good[ours] == side[f"_of_{key}"]
            for ours, key in zip(table.joins[parent.name], parent.key, strict=True)
        ]
        good = good.inner_join(side, equal).drop(*(f"_of_{key}" for key in parent.key))
    if table.period is not None:
        before = ibis.window(
            group_by=table.subject, order_by=[table.period.start, POSITION], preceding=(None, 1)
        )
        good = good.mutate(**{EARLIER_END: good[table.period.end].max().over(before)})
    if table.quantity is not None:
        found, names = joined(table, {**rows, table.name: good}, mapping, _judged_by(table))
        quantity = _converted(engine, table, found, names)
        good = quantity.rows.mutate(
            **{QUANTITY_VALUE: quantity.value, QUANTITY_UNIT: quantity.unit, QUANTITY_FLAG: quantity.flag}
        ).select(*good.columns, QUANTITY_VALUE, QUANTITY_UNIT, QUANTITY_FLAG)
    return good


def set_aside(
    engine: Engine,
    table: Table,
    mapping: SourceMapping,
    files: Sequence[RawFile],
    malformed: Sequence[Malformed],
    folder: Path,
) -> TableQuality:
    """Write the bad rows of a judged table to `folder` and count.

    Returns:
        The counts of rows; events and flags are still to come.
    """
    rows = engine.table(f"all_{table.name}")
    total = engine.count(rows)
    bad = rows.filter(rows[REASON].notnull()).select(POSITION, COLUMN, VALUE, REASON)
    if _is_judged(table, mapping):
        bad = bad.union(engine.table(f"bad_{table.name}").select(*bad.columns))
    reasons = engine.fetch(bad.order_by(POSITION))
    quality = TableQuality(files=[file.label for file in files], rows_read=total + len(malformed))
    counts: dict[str, int] = {}
    for entry in reasons.group_by([COLUMN, REASON]).aggregate([([], "count_all")]).to_pylist():
        counts[f"{entry[COLUMN]}: {entry[REASON]}"] = entry["count_all"]
    for line in malformed:
        counts[line.reason] = counts.get(line.reason, 0) + 1
    quality.quarantined = dict(sorted(counts.items()))
    quality.rows_quarantined = sum(counts.values())
    quality.rows_loaded = total - len(reasons)
    if quality.rows_quarantined:
        raw = None
        if len(reasons):
            raw = engine.raw_rows(f"all_{table.name}", files, bad.select(POSITION))
        _write_quarantine(raw, reasons, malformed, folder / f"{table.name}.parquet")
    return quality


def forget(engine: Engine, table: Table) -> None:
    """Drop what was stored of a table whose events are written."""
    engine.drop(f"all_{table.name}")
    engine.drop(f"bad_{table.name}")


def _judged_by(table: Table) -> set[str]:
    """The joined tables that decide on a row: who its subject is, what its quantity is."""
    used = set() if table.subject_of is None else {table.subject_of}
    if table.quantity is not None:
        formulas = (table.quantity.concept, table.quantity.value, table.quantity.unit)
        read = {name for formula in formulas if formula is not None for name in formula.references()}
        used |= {name.split(".")[0] for name in read if "." in name}
    return used


def _is_judged(table: Table, mapping: SourceMapping) -> bool:
    other_subject = table.subject_column is not None and table.name != mapping.subject_base
    return other_subject or bool(table.subject_of or table.key or table.quantity)


def _write_quarantine(
    raw: pa.Table | None, reasons: pa.Table, malformed: Sequence[Malformed], path: Path
) -> None:
    parts = []
    if raw is not None:
        names = [name for name in raw.column_names if name not in (FILE, ROW, POSITION)]
        leading = {"file": raw[FILE], "row": raw[ROW]}
        why = {"column": reasons[COLUMN], "value": reasons[VALUE], "reason": reasons[REASON]}
        cells = {f"raw.{name}": raw[name] for name in names}
        parts.append(pa.table({**leading, **why, **cells}))
    parts.append(
        pa.table(
            {
                "file": pa.array([line.file for line in malformed], pa.string()),
                "row": pa.array([line.row for line in malformed], pa.int64()),
                "column": pa.nulls(len(malformed), pa.string()),
                "value": pa.nulls(len(malformed), pa.string()),
                "reason": pa.array([line.reason for line in malformed], pa.string()),
                "raw_line": pa.array([line.line for line in malformed], pa.string()),
            }
        )
    )
    whole = pa.concat_tables(parts, promote_options="default").sort_by(
        [("file", "ascending"), ("row", "ascending")]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(whole, path, compression="zstd")


def _typed(engine: Engine, text: Any, kind: str) -> Any:
    if kind == "text":
        return text
    if kind == "subject_name":
        return engine.subject_number(text)
    if kind == "number":
        return number(text)
    if kind == "time":
        time = ibis.ifelse(text.re_search(_TIME), text, ibis.null("string")).try_cast("timestamp")
        return ibis.ifelse(time.year().between(_FIRST_YEAR, _LAST_YEAR), time, ibis.null("timestamp"))
    if kind == "clock":
        clock = r"^([0-9]{1,4}):([0-5][0-9])(:([0-5][0-9]))?$"
        hours, minutes, seconds = (text.re_extract(clock, group).try_cast("int64") for group in (1, 2, 4))
        return hours * 3600 + minutes * 60 + ibis.coalesce(seconds, 0)
    whole = ibis.ifelse(text.re_search(r"^[+-]?[0-9]+(\.0+)?$"), text, ibis.null("string"))
    return whole.re_replace(r"\.0+$", "").try_cast("int64")


_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?$"


def _problems(
    column: Column, cells: Mapping[str, Any], values: Mapping[str, Any]
) -> list[tuple[Any, str, Any, Any]]:
    text, value = cells[column.name], values[column.name]
    found = []
    if column.kind not in ("text", "subject_name"):
        found.append((text.notnull() & value.isnull(), column.name, text, _UNREADABLE[column.kind]))
    if column.required or column.kind in ("subject", "subject_name"):
        found.append((text.isnull(), column.name, text, "empty, but needed"))
    return found


def _first_problem(problems: Sequence[tuple[Any, str, Any, Any]]) -> dict[str, Any]:
    """`COLUMN`, `VALUE` and `REASON` of the first problem of a row, null where it has none."""
    if not problems:
        return dict.fromkeys((COLUMN, VALUE, REASON), ibis.null("string"))
    when = [problem[0] for problem in problems]
    return {
        name: ibis.cases(*zip(when, [problem[index] for problem in problems], strict=True)).cast("string")
        for index, name in ((1, COLUMN), (2, VALUE), (3, REASON))
    }


def _converted(engine: Engine, table: Table, rows: Any, names: Mapping[str, Any]) -> Converted:
    quantity = table.quantity
    assert quantity is not None
    beside, unit = {name: rows[name] for name in names}, None
    if quantity.unit is not None:
        compiled = quantity.unit.compile(beside)
        unit = ibis.literal(compiled) if isinstance(compiled, str) else compiled
    concept, value = quantity.concept.compile(beside), quantity.value.compile(beside)
    found = convert(rows, engine.table(QUANTITIES), concept, value, unit)
    columns = {"_q_new_value": found.value, "_q_new_unit": found.unit, "_q_problem": found.problem}
    finished = found.rows.select(*rows.columns, **columns, _q_flag=found.flag)
    return Converted(finished, *(finished[name] for name in (*columns, "_q_flag")))


def _refuse_bad_subject_ids(engine: Engine, name: str, column: str, files: Sequence[RawFile]) -> None:
    rows = engine.table(name)
    bad = rows.filter((rows[COLUMN] == column) & rows[VALUE].notnull()).order_by(POSITION).limit(1)
    for entry in engine.fetch(bad.select(POSITION, VALUE)).to_pylist():
        file, row = _place(engine, name, files, entry[POSITION])
        raise InputError(
            f"{file} row {row}, column {column}: {entry[VALUE]!r} is not a whole number "
            "within int64, so nobody can say whose record this is; renumber the subjects"
        )


def _refuse_repeated_subject(engine: Engine, table: Table, files: Sequence[RawFile]) -> None:
    bad = engine.table(f"bad_{table.name}")
    repeated = bad.filter(bad[REASON].startswith("a second row")).order_by(POSITION).limit(1)
    for entry in engine.fetch(repeated).to_pylist():
        file, row = _place(engine, f"all_{table.name}", files, entry[POSITION])
        raise InputError(
            f"{file} row {row}: subject {entry[VALUE]} stands there a second time; "
            "two people may not share an id, so remove or renumber one of them"
        )


def _place(engine: Engine, name: str, files: Sequence[RawFile], position: int) -> tuple[str, int]:
    """File and row of one position."""
    wanted = pa.table({POSITION: pa.array([position], pa.int64())})
    found = engine.raw_rows(name, files, wanted)
    return found[FILE][0].as_py(), found[ROW][0].as_py()
