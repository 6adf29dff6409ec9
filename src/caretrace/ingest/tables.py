"""Raw text → checked tables: every row is either loaded with its types or quarantined with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from caretrace.errors import InputError, unknown_name
from caretrace.ingest.engine import FILE, LEADING, POSITION, ROW, Engine, Malformed, read_header
from caretrace.ingest.expressions import number
from caretrace.ingest.mapping import Column, SourceMapping, Table
from caretrace.ingest.quality import TableQuality

# Columns that say why a row is set aside.
COLUMN, VALUE, REASON = "_column", "_value", "_reason"

# Shifted dates (MIMIC) reach 2212; outside these years a nanosecond time stamp overflows.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261

_UNREADABLE = {
    "subject": "not a whole number",
    "int": "not a whole number",
    "number": "not a finite number (float32, decimal point)",
    "time": "not a time such as 2019-05-31 14:00:00 between 1678 and 2261",
    "clock": "not a duration such as 07:35",
}


def check_headers(table: Table, files: Sequence[tuple[Path, str]]) -> None:
    """Every column the mapping uses stands in every file of the table.

    Raises:
        InputError: A column is missing; the message lists those that are there.
    """
    for path, label in files:
        header = read_header(path, label)
        for column in table.columns:
            if column.header in header:
                continue
            hint = ""
            if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                hint = "; the file seems to use another separator than the comma: save it with commas"
            raise InputError(
                f"{label}: {unknown_name('column', column.header, header)}; the mapping needs it{hint}. "
                "Rename the column in the file or check that this is the version the source is for"
            )


def load_table(
    engine: Engine, table: Table, files: list[tuple[Path, str]], mapping: SourceMapping
) -> list[Malformed]:
    """Load the files of `table` and store it, typed and with the reason of every bad row, as `table.name`.

    Two tables stand afterwards: `raw_NAME` with the text, and `all_NAME` with the typed columns plus
    `_column`, `_value` and `_reason` (null where the row is good).

    Raises:
        InputError: A file that cannot be read, a subject id beyond int64, or one subject twice.
    """
    malformed = engine.load_text(f"raw_{table.name}", files)
    raw = engine.table(f"raw_{table.name}")
    typed = {column.name: _typed(raw[column.header], column.kind) for column in table.columns}
    with_types = raw.select(
        *LEADING,
        **{f"text_{column.name}": raw[column.header].strip().nullif("") for column in table.columns},
        **typed,
    )
    if table.subject is not None:
        _refuse_bad_subject_ids(engine, with_types, table)
    checked = _with_problems(engine, with_types, table, mapping)
    engine.create(f"all_{table.name}", checked.select(*LEADING, *typed, COLUMN, VALUE, REASON))
    return malformed


def loaded(engine: Engine, table: Table) -> Any:
    """The good rows of a checked table, as an Ibis expression."""
    rows = engine.table(f"all_{table.name}")
    return rows.filter(rows[REASON].isnull()).drop(COLUMN, VALUE, REASON)


def set_aside(engine: Engine, table: Table, malformed: list[Malformed], folder: Path) -> TableQuality:
    """Write the bad rows of a table to `folder`, drop its text, and count.

    Returns:
        The counts of rows; events and flags are still to come.
    """
    rows = engine.table(f"all_{table.name}")
    raw = engine.table(f"raw_{table.name}")
    total = engine.count(rows)
    bad = rows.filter(rows[REASON].notnull()).select(POSITION, COLUMN, VALUE, REASON)
    reasons = engine.fetch(bad.group_by(COLUMN, REASON).aggregate(rows=bad.count())).to_pylist()
    quality = TableQuality(files=[], rows_read=total + len(malformed))
    counts = {f"{entry[COLUMN]}: {entry[REASON]}": entry["rows"] for entry in reasons}
    for line in malformed:
        counts[line.reason] = counts.get(line.reason, 0) + 1
    quality.quarantined = dict(sorted(counts.items()))
    quality.rows_quarantined = sum(counts.values())
    quality.rows_loaded = engine.count(rows.filter(rows[REASON].isnull()))
    if quality.rows_quarantined:
        found = engine.fetch(raw.inner_join(bad, POSITION).order_by(POSITION).drop(POSITION))
        _write_quarantine(found, malformed, folder / f"{table.name}.parquet")
    engine.drop(f"raw_{table.name}")
    return quality


def _write_quarantine(found: pa.Table, malformed: list[Malformed], path: Path) -> None:
    names = [name for name in found.column_names if name not in (FILE, ROW, COLUMN, VALUE, REASON)]
    leading = {"file": FILE, "row": ROW, "column": COLUMN, "value": VALUE, "reason": REASON}
    rows = pa.table(
        {
            **{name: found[source] for name, source in leading.items()},
            **{f"raw.{name}": found[name] for name in names},
            "raw_line": pa.nulls(len(found), pa.string()),
        }
    )
    lines = pa.table(
        {
            "file": pa.array([line.file for line in malformed], pa.string()),
            "row": pa.array([line.row for line in malformed], pa.int64()),
            "reason": pa.array([line.reason for line in malformed], pa.string()),
            "raw_line": pa.array([line.line for line in malformed], pa.string()),
        }
    )
    whole = pa.concat_tables([rows, lines], promote_options="default").sort_by(
        [("file", "ascending"), ("row", "ascending")]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(whole, path, compression="zstd")


def _typed(text: Any, kind: str) -> Any:
    text = text.strip().nullif("")
    if kind == "text":
        return text
    if kind == "number":
        return number(text)
    if kind == "time":
        time = ibis.ifelse(text.re_search(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"), text, ibis.null("string"))
        time = time.try_cast("timestamp")
        return ibis.ifelse(time.year().between(_FIRST_YEAR, _LAST_YEAR), time, ibis.null("timestamp"))
    if kind == "clock":
        clock = r"^([0-9]{1,4}):([0-5][0-9])(:([0-5][0-9]))?$"
        hours, minutes, seconds = (text.re_extract(clock, group).try_cast("int64") for group in (1, 2, 4))
        return hours * 3600 + minutes * 60 + ibis.coalesce(seconds, 0)
    whole = ibis.ifelse(text.re_search(r"^[+-]?[0-9]+(\.0+)?$"), text, ibis.null("string"))
    return whole.re_replace(r"\.0+$", "").try_cast("int64")


def _refuse_bad_subject_ids(engine: Engine, rows: Any, table: Table) -> None:
    name = table.subject
    text = rows[f"text_{name}"]
    bad = rows.filter(text.notnull() & rows[name].isnull()).order_by(POSITION).limit(1)
    for entry in engine.fetch(bad.select(FILE, ROW, f"text_{name}")).to_pylist():
        raise InputError(
            f"{entry[FILE]} row {entry[ROW]}, column {name}: {entry[f'text_{name}']!r} is not a whole number "
            "within int64, so nobody can say whose record this is; renumber the subjects"
        )


def _with_problems(engine: Engine, rows: Any, table: Table, mapping: SourceMapping) -> Any:
    """`rows` with the first problem of each row in the order of the mapping's columns."""
    problems: list[tuple[Any, str, str]] = []
    for column in table.columns:
        problems += _column_problems(rows, column)
    base = table.name == mapping.subject_base
    if table.subject is not None and not base:
        known = engine.table("subjects").select(_known="subject_id")
        rows = rows.left_join(known, rows[table.subject] == known["_known"])
        problems.append((rows["_known"].isnull(), table.subject, f"subject is not in {mapping.subjects}"))
    if table.key:
        number_in_key = ibis.row_number().over(group_by=list(table.key), order_by=POSITION)
        rows = rows.mutate(_repeat=number_in_key)
        filled = rows["_repeat"] > 0
        for name in table.key:
            filled &= rows[name].notnull()
        problems.append((filled, table.key[0], f"a second row with the same {' and '.join(table.key)}"))
        if table.name == mapping.subjects:
            _refuse_repeated_subject(engine, rows.filter(filled), table)
    if not problems:
        empty = ibis.null("string")
        return rows.mutate(**{COLUMN: empty, VALUE: empty, REASON: empty})
    conditions = [condition for condition, _, _ in problems]
    return rows.mutate(
        **{
            COLUMN: ibis.cases(*zip(conditions, [column for _, column, _ in problems], strict=True)),
            VALUE: ibis.cases(
                *zip(conditions, [rows[f"text_{column}"] for _, column, _ in problems], strict=True)
            ),
            REASON: ibis.cases(*zip(conditions, [reason for _, _, reason in problems], strict=True)),
        }
    )


def _column_problems(rows: Any, column: Column) -> list[tuple[Any, str, str]]:
    text, value = rows[f"text_{column.name}"], rows[column.name]
    found = []
    if column.kind != "text":
        found.append((text.notnull() & value.isnull(), column.name, _UNREADABLE[column.kind]))
    if column.required or column.kind == "subject":
        found.append((text.isnull(), column.name, "empty, but needed"))
    return found


def _refuse_repeated_subject(engine: Engine, repeated: Any, table: Table) -> None:
    first = repeated.order_by(POSITION).limit(1).select(FILE, ROW, table.key[0])
    for entry in engine.fetch(first).to_pylist():
        raise InputError(
            f"{entry[FILE]} row {entry[ROW]}: subject {entry[table.key[0]]} stands there a second time; "
            "two people may not share an id, so remove or renumber one of them"
        )
