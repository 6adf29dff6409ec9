"""What a MEDS dataset says about itself, as small tables: who is in it, in which split, and its codes.

Of the data files only the subjects are read, batch by batch. They are not copied, unless a file stands alone or calls
`numeric_value` `value`: then they are rewritten, batch by batch, below `work`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caretrace import schema
from caretrace.errors import InputError
from caretrace.ingest.reading import find_files

_VALUE = "value"  # what some exports call numeric_value
_NEEDED = (schema.SUBJECT_ID, schema.TIME, schema.CODE)
_ADDED = {schema.NUMERIC_VALUE: pa.float32(), schema.TEXT_VALUE: pa.string()}
_ROWS = 1_000_000  # of one batch


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write the tables `subjects` and `codes` to `work`.

    Args:
        raw: Dataset folder, folder with one Parquet of events, or that file.
        work: Folder to write to; made when needed.
        options: None are understood.

    Returns:
        The folder with the small tables, and the raw files they were made of.

    Raises:
        InputError: No events, columns missing, or a subject in two splits.
    """
    shards = _shards(raw)
    if not shards:
        return raw, []
    work.mkdir(parents=True)
    headers = {label: _columns(path, label) for label, path in shards.items()}
    renamed = any(_VALUE in found and schema.NUMERIC_VALUE not in found for found in headers.values())
    if renamed or not (raw / schema.DATA_DIR).is_dir():
        consumed = [path.name if path.parent == raw else label for label, path in shards.items()]
        shards = {label: _rewritten(path, work / label) for label, path in shards.items()}
    else:
        consumed = []
    splits = _listed_splits(raw)
    everyone = np.array(list(splits), np.int64)
    for label, path in shards.items():
        found = _subjects(path, label)
        _add_split_of_folder(splits, found, label)
        everyone = np.union1d(everyone, found)
    if not len(everyone):
        raise InputError(f"{raw}: no row of {', '.join(shards)} names a subject; fetch the dataset again")
    subjects = {
        schema.SUBJECT_ID: pa.array(everyone, pa.int64()),
        schema.SPLIT: pa.array([splits.get(subject) for subject in everyone.tolist()], pa.string()),
    }
    pq.write_table(pa.table(subjects), work / "subjects.parquet")
    pq.write_table(_codes(raw), work / "codes.parquet")
    own = raw / schema.PREDICATES_FILE
    if own.is_file():  # what the tasks' words mean there, they mean here
        shutil.copyfile(own, work / own.name)
    return work, [*consumed, schema.SPLITS_FILE, schema.CODES_FILE, schema.PREDICATES_FILE]


def _shards(raw: Path) -> dict[str, Path]:
    """Data files by their path below the dataset; a lone Parquet counts as one in `data`."""
    if raw.is_file():
        return {f"data/{raw.stem}.parquet": raw}
    if (raw / "data").is_dir():
        return {
            path.relative_to(raw).as_posix(): path
            for path in find_files(raw, f"{schema.DATA_DIR}/**/*")
            if path.suffix == ".parquet"
        }
    lone = sorted(raw.glob("*.parquet"))
    if len(lone) > 1:
        names = ", ".join(path.name for path in lone)
        raise InputError(
            f"{raw}: {names} lie side by side; which one holds the events? give that file itself"
        )
    return {f"data/{path.name}": path for path in lone}


def _columns(path: Path, label: str) -> set[str]:
    try:
        columns = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{label} is not a Parquet file ({str(error).splitlines()[0]}); fetch it again"
        ) from None
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise InputError(
            f"{label}: no column {missing[0]!r} among {', '.join(sorted(columns))}; a MEDS data file has "
            f"{', '.join(schema.DATA_COLUMNS)}"
        )
    return columns


def _rewritten(source: Path, target: Path) -> Path:
    """The file with exactly the columns of MEDS, batch by batch."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = pq.ParquetFile(source)
    names = {name: name for name in schema.DATA_COLUMNS if name in file.schema_arrow.names}
    if schema.NUMERIC_VALUE not in names and _VALUE in file.schema_arrow.names:
        names[schema.NUMERIC_VALUE] = _VALUE
    fields = [
        pa.field(name, file.schema_arrow.field(names[name]).type if name in names else _ADDED[name])
        for name in schema.DATA_COLUMNS
    ]
    with pq.ParquetWriter(target, pa.schema(fields), compression="zstd") as writer:
        for batch in file.iter_batches(_ROWS, columns=list(names.values())):
            columns = [
                batch.column(names[field.name]) if field.name in names else pa.nulls(len(batch), field.type)
                for field in fields
            ]
            writer.write_batch(pa.record_batch(columns, schema=pa.schema(fields)))
    return target


def _subjects(path: Path, label: str) -> Any:
    """Whose rows a file holds, ascending."""
    found = np.empty(0, np.int64)
    for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=[schema.SUBJECT_ID]):
        ids = batch.column(0)
        if not pa.types.is_integer(ids.type):
            raise InputError(
                f"{label}: {schema.SUBJECT_ID} is of type {ids.type}, not int64; renumber the subjects"
            )
        try:
            whole = pc.unique(ids).drop_null().cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{label}: a {schema.SUBJECT_ID} beyond int64 ({error}); renumber the subjects"
            ) from None
        found = np.union1d(found, whole.to_numpy(zero_copy_only=False))
    return found


def _listed_splits(raw: Path) -> dict[int, str]:
    path = raw / schema.SPLITS_FILE
    if not path.is_file():
        return {}
    splits: dict[int, str] = {}
    for row in pq.read_table(path, columns=[schema.SUBJECT_ID, schema.SPLIT]).to_pylist():
        _assign(splits, row[schema.SUBJECT_ID], row[schema.SPLIT], schema.SPLITS_FILE)
    return splits


def _add_split_of_folder(splits: dict[int, str], subjects: Any, label: str) -> None:
    """A file in `data/train/` says that its subjects are in `train`; other folders say nothing."""
    parts = label.split("/")
    if len(parts) > 2 and parts[1] in schema.SPLITS:
        for subject in subjects.tolist():
            _assign(splits, subject, parts[1], label)


def _assign(splits: dict[int, str], subject: int, split: str, where: str) -> None:
    if subject is not None and splits.setdefault(subject, split) != split:
        raise InputError(
            f"{where}: subject {subject} is in the splits {splits[subject]} and {split}; what is learnt from "
            "them would be tested on them, so decide for one and remove the other"
        )


def _codes(raw: Path) -> pa.Table:
    """`metadata/codes.parquet` with the columns the mapping reads, parents one to a line."""
    names = (schema.CODE, schema.DESCRIPTION, schema.PARENT_CODES, schema.UNIT, schema.EVENT_TYPE)
    path = raw / schema.CODES_FILE
    found = pq.read_table(path) if path.is_file() else pa.table({})
    columns = {}
    for name in names:
        values = found[name].to_pylist() if name in found.column_names else [None] * found.num_rows
        several = name == schema.PARENT_CODES
        columns[name] = pa.array(
            ["\n".join(v) if several and v else (v or None) for v in values], pa.string()
        )
    valid = pa.array([str(kind) for kind in schema.EventType])
    kinds = columns[schema.EVENT_TYPE]
    columns[schema.EVENT_TYPE] = pc.if_else(pc.is_in(kinds, valid), kinds, pa.scalar(None, pa.string()))
    return pa.table(columns)
