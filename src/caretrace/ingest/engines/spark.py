"""Spark: the engine for tables that outgrow one machine; the same expressions, the same rows.

Text is read by the reader that all engines share, and reaches Spark as Parquet: Spark's own CSV reader takes a
row with too many values for a whole one, reads on after a broken quote, and does not number rows. Typed Parquet
is read by Spark itself, file by file in parallel.
"""

from __future__ import annotations

import functools
import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import pyarrow as pa
import pyarrow.parquet as pq

from caretrace.errors import InputError
from caretrace.ingest.engines.base import FILE, POSITION, Engine, Malformed, RawFile, Share
from caretrace.ingest.engines.dialect import for_spark
from caretrace.ingest.engines.spark_session import reader_memory, start_session
from caretrace.ingest.engines.text import (
    Loaded,
    TextReader,
    first_line,
    is_parquet,
    literal,
    quoted,
    refusing,
)
from caretrace.ingest.number_text import raw_number_text
from caretrace.ingest.reading import refuse_changed

# Files read by one Spark job.
_FILES = 40
# Inserts done by one Spark job.
_INSERTS = 16
_SCANNED = "_scanned"


class Spark(Engine):
    """Tables as folders of Parquet in the work folder, shown as temporary views of a Spark session.

    Args:
        work: Folder for the tables and what is spilled; every executor must reach it. Removed by the caller.
        memory_limit: For the driver and the reader of text together, for example `4GB`.
        threads: Threads on this machine; None takes its cores.

    Raises:
        ConfigError: No PySpark, no Java, or an unreadable memory limit.
    """

    def __init__(self, work: Path, memory_limit: str = "4GB", threads: int | None = None) -> None:
        self._work = work.resolve() / "spark"
        self._work.mkdir(parents=True)
        self._session, self._started = start_session(self._work, memory_limit, threads)
        settings = {"memory_limit": reader_memory(memory_limit), "temp_directory": str(work / "spill")}
        self._reading = duckdb.connect(
            config=settings | ({} if threads is None else {"threads": str(threads)})
        )
        self._text = TextReader(self._reading)
        self._ibis: Any = ibis.pyspark.connect(self._session)
        self._folders: dict[str, Path] = {}
        self._loaded: dict[str, list[Loaded]] = {}
        self._waiting: dict[str, list[Any]] = {}
        self._numbers = itertools.count()

    def close(self) -> None:
        self._reading.close()
        self._waiting.clear()
        for name in list(self._folders):
            self.drop(name)
        if self._started:
            self._session.stop()

    def table(self, name: str) -> Any:
        return self._ibis.table(name)

    def create(self, name: str, content: Any) -> Any:
        folder = self._new()
        if isinstance(content, pa.Table):
            folder.mkdir()
            pq.write_table(content, folder / "part-00000.parquet")
            found = _spark_schema(ibis.Schema.from_pyarrow(content.schema))
        else:
            frame = self._frame(content)
            frame.write.parquet(_address(folder))
            found = frame.schema
        return self._shown(name, folder, found)

    def create_empty(self, name: str, columns: Any) -> Any:
        folder = self._new()
        folder.mkdir()
        return self._shown(name, folder, _spark_schema(columns))

    def staged(self, name: str, rows: Any) -> Any:
        self._frame(rows).createOrReplaceTempView(name)
        return self.table(name)

    def drop(self, name: str) -> None:
        for into in list(self._waiting):  # what waits may be made of what goes
            self._write(into)
        self._loaded.pop(name, None)
        folder = self._folders.pop(name, None)
        if folder is not None:
            self._session.catalog.dropTempView(name)
            shutil.rmtree(folder, ignore_errors=True)

    def insert(self, name: str, rows: Any, share: Share | None = None) -> None:
        columns = self._session.table(name).schema
        frame = self._frame(rows).selectExpr(
            *(f"CAST(`{c.name}` AS {c.dataType.simpleString()}) AS `{c.name}`" for c in columns)
        )
        # A job costs a fifth of a second whatever its size, so several are done as one.
        waiting = self._waiting.setdefault(name, [])
        waiting.append(frame)
        if len(waiting) == _INSERTS:
            self._write(name)
        if share is not None:
            share(1.0)

    def batches(self, rows: Any) -> Any:
        folder = self._new()
        self._frame(rows).write.parquet(_address(folder))
        # Spark writes one file for every part of the order, and numbers them in it.
        files = sorted(folder.glob("part-*.parquet"), key=lambda path: int(path.name.split("-")[1]))
        columns = pq.read_schema(files[0]).remove_metadata()

        def read() -> Iterator[pa.RecordBatch]:
            for path in files:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches():
                        yield batch.cast(columns)
                path.unlink()
            shutil.rmtree(folder)

        return pa.RecordBatchReader.from_batches(columns, read())

    def fetch(self, rows: Any) -> Any:
        return self._frame(rows).toArrow()

    def count(self, rows: Any) -> int:
        name = getattr(rows.op(), "name", None)
        if isinstance(rows.op(), ops.DatabaseTable) and name in self._folders and name not in self._waiting:
            return sum(pq.read_metadata(path).num_rows for path in self._folders[name].glob("part-*.parquet"))
        return super().count(rows)

    def subject_number(self, name: Any) -> Any:
        return _converted(name.hexdigest("md5").substr(0, 15), 16, 10).try_cast("int64")

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
        folder, found = self._new(), None
        for first in range(0, len(files), _FILES):
            parts, text = [], self._new()
            text.mkdir()
            for file in files[first : first + _FILES]:
                path = file.path if _is_plain(file) else self._as_parquet(file, columns, text)
                lines = self._text.malformed(file) if path != file.path else []
                part = Loaded.of(start, pq.read_metadata(path).num_rows, lines)
                parts.append(self._scanned(path, file, columns, part.start))
                self._loaded[name].append(part)
                malformed += lines
                start += part.rows
            share((first + 0.5 * len(parts)) / len(files))
            rows = self.staged(_SCANNED, ibis.union(*parts) if len(parts) > 1 else parts[0])
            frame = self._frame(typed(rows))
            found = frame.schema
            try:
                frame.write.mode("append").parquet(_address(folder))
            except Exception as error:
                raise InputError(
                    f"{name.removeprefix('all_')} cannot be read to its end: {first_line(error)}; fetch its files again"
                ) from error
            for file in files[first : first + _FILES]:
                refuse_changed(file.path, file.label, file.stamp)
            shutil.rmtree(text)
            share((first + len(parts)) / len(files))
        self._shown(name, folder, found)
        return malformed

    def raw_rows(self, name: str, files: Sequence[RawFile], positions: Any) -> Any:
        wanted = positions if isinstance(positions, pa.Table) else self.fetch(positions)
        return self._text.raw_rows(files, self._loaded[name], wanted)

    def _frame(self, rows: Any) -> Any:
        """What Spark runs for an Ibis expression."""
        for name in {table.name for table in rows.op().find(ops.DatabaseTable)} & self._waiting.keys():
            self._write(name)
        return self._session.sql(self._ibis.compile(for_spark(rows)))

    def _new(self) -> Path:
        return self._work / f"{next(self._numbers)}"

    def _shown(self, name: str, folder: Path, columns: Any) -> Any:
        """A folder of Parquet as the table `name`, instead of what was called so."""
        before = self._folders.get(name)
        self._folders[name] = folder
        # The files are listed here and now: after every change the view is made again.
        self._session.read.schema(columns).parquet(_address(folder)).createOrReplaceTempView(name)
        if before not in (None, folder):
            shutil.rmtree(before, ignore_errors=True)
        return self.table(name)

    def _write(self, name: str) -> None:
        """Append what waits to be inserted into a table."""
        frame = functools.reduce(lambda one, two: one.unionAll(two), self._waiting.pop(name))
        frame.write.mode("append").parquet(_address(self._folders[name]))
        self._shown(name, self._folders[name], frame.schema)

    def _as_parquet(self, file: RawFile, columns: Sequence[str], folder: Path) -> Path:
        """The text of a file as Parquet, rows in order, columns called as the mapping calls them."""
        path = folder / f"{next(self._numbers)}.parquet"
        # The names of columns are those of the mapping; a source may use names that Spark does not take.
        numbered = ", ".join(f"{quoted(column)} AS c{index}" for index, column in enumerate(columns))
        with refusing(file):
            view = self._text.show(file, columns)
            self._reading.execute(
                f"COPY (SELECT {numbered} FROM {view}) TO {literal(str(path))} (FORMAT parquet)"
            )
        return path

    def _scanned(self, path: Path, file: RawFile, columns: Sequence[str], start: int) -> Any:
        """The rows of a Parquet file as text, with `FILE` and `POSITION`."""
        from pyspark.sql.functions import col, lit

        number = f"_file_{next(self._numbers)}"
        reader = self._session.read
        if path != file.path:  # what we wrote need not be looked into
            reader = reader.schema(
                _spark_schema(ibis.schema({f"c{i}": "string" for i in range(len(columns))}))
            )
        frame = reader.parquet(_address(path, is_pattern=True))
        at = (lit(start) + col("_metadata.row_index")).alias(POSITION)
        frame.select("*", at).createOrReplaceTempView(number)
        rows = self.table(number)
        cells: dict[str, Any] = {}
        for index, column in enumerate(columns):
            written = file.written(column) if path == file.path else f"c{index}"
            if written is None:
                cells[column] = ibis.null("string")
            elif rows[written].type().is_floating():
                cells[column] = raw_number_text(rows[written])
            else:
                cells[column] = rows[written].cast("string")
        return rows.select(**{FILE: ibis.literal(file.label), POSITION: rows[POSITION]}, **cells)


@ibis.udf.scalar.builtin(name="conv")
def _converted(number: str, from_base: int, to_base: int) -> str:
    """Spark's function of that name."""
    raise NotImplementedError


def _spark_schema(columns: Any) -> Any:
    from ibis.backends.pyspark.datatypes import PySparkSchema

    return PySparkSchema.from_ibis(columns)


def _is_plain(file: RawFile) -> bool:
    """Whether Spark reads a file itself: Parquet, of types whose text is the same on every engine."""
    if not is_parquet(file):
        return False
    kinds = pa.types

    def plain(kind: Any) -> bool:
        if kinds.is_dictionary(kind):
            return plain(kind.value_type)
        if kinds.is_timestamp(kind):
            return kind.tz is None and kind.unit in ("ms", "us")
        tests = (
            *(kinds.is_string, kinds.is_large_string, kinds.is_boolean, kinds.is_signed_integer),
            *(kinds.is_float32, kinds.is_float64, kinds.is_date32, kinds.is_decimal128),
        )
        return any(test(kind) for test in tests)

    return all(plain(field.type) for field in pq.read_schema(file.path))


def _address(path: Path, *, is_pattern: bool = False) -> str:
    """A path as Spark takes it, which also knows other places than disks."""
    text = str(path)
    return "file://" + (re.sub(r"([\\\[\]{}*?])", r"\\\1", text) if is_pattern else text)
