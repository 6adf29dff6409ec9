"""Records that are sent: MEDS rows as JSON or Parquet, and questions about them."""

from __future__ import annotations

import datetime as dt
import io
from typing import Annotated, Any, Literal, Self

import polars as pl
from fastapi import HTTPException
from pydantic import BaseModel, Field, ValidationError, model_validator

from caretrace import schema
from caretrace.errors import InputError

PARQUET = ("application/vnd.apache.parquet", "application/octet-stream")
MOST_ROWS, MOST_BYTES = 1_000_000, 256 * 2**20
_INT64 = 2**63
_LARGEST = 3e38  # of a float32, which MEDS values are
_DTYPES: dict[str, Any] = {
    schema.SUBJECT_ID: pl.Int64, schema.TIME: pl.Datetime("us"), schema.CODE: pl.String,
    schema.NUMERIC_VALUE: pl.Float32, schema.TEXT_VALUE: pl.String, schema.EVENT_TYPE: pl.String,
}  # fmt: skip
_EXAMPLE: dict[str, Any] = {
    "events": [
        {"subject_id": 1, "time": None, "code": "GENDER//F"},
        {"subject_id": 1, "time": "2020-01-01T00:00:00Z", "code": "ICU_ADMISSION//Medical"},
        {"subject_id": 1, "time": "2020-01-01T06:00:00Z", "code": "LAB//lactate", "numeric_value": 4.2},
    ],
    "prediction_time": "2020-01-02T00:00:00Z",
}


class Event(BaseModel):
    """One row of MEDS; `event_type` where the service does not have the dataset of the training."""

    model_config = {"extra": "forbid"}

    subject_id: Annotated[int, Field(ge=-_INT64, lt=_INT64)]
    time: dt.datetime | None = None
    code: Annotated[str, Field(min_length=1, max_length=500)]
    numeric_value: Annotated[float | None, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)] = None
    text_value: Annotated[str | None, Field(max_length=100_000)] = None
    event_type: schema.EventType | None = None


class Records(BaseModel):
    """Records of one or more subjects, and when to predict."""

    model_config = {"extra": "forbid", "json_schema_extra": {"examples": [_EXAMPLE]}}

    events: Annotated[list[Event], Field(min_length=1, max_length=50_000)]
    prediction_time: dt.datetime


class Question(BaseModel):
    """Whose prediction to explain: somebody of the run's cohort, or a record that is sent."""

    model_config = {
        "extra": "forbid",
        "json_schema_extra": {"examples": [{"app": "mortality", "subject_id": 1}]},
    }

    app: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "mortality"
    subject_id: Annotated[int | None, Field(ge=-_INT64, lt=_INT64)] = None
    events: Annotated[list[Event] | None, Field(min_length=1, max_length=50_000)] = None
    prediction_time: dt.datetime | None = None
    method: Literal["removal", "ablation"] = "removal"

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        sent = self.events is not None and self.prediction_time is not None
        if (self.subject_id is None) != sent or (self.events is None) != (self.prediction_time is None):
            raise ValueError("give subject_id, or events with prediction_time; not both")
        return self


class Prediction(BaseModel):
    """A risk with how far the members of the ensemble disagree; null for a single one."""

    subject_id: int
    prediction_time: str
    risk: float
    low: float | None
    high: float | None


class Predictions(BaseModel):
    """What `POST /predict/{name}` answers; `kept` says how many risks were stored, null where nobody asked for it."""

    predictions: list[Prediction]
    measurements: int
    unknown_codes: int
    kept: int | None = None


def read_records(body: bytes, kind: str, time: dt.datetime | None) -> tuple[pl.DataFrame, dt.datetime]:
    """Rows and the time of the prediction, from JSON or Parquet.

    Raises:
        HTTPException: 422, what is wrong with which field.
    """
    if kind in PARQUET:
        if time is None:
            raise InputError("prediction_time: say it in the address of a Parquet body, ?prediction_time=…")
        return _table(body), utc(time)
    try:
        records = Records.model_validate_json(body)
    except ValidationError as error:
        problems = [
            {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
            for each in error.errors(include_input=False, include_url=False, include_context=False)[:20]
        ]
        raise HTTPException(422, problems) from None
    return rows_of(records.events), utc(records.prediction_time)


def rows_of(events: list[Event]) -> pl.DataFrame:
    """The events as a table; the names of the fields are those of MEDS."""
    rows = [
        {**event.model_dump(), schema.TIME: None if event.time is None else utc(event.time)}
        for event in events
    ]
    return pl.DataFrame(rows, schema=_DTYPES)


def _table(body: bytes) -> pl.DataFrame:
    """Rows of a Parquet body, refused before it is unpacked if it says that it is too large.

    Raises:
        InputError: It is not Parquet, too large, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(body))
        stated = file.metadata
        size = sum(stated.row_group(number).total_byte_size for number in range(stated.num_row_groups))
        if stated.num_rows > MOST_ROWS or size > MOST_BYTES:
            raise InputError(
                f"body: {stated.num_rows:,} rows; at most {MOST_ROWS:,} and {MOST_BYTES:,} bytes unpacked"
            )
        names = [name for name in _DTYPES if name in file.schema_arrow.names]
        frame = pl.from_arrow(file.read(columns=names))
        assert isinstance(frame, pl.DataFrame)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"body: not readable as Parquet ({type(error).__name__})") from None
    for name in (schema.SUBJECT_ID, schema.TIME, schema.CODE):
        if name not in frame.columns:
            raise InputError(f"body: column {name} is missing; send the columns of MEDS")
    try:
        frame = frame.with_columns(pl.lit(None).alias(name) for name in _DTYPES if name not in names)
        rows = frame.select(_typed(frame, name) for name in _DTYPES)
    except pl.exceptions.PolarsError:
        raise InputError("body: the columns must have the types of MEDS") from None
    value = rows[schema.NUMERIC_VALUE]
    if rows.is_empty() or rows[schema.SUBJECT_ID].null_count() or rows[schema.CODE].null_count():
        raise InputError("body: every row needs a subject_id and a code, and there must be one")
    if not value.drop_nulls().is_finite().all():
        raise InputError("body: numeric_value holds NaN or infinities; send null for what was not measured")
    return rows


def _typed(frame: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    dtype = frame.schema[name]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(_DTYPES[name]).alias(name)


def utc(time: dt.datetime) -> dt.datetime:
    """Without zone, in UTC; a time without zone is UTC already.

    Raises:
        InputError: A year that no record can be of.
    """
    if not 1800 <= time.year <= 2300:
        raise InputError(f"time: year {time.year}; between 1800 and 2300")
    return time if time.tzinfo is None else time.astimezone(dt.UTC).replace(tzinfo=None)


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model without references, as it may stand anywhere in the OpenAPI document."""
    whole = model.model_json_schema()
    parts = whole.pop("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return filled(parts[value["$ref"].rpartition("/")[2]])
            return {key: filled(each) for key, each in value.items()}
        return [filled(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = filled(whole)
    return found
