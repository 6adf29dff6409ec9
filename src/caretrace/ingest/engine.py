"""DuckDB through Ibis: the one place that knows which engine runs.

Text is read with every guess switched off, because DuckDB's guesses lose rows: one over-long row made
it return 1 of 2,001, an unclosed quote one column of three. A row of the wrong length is handed back as
malformed; a broken quote or a wrong encoding stops the run, since the rows after it cannot be trusted.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis

from caretrace.errors import ConfigError, InputError, unknown_name

ENGINES = ("duckdb",)
SUFFIXES = (".csv", ".csv.gz", ".parquet")

# Columns in front of the raw ones: file, row in the file (1 is the first after the header), row in the table.
FILE, ROW, POSITION = "_file", "_row", "_position"
LEADING = (FILE, ROW, POSITION)

# A header longer than this is not a header.
_HEADER_BYTES = 1 << 20
# Rows after one of these cannot be trusted, so the file is refused as a whole.
_FATAL = {
    "UNQUOTED VALUE": "a quote is not closed, or text follows a closing quote",
    "INVALID ENCODING": "it is not UTF-8",
    "LINE SIZE OVER MAXIMUM": "a line is longer than 2 MB, most often an unclosed quote",
}


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A line with too many or too few values.

    Args:
        file: Path below the raw folder.
        row: Data row in that file, counted from 1.
        reason: What is wrong with it.
        line: The line as it stands.
    """

    file: str
    row: int
    reason: str
    line: str


class Engine:
    """One DuckDB database in the work folder, with a memory limit, that spills to disk.

    Args:
        work: Folder for the database and what it spills; removed by the caller.
        engine: Name of the engine; only `duckdb` today.
        memory_limit: As DuckDB writes it, for example `4GB`.
        threads: Threads to use; None takes the machine's.

    Raises:
        ConfigError: Unknown engine or unreadable memory limit.
    """

    def __init__(
        self, work: Path, *, engine: str = "duckdb", memory_limit: str = "4GB", threads: int | None = None
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError(unknown_name("engine", engine, ENGINES))
        settings = {"temp_directory": str(work / "spill"), "memory_limit": memory_limit}
        if threads is not None:
            settings["threads"] = str(threads)
        try:
            self.connection: Any = ibis.duckdb.connect(str(work / "ingest.duckdb"), **settings)
        except (duckdb.Error, ValueError) as error:
            raise ConfigError(
                f"--memory-limit {memory_limit!r}: refused ({_first_line(error)}); write it like 4GB"
            ) from None

    def close(self) -> None:
        """Let go of the database file."""
        self.connection.disconnect()

    def sql(self, statement: str) -> Any:
        """Run one statement that Ibis has no word for."""
        return self.connection.raw_sql(statement)

    def table(self, name: str) -> Any:
        """An existing table as an Ibis expression."""
        return self.connection.table(name)

    def create(self, name: str, content: Any) -> Any:
        """Store an Ibis expression, or an Arrow table, as a table."""
        return self.connection.create_table(name, content, overwrite=True)

    def drop(self, name: str) -> None:
        """Forget a table."""
        self.connection.drop_table(name, force=True)

    def insert(self, name: str, rows: Any) -> None:
        """Append the rows of an Ibis expression to a table with the same columns."""
        self.connection.insert(name, rows)

    def batches(self, rows: Any, size: int = 200_000) -> Any:
        """The rows of an Ibis expression as an Arrow reader, in its order, never all at once."""
        relation = self.connection.con.sql(str(ibis.to_sql(rows, dialect="duckdb")))
        # DuckDB 2 renamed it; ibis 12.0 still calls the old name, and goes through pandas for scalars.
        reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        return reader(size)

    def fetch(self, rows: Any) -> Any:
        """The rows of an Ibis expression as an Arrow table."""
        return self.batches(rows).read_all()

    def count(self, rows: Any) -> int:
        """How many rows an Ibis expression has."""
        return int(self.fetch(rows.aggregate(rows=rows.count()))["rows"][0].as_py())

    def load_text(self, name: str, files: list[tuple[Path, str]]) -> list[Malformed]:
        """Load files as text into the table `name`: `LEADING`, then every column of every header.

        Args:
            name: Table to make.
            files: Path to read and how to call it in reports.

        Returns:
            The rows that could not be read as rows, in file order.

        Raises:
            InputError: A file that cannot be read in full, or that changed while it was read.
        """
        headers = [(path, label, read_header(path, label)) for path, label in files]
        columns = list(dict.fromkeys(column for _, _, header in headers for column in header))
        declared = [f"{FILE} VARCHAR", f"{ROW} BIGINT", f"{POSITION} BIGINT"]
        declared += [f"{_quoted(column)} VARCHAR" for column in columns]
        self.sql(f"CREATE OR REPLACE TABLE {_quoted(name)} ({', '.join(declared)})")
        malformed: list[Malformed] = []
        for path, label, header in headers:
            before = _stamp(path)
            malformed += self._load_file(name, path, label, header)
            if _stamp(path) != before:
                raise InputError(
                    f"{label} changed while it was read; wait until its writer is done and run again"
                )
        return malformed

    def _load_file(self, name: str, path: Path, label: str, header: list[str]) -> list[Malformed]:
        offset = int(self.sql(f"SELECT count(*) FROM {_quoted(name)}").fetchone()[0])
        is_parquet = path.suffix == ".parquet"
        source = f"read_parquet({_literal(str(path))})" if is_parquet else _read_csv(path, header)
        picked = ", ".join(f"CAST({_quoted(column)} AS VARCHAR) AS {_quoted(column)}" for column in header)
        self.sql("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
        try:
            self.sql(
                f"INSERT INTO {_quoted(name)} BY NAME SELECT {_literal(label)} AS {FILE}, "
                f"row_number() OVER () AS {ROW}, {offset} + row_number() OVER () AS {POSITION}, {picked} "
                f"FROM {source}"
            )
        except duckdb.Error as error:
            raise InputError(
                f"{label} cannot be read to its end: {_reason(error)}; fetch the file again"
            ) from None
        return [] if is_parquet else self._malformed(name, label)

    def _malformed(self, name: str, label: str) -> list[Malformed]:
        """What DuckDB rejected, one entry per line; the row numbers after it are moved to fit."""
        errors = self.sql(
            "SELECT line, min(error_type), min(error_message), min(csv_line) FROM reject_errors "
            "GROUP BY line ORDER BY line"
        ).fetchall()
        fatal = self.sql(
            f"SELECT line, error_type FROM reject_errors WHERE CAST(error_type AS VARCHAR) IN "
            f"({', '.join(map(_literal, _FATAL))}) ORDER BY line LIMIT 1"
        ).fetchone()
        if fatal is not None:
            raise InputError(
                f"{label} line {fatal[0]}: {_FATAL[str(fatal[1])]}, so the rows after it cannot be told "
                "apart; save the file as UTF-8 CSV with quotes doubled inside quoted text"
            )
        if not errors:
            return []
        # `before` good rows stand in front of the k-th malformed one (line 1 is the header).
        marks = ", ".join(f"({line - 2 - k}, {k + 1})" for k, (line, *_) in enumerate(errors))
        self.sql(
            f"UPDATE {_quoted(name)} SET {ROW} = {_quoted(name)}.{ROW} + moved.shift "
            f"FROM (SELECT rows.{POSITION} AS p, marks.shift FROM {_quoted(name)} AS rows "
            f"ASOF JOIN (VALUES {marks}) AS marks(before, shift) "
            f"ON rows.{ROW} > marks.before WHERE rows.{FILE} = {_literal(label)}) AS moved "
            f"WHERE {_quoted(name)}.{POSITION} = moved.p"
        )
        return [
            Malformed(label, line - 1, f"{kind.lower()}: {text}", raw) for line, kind, text, raw in errors
        ]


@contextmanager
def running(
    work: Path, *, engine: str = "duckdb", memory_limit: str = "4GB", threads: int | None = None
) -> Iterator[Engine]:
    """An `Engine` that is closed when the block ends; see there for the arguments."""
    with warnings.catch_warnings():
        # ibis 12.0 calls what DuckDB 2.0 renamed; not ours to mend, and harmless.
        warnings.filterwarnings("ignore", r"fetch_arrow_table\(\) is deprecated", DeprecationWarning)
        started = Engine(work, engine=engine, memory_limit=memory_limit, threads=threads)
        try:
            yield started
        finally:
            started.close()


def find_file(raw: Path, stem: str) -> Path | None:
    """The file of a table below the raw folder, whatever its suffix; None when there is none.

    Raises:
        InputError: Two files of one stem, or a link that leads out of the raw folder.
    """
    found = [path for suffix in SUFFIXES if (path := raw / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{raw}: {names} are the same table twice; keep one of them")
    if found and not found[0].resolve().is_relative_to(raw.resolve()):
        raise InputError(f"{found[0]} is a link that leads out of {raw}; copy the file into the folder")
    return found[0] if found else None


def read_header(path: Path, label: str) -> list[str]:
    """The column names of a file.

    Raises:
        InputError: Empty file, not UTF-8, not gzip, or one column name twice.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{label} is not a Parquet file ({_first_line(error)}); fetch it again"
            ) from None
    start = _start(path, label)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{label} is UTF-16; save it as UTF-8 and run again")
    start = start.removeprefix(b"\xef\xbb\xbf")
    if not start.strip():
        raise InputError(f"{label} is empty, not even a header; fetch it again or remove the file")
    first = start.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n", 1)[0]
    try:
        header = next(csv.reader(io.StringIO(first.decode("utf-8"))))
    except UnicodeDecodeError:
        raise InputError(f"{label}: the header is not UTF-8; save the file as UTF-8 and run again") from None
    header = [name.strip() for name in header]
    lowered = [name.lower() for name in header]
    twice = sorted({name for name in lowered if lowered.count(name) > 1})
    if twice:
        raise InputError(f"{label}: the header names {twice[0]!r} twice; rename or remove one of the columns")
    return header


def _start(path: Path, label: str) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                return packed.read(_HEADER_BYTES) if path.stat().st_size else b""
        with path.open("rb") as plain:
            return plain.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{label} cannot be read ({_first_line(error)}); fetch the file again") from None


def _read_csv(path: Path, header: list[str]) -> str:
    columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header)
    return (
        f"read_csv({_literal(str(path))}, auto_detect=false, delim=',', quote='\"', escape='\"', "
        f"header=true, columns={{{columns}}}, strict_mode=true, store_rejects=true, rejects_limit=0)"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reason(error: Exception) -> str:
    """DuckDB's message without the path it was given, which users do not know."""
    line = _first_line(error)
    return line.split(": ", 1)[-1] if ": " in line else line
