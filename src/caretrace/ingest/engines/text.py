"""Raw files as text, read by DuckDB with every guess switched off: the one reading that all engines share.

DuckDB's guesses lose rows: one over-long row made it return 1 of 2,001, an unclosed quote one column of
three. A row of the wrong length is handed back as malformed; a broken quote or a wrong encoding stops the run,
since the rows after it cannot be trusted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot

from caretrace.errors import InputError
from caretrace.ingest.engines.base import FILE, POSITION, ROW, Malformed, RawFile
from caretrace.ingest.number_text import raw_number_text

# Rows after one of these cannot be trusted, so the file is refused as a whole.
_FATAL = {
    "UNQUOTED VALUE": "a quote is not closed, or text follows a closing quote",
    "INVALID ENCODING": "it is not UTF-8",
    "LINE SIZE OVER MAXIMUM": "a line is longer than 32 MB, most often an unclosed quote",
}
# DuckDB reports a long line once for every value too many, a short one once for every value missing.
_WRONG_LENGTH = {"TOO MANY COLUMNS": (max, "too many values"), "MISSING COLUMNS": (min, "too few values")}
# A note of 10 MB is a line of 10 MB; DuckDB's own limit is 2 MB. The buffer must hold a line, and is what a
# thread reads at a time.
_LINE_BYTES, _BUFFER_BYTES = 32_000_000, 64_000_000
_BATCH = 200_000
_VIEW, _WANTED = "_scanned", "_wanted"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Where the rows of one file stand in a table.

    Args:
        start: Position of its first row.
        rows: How many rows it gave.
        before: For each malformed line, how many good rows stand in front of it.
    """

    start: int
    rows: int
    before: np.ndarray[Any, Any]

    @classmethod
    def of(cls, start: int, rows: int, malformed: Sequence[Malformed]) -> Loaded:
        """From the malformed lines of the file, in order."""
        return cls(start, rows, np.array([line.row - 1 - k for k, line in enumerate(malformed)], np.int64))


class TextReader:
    """Shows files as views of text in a DuckDB connection.

    Args:
        connection: DuckDB connection; the reader makes and replaces the view `_scanned` in it.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def show(self, file: RawFile, columns: Sequence[str]) -> str:
        """Make a view of the text of one file: `FILE` and its columns, called as the mapping calls them.

        Returns:
            Name of the view.

        Raises:
            InputError: It cannot be read at all.
        """
        kinds = _floats(file) if is_parquet(file) else {}
        picked = [f"{literal(file.label)} AS {FILE}"]
        for column in columns:
            written = file.written(column)
            text = "CAST(NULL AS VARCHAR)" if written is None else _as_text(written, kinds.get(written))
            picked.append(f"{text} AS {quoted(column)}")
        source = f"read_parquet({literal(str(file.path))})" if is_parquet(file) else _read_csv(file)
        self._connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
        try:
            self._connection.execute(
                f"CREATE OR REPLACE VIEW {_VIEW} AS SELECT {', '.join(picked)} FROM {source} AS t0"
            )
        except duckdb.Error as error:
            raise InputError(f"{file.label} cannot be read: {_reason(error)}; fetch the file again") from None
        return _VIEW

    def malformed(self, file: RawFile) -> list[Malformed]:
        """What was rejected in the file read last, one entry per line.

        Raises:
            InputError: A broken quote or encoding: no row after it can be trusted.
        """
        if is_parquet(file):
            return []
        errors = self._connection.execute(
            "SELECT line, CAST(error_type AS VARCHAR), min(error_message), min(csv_line), "
            "list(TRY_CAST(regexp_extract(error_message, 'Found: ([0-9]+)', 1) AS INTEGER)) "
            "FROM reject_errors GROUP BY ALL ORDER BY line"
        ).fetchall()
        for line, kind, *_ in errors:
            if kind in _FATAL:
                raise InputError(
                    f"{file.label} line {line}: {_FATAL[kind]}, so the rows after it cannot be told "
                    "apart; save the file as UTF-8 CSV with quotes doubled inside quoted text"
                )
        found: dict[int, Malformed] = {}
        for line, kind, message, raw, counts in errors:
            choose, words = _WRONG_LENGTH.get(kind, (None, ""))
            numbers = [count for count in counts if count is not None]
            reason = f"{kind.lower()}: {message}"
            if choose is not None and numbers:
                reason = f"{words}: {choose(numbers)} for {len(file.header)} columns"
            found.setdefault(line, Malformed(file.label, line - 1, reason, raw))
        return list(found.values())

    def raw_rows(self, files: Sequence[RawFile], loaded: Sequence[Loaded], positions: pa.Table) -> Any:
        """Rows as they stand in their files; see `Engine.raw_rows`.

        Args:
            files: The files of one table.
            loaded: Where the rows of each stand in it.
            positions: Arrow table with one column, `POSITION`.
        """
        found = []
        self._connection.register("_given", positions)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_WANTED} AS FROM _given")
        self._connection.unregister("_given")
        for file, part in zip(files, loaded, strict=True):
            end = part.start + part.rows
            inside = (
                f"(SELECT {POSITION} FROM {_WANTED} WHERE {POSITION} >= {part.start} AND {POSITION} < {end})"
            )
            if not self._connection.execute(f"SELECT count(*) FROM {inside}").fetchone()[0]:
                continue
            view = self.show(file, file.header)
            rows = arrow(
                self._connection,
                f"SELECT * FROM (SELECT row_number() OVER () - 1 + {part.start} AS {POSITION}, * FROM {view}) "
                f"WHERE {POSITION} IN {inside} ORDER BY {POSITION}",
            ).read_all()
            good = rows[POSITION].to_numpy() - part.start
            numbers = good + 1 + np.searchsorted(part.before, good, side="right")
            found.append(rows.add_column(1, ROW, pa.array(numbers, pa.int64())))
        self._connection.execute(f"DROP TABLE {_WANTED}")
        return pa.concat_tables(found, promote_options="default") if found else None


@contextmanager
def refusing(file: RawFile) -> Iterator[None]:
    """Turn DuckDB's complaints about a file that cannot be read to its end into an `InputError`."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise InputError(
            f"{file.label} cannot be read to its end: {_reason(error)}; fetch the file again"
        ) from None


def arrow(connection: Any, query: str) -> Any:
    """The rows of a query as an Arrow record batch reader."""
    relation = connection.sql(query)
    # DuckDB 2 renamed it; ibis 12.0 still calls the old name, and goes through pandas for scalars.
    reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return reader(_BATCH)


def is_parquet(file: RawFile) -> bool:
    """Whether it is Parquet, and no text."""
    return file.path.suffix == ".parquet"


def quoted(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it stands in SQL."""
    return "'" + text.replace("'", "''") + "'"


def first_line(error: Exception) -> str:
    """What an error says, without what follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _floats(file: RawFile) -> dict[str, str]:
    """The columns of a Parquet file that hold floating point numbers, and how many bits they have."""
    kinds = {"float": "float32", "double": "float64"}
    return {
        field.name: kinds[str(field.type)] for field in pq.read_schema(file.path) if str(field.type) in kinds
    }


def _as_text(column: str, kind: str | None) -> str:
    """SQL for one column of a file as text; fractions are written alike by every engine."""
    if kind is None:
        return f"CAST({quoted(column)} AS VARCHAR)"
    rows = ibis.table({column: kind}, name="file")  # compiled alone, its columns are those of "t0"
    query = str(ibis.to_sql(rows.select(text=raw_number_text(rows[column])), dialect="duckdb"))
    (alone,) = sqlglot.parse_one(query, dialect="duckdb").args["expressions"]
    return str(alone.unalias().sql("duckdb"))


def _read_csv(file: RawFile) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in file.header)
    return (
        f"read_csv({literal(str(file.path))}, auto_detect=false, delim=',', quote='\"', escape='\"', "
        f"header=true, columns={{{columns}}}, strict_mode=true, store_rejects=true, rejects_limit=0, "
        f"max_line_size={_LINE_BYTES}, buffer_size={_BUFFER_BYTES})"
    )


def _reason(error: Exception) -> str:
    """DuckDB's message without the path it was given, which users do not know."""
    line = first_line(error)
    return line.split(": ", 1)[-1] if ": " in line else line
