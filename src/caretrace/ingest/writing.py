"""Measurements → MEDS 0.4 files, in an order that is the same on every run and every machine."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import meds
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import caretrace
from caretrace import schema
from caretrace.errors import ConfigError, unknown_name
from caretrace.files import write_json
from caretrace.ingest.engines.base import Engine, Share
from caretrace.ingest.event_checks import EventChecks
from caretrace.ingest.events import CODES, EVENTS, ORDER
from caretrace.ingest.mapping import SourceMapping

MEDS_VERSION = "0.4.1"

# A file is held in memory while it is written: about 100 bytes a row.
_ROWS_PER_FILE = 4_000_000

_DATA = pa.schema(
    [
        pa.field(schema.SUBJECT_ID, pa.int64(), nullable=False),
        pa.field(schema.TIME, pa.timestamp("us")),
        pa.field(schema.CODE, pa.string(), nullable=False),
        pa.field(schema.NUMERIC_VALUE, pa.float32()),
        pa.field(schema.TEXT_VALUE, pa.large_string()),
    ]
)


def write_data(
    engine: Engine,
    split_of: Mapping[int, str],
    folder: Path,
    subjects_per_file: int,
    checks: EventChecks,
    share: Share,
) -> None:
    """Write `data/<split>/<n>.parquet`: a subject in one file, in one run, static first, then by time.

    Args:
        engine: Holds the events.
        split_of: Subject → split, for every subject.
        folder: The dataset.
        subjects_per_file: Most subjects of one file, in ascending order of their id.
        checks: Sees the measurements of every file.
        share: Told how much is done.
    """
    events = engine.table(EVENTS)
    counted = engine.fetch(events.group_by(schema.SUBJECT_ID).aggregate(rows=events.count()))
    counts = dict(zip(counted[schema.SUBJECT_ID].to_pylist(), counted["rows"].to_pylist(), strict=True))
    shards, members = _shards(split_of, counts, subjects_per_file)
    members_table = engine.create("_shards", members)
    joined = events.inner_join(members_table, events[schema.SUBJECT_ID] == members_table["_member"])
    ordered = joined.order_by(
        ["_shard", schema.SUBJECT_ID, joined[schema.TIME].asc(nulls_first=True), *ORDER]
    ).select("_shard", *schema.DATA_COLUMNS, *ORDER)
    written = set()
    with ThreadPoolExecutor(max_workers=1) as beside:  # compressing a file leaves a core free to look at it
        for shard, content in _by_shard(engine.batches(ordered)):
            split, number = shards[shard]
            looked = beside.submit(checks.see, content)
            _write(content, folder / schema.DATA_DIR / split / f"{number}.parquet")
            looked.result()
            written.add(shard)
            share(len(written) / len(shards))
    for shard, (split, number) in enumerate(shards):
        if shard not in written:  # subjects without a single measurement still have their file
            _write(_DATA.empty_table(), folder / schema.DATA_DIR / split / f"{number}.parquet")


def _shards(
    split_of: Mapping[int, str], counts: Mapping[int, int], subjects_per_file: int
) -> tuple[list[tuple[str, int]], pa.Table]:
    """(split, number) of every file, and which file a subject goes to."""
    shards: list[tuple[str, int]] = []
    chosen: list[tuple[int, int]] = []
    for split in schema.SPLITS:
        number = subjects = rows = 0
        for subject in sorted(subject for subject, name in split_of.items() if name == split):
            full = subjects == subjects_per_file or rows + counts.get(subject, 0) > _ROWS_PER_FILE
            if not subjects or full:
                number, subjects, rows = number + bool(subjects), 0, 0
                shards.append((split, number))
            subjects, rows = subjects + 1, rows + counts.get(subject, 0)
            chosen.append((subject, len(shards) - 1))
    table = {
        "_member": pa.array([subject for subject, _ in chosen], pa.int64()),
        "_shard": pa.array([shard for _, shard in chosen], pa.int32()),
    }
    return shards, pa.table(table)


def write_codes(engine: Engine, folder: Path) -> tuple[int, dict[str, list[str]]]:
    """Write `metadata/codes.parquet`, one row per code in alphabetical order.

    Returns:
        Number of codes, and the codes whose values come in several units (their unit is left empty).

    Raises:
        ConfigError: A template of the source gave an event type that does not exist.
    """
    codes: dict[str, _Code] = {}
    order = [schema.CODE, "_table", "_event", schema.UNIT, schema.EVENT_TYPE]
    for row in engine.fetch(engine.table(CODES).order_by(order)).to_pylist():
        code = codes.setdefault(row[schema.CODE], _Code(row[schema.EVENT_TYPE]))
        code.count += row["count"]
        code.description = code.description or row[schema.DESCRIPTION]
        code.parents.update(dict.fromkeys((row[schema.PARENT_CODES] or "").splitlines()))
        if row[schema.UNIT] is not None:
            code.units[row[schema.UNIT]] = code.units.get(row[schema.UNIT], 0) + row["count"]
    valid = [str(kind) for kind in schema.EventType]
    for name, code in codes.items():
        if code.event_type not in valid:
            raise ConfigError(
                f"events.yaml, code {name}: {unknown_name('event_type', str(code.event_type), valid)}"
            )
    found = list(codes.values())
    columns = {
        schema.CODE: pa.array(list(codes), pa.string()),
        schema.DESCRIPTION: pa.array([code.description for code in found], pa.string()),
        schema.PARENT_CODES: pa.array([list(code.parents) or None for code in found], pa.list_(pa.string())),
        schema.UNIT: pa.array([code.unit for code in found], pa.string()),
        schema.EVENT_TYPE: pa.array([code.event_type for code in found], pa.string()),
        "count": pa.array([code.count for code in found], pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / schema.CODES_FILE, compression="zstd")
    return len(codes), {name: sorted(code.units) for name, code in codes.items() if len(code.units) > 1}


def write_splits(split_of: Mapping[int, str], folder: Path) -> None:
    """Write `metadata/subject_splits.parquet`, one row per subject."""
    subjects = sorted(split_of)
    table = pa.table(
        {
            schema.SUBJECT_ID: pa.array(subjects, pa.int64()),
            schema.SPLIT: pa.array([split_of[subject] for subject in subjects], pa.string()),
        }
    )
    pq.write_table(table, folder / schema.SPLITS_FILE, compression="zstd")


def write_metadata(mapping: SourceMapping, folder: Path) -> None:
    """Write `metadata/dataset.json`."""
    values = {
        "dataset_name": mapping.source,
        "dataset_version": mapping.version,
        "etl_name": "caretrace",
        "etl_version": caretrace.__version__,
        "meds_version": MEDS_VERSION,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "license": mapping.licence,
        "location_uri": mapping.url,
        "description_uri": mapping.url,
    }
    meds.DatasetMetadataSchema.validate(values)
    write_json(folder / schema.DATASET_FILE, values)


@dataclasses.dataclass
class _Code:
    """What `codes.parquet` says about one code, gathered over tables."""

    event_type: str | None
    count: int = 0
    description: str | None = None
    units: dict[str, int] = dataclasses.field(default_factory=dict)
    parents: dict[str, None] = dataclasses.field(default_factory=dict)

    @property
    def unit(self) -> str | None:
        """The unit of every value, None when there is none or more than one."""
        return next(iter(self.units)) if len(self.units) == 1 else None


def _by_shard(batches: Any) -> Iterator[tuple[int, pa.Table]]:
    """Cut a stream ordered by `_shard` where the shard changes."""
    held: list[pa.RecordBatch] = []
    current = -1
    for batch in batches:
        start = 0
        shards = batch.column("_shard")
        while start < len(batch):
            shard = shards[start].as_py()
            end = start + pc.sum(pc.equal(shards.slice(start), shard)).as_py()
            if shard != current and held:
                yield current, pa.Table.from_batches(held)
                held = []
            current = shard
            held.append(batch.slice(start, end - start))
            start = end
    if held:
        yield current, pa.Table.from_batches(held)


def _write(content: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # One chunk, so that the row groups do not depend on how the engine cut its batches.
    table = content.select(_DATA.names).cast(_DATA).combine_chunks()
    pq.write_table(table, path, compression="zstd")
