"""Text that leaves for a spreadsheet."""

from __future__ import annotations

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
