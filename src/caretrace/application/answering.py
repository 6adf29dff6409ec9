"""A run of a risk in memory, answering one question at a time: predict, explain, show a subject's course.

The answers are those of the verbs: the same inputs, preprocessor, members and calibration.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Supervised, silent
from caretrace.application.evaluate import labels_for
from caretrace.application.explain import LIMITS, run_certificate, score_of
from caretrace.application.predictor import HIGH, LOW, RISK, Predictor, band, member_logits
from caretrace.application.run import Run
from caretrace.application.trajectory import Course, risks_along
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE, Inputs, inputs_of_rows
from caretrace.data.samples import Samples
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, CohortError, DatasetError, InputError
from caretrace.explain.explanation import words_of
from caretrace.explain.methods import DEFAULT, find_method
from caretrace.explain.scores import row

log = logging.getLogger("caretrace.application")
_MOST_POINTS = 24
_KEPT = 128


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is read before one prediction.

    Args:
        inputs: One or more samples.
        number: Which of them is meant.
    """

    inputs: Inputs
    number: int


class RiskRun:
    """One run of an application that learns from labels.

    Args:
        application: The application.
        run: Its run.

    Raises:
        BundleError: The bundle is damaged.
    """

    def __init__(self, application: Supervised, run: Run) -> None:
        self.application, self.run = application, run
        self.predictor = Predictor.from_pretrained(application, run.bundle)
        self.certificate = run_certificate(run, self.predictor)
        self.dataset = _dataset(run)
        self._codes = _codes(self.dataset)
        self._timelines: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._bands: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def predict(self, measurements: pl.DataFrame, time: dt.datetime) -> dict[str, Any]:
        """Risks of everybody in some measurements, at one time.

        Args:
            measurements: Columns of MEDS, and `event_type` where the sender knows it; times in UTC without zone.
            time: What is later is not read. UTC, without zone.

        Returns:
            `predictions`, each with `subject_id`, `prediction_time`, `risk`, `low`, `high`; and how many
            measurements had a code that the model does not know.

        Raises:
            InputError: Nobody has a measurement by that time, or the type of a code that the model knows is unknown.
        """
        inputs = self.inputs(measurements, time)
        samples = self.predictor.preprocessor.transform(inputs)
        return {
            "predictions": self._risks(inputs, samples),
            "measurements": len(samples.code),
            "unknown_codes": samples.unknown_codes,
        }

    def inputs(self, measurements: pl.DataFrame, time: dt.datetime) -> Inputs:
        """What the model may see of these measurements; errors as in `predict`."""
        at = pl.col(schema.TIME)
        seen = measurements.filter(at.is_null() | (at <= time))
        if seen.is_empty():
            raise InputError(
                f"events: none of {len(measurements)} is at or before prediction_time {time.isoformat()}; check the "
                "times, which are UTC"
            )
        labels = seen.select(pl.col(schema.SUBJECT_ID).unique().sort()).with_columns(
            pl.lit(time).cast(pl.Datetime("us")).alias(schema.PREDICTION_TIME),
            pl.lit(False).alias(
                schema.BOOLEAN_VALUE
            ),  # asked for by the reader of inputs, not known, not read
        )
        return inputs_of_rows(seen.select(schema.DATA_COLUMNS), labels, self._types(seen))

    def explain(self, subject: Subject, method: str = DEFAULT) -> dict[str, Any]:
        """Credits of one prediction, measurement by measurement.

        Args:
            subject: Whose, and when.
            method: A key of `explain.methods.METHODS`.

        Raises:
            ConfigError: No such method, or this model has not what it needs.
        """
        inputs, number = subject.inputs, subject.number
        samples = self.predictor.preprocessor.transform(inputs)
        sample = row(samples.batch(np.array([number])), 0)
        found = find_method(method).run(score_of(self.application, self.predictor.members), sample)
        label = inputs.labels.row(number, named=True)
        rows = self.predictor.preprocessor.kept(inputs).filter(pl.col(SAMPLE) == number)
        microseconds = (pl.col(HOURS_BEFORE).cast(pl.Float64) * 3.6e9).round().cast(pl.Int64)
        rows = rows.with_columns(
            (pl.lit(label[schema.PREDICTION_TIME]) - pl.duration(microseconds=microseconds)).alias(
                schema.TIME
            )
        ).join(self._codes, on=schema.CODE, how="left", maintain_order="left")
        each_credit = found.credit[: len(rows)]
        return {
            **self._risks(inputs, samples)[number],
            "method": method,
            "certified": self.certificate.certified(method),
            "heading": self.certificate.heading(method),
            "judged_on": self.certificate.judged_on(method),
            "events": [
                _event(each, float(credit)) for each, credit in zip(rows.to_dicts(), each_credit, strict=True)
            ],
            "limits": LIMITS,
        }

    def subject(self, subject_id: int) -> Subject:
        """A subject of the run's dataset at the last of their labels.

        Raises:
            CohortError: They have none.
            DatasetError: The dataset is not there.
        """
        dataset = self._there()
        labels = labels_for(self.run, dataset).frame.filter(pl.col(schema.SUBJECT_ID) == subject_id)
        if labels.is_empty():
            raise CohortError(
                f"subject {subject_id} is not in this run's cohort; GET /subjects has those who are"
            )
        inputs = self.application.collect(dataset, labels, None, lambda _done, _total: None)
        return Subject(inputs, len(inputs) - 1)

    def timeline(self, subject_id: int) -> dict[str, Any]:
        """What happened to a subject, what it did to the risk, and how the risk went; errors as in `subject`."""
        if subject_id not in self._timelines:
            subject = self.subject(subject_id)
            told = self.explain(subject)
            found = {
                schema.SUBJECT_ID: subject_id,
                "events": told.pop("events"),
                "trajectory": self._trajectory(subject_id, subject.inputs),
                "static": self._static(subject),
                **told,
            }
            _keep(self._timelines, subject_id, found)
        return self._timelines[subject_id]

    def subjects(self, limit: int) -> list[dict[str, Any]]:
        """Held-out subjects with the highest risks, as judged by `caretrace evaluate`; empty where it was not run."""
        path = self.run.evaluation / "predictions.parquet"
        if not path.is_file():
            return []
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError):
            raise BundleError(f"{path} is damaged; run `caretrace evaluate` again") from None
        last = frame.sort(schema.PREDICTION_TIME).group_by(schema.SUBJECT_ID).last()
        top = last.sort(schema.PREDICTED_PROBABILITY, schema.SUBJECT_ID, descending=[True, False]).head(limit)
        self._fill_bands(top)
        return [
            self._bands.get(each[schema.SUBJECT_ID], {})
            | {schema.SUBJECT_ID: each[schema.SUBJECT_ID], RISK: each[schema.PREDICTED_PROBABILITY]}
            for each in top.to_dicts()
        ]

    def _fill_bands(self, top: pl.DataFrame) -> None:
        """How far the members disagree about these, computed once; null where the dataset is gone."""
        new = top.filter(~pl.col(schema.SUBJECT_ID).is_in(list(self._bands)))
        if new.is_empty():
            return
        if self.dataset is None:
            found = [{schema.SUBJECT_ID: each, LOW: None, HIGH: None} for each in new[schema.SUBJECT_ID]]
        else:
            inputs = self.application.collect(
                self.dataset, new.select(schema.LABEL_COLUMNS), None, lambda _done, _total: None
            )
            found = self._risks(inputs, self.predictor.preprocessor.transform(inputs))
        for each in found:
            self._bands[each[schema.SUBJECT_ID]] = {LOW: each[LOW], HIGH: each[HIGH]}

    def _risks(self, inputs: Inputs, samples: Samples) -> list[dict[str, Any]]:
        found = band(self.predictor, member_logits(self.predictor.members, samples))
        return [
            {
                schema.SUBJECT_ID: each[schema.SUBJECT_ID],
                schema.PREDICTION_TIME: _iso(each[schema.PREDICTION_TIME]),
                **{name: _number(found[name][place]) for name in (RISK, LOW, HIGH)},
            }
            for place, each in enumerate(inputs.labels.to_dicts())
        ]

    def _trajectory(self, subject_id: int, inputs: Inputs) -> list[dict[str, Any]]:
        hours = inputs.hours_since_admission()
        since = float(hours[-1]) if len(hours) and math.isfinite(hours[-1]) else 0.0
        every = math.ceil(since / _MOST_POINTS) if since > 0 else None
        frame = risks_along(
            self.predictor, self.run, self._there(), Course(subject_id, every, None), silent
        ).sort(schema.PREDICTION_TIME)
        return [
            {
                "time": _iso(each[schema.PREDICTION_TIME]),
                **{name: _number(each[name]) for name in (RISK, LOW, HIGH)},
            }
            for each in frame.to_dicts()
        ]

    def _static(self, subject: Subject) -> list[dict[str, Any]]:
        rows = subject.inputs.measurements.filter(
            (pl.col(SAMPLE) == subject.number) & pl.col(HOURS_BEFORE).is_null()
        ).join(self._codes, on=schema.CODE, how="left", maintain_order="left")
        return [_fact(each) for each in rows.to_dicts()]

    def _types(self, seen: pl.DataFrame) -> pl.DataFrame:
        """Type of every code: as the sender says, else as in the dataset of the training."""
        types = self._codes.select(schema.CODE, schema.EVENT_TYPE)
        if schema.EVENT_TYPE in seen.columns:
            told = seen.select(schema.CODE, schema.EVENT_TYPE).drop_nulls().unique(schema.CODE, keep="first")
            types = pl.concat([told, types]).unique(schema.CODE, keep="first", maintain_order=True)
        known = set(self.predictor.preprocessor.vocabulary.codes)
        asked = seen.select(pl.col(schema.CODE).unique()).join(types, on=schema.CODE, how="anti")[schema.CODE]
        lost = sorted(known.intersection(asked.to_list()))
        if lost:
            raise InputError(
                f"events: the dataset of the training is not here, so the type of {lost[0]!r} is unknown "
                f"({len(lost)} such codes); say event_type with each event"
            )
        return types

    def _there(self) -> Dataset:
        if self.dataset is None:
            raise DatasetError(f"{self.run.path}: the dataset that it was trained on is not here")
        return self.dataset


def _dataset(run: Run) -> Dataset | None:
    try:
        return run.dataset()
    except DatasetError as error:
        log.warning("subjects cannot be shown: %s", error)
        return None


def _codes(dataset: Dataset | None) -> pl.DataFrame:
    """Type, description and unit of each code; nulls where a dataset does not say."""
    frame = pl.DataFrame(schema={schema.CODE: pl.String}) if dataset is None else dataset.codes
    for name in (schema.EVENT_TYPE, schema.DESCRIPTION, schema.UNIT):
        if name not in frame.columns:
            default = schema.EventType.OTHER.value if name == schema.EVENT_TYPE else None
            frame = frame.with_columns(pl.lit(default, pl.String).alias(name))
    return frame.select(schema.CODE, schema.EVENT_TYPE, schema.DESCRIPTION, schema.UNIT).unique(
        schema.CODE, keep="first", maintain_order=True
    )


def _event(each: dict[str, Any], credit: float) -> dict[str, Any]:
    words, value = words_of(each)
    return {
        "time": _iso(each[schema.TIME]),
        "code": each[schema.CODE],
        "type": each[schema.EVENT_TYPE],
        "words": words,
        "value": _number(each[schema.NUMERIC_VALUE]),
        "unit": each[schema.UNIT],
        "shown": value,
        "contribution": _number(credit),
    }


def _fact(each: dict[str, Any]) -> dict[str, str]:
    """A static measurement; the value of a code such as `GENDER//F` is its last part."""
    name, value = words_of(each)
    if not value and schema.CODE_SEPARATOR in name:
        name, _, value = name.partition(schema.CODE_SEPARATOR)
    return {"name": name, "value": value}


def _keep(kept: OrderedDict[int, dict[str, Any]], key: int, value: dict[str, Any]) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def _iso(time: dt.datetime) -> str:
    return time.isoformat() + "Z"


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
