"""A MEDS dataset on disk, opened for reading.

Ingest writes these folders; cohorts, tensors, reports and `inspect` read them through this one class.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.config import read_yaml
from caretrace.errors import DatasetError, unknown_name
from caretrace.files import read_json


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One MEDS dataset folder.

    Args:
        path: Folder with `data/<split>/*.parquet` and `metadata/`.
        only: One data file, to work through a large dataset file by file; by default all of them.

    Raises:
        DatasetError: The folder is missing or is not a MEDS dataset.
    """

    path: Path
    only: Path | None = None

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise DatasetError(
                f"{self.path}: no such dataset folder; make one with `caretrace ingest SOURCE RAW {self.path}`"
            )
        for part in (schema.DATA_DIR, schema.DATASET_FILE, schema.CODES_FILE, schema.SPLITS_FILE):
            if not (self.path / part).exists():
                raise DatasetError(
                    f"{self.path} is not a MEDS dataset: {part} is missing; "
                    "point at the folder that `caretrace ingest` wrote"
                )

    def files(self, split: str | None = None) -> list[Path]:
        """Data files in a stable order, of one split or of all.

        Raises:
            DatasetError: No such split.
        """
        if split is not None and split not in schema.SPLITS:
            raise DatasetError(unknown_name("split", split, schema.SPLITS))
        if self.only is not None:
            return [self.only]
        return sorted((self.path / schema.DATA_DIR).glob(f"{split or '**'}/*.parquet"))

    def scan(self, split: str | None = None) -> pl.LazyFrame:
        """All measurements, lazily: one row each, sorted by subject and time within a file."""
        files = self.files(split)
        if not files:
            return pl.LazyFrame(schema=_DATA_DTYPES)
        return pl.concat([scan_file(file) for file in files])

    @functools.cached_property
    def codes(self) -> pl.DataFrame:
        """`codes.parquet`: one row per code with description, unit and event type."""
        return pl.read_parquet(self.path / schema.CODES_FILE)

    @functools.cached_property
    def splits(self) -> pl.DataFrame:
        """`subject_splits.parquet`: one row per subject.

        Raises:
            DatasetError: A subject stands in more than one split, or a split has an unknown name.
        """
        splits = pl.read_parquet(self.path / schema.SPLITS_FILE)
        twice = splits.filter(pl.col(schema.SUBJECT_ID).is_duplicated())[schema.SUBJECT_ID].unique().sort()
        if len(twice):
            raise DatasetError(
                f"{self.path / schema.SPLITS_FILE}: subject {twice[0]} stands in more than one split "
                f"({len(twice)} such subjects); a model would be tested on people it was trained on. Ingest again"
            )
        for name in splits[schema.SPLIT].unique():
            if name not in schema.SPLITS:
                raise DatasetError(
                    f"{self.path / schema.SPLITS_FILE}: " + unknown_name("split", name, schema.SPLITS)
                )
        return splits

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """`dataset.json`."""
        value: dict[str, Any] = read_json(self.path / schema.DATASET_FILE)
        return value

    @functools.cached_property
    def quality(self) -> dict[str, Any] | None:
        """`quality.json`, or None for a dataset that another tool made."""
        path = self.path / schema.QUALITY_FILE
        return read_json(path) if path.exists() else None

    @functools.cached_property
    def predicates(self) -> dict[str, Any]:
        """The dataset's own definitions of predicates (`predicates:` of `predicates.yaml`), or none."""
        return dict(self._predicates_file.get("predicates", {}))

    @property
    def cannot_say(self) -> dict[str, str]:
        """Predicates that this dataset can never define → why."""
        return dict(self._predicates_file.get("cannot_say", {}))

    @functools.cached_property
    def _predicates_file(self) -> dict[str, Any]:
        path = self.path / schema.PREDICATES_FILE
        return read_yaml(path) if path.exists() else {}

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and bytes of the data and split files: two equal datasets share it."""
        digest = hashlib.sha256()
        for path in [*self.files(), self.path / schema.SPLITS_FILE]:
            digest.update(path.relative_to(self.path).as_posix().encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def scan_file(path: Path) -> pl.LazyFrame:
    """The measurements of one data file, lazily, with the columns and dtypes of MEDS.

    `numeric_value` and `text_value` may be missing from files of other tools, as MEDS allows.

    Raises:
        DatasetError: The file is not Parquet, or lacks a column that MEDS demands.
    """
    try:
        names = pl.scan_parquet(path).collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet ({error}); ingest again") from None
    for name in (schema.SUBJECT_ID, schema.TIME, schema.CODE):
        if name not in names:
            raise DatasetError(f"{path}: column {name} is missing, found {', '.join(names)}; not a MEDS file")
    return pl.scan_parquet(path).select(
        (pl.col(name) if name in names else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in _DATA_DTYPES.items()
    )


_DATA_DTYPES: dict[str, Any] = {
    schema.SUBJECT_ID: pl.Int64,
    schema.TIME: pl.Datetime("us"),
    schema.CODE: pl.String,
    schema.NUMERIC_VALUE: pl.Float32,
    schema.TEXT_VALUE: pl.String,
}
