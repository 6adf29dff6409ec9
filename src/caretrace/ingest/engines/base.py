"""What the pipeline asks of an engine: store rows, run Ibis expressions, hand rows over in order.

The mapping itself is Ibis and knows no engine. Here is what Ibis has no word for: reading raw text without
guessing, the number of a row in its file, and appending.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from caretrace.ingest.reading import Stamp

# The file a row came from, its number there (1 is the first after the header), its number in the table.
FILE, ROW, POSITION = "_file", "_row", "_position"

# Called with the share of the running statement that is done, 0 to 1.
Share = Callable[[float], None]


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One file of a raw table.

    Args:
        path: Where it lies.
        label: How reports call it: its path below the raw folder.
        header: Its column names as written.
        stamp: What `caretrace.ingest.reading.stamp` said before anything of it was read.
    """

    path: Path
    label: str
    header: tuple[str, ...]
    stamp: Stamp

    def written(self, column: str) -> str | None:
        """How this file writes a column: exactly so, or with other capitals; None when it is not there."""
        if column in self.header:
            return column
        return next((name for name in self.header if name.lower() == column.lower()), None)


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


class Engine(abc.ABC):
    """Tables by name, and Ibis expressions over them."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything; the caller removes the work folder."""

    @abc.abstractmethod
    def load(
        self,
        name: str,
        files: Sequence[RawFile],
        columns: Sequence[str],
        typed: Callable[[Any], Any],
        share: Share,
    ) -> list[Malformed]:
        """Read files as text and store `typed(rows)` as the table `name`.

        Args:
            name: Table to make. It holds what `typed` selects, plus `FILE` and `POSITION` (rows in file order,
                from 0, across files).
            files: Files to read, in order; each read once from its start to its end.
            columns: Columns to read, as the mapping calls them; all text.
            typed: Row-wise Ibis expression over `columns` and `FILE`; it may not join, group or reorder, and keeps
                the column `POSITION` where an engine gives it one.
            share: Told how much is done.

        Returns:
            Lines that are no rows, in file order; they are not in the table.

        Raises:
            InputError: A file that cannot be read in full, or that changed while it was read.
        """

    @abc.abstractmethod
    def raw_rows(self, name: str, files: Sequence[RawFile], positions: Any) -> Any:
        """Rows of a loaded table as they stand in its files.

        Args:
            name: Table made by `load`.
            files: The files it was made from.
            positions: Ibis or Arrow table with one column, `POSITION`.

        Returns:
            Arrow table ordered by `POSITION`: it, `FILE`, `ROW` and every column of every header as text.
        """

    @abc.abstractmethod
    def table(self, name: str) -> Any:
        """An existing table as an Ibis expression."""

    @abc.abstractmethod
    def create(self, name: str, content: Any) -> Any:
        """Store an Ibis expression or an Arrow table, and return it as an Ibis expression."""

    @abc.abstractmethod
    def staged(self, name: str, rows: Any) -> Any:
        """The same rows behind a name (a view), so that what is built on them does not compute them twice."""

    @abc.abstractmethod
    def create_empty(self, name: str, columns: Any) -> Any:
        """Make a table without rows from an Ibis schema."""

    @abc.abstractmethod
    def drop(self, name: str) -> None:
        """Forget a table, if it is there."""

    @abc.abstractmethod
    def insert(self, name: str, rows: Any, share: Share | None = None) -> None:
        """Append the rows of an Ibis expression to a table with the same columns."""

    @abc.abstractmethod
    def batches(self, rows: Any) -> Any:
        """The rows of an Ibis expression as an Arrow record batch reader, in its order, never all at once."""

    @abc.abstractmethod
    def subject_number(self, name: Any) -> Any:
        """The positive number of a subject whose id is text: the first 60 bits of its MD5, on every engine."""

    def fetch(self, rows: Any) -> Any:
        """The rows of an Ibis expression as an Arrow table."""
        return self.batches(rows).read_all()

    def count(self, rows: Any) -> int:
        """How many rows an Ibis expression has."""
        return int(self.fetch(rows.aggregate(rows=rows.count()))["rows"][0].as_py())
