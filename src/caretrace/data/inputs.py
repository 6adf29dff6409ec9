"""What a model may see: for each label, the measurements up to and including its prediction time.

This is the only place where measurements are cut off, so it is the only place a leak could enter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.dataset import Dataset, scan_file
from caretrace.errors import DatasetError

# Columns of the measurements of `Inputs`.
SAMPLE = "sample"
HOURS_BEFORE = "hours_before"

_MICROSECONDS_PER_HOUR = 3_600_000_000
# Pairs of a label and a measurement of its subject that are held at once: about half a gigabyte.
_PAIRS = 5_000_000


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Measurements that precede each label, and the labels themselves.

    Args:
        labels: One row per sample: `subject_id`, `prediction_time`, `boolean_value`.
        measurements: Rows of (`sample`, `code`, `numeric_value`, `text_value`, `event_type`,
            `hours_before`), in chronological order within a sample. `sample` is the row number in
            `labels`; `hours_before` is prediction time minus measurement time in hours (≥ 0), null
            for static measurements, which come first.
    """

    labels: pl.DataFrame
    measurements: pl.DataFrame

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def outcomes(self) -> np.ndarray:
        """Label per sample, float32 of 0 and 1, shape [sample]."""
        return self.labels[schema.BOOLEAN_VALUE].to_numpy().astype(np.float32)

    @property
    def subject_ids(self) -> np.ndarray:
        """Subject per sample, int64, shape [sample]."""
        return self.labels[schema.SUBJECT_ID].to_numpy()

    def hours_since_admission(self) -> np.ndarray:
        """Hours from the latest ICU admission to the prediction time, float32 [sample], NaN where there is none.

        At a landmark this is the landmark. It is not the length of the stay, which nobody knows yet.
        """
        code = pl.col(schema.CODE)
        admission = (code == schema.ICU_ADMISSION) | code.str.starts_with(
            schema.ICU_ADMISSION + schema.CODE_SEPARATOR
        )
        latest = self.measurements.filter(admission).group_by(SAMPLE).agg(pl.col(HOURS_BEFORE).min())
        latest = latest.drop_nulls()
        found = np.full(len(self), np.nan, np.float32)
        found[latest[SAMPLE].to_numpy()] = latest[HOURS_BEFORE].to_numpy()
        return found

    def take(self, rows: np.ndarray) -> Inputs:
        """The samples at `rows` (increasing row numbers), renumbered from 0."""
        kept = pl.DataFrame({SAMPLE: rows.astype(np.uint32), "_new": np.arange(len(rows), dtype=np.uint32)})
        measurements = (
            self.measurements.join(kept, on=SAMPLE, how="inner", maintain_order="left")
            .with_columns(pl.col("_new").alias(SAMPLE))
            .drop("_new")
        )
        return Inputs(self.labels[rows], measurements)


def collect_inputs(
    dataset: Dataset,
    labels: pl.DataFrame,
    split: str | None = None,
    lookback_hours: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inputs:
    """Gather, for every label of a split, the measurements at or before its prediction time.

    Args:
        dataset: The MEDS dataset.
        labels: `subject_id`, `prediction_time`, `boolean_value`.
        split: Keep only labels whose subject is in this split; None keeps all.
        lookback_hours: Forget timed measurements older than this many hours; None keeps the whole
            record. Static measurements are always kept.
        progress: Called with (files done, files in all).

    Raises:
        DatasetError: A label names a subject that the dataset does not have, or nobody has measurements.
    """
    known = labels.join(dataset.splits, on=schema.SUBJECT_ID, how="left")
    strangers = known.filter(pl.col(schema.SPLIT).is_null())
    if len(strangers):
        raise DatasetError(
            f"{len(strangers)} labels name subjects that {dataset.path} does not have, the first is subject "
            f"{strangers[schema.SUBJECT_ID][0]}; make the labels from this dataset with `caretrace cohort`"
        )
    if split is not None:
        known = known.filter(pl.col(schema.SPLIT) == split)
    known = known.select(schema.LABEL_COLUMNS).sort(schema.SUBJECT_ID, schema.PREDICTION_TIME)
    asked = known.with_row_index(SAMPLE).drop(schema.BOOLEAN_VALUE)
    types = dataset.codes.lazy()
    if schema.EVENT_TYPE not in dataset.codes.columns:  # a MEDS dataset that another tool made
        types = types.with_columns(pl.lit(schema.EventType.OTHER.value).alias(schema.EVENT_TYPE))
    types = types.select(schema.CODE, schema.EVENT_TYPE).unique(
        schema.CODE, keep="first", maintain_order=True
    )
    files = dataset.files(split) or dataset.files()  # other tools need not keep splits in folders
    parts: list[pl.DataFrame] = []
    for number, file in enumerate(files, start=1):
        for some in _few_enough(scan_file(file), asked):
            seen = _precede(scan_file(file), some.lazy(), lookback_hours)
            parts.append(seen.join(types, on=schema.CODE, how="left").collect())
        if progress:
            progress(number, len(files))
    gathered = pl.concat(parts) if parts else _empty()
    if len(known) and gathered.is_empty() and dataset.only is None:
        raise DatasetError(
            f"{dataset.path}: none of {len(known)} labels has a measurement at or before its prediction time; "
            "check that the subjects of a split are in its folder under data/, and the prediction times"
        )
    return Inputs(known, _ordered(gathered))


def inputs_of_rows(measurements: pl.DataFrame, labels: pl.DataFrame, types: pl.DataFrame) -> Inputs:
    """The same cut for measurements that are in memory, as a service gets them.

    Args:
        measurements: Rows with the columns of MEDS.
        labels: `subject_id`, `prediction_time`, `boolean_value`.
        types: `code` and `event_type`, one row per code.
    """
    known = labels.select(schema.LABEL_COLUMNS).sort(schema.SUBJECT_ID, schema.PREDICTION_TIME)
    asked = known.with_row_index(SAMPLE).drop(schema.BOOLEAN_VALUE)
    seen = _precede(measurements.lazy(), asked.lazy(), None)
    return Inputs(known, _ordered(seen.join(types.lazy(), on=schema.CODE, how="left").collect()))


def _few_enough(measurements: pl.LazyFrame, asked: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The labels of one file in portions, so that labels beside measurements fit in memory.

    A stay of five years with a label every day is 400 million pairs; nearly none of them is in a window.
    """
    rows = measurements.group_by(schema.SUBJECT_ID).agg(_rows=pl.len()).collect()
    here = asked.join(rows, on=schema.SUBJECT_ID, how="inner", maintain_order="left")
    portions = here.with_columns(_portion=(pl.col("_rows").cast(pl.Int64).cum_sum() - 1) // _PAIRS)
    for portion in portions.partition_by("_portion", maintain_order=True):
        yield portion.select(asked.columns)
    if here.is_empty():
        yield asked.clear()


def _precede(measurements: pl.LazyFrame, asked: pl.LazyFrame, lookback_hours: float | None) -> pl.LazyFrame:
    """The cut: a measurement stays if it is static, or not later than the prediction time."""
    time, prediction_time = pl.col(schema.TIME), pl.col(schema.PREDICTION_TIME)
    timed = time <= prediction_time
    if lookback_hours is not None:
        timed &= time >= prediction_time - pl.duration(
            microseconds=int(lookback_hours * _MICROSECONDS_PER_HOUR)
        )
    hours = (prediction_time - time).dt.total_microseconds() / _MICROSECONDS_PER_HOUR
    return (
        measurements.join(asked, on=schema.SUBJECT_ID, how="inner")
        .filter(time.is_null() | timed)
        .select(
            pl.col(SAMPLE).cast(pl.UInt32),
            pl.col(schema.CODE),
            pl.col(schema.NUMERIC_VALUE).cast(pl.Float32),
            pl.col(schema.TEXT_VALUE).cast(pl.String),
            hours.cast(pl.Float32).alias(HOURS_BEFORE),
        )
    )


def _ordered(measurements: pl.DataFrame) -> pl.DataFrame:
    """Chronological, static first; ties in an order that does not depend on how files were cut."""
    return measurements.with_columns(pl.col(schema.EVENT_TYPE).fill_null(schema.EventType.OTHER.value)).sort(
        SAMPLE,
        HOURS_BEFORE,
        schema.CODE,
        schema.NUMERIC_VALUE,
        schema.TEXT_VALUE,
        descending=[False, True, False, False, False],
        nulls_last=[False, False, False, False, False],
    )


def _empty() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            SAMPLE: pl.UInt32,
            schema.CODE: pl.String,
            schema.NUMERIC_VALUE: pl.Float32,
            schema.TEXT_VALUE: pl.String,
            HOURS_BEFORE: pl.Float32,
            schema.EVENT_TYPE: pl.String,
        }
    )
