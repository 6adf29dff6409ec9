"""Patient pathways: from the timeline of each patient to one row per episode, call to discharge.

An episode begins with an emergency call, or with a walk-in arrival, and lasts until the next one begins. What
is recorded late (the rating of a handoff, the completeness of a record, an incident) belongs to the episode it
was recorded in, with the moment it became known beside it.
"""

from __future__ import annotations

import polars as pl

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

SEPARATOR = schema.CODE_SEPARATOR

# Steps of a pathway in their usual order → how their codes begin.
STEPS = {
    "call": "EMS_CALL",
    "dispatch": "EMS_DISPATCH",
    "on_scene": "EMS_ON_SCENE",
    "leave_scene": "EMS_LEAVE_SCENE",
    "at_hospital": "EMS_AT_HOSPITAL",
    "handover": "EMS_HANDOVER",
    "clear": "EMS_CLEAR",
    "arrival": "ED_ARRIVAL",
    "triage": "TRIAGE",
    "place": "ED_PLACE",
    "physician": "ED_PHYSICIAN",
    "decision": "ED_DECISION",
    "departure": "ED_DEPARTURE",
    "discharge": schema.HOSPITAL_DISCHARGE,
}
# Column → how its code begins; the value is the measurement's.
VITALS = {
    "heart_rate": "VITAL//heart_rate",
    "respiratory_rate": "VITAL//respiratory_rate",
    "oxygen_saturation": "VITAL//oxygen_saturation",
    "systolic_pressure": "VITAL//systolic_pressure",
    "temperature": "VITAL//temperature",
}
FOUND_LATER = {"handoff": "HANDOFF_RATING", "documentation": "DOCUMENTATION"}
INCIDENT = "INCIDENT"
WALK_IN = f"{STEPS['arrival']}{SEPARATOR}WALK_IN"
EPISODE = "episode"


def collect_episodes(dataset: Dataset) -> pl.DataFrame:
    """One row per episode of every patient.

    Args:
        dataset: A MEDS dataset with emergency pathways, such as `hospital-operations` makes.

    Returns:
        `subject_id`, `episode` (number within the subject); when each of `STEPS` was reached; `complaint` and
        `district` as called, `complaint_seen` as triaged, `site`, `by_ambulance`, `triage_level`, `disposition`; `sex`,
        `age` (years at the beginning); each of `VITALS`; `handoff` (1 to 5) and `documentation` (share), with the
        `_time` each became known; `incident` (kind) and `incident_time`. Null where there is none.

    Raises:
        CohortError: The dataset has no emergency pathways.
    """
    events = _numbered(dataset)
    if events.is_empty():
        raise CohortError(
            f"{dataset.path}: no emergency pathways (codes {STEPS['call']}, {STEPS['arrival']}); "
            "ingest `hospital-operations`, or a source that writes these codes"
        )
    keys = (schema.SUBJECT_ID, EPISODE)
    table = events.group_by(keys, maintain_order=True).agg(*_columns())
    return (
        table.join(_people(dataset), on=schema.SUBJECT_ID, how="left")
        .with_columns(age=(pl.coalesce("call", "arrival") - pl.col("birth")).dt.total_days() / 365.25)
        .drop("birth")
    )


def _numbered(dataset: Dataset) -> pl.DataFrame:
    """Events of pathways with the number of their episode and the parts of their code."""
    begins = [*STEPS.values(), *VITALS.values(), *FOUND_LATER.values(), INCIDENT]
    code = pl.col(schema.CODE).cast(pl.String)
    first = code.str.starts_with(STEPS["call"] + SEPARATOR) | code.str.starts_with(WALK_IN)
    return (
        dataset.scan()
        .filter(pl.col(schema.TIME).is_not_null())
        .with_columns(code)
        .filter(pl.any_horizontal(code.str.starts_with(begin) for begin in begins))
        .sort(schema.SUBJECT_ID, schema.TIME, maintain_order=True)
        .with_columns(first.cum_sum().over(schema.SUBJECT_ID).alias(EPISODE))
        .filter(pl.col(EPISODE) > 0)
        .collect()
    )


def _columns() -> list[pl.Expr]:
    """One value per episode of everything that is known of it."""
    code, part = pl.col(schema.CODE), pl.col(schema.CODE).str.split(SEPARATOR)

    def of(begin: str, value: pl.Expr) -> pl.Expr:
        return value.filter(code.str.starts_with(begin)).first()

    time, value, text = pl.col(schema.TIME), pl.col(schema.NUMERIC_VALUE), pl.col(schema.TEXT_VALUE)
    found = [of(begin, time).alias(name) for name, begin in STEPS.items()]
    found += [of(begin, value).alias(name) for name, begin in VITALS.items()]
    for name, begin in FOUND_LATER.items():
        found += [of(begin, value).alias(name), of(begin, time).alias(f"{name}_time")]
    return [
        *found,
        of(STEPS["call"], part.list.get(1, null_on_oob=True)).alias("complaint"),
        of(STEPS["call"], text.str.split(", ").list.get(1, null_on_oob=True)).alias("district"),
        of(STEPS["triage"], text.str.split("; ").list.get(0, null_on_oob=True)).alias("complaint_seen"),
        of(STEPS["triage"], part.list.get(1, null_on_oob=True).cast(pl.Int8, strict=False)).alias(
            "triage_level"
        ),
        of(STEPS["arrival"], part.list.get(2, null_on_oob=True)).alias("site"),
        code.str.starts_with(STEPS["arrival"] + SEPARATOR + "AMBULANCE").any().alias("by_ambulance"),
        of(STEPS["decision"], part.list.get(1, null_on_oob=True)).alias("disposition"),
        of(INCIDENT, part.list.get(1, null_on_oob=True)).alias("incident"),
        of(INCIDENT, time).alias("incident_time"),
    ]


def _people(dataset: Dataset) -> pl.DataFrame:
    """`sex` and `birth` of every subject that has either."""
    code = pl.col(schema.CODE).cast(pl.String)
    sex = code.str.starts_with(schema.GENDER + SEPARATOR)
    return (
        dataset.scan()
        .filter(sex | (code == schema.BIRTH))
        .group_by(schema.SUBJECT_ID)
        .agg(
            sex=code.filter(sex).str.split(SEPARATOR).list.get(1, null_on_oob=True).first(),
            birth=pl.col(schema.TIME).filter(code == schema.BIRTH).first(),
        )
        .collect()
    )
