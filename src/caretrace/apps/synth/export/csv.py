"""CSV files that grow chunk by chunk, each row saying that it is synthetic."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import polars as pl

from caretrace.errors import InputError
from caretrace.report.export import csv_safe_texts

TIME = "%Y-%m-%d %H:%M:%S"


class CsvFiles:
    """Open CSV files of one folder.

    Args:
        folder: Where they stand.
        flag: Column that says `true` in every row; empty for none.
    """

    def __init__(self, folder: Path, flag: str = "SYNTHETIC") -> None:
        self._folder, self._flag = folder, flag
        self._stack = contextlib.ExitStack()
        self._open: dict[str, IO[bytes]] = {}

    def add(
        self, name: str, frame: pl.DataFrame, columns: Sequence[str], values: Mapping[str, pl.Expr]
    ) -> None:
        """Append rows; columns without a value stay empty."""
        empty = pl.lit(None, dtype=pl.String)
        # Not `select`: of constants alone it makes one row, also where there are none.
        table = frame.with_columns(values.get(column, empty).alias(column) for column in columns)
        table = table.select(columns)
        if self._flag:
            table = table.with_columns(pl.lit("true").alias(self._flag))
        new = name not in self._open
        if new:
            self._open[name] = self._stack.enter_context((self._folder / name).open("wb"))
        csv_safe_texts(table).write_csv(self._open[name], include_header=new, datetime_format=TIME)

    def close(self) -> None:
        """Close all files."""
        self._stack.close()


def read_csv(path: Path, flag: str = "") -> pl.DataFrame:
    """All columns as text.

    Args:
        path: The file.
        flag: Column that must say `true` in every row.

    Raises:
        InputError: It is missing, or a row does not say that it is synthetic.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{path}: not readable ({error}); give the folder that `caretrace generate` wrote"
        ) from None
    if flag and (flag not in table.columns or not (table[flag] == "true").all()):
        raise InputError(f"{path}: not every row says {flag} = true; this is no export of synthetic subjects")
    return table
