"""Records for the beds of a demo, told in the ward's time, and risks from them.

The recordings and the records of the virtual hospital are of different people: its monitors and its stays are simulated
apart. So the demo gives each bed the record of a held-out stay, and says so wherever a risk from it is shown.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.cohort import read_labels
from caretrace.dataset import Dataset
from caretrace.errors import CaretraceError

log = logging.getLogger("caretrace.serve")
NOTE = (
    "Risks are paired with beds by the demo: the records behind them are of other simulated people than those whose "
    "monitors are replayed."
)
# Rows of subjects, the moment to predict for, and what to say of them → None when the risks are kept.
Foretell = Callable[[pl.DataFrame, dt.datetime, str], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class PairedRecords:
    """Records of stays that lie in the beds of a replay.

    Args:
        rows: Columns of MEDS, with the subject of the bed; times are seconds since the moment that the labels are for,
            as durations, null where a fact has none.
        every_hours: How often a risk is predicted, hours of the ward.
    """

    rows: pl.DataFrame
    every_hours: float

    @classmethod
    def open(cls, demo: Path, told: Mapping[str, Any]) -> PairedRecords:
        """The records that a demo names.

        Args:
            demo: Its folder.
            told: `risks` of its file.

        Raises:
            CaretraceError: They are not there.
        """
        dataset = Dataset(demo / told["dataset"])
        labels = read_labels(demo / told["labels"], dataset).frame
        beds = pl.DataFrame(
            {"bed": list(map(int, told["records"])), schema.SUBJECT_ID: list(told["records"].values())},
            schema={"bed": pl.Int64, schema.SUBJECT_ID: pl.Int64},
        )
        beds = beds.join(_moments(labels), on=schema.SUBJECT_ID)
        rows = dataset.scan(told["split"]).join(beds.lazy(), on=schema.SUBJECT_ID).collect()
        since = pl.col(schema.TIME) - pl.col(schema.PREDICTION_TIME)
        rows = rows.with_columns(since.alias(schema.TIME), pl.col("bed").alias(schema.SUBJECT_ID))
        return cls(rows.select(schema.DATA_COLUMNS), float(told["every_hours"]))

    def at(self, begun: dt.datetime, now: dt.datetime) -> pl.DataFrame:
        """What the records say by a moment of the ward.

        Args:
            begun: The moment of the ward that the labels' moment is; UTC, without zone.
            now: What is later is left out.
        """
        told = pl.lit(begun).cast(pl.Datetime("us")) + pl.col(schema.TIME)
        rows = self.rows.with_columns(told.alias(schema.TIME))
        return rows.filter(pl.col(schema.TIME).is_null() | (pl.col(schema.TIME) <= now))


class Foretelling:
    """Risks for the beds of a replay, every few hours of the ward.

    Args:
        records: Of the beds.
        keep: Predicts and keeps.
    """

    def __init__(self, records: PairedRecords, keep: Foretell) -> None:
        self._records, self._keep = records, keep
        self._next = -math.inf
        self._task: asyncio.Task[None] | None = None

    def due(self, begun: float, now: float) -> None:
        """Predict if it is time to; the ward does not wait for it.

        Args:
            begun: The moment of the ward that the labels' moment is, epoch seconds.
            now: The moment, epoch seconds.
        """
        if now >= self._next and (self._task is None or self._task.done()):
            self._next = now + self._records.every_hours * 3600
            self._task = asyncio.create_task(self._foretell(begun, now))

    def stop(self) -> None:
        """Wait for nothing."""
        if self._task is not None:
            self._task.cancel()

    async def _foretell(self, begun: float, now: float) -> None:
        moment = _utc(now)
        try:
            await self._keep(self._records.at(_utc(begun), moment), moment, NOTE)
        except CaretraceError as error:  # the ward goes on, and its last risks grow old
            log.warning("no risks for the demo's beds: %s", error)


def pair(beds: Dataset, records: Dataset, labels: Path, split: str) -> dict[str, int]:
    """Who lies in whose bed: recorded subjects in order, and subjects with a label in order.

    Args:
        beds: Dataset of the recordings.
        records: Dataset of the records.
        labels: When to predict for the records.
        split: Of both.

    Returns:
        Subject of the recording → subject of the record, as many as there are of both.
    """
    of = pl.col(schema.SPLIT) == split
    lying = beds.splits.filter(of)[schema.SUBJECT_ID].sort().to_list()
    there = records.splits.filter(of).select(schema.SUBJECT_ID)
    labelled = read_labels(labels, records).frame.join(there, on=schema.SUBJECT_ID)
    known = labelled[schema.SUBJECT_ID].unique().sort().to_list()
    return {str(bed): record for bed, record in zip(lying, known, strict=False)}


def _moments(labels: pl.DataFrame) -> pl.DataFrame:
    """The first moment of each subject."""
    return labels.group_by(schema.SUBJECT_ID).agg(pl.col(schema.PREDICTION_TIME).min())


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)
