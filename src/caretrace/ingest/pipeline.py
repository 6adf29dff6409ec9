"""Raw tables of one source → a MEDS dataset folder, whole or not at all."""

from __future__ import annotations

import datetime as dt
import fnmatch
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

import caretrace
from caretrace import schema
from caretrace.errors import ConfigError, InputError, unknown_name
from caretrace.files import refuse_existing, whole_folder, write_json
from caretrace.ingest import events, tables, writing
from caretrace.ingest.catalogue import source_mapping, sources_that_fit
from caretrace.ingest.cells import SUBJECT_NAME
from caretrace.ingest.checks import check_zone
from caretrace.ingest.engines import Engine, Malformed, RawFile, running
from caretrace.ingest.engines.base import FILE, POSITION
from caretrace.ingest.event_checks import MEANINGS, EventChecks
from caretrace.ingest.mapping import SourceMapping, Table
from caretrace.ingest.quality import FlagCount, TableQuality, report
from caretrace.ingest.quantities import look_up_table
from caretrace.ingest.reading import estimated_rows, find_files, read_header, stamp, stems_of
from caretrace.ingest.splits import DEFAULT_FRACTIONS, split_of, split_subjects

# Called with a step, how much of it is done and how much there is: rows, estimated while a file is read.
Progress = Callable[[str, float, float], None]
Files = dict[str, list[RawFile]]


def ingest(  # noqa: PLR0913 - one argument per choice of the user
    source: str,
    raw: Path,
    out: Path,
    *,
    splits: Literal["official", "hash"] = "official",
    engine: str = "duckdb",
    memory_limit: str = "4GB",
    subjects_per_file: int = 1000,
    options: Mapping[str, str] | None = None,
    time_zone: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Turn the raw tables of `source` into a MEDS dataset.

    Args:
        source: Name of the source; see `caretrace.ingest.sources`.
        raw: Folder with the raw tables (some sources take a file); only read.
        out: Dataset folder to make; must not exist.
        splits: `official` follows the source's own split where it has one, `hash` never does.
        engine: Engine that runs the mapping; see `caretrace.ingest.engines`.
        memory_limit: What the engine may use before it spills to disk, for example `4GB`.
        subjects_per_file: Most subjects in one data file.
        options: What the source lets the user choose; see `options:` of its `events.yaml`.
        time_zone: Zone of the clocks that raw times without one were read from, for example
            `Europe/Berlin`; they become UTC. None takes them as written.
        progress: Told each step, how much of it is done and how much there is, in rows.

    Returns:
        The quality report, as in `metadata/quality.json`.

    Raises:
        OutputExistsError: `out` is taken; nothing was read.
        ConfigError: Unknown source, engine, option, time zone or memory limit.
        InputError: A table or column is missing, or a file cannot be trusted.
    """
    refuse_existing(out)
    mapping = source_mapping(source)
    chosen = dict(options or {})
    for name in chosen:
        if name not in mapping.options:
            raise ConfigError(unknown_name(f"option of {source}", name, mapping.options))
    if time_zone is not None:
        check_zone(time_zone)
    if not (raw.is_dir() or (mapping.takes_a_file and raw.is_file())):
        kind = "file or folder" if mapping.takes_a_file else "folder"
        raise InputError(f"{raw} is not a {kind}; give the {kind} with the raw tables of {source}")
    with whole_folder(out) as folder:
        work = folder / ".work"
        work.mkdir()
        with running(engine, work, memory_limit=memory_limit) as started:
            run = _Run(mapping, started, folder, time_zone, progress or (lambda _step, _done, _total: None))
            prepared, consumed = _prepared(mapping, raw, work, chosen)
            quality = run.all(raw, prepared, consumed, splits, subjects_per_file)
        shutil.rmtree(work)
    return quality


class _Run:
    """One ingest on its way: what has been loaded so far, and what to say about it."""

    def __init__(
        self, mapping: SourceMapping, engine: Engine, folder: Path, zone: str | None, progress: Progress
    ) -> None:
        self.mapping = mapping
        self.engine = engine
        self.zone = zone
        self.folder = folder
        self.progress = progress
        self.rows: dict[str, Any] = {}
        self.tables: dict[str, TableQuality] = {}
        self.views: dict[str, TableQuality] = {}
        self.prepared = folder
        self.official = False  # whether the source itself said of anybody who is held out

    def all(
        self, raw: Path, prepared: Path, consumed: list[str], splits: str, subjects_per_file: int
    ) -> dict[str, Any]:
        self.prepared = prepared
        files = _find(self.mapping, prepared, raw)
        for name, found in files.items():
            tables.check_headers(self.mapping.tables[name], found)
        (self.folder / schema.METADATA_DIR).mkdir()
        self._values()
        events.prepare_tables(self.engine)
        # What others look into is loaded first and kept; every other table is gone before the next comes.
        kept = self._looked_into()
        for name in kept:
            self._load(self.mapping.tables[name], files.get(name, []))
        for name, table in self.mapping.tables.items():
            if name not in kept:
                self._load(table, files.get(name, []))
                self._events(name)
                tables.forget(self.engine, table)
        for name in (*kept, *self.mapping.views):
            self._events(name)
        assigned = self._splits(splits)
        around = self._around(raw, files, consumed)
        return self._write(assigned, around, subjects_per_file)

    def _looked_into(self) -> list[str]:
        """The subject table, and then those with a key or a view."""
        base = self.mapping.subject_base
        viewed = {view.source for view in self.mapping.views.values()}
        others = [
            name
            for name, table in self.mapping.tables.items()
            if name != base and (table.key or name in viewed)
        ]
        return [base, *others]

    def _values(self) -> None:
        for name, table in self.mapping.values.items():
            columns = {column: [row[i] for row in table.rows] for i, column in enumerate(table.columns)}
            self.rows[name] = self.engine.create(name, pa.table(columns))
        self.engine.create(tables.QUANTITIES, look_up_table())

    def _load(self, table: Table, files: list[RawFile]) -> None:
        if not files:
            self.rows[table.name] = self._absent(table)
            self._make_views(table.name)
            return
        expected = sum(estimated_rows(file.path) for file in files)
        step = f"reading {table.name}"
        self.progress(step, 0, expected)
        malformed = tables.load_table(
            self.engine, table, files, self.zone, lambda done: self.progress(step, done * expected, expected)
        )
        self._judge(table, files, malformed)
        self._make_views(table.name)
        if table.name == self.mapping.subject_base:
            subjects = self.rows[self.mapping.subjects]
            number = subjects[self._subject_column()]
            self.engine.create(tables.SUBJECTS, subjects.select(**{schema.SUBJECT_ID: number}).distinct())

    def _judge(self, table: Table, files: list[RawFile], malformed: list[Malformed]) -> None:
        tables.judge(self.engine, table, self.rows, self.mapping, files)
        quality = tables.set_aside(
            self.engine, table, self.mapping, files, malformed, self.folder / schema.QUARANTINE_DIR
        )
        if not quality.rows_loaded and not table.optional:
            raise InputError(
                f"{', '.join(quality.files)}: no usable row ({quality.rows_read} read, "
                f"{quality.rows_quarantined} unreadable), but {self.mapping.source} needs "
                "this table; fetch it again"
            )
        self.tables[table.name] = quality
        self.rows[table.name] = tables.loaded(self.engine, table, self.rows, self.mapping)

    def _absent(self, table: Table) -> Any:
        """An optional table that is not there still has its columns, so that joins to it find nothing."""
        kinds = {"number": "float64", "time": "timestamp", "text": "string"}
        columns = {column.name: kinds.get(column.kind, "int64") for column in table.columns}
        return self.engine.create_empty(
            f"all_{table.name}", ibis.schema({FILE: "string", POSITION: "int64", **columns})
        )

    def _make_views(self, name: str) -> None:
        for view in self.mapping.views.values():
            if view.source == name:
                rows = self.rows[name]
                names = {column: rows[column] for column in self.mapping.tables[name].names}
                made = rows.group_by(view.by).aggregate(
                    **{column: formula.compile(names) for column, formula in view.columns.items()},
                )
                made = made.filter(made[view.by].notnull())
                self.rows[view.name] = self.engine.create(
                    view.name, made.mutate(**{POSITION: ibis.literal(0, "int64")})
                )

    def _events(self, name: str) -> None:
        view = self.mapping.views.get(name)
        if view is not None:
            number = self.engine.count(self.rows[name])
            self.views[name] = TableQuality(files=[], rows_read=number, rows_loaded=number)
        table = view or self.mapping.tables[name]
        quality = self.views.get(name) or self.tables.get(name)
        if quality is None:
            return
        rows, step = quality.rows_loaded, f"mapping {name}"
        self.progress(step, 0, rows)
        events.write_events(
            self.engine,
            table,
            self.rows,
            self.mapping,
            quality,
            lambda done: self.progress(step, done * rows, rows),
        )

    def _subject_column(self) -> str:
        name = self.mapping.subjects
        table = self.mapping.views.get(name) or self.mapping.tables[name]
        if table.subject is None:
            raise InputError(f"{self.mapping.source}: the subject table {name} has no column of type subject")
        return table.subject

    def _splits(self, splits: str) -> dict[int, str]:
        everyone = self.engine.fetch(self.engine.table(tables.SUBJECTS))[schema.SUBJECT_ID].to_pylist()
        assigned = split_subjects(everyone, DEFAULT_FRACTIONS)
        rows = self.rows[self.mapping.subjects]
        for official in reversed(self.mapping.official_splits if splits == "official" else ()):
            names = {column: rows[column] for column in rows.columns}
            chosen = rows.filter(ibis.coalesce(official.when.compile(names), False))
            for subject in self.engine.fetch(chosen)[self._subject_column()].to_pylist():
                self.official = True
                assigned[subject] = split_of(subject, official.fractions)
        return assigned

    def _write(
        self, assigned: Mapping[int, str], around: dict[str, Any], subjects_per_file: int
    ) -> dict[str, Any]:
        total = sum(table.events for table in (*self.tables.values(), *self.views.values()))
        self.progress("writing", 0, total)
        checks = EventChecks(self.mapping.shifted_dates, dt.datetime.now(dt.UTC))
        writing.write_data(
            self.engine,
            assigned,
            self.folder,
            subjects_per_file,
            checks,
            lambda done: self.progress("writing", done * total, total),
        )
        self._flag_events(checks)
        codes, mixed_units = writing.write_codes(self.engine, self.folder)
        writing.write_splits(assigned, self.folder)
        self._write_names()
        writing.write_metadata(self.mapping, self.folder)
        own = self.prepared / "predicates.yaml"  # a source whose datasets bring their own definitions
        predicates = own if own.exists() else self.mapping.folder / "predicates.yaml"
        shutil.copyfile(predicates, self.folder / schema.PREDICATES_FILE)
        header = {
            "source": self.mapping.source,
            "caretrace_version": caretrace.__version__,
            "subjects": len(assigned),
            "codes": codes,
            "splits": {name: list(assigned.values()).count(name) for name in schema.SPLITS},
            "time_zone": self.zone or "as written",
            "splits_by": "the source's own split" if self.official else "salted hash of subject_id",
        }
        quality = report(header, self.tables, self.views, {**around, "codes_with_mixed_units": mixed_units})
        written = sum(
            pq.read_metadata(path).num_rows for path in (self.folder / schema.DATA_DIR).rglob("*.parquet")
        )
        if written != quality["events"]:
            raise InputError(
                f"{written} events written but {quality['events']} counted; a fault of caretrace, report it"
            )
        write_json(self.folder / schema.QUALITY_FILE, quality)
        return quality

    def _flag_events(self, checks: EventChecks) -> None:
        read = self.tables | self.views
        for number, name in enumerate((*self.mapping.tables, *self.mapping.views)):
            if name in read:
                found = checks.flags_of(number).items()
                read[name].flags |= {flag: FlagCount(MEANINGS[flag], count, 0) for flag, count in found}

    def _write_names(self) -> None:
        """Which subject is whom, where the source knows subjects by a text."""
        base = self.mapping.tables[self.mapping.subject_base]
        if base.subject_column is None or base.subject_column.kind != "subject_name":
            return
        rows = self.rows[base.name]
        columns = {
            schema.SUBJECT_NAME: rows[SUBJECT_NAME],
            schema.SUBJECT_ID: rows[base.subject_column.name],
        }
        names = self.engine.fetch(rows.select(**columns).distinct().order_by(schema.SUBJECT_NAME))
        if len(names) != len(names[schema.SUBJECT_ID].unique()):
            raise InputError(f"{self.mapping.source}: two subject names have one number; report it")
        pq.write_table(names, self.folder / schema.SUBJECT_NAMES_FILE, compression="zstd")

    def _around(self, raw: Path, files: Files, consumed: list[str]) -> dict[str, Any]:
        """What lies in the raw folder beside the mapped tables, and which tables are not there."""
        mapped = {file.label for found in files.values() for file in found}
        not_mapped, unknown, ignored = [], [], []
        for label in _listing(raw, self.mapping):
            reason = next(filter(None, map(self.mapping.not_mapped.get, stems_of(label))), None)
            if label in mapped or any(fnmatch.fnmatch(label, pattern) for pattern in consumed):
                continue
            if reason is not None:
                not_mapped.append({"file": label, "rows": self._count(raw / label, label), "reason": reason})
            elif not any(fnmatch.fnmatch(label, pattern) for pattern in self.mapping.ignored_files):
                unknown.append(label)
            else:
                ignored.append(label)
        missing = [file for t in self.mapping.tables.values() if t.name not in files for file in t.files]
        folders = [name for name in self.mapping.never_read if (raw / name).exists()]
        return {
            "not_mapped": not_mapped,
            "missing_optional": missing,
            "unknown_files": unknown,
            "ignored_files": ignored,
            "never_read": {name: self.mapping.never_read[name] for name in folders},
        }

    def _count(self, path: Path, label: str) -> int:
        file, expected = _raw_file(path, label), estimated_rows(path)
        malformed = self.engine.load(
            "_counted",
            [file],
            file.header[:1],
            lambda text: text.select(FILE),
            lambda done: self.progress(f"counting {label}", done * expected, expected),
        )
        rows = self.engine.count(self.engine.table("_counted")) + len(malformed)
        self.engine.drop("_counted")
        return rows


def _prepared(
    mapping: SourceMapping, raw: Path, work: Path, options: Mapping[str, str]
) -> tuple[Path, list[str]]:
    """The folder with the tables (`raw`, or what `prepare.py` makes of it) and the raw files read for it."""
    if not (mapping.folder / "prepare.py").exists():
        return raw, []
    # By its path: importing it as `caretrace.ingest.sources.…` would hide the function `sources`.
    spec = importlib.util.spec_from_file_location(
        f"prepare_{mapping.folder.name}", mapping.folder / "prepare.py"
    )
    if spec is None or spec.loader is None:
        raise InputError(f"{mapping.folder / 'prepare.py'} cannot be loaded; install caretrace again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prepared: tuple[Path, list[str]] = module.prepare(raw, work / "prepared", options)
    return prepared


def _find(mapping: SourceMapping, prepared: Path, raw: Path) -> Files:
    """The files of every table that is there, first among those that were prepared.

    Raises:
        InputError: A required table is missing, or nothing here belongs to this source.
    """
    files: Files = {}
    for table in mapping.tables.values():
        for folder in dict.fromkeys((prepared, raw)):
            found = [path for stem in table.files for path in find_files(folder, stem)]
            if found and table.name not in files:
                files[table.name] = [_raw_file(path, path.relative_to(folder).as_posix()) for path in found]
    missing = [table for table in mapping.tables.values() if table.name not in files and not table.optional]
    if not files or len(missing) == sum(not table.optional for table in mapping.tables.values()):
        fits = [name for name in sources_that_fit(raw) if name != mapping.source]
        hint = (
            f"it looks like {fits[0]}: run `caretrace ingest {fits[0]} ...`" if fits else _expected(mapping)
        )
        raise InputError(
            f"{raw} is not a {mapping.source} folder: none of its required tables is there; {hint}"
        )
    if missing:
        places = ", ".join(" or ".join(f"{stem}.csv[.gz]" for stem in table.files) for table in missing)
        raise InputError(
            f"{raw}: {mapping.source} needs {places}, which is missing; fetch it from {mapping.url} "
            "or point at the folder that holds it"
        )
    return files


def _raw_file(path: Path, label: str) -> RawFile:
    before = stamp(path)
    return RawFile(path, label, tuple(read_header(path, label)), before)


def _expected(mapping: SourceMapping) -> str:
    stems = [" or ".join(table.files) for table in mapping.tables.values() if not table.optional]
    return f"expected {', '.join(stems[:4])} (.csv, .csv.gz or .parquet); see {mapping.url}"


def _listing(raw: Path, mapping: SourceMapping) -> list[str]:
    """Every file below `raw` but those in folders that are never read."""
    found = []
    for folder, inside, names in os.walk(raw):
        here = Path(folder)
        inside[:] = sorted(
            name for name in inside if (here / name).relative_to(raw).as_posix() not in mapping.never_read
        )
        found += [(here / name).relative_to(raw).as_posix() for name in names]
    return sorted(found)
