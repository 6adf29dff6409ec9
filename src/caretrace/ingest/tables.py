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
from caretrace.ingest.cells import COLUMN, REASON, SUBJECT_NAME, VALUE, checked, place, refuse_untrusted
from caretrace.ingest.engines.base import FILE, POSITION, ROW, Engine, Malformed, RawFile, Share
from caretrace.ingest.joins import joined
from caretrace.ingest.mapping import (
    JOINED_SUBJECT,
    QUANTITY_UNIT,
    QUANTITY_VALUE,
    Column,
    SourceMapping,
    Table,
)
from caretrace.ingest.number_text import number_text
from caretrace.ingest.quality import TableQuality
from caretrace.ingest.quantities import Converted, convert
from caretrace.ingest.reading import is_packed, refuse_misfit, scan

# Further columns of loaded rows: the latest end of an earlier period, what is odd about a quantity.
EARLIER_END, QUANTITY_FLAG = "_earlier_end", "_quantity_flag"
_SCAN_SHARE = 0.15  # of what loading packed files takes, what scanning them before takes
_PARTS = (COLUMN, VALUE, REASON)
# Tables of the engine that every source has.
SUBJECTS, QUANTITIES = "_subjects", "_quantities"


def check_headers(table: Table, files: Sequence[RawFile]) -> None:
    """Every column the mapping uses stands in every file of the table.

    Raises:
        InputError: A column is missing; the message lists those that are there.
    """
    for file in files:
        for column in table.columns:
            if column.optional or file.written(column.header) is not None:
                continue
            hint = ""
            if len(file.header) == 1 and any(mark in file.header[0] for mark in ";\t|"):
                hint = "; the file seems to use another separator than the comma: save it with commas"
            raise InputError(
                f"{file.label}: {unknown_name('column', column.header, file.header)}; the mapping needs it{hint}. "
                "Rename the column in the file or check that this is the version the source is for"
            )


def load_table(
    engine: Engine, table: Table, files: Sequence[RawFile], zone: str | None, share: Share
) -> list[Malformed]:
    """Read the files of `table` and store it as `all_NAME`: typed, with what is wrong with a row by itself.

    Args:
        engine: Where to store it.
        table: The table.
        files: Its files, in order.
        zone: Time zone of times that name none; None takes them as written.
        share: Told how much is done.

    Returns:
        Lines that are no rows.

    Raises:
        InputError: A file that cannot be read, or whose cells show that none can be trusted.
    """
    name, columns = f"all_{table.name}", [column.header for column in table.columns]
    packed, plain = ([file for file in files if is_packed(file.path) is kind] for kind in (True, False))
    before = _SCAN_SHARE if packed else 0.0

    def load(with_nul: bool) -> list[Malformed]:
        def typed(text: Any) -> Any:
            return checked(engine, table, text, with_nul=with_nul, zone=zone)

        return engine.load(name, files, columns, typed, lambda done: share(before + (1 - before) * done))

    # Lines that are no rows take DuckDB 4 kB of memory each, outside its limit, and nothing stops it within a block
    # of them: so a packed file is known to its end, and no bomb, before a line of it is read.
    has_nul = False
    for index, file in enumerate(packed):

        def told(done: float, scanned: int = index) -> None:
            share(before * (scanned + done) / len(packed))

        has_nul |= scan(file.path, file.label, told).has_nul
    for file in files:
        refuse_misfit(file.path, file.label, file.header)
    # What is plain is looked at beside the engine's reading: on a second core that costs no time.
    with ThreadPoolExecutor(max_workers=1) as beside:
        scans = [beside.submit(scan, file.path, file.label) for file in plain]
        malformed = load(has_nul)
    if any(each.result().has_nul for each in scans) and not has_nul:
        malformed = load(with_nul=True)
    refuse_untrusted(engine, name, table, files, zone)
    return malformed


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
        value = number_text(written.compile({name: quantity.rows[name] for name in names}))
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


def _refuse_repeated_subject(engine: Engine, table: Table, files: Sequence[RawFile]) -> None:
    bad = engine.table(f"bad_{table.name}")
    repeated = bad.filter(bad[REASON].startswith("a second row")).order_by(POSITION).limit(1)
    for entry in engine.fetch(repeated).to_pylist():
        file, row, _ = place(engine, f"all_{table.name}", files, entry[POSITION])
        raise InputError(
            f"{file} row {row}: subject {entry[VALUE]} stands there a second time; "
            "two people may not share an id, so remove or renumber one of them"
        )
