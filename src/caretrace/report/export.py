"""Text that leaves for a spreadsheet."""

from __future__ import annotations

import polars as pl

# What makes a spreadsheet take a cell for a formula (OWASP, CSV Injection).
_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_safe(cell: object) -> object:
    """A cell of a CSV export that no spreadsheet runs.

    Args:
        cell: A text, a number or nothing. Numbers stay numbers: only text can be a formula.

    Returns:
        The cell; a text that could be a formula has an apostrophe in front.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" \n").startswith(_STARTS) else cell


def csv_safe_texts(table: pl.DataFrame) -> pl.DataFrame:
    """The same of every text in a table."""
    safe = []
    for name in (name for name, dtype in table.schema.items() if dtype == pl.String):
        text = pl.col(name)
        runs = pl.any_horizontal(
            text.str.strip_chars_start(" \n").str.starts_with(start) for start in _STARTS
        )
        safe.append(pl.when(runs).then("'" + text).otherwise(text).alias(name))
    return table.with_columns(safe)
