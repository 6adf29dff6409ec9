"""Any table of vital signs, wide or long, as one row per value: subject, time, name, value, file and row.

Values stay the text they are, so that ingest judges them like those of any other source. Every value of
the user's files becomes one row here, those of columns that are not mapped included, and a row without any
value becomes one row too: so nothing of the files is missing from the quality report.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from caretrace.errors import ConfigError, InputError
from caretrace.ingest.reading import SUFFIXES, read_header, refuse_escape, scan, unchanged
from caretrace.ingest.vital_columns import (
    AGE,
    GENDER,
    GUESSED,
    NAME,
    NO_TIME,
    OTHER,
    SKIPPED,
    SUBJECT,
    TIME,
    UNIT,
    VALUE,
    VITAL,
    Use,
    Wishes,
    concept_of,
    plain,
    resolve,
    time_unit_of,
)

# Where series without dates begin, as in the other sources that have none.
NOMINAL_START = "2000-01-01 00:00:00"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "epoch": 1.0, "epoch_ms": 0.001}
_ISO = r"^\d{4}-\d{2}-\d{2}"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_FATAL = {
    "UNQUOTED VALUE": "a quote is not closed, or text follows a closing quote",
    "INVALID ENCODING": "it is not UTF-8",
    "LINE SIZE OVER MAXIMUM": "a line is longer than 2 MB, most often an unclosed quote",
}
# Above this share of steps back in time a file runs backwards, rather than being a little out of order.
_BACKWARDS = 0.9


class _File(NamedTuple):
    """One file of the user.

    Args:
        label: What reports call it.
        table: Its rows in the database: `_row`, and every column as text.
        uses: What becomes of each column.
        subject: SQL of the subject.
        time: SQL of the time.
        dated: The dates are real, not counted from a start that nobody gave.
    """

    label: str
    table: str
    uses: tuple[Use, ...]
    subject: str
    time: str
    dated: bool

    def header(self, role: str) -> str | None:
        return _header(self.uses, role)


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write `measurements.parquet` to `work`.

    Args:
        raw: A file, or a folder with files of one kind.
        work: Folder to write to; made when needed.
        options: See `options:` in events.yaml.

    Returns:
        `work`, and patterns of the raw files that were read.

    Raises:
        ConfigError: Options that contradict the files, or column names with more than one meaning.
        InputError: A file that cannot be read.
    """
    wishes = Wishes.read(options)
    found = _find(raw)
    work.mkdir(parents=True)
    database = work / "reading.duckdb"
    settings = {"memory_limit": "2GB", "temp_directory": str(work / "spill")}
    with duckdb.connect(str(database), config=settings) as connection:
        files = [
            _read(connection, path, label, f"rows_{number}", wishes, options)
            for number, (path, label) in enumerate(found)
        ]
        shape = _shape(connection, files)
        _refuse_pile(options, shape)
        melted = " UNION ALL ".join(_melted(connection, file, options, shape) for file in files)
        target = _literal(str(work / "measurements.parquet"))
        connection.execute(f"COPY ({melted}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
    database.unlink()
    return work, [glob.escape(label) for _, label in found]


def _find(raw: Path) -> list[tuple[Path, str]]:
    if raw.is_file():
        if not raw.name.endswith(SUFFIXES):
            raise InputError(f"{raw.name}: a table ends with {', '.join(SUFFIXES)}; save it as one of them")
        return [(raw, raw.name)]
    found = sorted(path for path in raw.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    if not found:
        raise InputError(f"{raw}: no file that ends with {', '.join(SUFFIXES)}; give the table or its folder")
    for path in found:
        refuse_escape(path, raw)
    return [(path, path.relative_to(raw).as_posix()) for path in found]


def _read(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    label: str,
    table: str,
    wishes: Wishes,
    options: Mapping[str, str],
) -> _File:
    """Load one file as text and decide what its columns are."""
    header = read_header(path, label)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(f"{label} uses another separator than the comma; save it with commas and run again")
    without = {SUBJECT} if "subject_is" in options else set()
    without |= {TIME} if "step" in options or options.get("time") == NO_TIME else set()
    uses = tuple(resolve(header, wishes, label, without=without))
    scan(path, label)
    with unchanged(path, label):
        _load(connection, path, label, table, header)
    subject = _column(str(_header(uses, SUBJECT)))
    if "subject_is" in options:
        name = options["subject_is"]
        subject = _literal(label.split(".", maxsplit=1)[0] if name == "file" else name)
    clock = _clock(connection, table, label, _header(uses, TIME), subject, options)
    return _File(label, table, uses, f"nullif(trim({subject}), '')", clock.sql, clock.dated)


def _load(
    connection: duckdb.DuckDBPyConnection, path: Path, label: str, table: str, header: Sequence[str]
) -> None:
    """`table` with `_row`, counted in the file, and `table`_malformed with the lines that are no rows."""
    columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header)
    source = f"read_parquet({_literal(str(path))})"
    if path.suffix != ".parquet":
        source = (
            f"read_csv({_literal(str(path))}, auto_detect=false, delim=',', quote='\"', escape='\"', header=true, "
            f"columns={{{columns}}}, strict_mode=true, store_rejects=true, rejects_limit=0)"
        )
    picked = ", ".join(f"CAST({_quoted(name)} AS VARCHAR) AS {_column(name)}" for name in header)
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    try:
        connection.execute(
            f"CREATE TABLE {table}_good AS SELECT row_number() OVER () AS _good, {picked} FROM {source}"
        )
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0].split(": ", 1)[-1]
        raise InputError(f"{label} cannot be read to its end: {reason}; fetch the file again") from None
    errors: list[Any] = []
    if path.suffix != ".parquet":
        errors = connection.execute(
            "SELECT line, min(CAST(error_type AS VARCHAR)), min(csv_line) FROM reject_errors GROUP BY line ORDER BY 1"
        ).fetchall()
    _refuse_fatal(errors, label)
    connection.execute(f"CREATE TABLE {table}_malformed (_row BIGINT, _before BIGINT, _line VARCHAR)")
    if errors:  # the k-th malformed line has `line - 2 - k` good rows before it; line 1 is the header
        connection.executemany(
            f"INSERT INTO {table}_malformed VALUES (?, ?, ?)",
            [
                (line - 1, line - 2 - k, f"{kind.lower()}: {text}")
                for k, (line, kind, text) in enumerate(errors)
            ],
        )
    connection.execute(
        f"CREATE TABLE {table} AS SELECT _good + coalesce(shift, 0) AS _row, {table}_good.* FROM {table}_good "
        f"ASOF LEFT JOIN (SELECT _before, row_number() OVER (ORDER BY _row) AS shift FROM {table}_malformed) "
        "AS marks ON _good > _before ORDER BY _good"
        if errors
        else f"CREATE VIEW {table} AS SELECT _good AS _row, * FROM {table}_good"
    )


def _refuse_fatal(errors: Sequence[Any], label: str) -> None:
    for line, kind, _ in errors:
        if kind in _FATAL:
            raise InputError(
                f"{label} line {line}: {_FATAL[kind]}, so the rows after it cannot be told apart; "
                "save the file as UTF-8 CSV with quotes doubled inside quoted text"
            )


class _Clock(NamedTuple):
    """SQL of the time of a row, as text, and whether its dates are real."""

    sql: str
    dated: bool


def _clock(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    label: str,
    column: str | None,
    subject: str,
    options: Mapping[str, str],
) -> _Clock:
    start = f"CAST({_literal(_start(options))} AS TIMESTAMP)"
    dated = "start" in options
    if "step" in options:
        step = _positive(options, "step") * _SECONDS[_unit_of_time(options, "s")]
        number = f"(row_number() OVER (PARTITION BY {subject} ORDER BY _row) - 1)"
        return _Clock(_written(f"{start} + {_microseconds(f'{number} * {step}')}"), dated)
    if options.get("time") == NO_TIME:
        return _Clock(_written(start), dated)
    if column is None:
        raise ConfigError(
            f"{label}: no column is known to hold the time; say --option time=COLUMN, or how far apart the rows are, "
            "in seconds: --option step=0.5, or --option time=none for one row per subject without a time"
        )
    text = f"nullif(trim({_column(column)}), '')"
    total, iso, numbers, example = connection.execute(
        f"SELECT count(*), count(*) FILTER (regexp_matches(t, '{_ISO}')), "
        f"count(*) FILTER (regexp_matches(t, '{_NUMBER}')), min(t) FROM "
        f"(SELECT {text} AS t FROM {table} WHERE {text} IS NOT NULL LIMIT 1000)"
    ).fetchall()[0]
    told = options.get("time_unit") or (time_unit_of(column) if 2 * numbers > total else None)
    if told:
        unit = _unit_of_time(options, told)
        epoch = unit.startswith("epoch")
        zero = "TIMESTAMP '1970-01-01'" if epoch else start
        moved = _written(f"{zero} + {_microseconds(f'try_cast({text} AS DOUBLE) * {_SECONDS[unit]}')}")
        return _Clock(
            f"CASE WHEN regexp_matches({text}, '{_NUMBER}') THEN {moved} ELSE {text} END", epoch or dated
        )
    if options.get("time_format"):
        moved = _written(f"try_strptime({text}, {_literal(options['time_format'])})")
        return _Clock(
            f"coalesce({moved}, 'not ' || {_literal(options['time_format'])} || ': ' || {text})", True
        )
    if 2 * iso >= total:
        return _Clock(text, True)
    raise ConfigError(
        f"{label}, column {column!r}: {example!r} is not a time such as 2019-05-31 14:00:00; "
        f"{_time_remedy(2 * numbers > total)}"
    )


def _time_remedy(numbers: bool) -> str:
    if numbers:
        return "say its unit since the start with --option time_unit=s (ms, s, min, h, d; epoch for seconds since 1970)"
    return 'say how it is written, for example --option time_format="%d/%m/%Y %H:%M"'


def _microseconds(seconds: str) -> str:
    return f"to_microseconds(CAST(round({seconds} * 1e6) AS BIGINT))"


def _written(time: str) -> str:
    return f"strftime({time}, '%Y-%m-%d %H:%M:%S.%f')"


def _start(options: Mapping[str, str]) -> str:
    start = options.get("start", NOMINAL_START)
    if duckdb.execute("SELECT try_cast(? AS TIMESTAMP) IS NULL", [start]).fetchall()[0][0]:
        raise ConfigError(f"--option start={start!r} is not a time; write it like 2024-05-31 14:00:00")
    return start


def _unit_of_time(options: Mapping[str, str], otherwise: str) -> str:
    unit = options.get("time_unit", otherwise)
    if unit not in _SECONDS:
        raise ConfigError(f"--option time_unit={unit!r}: it must be one of {', '.join(_SECONDS)}")
    return unit


def _positive(options: Mapping[str, str], name: str) -> float:
    try:
        value = float(options[name])
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ConfigError(f"--option {name}={options[name]!r} must be a number above 0")
    return value


def _shape(connection: duckdb.DuckDBPyConnection, files: Sequence[_File]) -> str:
    """`one row`, `two rows` or `series`: the most rows (long form: times) that any subject has."""
    parts = [
        f"SELECT {file.subject} AS s, {number} AS f, {file.time if file.header(NAME) else '_row'} AS t "
        f"FROM {file.table}"
        for number, file in enumerate(files)
    ]
    most = connection.execute(
        f"SELECT max(n) FROM (SELECT count(DISTINCT (f, t)) AS n FROM ({' UNION ALL '.join(parts)}) "
        "WHERE s IS NOT NULL GROUP BY s)"
    ).fetchall()[0][0]
    return {1: "one row", 2: "two rows"}.get(most, "series")


def _refuse_pile(options: Mapping[str, str], shape: str) -> None:
    if options.get("time") == NO_TIME and "step" not in options and shape != "one row":
        raise ConfigError(
            "--option time=none: some subject has several rows, which would all fall on one moment; "
            "say --option time=COLUMN, or how far apart the rows are, in seconds: --option step=0.5"
        )


def _melted(
    connection: duckdb.DuckDBPyConnection, file: _File, options: Mapping[str, str], shape: str
) -> str:
    """SQL that gives one row per value of a file, in the order of the file."""
    items = [_item(use) for use in file.uses if use.role in (VITAL, AGE, GENDER, OTHER, SKIPPED)]
    # Only a window over subjects loses the order of the file; sorting all of it again would cost.
    order = " ORDER BY _row" if "step" in options else ""
    source = f"(SELECT *, {file.subject} AS _subject, {file.time} AS _time FROM {file.table}{order})"
    if file.header(NAME):
        _name_table(connection, file)
        items.insert(0, _long_item(file))
        name = f"nullif(trim({_column(str(file.header(NAME)))}), '')"
        source = (
            f"(SELECT rows.*, names.* FROM {source} AS rows LEFT JOIN {file.table}_names AS names "
            f"ON {name} IS NOT DISTINCT FROM names._name ORDER BY _row)"
        )
    values = ", ".join(f"({item}).v" for item in items)
    empty = f"CASE WHEN coalesce({values}) IS NULL THEN 'row' END"
    items.append(_struct("'empty'", "NULL", "NULL", empty, "NULL", "NULL", "NULL"))
    count = f"(SELECT count(*) FROM {file.table}) + (SELECT count(*) FROM {file.table}_malformed)"
    date, direction = "real" if file.dated else "nominal", _direction(connection, file)
    fixed = (
        f"{_literal(file.label)} AS file, {count} AS rows_in_file, {_literal(shape)} AS shape, "
        f"{_literal(date)} AS dates, {_literal(direction)} AS direction"
    )
    numeric = f"CASE WHEN u.k IN ('{VITAL}', '{AGE}') THEN u.v END AS number"
    other = f"CASE WHEN u.k NOT IN ('{VITAL}', '{AGE}', 'empty') THEN u.v END AS text"
    return (
        f"(SELECT NULL::VARCHAR AS malformed_line, _subject AS subject, _time AS time, u.k AS kind, u.c AS concept, "
        f"u.n AS name, {numeric}, {other}, u.u AS unit, u.m AS mapping, u.h AS how, _row AS row, {fixed} "
        f"FROM (SELECT *, unnest([{', '.join(items)}]) AS u FROM {source}) WHERE u.v IS NOT NULL) "
        f"UNION ALL (SELECT _line, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, _row, {fixed} "
        f"FROM {file.table}_malformed ORDER BY _row)"
    )


def _direction(connection: duckdb.DuckDBPyConnection, file: _File) -> str:
    """Whether the time stamps of a file run backwards from row to row."""
    back = connection.execute(
        "SELECT avg(CASE WHEN t < before THEN 1.0 ELSE 0.0 END) FROM (SELECT t, lag(t) OVER (ORDER BY _row) AS before "
        f"FROM (SELECT _row, {file.time} AS t FROM {file.table})) WHERE t <> before"
    ).fetchall()[0][0]
    return "backwards" if back is not None and back > _BACKWARDS else "forwards"


def _item(use: Use) -> str:
    value = f"nullif(trim({_column(use.header)}), '')"
    unit = "NULL" if use.unit is None else _literal(use.unit)
    concept = _literal(use.concept or AGE) if use.role in (VITAL, AGE) else "NULL"
    return _struct(
        f"'{use.role}'", concept, _literal(use.header), value, unit, _literal(_said(use)), _how(use)
    )


def _how(use: Use) -> str:
    return "'guessed'" if use.why == GUESSED else "'given'"


def _said(use: Use) -> str:
    if use.role == SKIPPED:
        return f"{use.header}: {use.why}"
    return f"{use.header} → {use.concept or use.role}" + (f" in {use.unit}" if use.unit else "")


def _long_item(file: _File) -> str:
    value = f"nullif(trim({_column(str(file.header(VALUE)))}), '')"
    unit = file.header(UNIT)
    written = f"coalesce(nullif(trim({_column(unit)}), ''), _name_unit)" if unit else "_name_unit"
    return _struct("_name_kind", "_name_concept", "_name", value, written, "_name_said", "'guessed'")


def _name_table(connection: duckdb.DuckDBPyConnection, file: _File) -> None:
    """The names of a long table, each with its quantity."""
    name = f"nullif(trim({_column(str(file.header(NAME)))}), '')"
    found = connection.execute(f"SELECT DISTINCT {name} AS n FROM {file.table} ORDER BY n").fetchall()
    connection.execute(
        f"CREATE TABLE {file.table}_names (_name VARCHAR, _name_kind VARCHAR, _name_concept VARCHAR, "
        "_name_unit VARCHAR, _name_said VARCHAR)"
    )
    for (written,) in found:
        concept, unit = concept_of(written or "")
        words = plain(written or "")
        kind = VITAL if concept else {"age": AGE, "sex": GENDER, "gender": GENDER}.get(words, OTHER)
        said = _said(Use(written or "", kind, concept, unit))
        connection.execute(
            f"INSERT INTO {file.table}_names VALUES (?, ?, ?, ?, ?)",
            [written, kind, AGE if kind == AGE else concept, unit, said],
        )


def _struct(kind: str, concept: str, name: str, value: str, unit: str, said: str, how: str) -> str:
    parts = {"k": kind, "c": concept, "n": name, "v": value, "u": unit, "m": said, "h": how}
    return "{" + ", ".join(f"'{key}': CAST({sql} AS VARCHAR)" for key, sql in parts.items()) + "}"


def _header(uses: Sequence[Use], role: str) -> str | None:
    return next((use.header for use in uses if use.role == role), None)


def _column(header: str) -> str:
    """The user's column; the prefix keeps it apart from ours, whatever it is called."""
    return _quoted(f"raw.{header}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
