"""`events.yaml`: how the raw tables of one source become MEDS measurements, read strictly.

The format, key by key, is explained in `sources/README.md`; formulas and templates in
`caretrace.ingest.expressions`. Everything is checked when the file is read: an unknown key, column,
function or table is a `ConfigError` that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.config import read_yaml
from caretrace.errors import ConfigError, unknown_name
from caretrace.ingest.expressions import Formula, Template

# What a column of a raw table can hold; `!` after it means that an empty value is quarantined.
COLUMN_TYPES = ("subject", "int", "number", "text", "time", "clock")

# Columns that every loaded table has beside its own: the file a row came from.
FILE_COLUMN = "_file"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a raw table that the mapping uses.

    Args:
        name: What formulas call it.
        kind: One of `COLUMN_TYPES`; `clock` is hh:mm since the start, read as seconds.
        required: An empty value quarantines the row.
        header: What the file calls it; the same as `name` unless that cannot stand in a formula.
    """

    name: str
    kind: str
    required: bool
    header: str


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
    """

    code: Template
    time: Formula | None
    when: Formula | None
    numeric_value: Formula | None
    text_value: Template | None
    event_type: Template
    unit: Template | None
    description: Template | None


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
        files: File stems under the raw folder; `.csv`, `.csv.gz` and `.parquet` are tried.
        optional: The table may be absent.
        columns: Columns used.
        key: Columns that name one row (needed to be joined); a second row with the same is quarantined.
        joins: Table → this table's columns that equal its key.
        flags: Counted, never dropped.
        events: In the order that breaks ties of time.
    """

    name: str
    files: tuple[str, ...]
    optional: bool
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    joins: Mapping[str, tuple[str, ...]]
    flags: tuple[Flag, ...]
    events: tuple[Event, ...]

    @property
    def subject(self) -> str | None:
        """The column with the subject, None for a dictionary."""
        return next((column.name for column in self.columns if column.kind == "subject"), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names a formula may use."""
        return (*(column.name for column in self.columns), FILE_COLUMN)


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
    folder: Path

    @property
    def subject_base(self) -> str:
        """The raw table that says which subjects exist."""
        return self.views[self.subjects].source if self.subjects in self.views else self.subjects


def read_mapping(path: Path) -> SourceMapping:
    """Read and check one `events.yaml`.

    Raises:
        ConfigError: Unknown key, column, function, table or event type; the message names the place.
    """
    top = _Section(
        read_yaml(path),
        f"{path.parent.name}/{path.name}",
        required=("source", "title", "summary", "url", "licence", "version", "subjects", "tables"),
        optional=("views", "values", "not_mapped", "ignored_files", "never_read", "splits", "notes"),
    )
    tables = {name: _table(name, part) for name, part in top.parts("tables")}
    views = {name: _view(name, part) for name, part in top.parts("views")}
    values = {name: _value_table(name, part) for name, part in top.parts("values")}
    where = f"{top.where} splits"
    mapping = SourceMapping(
        **{
            name: top.text(name)
            for name in ("source", "title", "summary", "url", "licence", "version", "subjects")
        },
        tables=tables,
        views=views,
        values=values,
        not_mapped=top.texts("not_mapped"),
        ignored_files=top.texts("ignored_files"),
        never_read=top.texts("never_read"),
        official_splits=tuple(_official(part, where) for part in top.get("splits", [])),
        notes=tuple(str(note) for note in top.get("notes", [])),
        folder=path.parent,
    )
    _check_names(mapping, top.where)
    return mapping


class _Section:
    """One mapping inside the file, with its place for messages; unknown and missing keys are errors."""

    def __init__(
        self, values: Any, where: str, required: Iterable[str] = (), optional: Iterable[str] = ()
    ) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where}: expected `key: value` lines, got {values!r}")
        valid = (*required, *optional)
        for key in values:
            if key not in valid:
                raise ConfigError(f"{where}: " + unknown_name("key", str(key), valid))
        for key in required:
            if key not in values:
                raise ConfigError(f"{where}: the key {key!r} is missing; add it")
        self.values = values

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def text(self, key: str) -> str:
        return " ".join(str(self.values[key]).split())

    def texts(self, key: str) -> dict[str, str]:
        found = self.values.get(key) or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"{self.where} {key}: expected `name: reason` lines, got {found!r}")
        return {str(name): " ".join(str(text).split()) for name, text in found.items()}

    def parts(self, key: str) -> list[tuple[str, tuple[Any, str]]]:
        found = self.values.get(key) or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"{self.where} {key}: expected one entry per name, got {found!r}")
        for name in found:
            if not str(name).isidentifier():
                raise ConfigError(
                    f"{self.where} {key}: {name!r} cannot be used in a formula; use letters and _"
                )
        return [(str(name), (part, f"{self.where} {key}.{name}")) for name, part in found.items()]

    def formula(self, key: str) -> Formula | None:
        value = self.values.get(key)
        return None if value is None else Formula.parse(value, f"{self.where}.{key}")

    def template(self, key: str) -> Template | None:
        value = self.values.get(key)
        return None if value is None else Template.parse(value, f"{self.where}.{key}")


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, list) else (str(value),)


def _table(name: str, part: tuple[Any, str]) -> Table:
    section = _Section(*part, required=("columns",), optional=("file", "files", "optional", "key", *_COMMON))
    files = section.get("files") or [section.get("file", name)]
    return Table(
        name=name,
        files=_names(files),
        optional=bool(section.get("optional", False)),
        columns=tuple(
            _column(column, kind, section.where) for column, kind in section.get("columns").items()
        ),
        key=_names(section.get("key")) if section.get("key") else (),
        **_common(section),
    )


def _view(name: str, part: tuple[Any, str]) -> View:
    section = _Section(*part, required=("from", "by", "columns"), optional=_COMMON)
    columns = {
        column: Formula.parse(text, f"{section.where}.{column}", aggregates=True)
        for column, text in section.get("columns").items()
    }
    return View(
        name=name, source=section.text("from"), by=section.text("by"), columns=columns, **_common(section)
    )


def _value_table(name: str, part: tuple[Any, str]) -> ValueTable:
    section = _Section(*part, required=("columns", "rows", "origin"))
    columns = _names(section.get("columns"))
    rows = tuple(tuple(row) for row in section.get("rows"))
    for row in rows:
        if len(row) != len(columns):
            raise ConfigError(
                f"{section.where}: row {list(row)} has {len(row)} values for {len(columns)} columns"
            )
    return ValueTable(name, columns[:1], columns, rows, section.text("origin"))


_COMMON = ("joins", "flags", "events", "note")


def _common(section: _Section) -> dict[str, Any]:
    joins = section.get("joins") or {}
    flags = section.get("flags") or {}
    events = section.get("events") or []
    return {
        "joins": {str(table): _names(columns) for table, columns in joins.items()},
        "flags": tuple(_flag(name, (part, f"{section.where}.flags.{name}")) for name, part in flags.items()),
        "events": tuple(
            _event((part, f"{section.where}.events[{index}]")) for index, part in enumerate(events)
        ),
    }


def _column(header: str, kind: Any, where: str) -> Column:
    name = header
    if isinstance(kind, Mapping):  # `In-hospital_death: {kind: int!, as: died}`
        section = _Section(kind, f"{where}.{header}", required=("kind", "as"))
        kind, name = section.text("kind"), section.text("as")
    if not name.isidentifier():
        raise ConfigError(
            f"{where}.{name}: a formula cannot use this name; write {{kind: {kind}, as: other_name}}"
        )
    bare = str(kind).removesuffix("!")
    if bare not in COLUMN_TYPES:
        raise ConfigError(f"{where}.{name}: " + unknown_name("column type", bare, COLUMN_TYPES))
    return Column(name, bare, str(kind).endswith("!"), str(header))


def _flag(name: str, part: tuple[Any, str]) -> Flag:
    section = _Section(*part, required=("when", "meaning"), optional=("by",))
    when = Formula.parse(section.get("when"), section.where)
    return Flag(name, when, section.text("meaning"), section.formula("by"))


def _event(part: tuple[Any, str]) -> Event:
    section = _Section(
        *part,
        required=("code", "time", "event_type"),  # `time: null` is static; leaving it out is a mistake
        optional=("when", "numeric_value", "text_value", "unit", "description"),
    )
    kind = Template.parse(section.get("event_type"), section.where)
    valid = [str(member) for member in schema.EventType]
    if not kind.references() and kind.text not in valid:
        raise ConfigError(f"{section.where}: " + unknown_name("event_type", kind.text, valid))
    code = Template.parse(section.get("code"), section.where)
    return Event(
        code=code,
        time=section.formula("time"),
        when=section.formula("when"),
        numeric_value=section.formula("numeric_value"),
        text_value=section.template("text_value"),
        event_type=kind,
        unit=section.template("unit"),
        description=section.template("description"),
    )


def _official(part: Any, where: str) -> OfficialSplit:
    section = _Section(part, where, required=("when",), optional=schema.SPLITS)
    fractions = {
        split: float(section.get(split)) for split in schema.SPLITS if section.get(split) is not None
    }
    if abs(sum(fractions.values()) - 1) > 1e-9:
        raise ConfigError(f"{where}: the shares {fractions} do not add up to 1")
    return OfficialSplit(Formula.parse(section.get("when"), where), fractions)


def _check_names(mapping: SourceMapping, where: str) -> None:
    """Every column a formula reads exists, every joined table has a key, the subject table exists."""
    known: dict[str, Table | View | ValueTable] = {**mapping.tables, **mapping.views, **mapping.values}
    if mapping.subjects not in known:
        raise ConfigError(f"{where} subjects: " + unknown_name("table", mapping.subjects, known))
    for view in mapping.views.values():
        if view.source not in mapping.tables:
            raise ConfigError(
                f"{where} views.{view.name}: " + unknown_name("table", view.source, mapping.tables)
            )
        for formula in view.columns.values():
            _check(formula.references(), mapping.tables[view.source].names, f"{where} views.{view.name}")
    readers: list[Table | View] = [*mapping.tables.values(), *mapping.views.values()]
    for table in readers:
        place = f"{where} {table.name}"
        names = list(table.names)
        for other, columns in table.joins.items():
            if other not in known:
                raise ConfigError(f"{place} joins: " + unknown_name("table", other, known))
            _check(columns, table.names, f"{place} joins.{other}")
            if len(columns) != len(known[other].key):
                raise ConfigError(
                    f"{place} joins.{other}: {list(columns)} must match its key {known[other].key}"
                )
            names += [f"{other}.{name}" for name in known[other].names]
        for used in _used(table):
            _check(used.references(), names, place)
        if table.events and table.subject is None:
            raise ConfigError(f"{place}: it has events but no column of type subject")
    for official in mapping.official_splits:
        _check(official.when.references(), known[mapping.subjects].names, f"{where} splits")


def _used(table: Table | View) -> list[Formula | Template]:
    found: list[Formula | Template | None] = []
    for event in table.events:
        found += [getattr(event, field.name) for field in dataclasses.fields(event)]
    for flag in table.flags:
        found += [flag.when, flag.by]
    return [item for item in found if item is not None]


def _check(used: Iterable[str], valid: Iterable[str], where: str) -> None:
    for name in used:
        if name not in valid:
            raise ConfigError(f"{where}: " + unknown_name("column", name, valid))


def folder_name(source: str) -> str:
    """The folder of a source: its name with `_` where the name has `-`, so Python can import it."""
    return re.sub(r"[^a-z0-9]", "_", source)
