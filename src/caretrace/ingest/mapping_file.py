"""Reads `events.yaml` strictly.

An unknown key, column, function or table is a `ConfigError` that names the place and the nearest valid one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.config import read_yaml
from caretrace.errors import ConfigError, unknown_name
from caretrace.ingest.expressions import Formula, Template
from caretrace.ingest.mapping import (
    COLUMN_TYPES,
    QUANTITY_UNIT,
    QUANTITY_VALUE,
    Column,
    Event,
    Flag,
    OfficialSplit,
    Period,
    Quantity,
    SourceMapping,
    Table,
    ValueTable,
    View,
)


def read_mapping(path: Path) -> SourceMapping:
    """Read and check one `events.yaml`.

    Raises:
        ConfigError: Unknown key, column, function, table or event type; the message names the place.
    """
    top = _Section(
        read_yaml(path),
        f"{path.parent.name}/{path.name}",
        required=("source", "title", "summary", "url", "licence", "version", "subjects", "tables"),
        optional=(
            *("views", "values", "not_mapped", "ignored_files", "never_read", "splits", "notes"),
            *("options", "shifted_dates", "raw_is"),
        ),
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
        options=top.texts("options"),
        shifted_dates=bool(top.get("shifted_dates", False)),
        takes_a_file=top.choice("raw_is", ("folder", "file or folder")) == "file or folder",
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

    def choice(self, key: str, valid: tuple[str, ...]) -> str:
        """One of `valid`, the first when the key is not there."""
        value = str(self.get(key, valid[0]))
        if value not in valid:
            raise ConfigError(f"{self.where} {key}: " + unknown_name("value", value, valid))
        return value

    def parts(self, key: str) -> list[tuple[str, tuple[Any, str]]]:
        found = self.values.get(key) or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"{self.where} {key}: expected one entry per name, got {found!r}")
        for name in found:
            if not str(name).isidentifier() or str(name).startswith("_"):
                raise ConfigError(
                    f"{self.where} {key}: {name!r} cannot be used in a formula; use letters and _, not at the start"
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
    own = ("file", "files", "optional", "key", "subject_of", "quantity", "period")
    section = _Section(*part, required=("columns",), optional=(*own, *_COMMON))
    files = section.get("files") or [section.get("file", name)]
    return Table(
        name=name,
        files=_names(files),
        optional=bool(section.get("optional", False)),
        columns=tuple(
            _column(column, kind, section.where) for column, kind in section.get("columns").items()
        ),
        key=_names(section.get("key")) if section.get("key") else (),
        subject_of=section.get("subject_of"),
        quantity=_quantity(section),
        period=_period(section),
        **_common(section),
    )


def _quantity(section: _Section) -> Quantity | None:
    if section.get("quantity") is None:
        return None
    part = _Section(
        section.get("quantity"),
        f"{section.where}.quantity",
        required=("concept", "value"),
        optional=("unit",),
    )
    concept, value = part.formula("concept"), part.formula("value")
    if concept is None or value is None:
        raise ConfigError(f"{part.where}: concept and value may not be null; write a formula for each")
    return Quantity(concept, value, part.formula("unit"))


def _period(section: _Section) -> Period | None:
    if section.get("period") is None:
        return None
    part = _Section(section.get("period"), f"{section.where}.period", required=("start", "end"))
    return Period(part.text("start"), part.text("end"))


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
    bare = str(kind).removesuffix("!").removesuffix("?")
    if bare not in COLUMN_TYPES:
        raise ConfigError(f"{where}.{name}: " + unknown_name("column type", bare, COLUMN_TYPES))
    return Column(name, bare, str(kind).endswith("!"), str(header), str(kind).endswith("?"))


def _flag(name: str, part: tuple[Any, str]) -> Flag:
    section = _Section(*part, required=("when", "meaning"), optional=("by",))
    when = Formula.parse(section.get("when"), section.where)
    return Flag(name, when, section.text("meaning"), section.formula("by"))


def _event(part: tuple[Any, str]) -> Event:
    section = _Section(
        *part,
        required=("code", "time", "event_type"),  # `time: null` is static; leaving it out is a mistake
        optional=("when", "numeric_value", "text_value", "unit", "description", "parent_codes"),
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
        parent_codes=tuple(
            Template.parse(parent, f"{section.where}.parent_codes")
            for parent in section.get("parent_codes") or []
        ),
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
        if isinstance(table, Table):
            _check_table(table, names, known, place)
        if table.events and table.subject is None:
            raise ConfigError(f"{place}: it has events but no column of type subject")
    for official in mapping.official_splits:
        _check(official.when.references(), known[mapping.subjects].names, f"{where} splits")


def _check_table(
    table: Table, names: list[str], known: Mapping[str, Table | View | ValueTable], place: str
) -> None:
    """`subject_of`, `quantity` and `period` speak of things that are there."""
    if table.subject_of is not None:
        _check([table.subject_of], table.joins, f"{place} subject_of (it must be among the joins)")
        owner = known[table.subject_of]
        if not isinstance(owner, Table) or owner.subject_column is None or table.subject_column is not None:
            raise ConfigError(
                f"{place} subject_of: {table.subject_of!r} must be a table with a column of type subject, "
                f"and {table.name} may have none of its own"
            )
    if table.quantity is not None:
        own = [name for name in names if name not in (QUANTITY_VALUE, QUANTITY_UNIT)]
        for formula in (table.quantity.concept, table.quantity.value, table.quantity.unit):
            if formula is not None:
                _check(formula.references(), own, f"{place} quantity")
    if table.period is not None:
        times = [column.name for column in table.columns if column.kind == "time"]
        _check((table.period.start, table.period.end), times, f"{place} period")


def _used(table: Table | View) -> list[Formula | Template]:
    found: list[Formula | Template | None] = []
    for event in table.events:
        parts = [getattr(event, field.name) for field in dataclasses.fields(event)]
        found += [part for part in parts if not isinstance(part, tuple)] + list(event.parent_codes)
    for flag in table.flags:
        found += [flag.when, flag.by]
    return [item for item in found if item is not None]


def _check(used: Iterable[str], valid: Iterable[str], where: str) -> None:
    for name in used:
        if name not in valid:
            raise ConfigError(f"{where}: " + unknown_name("column", name, valid))
