"""DuckDB: the engine of one machine, with a memory limit, that spills to disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from caretrace.errors import ConfigError
from caretrace.ingest.engines.base import POSITION, Engine, Malformed, RawFile, Share
from caretrace.ingest.engines.text import Loaded, TextReader, arrow, first_line, quoted, refusing
from caretrace.ingest.reading import refuse_changed

_WATCH_SECONDS = 0.2


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
                f"--memory-limit {memory_limit!r}: refused ({first_line(error)}); write it like 4GB"
            ) from None
        # DuckDB counts how far a statement is only where it thinks it shows a bar.
        self._sql("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        self._text = TextReader(self.connection.con)
        self._loaded: dict[str, list[Loaded]] = {}

    def close(self) -> None:
        self.connection.disconnect()

    def table(self, name: str) -> Any:
        return self.connection.table(name)

    def create(self, name: str, content: Any) -> Any:
        if isinstance(content, pa.Table):
            return self.connection.create_table(name, content, overwrite=True)
        self._sql(f"CREATE OR REPLACE TABLE {quoted(name)} AS {self.connection.compile(content)}")
        return _named(name, content)

    def staged(self, name: str, rows: Any) -> Any:
        self._sql(f"CREATE OR REPLACE VIEW {quoted(name)} AS {self.connection.compile(rows)}")
        return _named(name, rows)

    def create_empty(self, name: str, columns: Any) -> Any:
        return self.connection.create_table(name, schema=columns, overwrite=True)

    def drop(self, name: str) -> None:
        if name in self._loaded:  # what `table` shows of it is a view over what `load` stored
            del self._loaded[name]
            self._sql(f"DROP VIEW {quoted(name)}; DROP TABLE {quoted(_store(name))}")
        else:
            self.connection.drop_table(name, force=True)

    def insert(self, name: str, rows: Any, share: Share | None = None) -> None:
        statement = f"INSERT INTO {quoted(name)} BY NAME {self.connection.compile(rows)}"
        with self._watched(share):
            self._sql(statement)

    def batches(self, rows: Any) -> Any:
        return arrow(self.connection.con, self.connection.compile(rows))

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
            scanned = self.table(self._text.show(file, columns))
            with refusing(file), self._watched(lambda done, i=index: share((i + done) / len(files))):  # type: ignore[misc]
                if index:
                    self.insert(_store(name), typed(scanned))
                else:
                    self.create(_store(name), typed(scanned))
            refuse_changed(file.path, file.label, file.stamp)
            lines = self._text.malformed(file)
            end = int(self._sql(f"SELECT count(*) FROM {quoted(_store(name))}").fetchone()[0])
            self._loaded[name].append(Loaded.of(start, end - start, lines))
            malformed += lines
            start = end
        self._sql(
            f"CREATE OR REPLACE VIEW {quoted(name)} AS "
            f"SELECT *, rowid AS {POSITION} FROM {quoted(_store(name))}"
        )
        return malformed

    def raw_rows(self, name: str, files: Sequence[RawFile], positions: Any) -> Any:
        wanted = positions if isinstance(positions, pa.Table) else self.fetch(positions)
        return self._text.raw_rows(files, self._loaded[name], wanted)

    def _sql(self, statement: str) -> Any:
        return self.connection.con.execute(statement)

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


def _named(name: str, rows: Any) -> Any:
    """The table that now holds `rows`; its columns are known, and asking DuckDB for them takes milliseconds."""
    return ibis.table(rows.schema(), name=name)


def _store(name: str) -> str:
    return f"stored_{name}"
