"""A MEDS 0.4 dataset, as `caretrace ingest` would have made it; every Parquet file says in its metadata what it is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import caretrace
from caretrace import schema
from caretrace.apps.synth.codes.vocabulary import SPECIAL, UNKNOWN, Vocabulary
from caretrace.apps.synth.config import HistoryConfig
from caretrace.apps.synth.export.tables import ADMIT, BIRTH, DISCHARGE, FLAG, SEX, VISIT_ID, Tables
from caretrace.apps.synth.task import collect_histories
from caretrace.dataset import Dataset
from caretrace.errors import InputError
from caretrace.evaluation.histories import Histories
from caretrace.files import write_json
from caretrace.ingest.splits import split_of
from caretrace.ingest.writing import MEDS_VERSION

NAME = "caretrace-synthetic"
_METADATA = {FLAG.lower().encode(): b"true"}
_ORDER = "order"


class Writer:
    """Writes chunk by chunk: one file per chunk and split.

    Args:
        folder: An existing folder.
        vocabulary: Of the codes.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        self._folder, self._chunks, self._prefix = folder, 0, HistoryConfig().prefix
        self._codes = [*vocabulary.codes, SPECIAL[UNKNOWN]]
        (folder / schema.METADATA_DIR).mkdir()
        fields = pa.schema([(schema.SUBJECT_ID, pa.int64()), (schema.SPLIT, pa.string())], metadata=_METADATA)
        self._splits = pq.ParquetWriter(folder / schema.SPLITS_FILE, fields)

    def add(self, tables: Tables) -> None:
        """Write some more subjects."""
        subjects = tables.people[schema.SUBJECT_ID].to_list()
        splits = pl.DataFrame({schema.SUBJECT_ID: subjects, schema.SPLIT: [split_of(s) for s in subjects]})
        self._splits.write_table(splits.to_arrow().cast(self._splits.schema))
        rows = self._rows(tables)
        for split in schema.SPLITS:
            part = rows.join(splits.filter(pl.col(schema.SPLIT) == split), on=schema.SUBJECT_ID, how="semi")
            path = self._folder / schema.DATA_DIR / split / f"{self._chunks}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(part.sort(schema.SUBJECT_ID, schema.TIME, _ORDER, nulls_last=False).drop(_ORDER), path)
        self._chunks += 1

    def close(self) -> None:
        """Write what describes the dataset."""
        self._splits.close()
        sexes = [schema.GENDER + schema.CODE_SEPARATOR + sex for sex in ("F", "M")]
        others = [schema.BIRTH, schema.HOSPITAL_ADMISSION, schema.HOSPITAL_DISCHARGE, *sexes]
        names = [self._prefix + code for code in self._codes] + others
        kinds = [schema.EventType.DIAGNOSIS] * len(self._codes)
        kinds += [schema.EventType.ADMINISTRATIVE] * 3 + [schema.EventType.DEMOGRAPHIC] * 2
        codes = pl.DataFrame(
            {
                schema.CODE: names,
                schema.DESCRIPTION: [None] * len(names),
                schema.PARENT_CODES: [None] * len(names),
                schema.UNIT: [None] * len(names),
                schema.EVENT_TYPE: [str(kind) for kind in kinds],
            },
            schema_overrides={
                schema.DESCRIPTION: pl.String,
                schema.PARENT_CODES: pl.List(pl.String),
                schema.UNIT: pl.String,
            },
        )
        _write(codes, self._folder / schema.CODES_FILE)
        write_json(
            self._folder / schema.DATASET_FILE,
            {
                "dataset_name": NAME,
                "dataset_version": "1",
                "etl_name": "caretrace generate",
                "etl_version": caretrace.__version__,
                "meds_version": MEDS_VERSION,
                "created_at": dt.datetime.now(dt.UTC).isoformat(),
                "license": "synthetic; nobody in it exists",
                FLAG.lower(): True,
            },
        )

    def _rows(self, tables: Tables) -> pl.DataFrame:
        people, visits = tables.people, tables.visits
        coded = tables.diagnoses.join(visits.select(VISIT_ID, DISCHARGE), on=VISIT_ID)
        prefix = schema.GENDER + schema.CODE_SEPARATOR
        nothing = pl.lit(None, dtype=pl.Datetime("us"))
        parts = [
            _measured(people, nothing, pl.lit(prefix) + pl.col(SEX), 0),
            _measured(people, pl.col(BIRTH), pl.lit(schema.BIRTH), 1),
            _measured(visits, pl.col(ADMIT), pl.lit(schema.HOSPITAL_ADMISSION), 2),
            _measured(coded, pl.col(DISCHARGE), pl.lit(self._prefix) + pl.col(schema.CODE), 3),
            _measured(visits, pl.col(DISCHARGE), pl.lit(schema.HOSPITAL_DISCHARGE), 4),
        ]
        return pl.concat(parts)


def read(folder: Path, vocabulary: Vocabulary) -> Histories:
    """The histories that were written, as `apps.synth` reads any dataset; empty visits leave no trace in MEDS.

    Raises:
        InputError: The dataset does not say that it is synthetic.
    """
    dataset = Dataset(folder)
    if dataset.metadata.get(FLAG.lower()) is not True:
        raise InputError(
            f"{folder}: the dataset does not say that it is synthetic; it is no export of this kind"
        )
    return collect_histories(dataset, None, vocabulary).histories


def _measured(frame: pl.DataFrame, time: pl.Expr, code: pl.Expr, order: int) -> pl.DataFrame:
    return frame.select(
        schema.SUBJECT_ID,
        time.alias(schema.TIME),
        code.alias(schema.CODE),
        pl.lit(None, dtype=pl.Float32).alias(schema.NUMERIC_VALUE),
        pl.lit(None, dtype=pl.String).alias(schema.TEXT_VALUE),
        pl.lit(order).alias(_ORDER),
    )


def _write(frame: pl.DataFrame, path: Path) -> None:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(table.replace_schema_metadata(_METADATA), path)
