"""Tables to disk as they come: CSV for what a hospital would export, Parquet for the truth."""

from __future__ import annotations

import collections
import contextlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import polars as pl
import pyarrow.parquet as pq


class Writer(Protocol):
    """Whatever takes tables piece by piece; names that begin with `truth/` are kept apart."""

    def add(self, name: str, table: pl.DataFrame) -> None:
        """Append rows of one table."""


class StreamWriter(contextlib.AbstractContextManager["StreamWriter"]):
    """Appends tables to files; nothing is kept in memory between calls.

    Columns that end in `_time` hold seconds since 1970 (or null) and are written as date-times in UTC.

    Args:
        folder: Where the files go; exists.
    """

    def __init__(self, folder: Path) -> None:
        self.rows: collections.Counter[str] = collections.Counter()
        self._folder = folder
        self._csv: dict[str, IO[bytes]] = {}
        self._parquet: dict[str, Any] = {}
        (folder / "truth").mkdir()

    def add(self, name: str, table: pl.DataFrame) -> None:
        """Append rows of one table."""
        table = _calendar(table)
        if name.startswith("truth/"):
            arrow = table.to_arrow()
            if name not in self._parquet:
                self._parquet[name] = pq.ParquetWriter(self._folder / f"{name}.parquet", arrow.schema)
            self._parquet[name].write_table(arrow)
            self.rows[f"{name}.parquet"] += table.height
            return
        first = name not in self._csv
        if first:
            self._csv[name] = (self._folder / f"{name}.csv").open("wb")
        table.write_csv(
            self._csv[name], include_header=first, datetime_format="%Y-%m-%d %H:%M:%S", float_precision=2
        )
        self.rows[f"{name}.csv"] += table.height

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._csv.values():
            file.close()
        for writer in self._parquet.values():
            writer.close()


def _calendar(table: pl.DataFrame) -> pl.DataFrame:
    times = [name for name in table.columns if name.endswith("_time")]
    return table.with_columns((pl.col(name) * 1_000_000).cast(pl.Datetime("us")) for name in times)
