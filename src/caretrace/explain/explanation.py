"""One explained prediction, with words: what a page about a subject is drawn from.

A folder per explanation: `explanation.json`, `measurements.parquet` and `static.parquet`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.errors import BundleError
from caretrace.files import read_json, whole_folder, write_json

FORMAT_VERSION = 1
MAIN, _MEASUREMENTS, _STATIC = "explanation.json", "measurements.parquet", "static.parquet"

# Columns of `Explanation.measurements` that are not MEDS columns.
HOURS_BEFORE = "hours_before"
CREDIT = "credit"
CREDIT_SPREAD = "credit_spread"
RISK_WITHOUT = "risk_without"
# Columns of `Explanation.static`.
FEATURE = "feature"
VALUE = "value"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a model gave a subject this risk: credit per measurement, in the record's own words.

    Args:
        subject_id: The subject.
        prediction_time: ISO time; nothing later was read.
        application: Name of the application.
        method: Name of the method.
        heading: What must stand over the credits: the method's title, and "not importance" where it is not
            certified.
        certified: Whether the method passed every gate on planted truth.
        risk: Calibrated probability.
        outcome: The label; None where it is not known.
        logit: Score that the credits are about, before recalibration.
        reference: What the record is compared with, in words.
        reference_logit: Score of the reference, for methods that have one.
        measurements: One row per measurement that the model read, in chronological order: `time`, `hours_before`
            (the prediction), `code`, `description`, `event_type`, `numeric_value`, `unit`, `text_value`, `credit`
            (of the logit; positive raises the risk), `credit_spread` (standard deviation over the ensemble's
            members), `risk_without` (probability had it never been made).
        static: One row per static feature: `feature`, `value`, `credit`, `risk_without`.
        windows: Critical time windows, the weightiest first.
        types: Event type → what the logit would lack without all measurements of it.
        limits: Sentences that must be read with it.
    """

    subject_id: int
    prediction_time: str
    application: str
    method: str
    heading: str
    certified: bool
    risk: float
    outcome: bool | None
    logit: float
    reference: str
    reference_logit: float | None
    measurements: pl.DataFrame
    static: pl.DataFrame
    windows: list[dict[str, float]]
    types: dict[str, float]
    limits: list[str]

    def top(self, count: int) -> pl.DataFrame:
        """The measurements with the largest credit in either direction."""
        return self.measurements.sort(pl.col(CREDIT).abs(), descending=True, maintain_order=True).head(count)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain JSON values.

        Args:
            top: How many measurements to write; None for all of them.
        """
        rows = self.measurements if top is None else self.top(top)
        return {
            **self._rest(),
            "n_measurements": len(self.measurements),
            "measurements": _json(rows),
            "static": _json(self.static),
        }

    def save(self, folder: Path) -> None:
        """Write a folder, whole or not at all.

        Raises:
            OutputExistsError: The folder is taken.
        """
        with whole_folder(folder) as partial:
            self.write(partial)

    def write(self, folder: Path) -> None:
        """Write into a folder that is there."""
        write_json(folder / MAIN, {"format_version": FORMAT_VERSION, **self._rest()})
        self.measurements.write_parquet(folder / _MEASUREMENTS)
        self.static.write_parquet(folder / _STATIC)

    def _rest(self) -> dict[str, Any]:
        tables = ("measurements", "static")
        fields = [field.name for field in dataclasses.fields(self) if field.name not in tables]
        return {name: getattr(self, name) for name in fields}


def read_explanation(folder: Path) -> Explanation:
    """An explanation that `save` wrote.

    Raises:
        BundleError: It is missing, damaged or of a newer version.
    """
    try:
        rest = read_json(folder / MAIN)
        version = rest.pop("format_version")
        if version > FORMAT_VERSION:
            raise BundleError(
                f"{folder} has explanation format {version}, this caretrace reads {FORMAT_VERSION}"
            )
        tables: dict[str, Any] = {
            "measurements": pl.read_parquet(folder / _MEASUREMENTS),
            "static": pl.read_parquet(folder / _STATIC),
        }
        return Explanation(**rest, **tables)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise BundleError(
            f"{folder} is not an explanation ({type(error).__name__}); make one with `caretrace explain RUN`"
        ) from None


def words_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a measurement was, in the record's own words, and its value with its unit; empty where there is none.

    Args:
        row: Of `Explanation.measurements`.
    """
    value, unit, text = row[schema.NUMERIC_VALUE], row[schema.UNIT], row[schema.TEXT_VALUE]
    name = row[schema.DESCRIPTION] or row[schema.CODE]
    if value is not None and math.isfinite(value) and (unit or not text):
        return name, f"{value:g} {unit or ''}".strip()
    return text or name, ""


def _json(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON values; times in ISO, what is not a number as null."""
    times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime]
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return frame.with_columns(
        *(pl.col(name).dt.to_string("iso:strict") for name in times),
        *(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats),
    ).to_dicts()
