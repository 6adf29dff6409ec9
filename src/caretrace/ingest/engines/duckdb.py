"""DuckDB: the engine of one machine, with a memory limit, that spills to disk.

Text is read with every guess switched off, because DuckDB's guesses lose rows: one over-long row made
it return 1 of 2,001, an unclosed quote one column of three. A row of the wrong length is handed back as
malformed; a broken quote or a wrong encoding stops the run, since the rows after it cannot be trusted.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa

from caretrace.errors import ConfigError, InputError
from caretrace.ingest.engines.base import FILE, POSITION, ROW, Engine, Malformed, RawFile, Share
from caretrace.ingest.reading import refuse_changed

# Rows after one of these cannot be trusted, so the file is refused as a whole.
_FATAL = {
    "UNQUOTED VALUE": "a quote is not closed, or text follows a closing quote",
    "INVALID ENCODING": "it is not UTF-8",
    "LINE SIZE OVER MAXIMUM": "a line is longer than 32 MB, most often an unclosed quote",
}
# A note of 10 MB is a line of 10 MB; DuckDB's own limit is 2 MB. The buffer must hold a line, and is what a
# thread reads at a time.
_LINE_BYTES, _BUFFER_BYTES = 32_000_000, 64_000_000
_BATCH = 200_000
_WATCH_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """Where the rows of one file stand in a table.

    Args:
        start: Position of its first row.
        rows: How many rows it gave.
        before: For each malformed line, how many good rows stand in front of it.
    """

    start: int
    rows: int
    before: np.ndarray[Any, Any]


class DuckDB(Engine):
    """One DuckDB database in the work folder.

    Args:
        work: Folder for the database and what it spills; removed by the caller.
        memory_limit: As DuckDB writes it, for example `4GB`.
        threads: Threads to use; None takes the machine's.

    Raises:
        ConfigError: Unreadable memory limit.
    """

    def __init__(self, work: Path, memory_limit: str = "4GB", threads: int | None = None) -> None:
        settings = {"temp_directory": str(work / "spill"), "memory_limit": memory_limit}
        if threads is not None:
            settings["threads"] = str(threads)
        try:
            self.connection: Any = ibis.duckdb.connect(str(work / "ingest.duckdb"), **settings)
        except (duckdb.Error, ValueError) as error:
            raise ConfigError(
                f"--memory-limit {memory_limit!r}: refused ({_first_line(error)}); write it like 4GB"
            ) from None
        self._loaded: dict[str, list[_Loaded]] = {}

    def close(self) -> None:
        self.connection.disconnect()

    def table(self, name: str) -> Any:
        return self.connection.table(name)

    def create(self, name: str, content: Any) -> Any:
        if isinstance(content, pa.Table):
            return self.connection.create_table(name, content, overwrite=True)
        self._sql(f"CREATE OR REPLACE TABLE {_quoted(name)} AS {self.connection.compile(content)}")
        return self.table(name)

    def staged(self, name: str, rows: Any) -> Any:
        self._sql(f"CREATE OR REPLACE VIEW {_quoted(name)} AS {self.connection.compile(rows)}")
        return self.table(name)

    def create_empty(self, name: str, columns: Any) -> Any:
        return self.connection.create_table(name, schema=columns, overwrite=True)

    def drop(self, name: str) -> None:
        if name in self._loaded:  # what `table` shows of it is a view over what `load` stored
            del self._loaded[name]
            self._sql(f"DROP VIEW {_quoted(name)}; DROP TABLE {_quoted(_store(name))}")
        else:
            self.connection.drop_table(name, force=True)

    def insert(self, name: str, rows: Any, share: Share | None = None) -> None:
        statement = f"INSERT INTO {_quoted(name)} BY NAME {self.connection.compile(rows)}"
        with self._watched(share):
            self._sql(statement)

    def batches(self, rows: Any) -> Any:
        return self._arrow(self.connection.compile(rows))

    def subject_number(self, name: Any) -> Any:
        return ("0x" + name.hexdigest("md5").substr(0, 15)).try_cast("int64")

    def load(
        self,
        name: str,
        files: Sequence[RawFile],
        columns: Sequence[str],
        typed: Callable[[Any], Any],
        share: Share,
    ) -> list[Malformed]:
        self.drop(name)
        self._loaded[name], malformed, start = [], [], 0
        for index, file in enumerate(files):
            self._view("_scanned", file, columns)
            try:
                with self._watched(lambda done, i=index: share((i + done) / len(files))):  # type: ignore[misc]
                    if index:
                        self.insert(_store(name), typed(self.table("_scanned")))
                    else:
                        self.create(_store(name), typed(self.table("_scanned")))
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                raise InputError(
                    f"{file.label} cannot be read to its end: {_reason(error)}; fetch the file again"
                ) from None
            refuse_changed(file.path, file.label, file.stamp)
            lines = [] if _is_parquet(file) else self._malformed(file)
            end = int(self._sql(f"SELECT count(*) FROM {_quoted(_store(name))}").fetchone()[0])
            # Line 1 is the header; of the others, those before that are malformed gave no row.
            good = np.array([line.row - 1 - k for k, line in enumerate(lines)], np.int64)
            self._loaded[name].append(_Loaded(start, end - start, good))
            malformed += lines
            start = end
        self._sql(
            f"CREATE OR REPLACE VIEW {_quoted(name)} AS "
            f"SELECT *, rowid AS {POSITION} FROM {_quoted(_store(name))}"
        )
        return malformed

    def interrupt(self) -> None:
        self.connection.con.interrupt()

    def raw_rows(self, name: str, files: Sequence[RawFile], positions: Any) -> Any:
        self.create("_wanted", positions)
        found = []
        for file, loaded in zip(files, self._loaded[name], strict=True):
            end = loaded.start + loaded.rows
            inside = (
                f"(SELECT {POSITION} FROM _wanted WHERE {POSITION} >= {loaded.start} AND {POSITION} < {end})"
            )
            if not self._sql(f"SELECT count(*) FROM {inside}").fetchone()[0]:
                continue
            self._view("_scanned", file, file.header)
            rows = self._arrow(
                f"SELECT * FROM (SELECT row_number() OVER () - 1 + {loaded.start} AS {POSITION}, * FROM _scanned) "
                f"WHERE {POSITION} IN {inside} ORDER BY {POSITION}"
            ).read_all()
            good = rows[POSITION].to_numpy() - loaded.start
            numbers = good + 1 + np.searchsorted(loaded.before, good, side="right")
            found.append(rows.add_column(1, ROW, pa.array(numbers, pa.int64())))
        self.drop("_wanted")
        return pa.concat_tables(found, promote_options="default") if found else None

    def _sql(self, statement: str) -> Any:
        return self.connection.con.execute(statement)

    def _arrow(self, query: str) -> Any:
        relation = self.connection.con.sql(query)
        # DuckDB 2 renamed it; ibis 12.0 still calls the old name, and goes through pandas for scalars.
        reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        return reader(_BATCH)

    def _view(self, name: str, file: RawFile, columns: Sequence[str]) -> None:
        """The text of one file, with its columns called as the mapping calls them."""
        source = f"read_parquet({_literal(str(file.path))})" if _is_parquet(file) else _read_csv(file)
        picked = [f"{_literal(file.label)} AS {FILE}"]
        for column in columns:
            written = file.written(column)
            text = "NULL" if written is None else _quoted(written)
            picked.append(f"CAST({text} AS VARCHAR) AS {_quoted(column)}")
        self._sql("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
        try:
            self._sql(f"CREATE OR REPLACE VIEW {name} AS SELECT {', '.join(picked)} FROM {source}")
        except duckdb.Error as error:
            raise InputError(f"{file.label} cannot be read: {_reason(error)}; fetch the file again") from None

    @contextmanager
    def _watched(self, share: Share | None) -> Iterator[None]:
        """Tell `share` how far the statements of the block are."""
        done = threading.Event()

        def watch() -> None:
            while share is not None and not done.wait(_WATCH_SECONDS):
                share(max(0.0, self.connection.con.query_progress()) / 100)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _malformed(self, file: RawFile) -> list[Malformed]:
        """What DuckDB rejected in the file read last, one entry per line."""
        errors = self._sql(
            "SELECT line, min(CAST(error_type AS VARCHAR)), min(error_message), min(csv_line) "
            "FROM reject_errors GROUP BY line ORDER BY line"
        ).fetchall()
        fatal = self._sql(
            f"SELECT line, CAST(error_type AS VARCHAR) FROM reject_errors WHERE CAST(error_type AS VARCHAR) IN "
            f"({', '.join(map(_literal, _FATAL))}) ORDER BY line LIMIT 1"
        ).fetchone()
        if fatal is not None:
            raise InputError(
                f"{file.label} line {fatal[0]}: {_FATAL[fatal[1]]}, so the rows after it cannot be told "
                "apart; save the file as UTF-8 CSV with quotes doubled inside quoted text"
            )
        return [
            Malformed(file.label, line - 1, f"{kind.lower()}: {text}", raw)
            for line, kind, text, raw in errors
        ]


def _store(name: str) -> str:
    return f"stored_{name}"


def _is_parquet(file: RawFile) -> bool:
    return file.path.suffix == ".parquet"


def _read_csv(file: RawFile) -> str:
    columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in file.header)
    return (
        f"read_csv({_literal(str(file.path))}, auto_detect=false, delim=',', quote='\"', escape='\"', "
        f"header=true, columns={{{columns}}}, strict_mode=true, store_rejects=true, rejects_limit=0, "
        f"max_line_size={_LINE_BYTES}, buffer_size={_BUFFER_BYTES})"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reason(error: Exception) -> str:
    """DuckDB's message without the path it was given, which users do not know."""
    line = _first_line(error)
    return line.split(": ", 1)[-1] if ": " in line else line
