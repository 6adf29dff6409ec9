"""What `events.yaml` says: the tables of one source, and what becomes of them.

The format, key by key, is explained in `sources/README.md`; formulas and templates in
`caretrace.ingest.expressions`; `caretrace.ingest.mapping_file` reads it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caretrace.ingest.expressions import Formula, Template

# What a column of a raw table can hold; `!` after it means that an empty value is quarantined, `?` that
# the whole column may be missing.
COLUMN_TYPES = ("subject", "subject_name", "int", "number", "text", "time", "clock")
SUBJECT_KINDS = ("subject", "subject_name")

# Columns that every loaded table has beside its own: the file a row came from.
FILE_COLUMN = "_file"
# The subject of a table that has none of its own, and what `quantity:` gives to formulas.
JOINED_SUBJECT = "_subject"
QUANTITY_VALUE, QUANTITY_UNIT = "quantity.value", "quantity.unit"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a raw table that the mapping uses.

    Args:
        name: What formulas call it.
        kind: One of `COLUMN_TYPES`; `clock` is hh:mm since the start, read as seconds; `subject_name` is
            text that becomes a number by its hash.
        required: An empty value quarantines the row.
        header: What the file calls it; the same as `name` unless that cannot stand in a formula.
        optional: A file without it is read as if it were empty.
    """

    name: str
    kind: str
    required: bool
    header: str
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Event:
    """One measurement per row (where `when` holds and the time is known).

    Args:
        code: Template of the code; an empty part is written `UNK`.
        time: Formula of the time from which the value may be used; None is a static measurement.
        when: Formula that selects rows; None takes all.
        numeric_value: Formula or None.
        text_value: Template or None.
        event_type: Template of the `schema.EventType`.
        unit: Template of the unit in `codes.parquet`, or None.
        description: Template of the description in `codes.parquet`, or None.
        parent_codes: Templates of broader codes in `codes.parquet`.
    """

    code: Template
    time: Formula | None
    when: Formula | None
    numeric_value: Formula | None
    text_value: Template | None
    event_type: Template
    unit: Template | None
    description: Template | None
    parent_codes: tuple[Template, ...]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Which number of a row is a physical quantity with limits and units; see `caretrace.ingest.quantities`.

    Args:
        concept: Formula of its name, for example `heart_rate`; empty where the row is none of them.
        value: Formula of the number as written.
        unit: Formula of its unit, or None for the canonical one.
    """

    concept: Formula
    value: Formula
    unit: Formula | None


@dataclasses.dataclass(frozen=True)
class Period:
    """The two columns between which a row lasts, such as an ICU stay.

    Args:
        start: Name of a time column.
        end: Name of a time column.
    """

    start: str
    end: str


@dataclasses.dataclass(frozen=True)
class Flag:
    """Rows that are kept but counted.

    Args:
        name: Short name in the quality report.
        when: Formula that is true for a flagged row.
        meaning: What it means, in words.
        by: Formula whose values split the count, or None.
    """

    name: str
    when: Formula
    meaning: str
    by: Formula | None


@dataclasses.dataclass(frozen=True)
class Table:
    """One raw table.

    Args:
        name: How formulas of other tables call it.
        files: File stems or patterns of stems; `.csv`, `.csv.gz` and `.parquet` are tried.
        optional: The table may be absent.
        columns: Columns used.
        key: Columns that name one row (needed to be joined); a second row with the same is quarantined.
        joins: Table → this table's columns that equal its key.
        flags: Counted, never dropped.
        events: In the order that breaks ties of time.
        subject_of: The joined table that knows the subject, where this one has no column for it.
        quantity: Its physical quantity, or None.
        period: How long a row lasts, or None.
    """

    name: str
    files: tuple[str, ...]
    optional: bool
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    joins: Mapping[str, tuple[str, ...]]
    flags: tuple[Flag, ...]
    events: tuple[Event, ...]
    subject_of: str | None = None
    quantity: Quantity | None = None
    period: Period | None = None

    @property
    def subject_column(self) -> Column | None:
        """Its own column with the subject, None where another table knows it or nobody does."""
        return next((column for column in self.columns if column.kind in SUBJECT_KINDS), None)

    @property
    def subject(self) -> str | None:
        """The column of its loaded rows with the subject, None for a dictionary."""
        if self.subject_of is not None:
            return JOINED_SUBJECT
        return None if self.subject_column is None else self.subject_column.name

    @property
    def names(self) -> tuple[str, ...]:
        """Names a formula may use."""
        quantity = (QUANTITY_VALUE, QUANTITY_UNIT) if self.quantity else ()
        return (*(column.name for column in self.columns), FILE_COLUMN, *quantity)


@dataclasses.dataclass(frozen=True)
class View:
    """A table made of another one: one row per value of `by`.

    Args:
        name: How formulas call it.
        source: The table it is made of.
        by: The column that names one row.
        columns: Name → aggregating formula.
        joins: Table → this view's columns that equal its key.
        flags: Counted, never dropped.
        events: One measurement per row of the view; `by` is then the subject.
    """

    name: str
    source: str
    by: str
    columns: Mapping[str, Formula]
    joins: Mapping[str, tuple[str, ...]]
    flags: tuple[Flag, ...]
    events: tuple[Event, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that name one row."""
        return (self.by,)

    @property
    def subject(self) -> str:
        """The column with the subject."""
        return self.by

    @property
    def names(self) -> tuple[str, ...]:
        """Names a formula may use."""
        return (self.by, *self.columns)


@dataclasses.dataclass(frozen=True)
class ValueTable:
    """A small table written in `events.yaml` itself (units, limits, names).

    Args:
        name: How formulas call it.
        key: Its first column.
        columns: All column names.
        rows: One tuple per row.
        origin: Where its values come from.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    origin: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names a formula may use."""
        return self.columns


@dataclasses.dataclass(frozen=True)
class OfficialSplit:
    """Subjects for whom the source itself fixes the split.

    Args:
        when: Formula over the subject table.
        fractions: Split → share of these subjects.
    """

    when: Formula
    fractions: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class SourceMapping:
    """One source: its tables, and what becomes of them.

    Args:
        source: Name on the command line.
        title: Full name.
        summary: One line for `caretrace sources`.
        url: Where the publisher offers it.
        licence: Licence and what a user must do to get it.
        version: Versions this mapping was written for.
        subjects: The table or view with one row per subject.
        tables: Raw tables in tie-breaking order.
        views: Tables made of tables.
        values: Tables written in the mapping.
        not_mapped: File stem → why it yields no events.
        ignored_files: File pattern → what it is.
        never_read: Folder → why it is not even listed.
        official_splits: First match wins; empty when the source has none.
        notes: What a user should know about times and availability.
        options: Name of each `--option` it understands → what it does.
        shifted_dates: Dates were moved, so that they may lie in the future.
        takes_a_file: The raw tables may be one file instead of a folder.
        folder: Where `events.yaml` lies.
    """

    source: str
    title: str
    summary: str
    url: str
    licence: str
    version: str
    subjects: str
    tables: Mapping[str, Table]
    views: Mapping[str, View]
    values: Mapping[str, ValueTable]
    not_mapped: Mapping[str, str]
    ignored_files: Mapping[str, str]
    never_read: Mapping[str, str]
    official_splits: tuple[OfficialSplit, ...]
    notes: tuple[str, ...]
    options: Mapping[str, str]
    shifted_dates: bool
    takes_a_file: bool
    folder: Path

    @property
    def subject_base(self) -> str:
        """The raw table that says which subjects exist."""
        return self.views[self.subjects].source if self.subjects in self.views else self.subjects


def folder_name(source: str) -> str:
    """The folder of a source: its name with `_` where the name has `-`, so Python can import it."""
    return re.sub(r"[^a-z0-9]", "_", source)
