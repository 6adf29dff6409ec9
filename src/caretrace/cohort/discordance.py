"""Where in-ICU and in-hospital death disagree, and how far death times can be trusted.

A date-only death (stamped at midnight) or a death stamped after ICU discharge can flip an in-ICU label
without anybody having been wrong, so the two outcomes of every labelled pair are counted side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import time

import polars as pl

from caretrace import schema
from caretrace.cohort.predicates import Predicate, evaluate
from caretrace.cohort.task import Task
from caretrace.cohort.windows import TRIGGER, Boundary, Window, column, place
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

DEATH = "death"
ICU_OUT = "icu_discharge"
HOSPITAL_OUT = "hospital_discharge"
HOSPITAL_DEATH = "hospital_death"


def count_discordance(dataset: Dataset, task: Task, labelled: pl.DataFrame) -> dict[str, int] | None:
    """Compare in-ICU with in-hospital death over the labelled pairs.

    Args:
        dataset: The dataset the labels come from.
        task: The task; its own definitions of the predicates win over the dataset's.
        labelled: One row per labelled pair: `subject_id` and the trigger's time in column `trigger`.

    Returns:
        Counts of labelled pairs, or None when the dataset does not define `death`, `icu_discharge` and
        `hospital_discharge`, or never records a discharge of either kind.
        `in_icu_deaths`: death at or before the first ICU discharge after the trigger.
        `in_hospital_deaths`: the same up to hospital discharge, or a discharge coded as death
        (`hospital_death`, where defined). `deaths_date_only`: in-hospital deaths stamped at midnight.
    """
    names = [DEATH, ICU_OUT, HOSPITAL_OUT]
    predicates = _definitions(dataset, task, names)
    if predicates is None:
        return None
    with_code = _definitions(dataset, task, [*names, HOSPITAL_DEATH])
    if with_code is not None:
        predicates, names = with_code, [*names, HOSPITAL_DEATH]
    events = evaluate(dataset, predicates, names)
    if events[ICU_OUT].is_empty() or events[HOSPITAL_OUT].is_empty():
        return None
    times = place(_first_after(names), labelled.select(schema.SUBJECT_ID, TRIGGER).drop_nulls(), events)
    times = times.select(pl.col(column(name, "end")).alias(name) for name in names)
    death, icu_out, hospital_out = pl.col(DEATH), pl.col(ICU_OUT), pl.col(HOSPITAL_OUT)
    coded = pl.col(HOSPITAL_DEATH) <= hospital_out if HOSPITAL_DEATH in names else pl.lit(False)
    in_icu = (death.is_not_null() & (icu_out.is_null() | (death <= icu_out))).fill_null(False)
    in_hospital = (
        (death.is_not_null() & (hospital_out.is_null() | (death <= hospital_out))) | coded
    ).fill_null(False)
    after_icu = (death > icu_out).fill_null(False)
    counts = times.select(
        labelled_pairs=pl.len(),
        in_icu_deaths=in_icu.sum(),
        in_hospital_deaths=in_hospital.sum(),
        in_icu_differs_from_in_hospital=(in_icu != in_hospital).sum(),
        in_hospital_deaths_stamped_after_icu_discharge=(in_hospital & after_icu).sum(),
        deaths_date_only=(in_hospital & (death.dt.time() == time(0))).fill_null(False).sum(),
        in_hospital_deaths_without_time=(in_hospital & death.is_null()).sum(),
    )
    return {name: int(value) for name, value in counts.row(0, named=True).items()}


def _definitions(dataset: Dataset, task: Task, names: list[str]) -> Mapping[str, Predicate] | None:
    """The named predicates and their inputs as task and dataset define them, or None if one is missing."""
    windows = tuple(
        dataclasses.replace(window, label=name)
        for window, name in zip(_first_after(names), names, strict=True)
    )
    probe = dataclasses.replace(task, trigger=names[0], windows=windows)
    try:
        resolved = probe.resolve(dataset).predicates
    except CohortError:
        return None
    return {name: predicate for name, predicate in resolved.items() if predicate is not None}


def _first_after(names: list[str]) -> list[Window]:
    return [
        Window(
            name=name,
            start=Boundary(TRIGGER, text=TRIGGER),
            end=Boundary("start", event=name, text=f"start -> {name}"),
            start_inclusive=False,
            end_inclusive=True,
        )
        for name in names
    ]
