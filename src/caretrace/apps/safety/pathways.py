"""Patient pathways: from the timeline of each patient to one row per episode, call to discharge.

An episode begins with an emergency call, or with a walk-in arrival, and lasts until the next one begins. What
is recorded late (the rating of a handoff, the completeness of a record, an incident) belongs to the episode it
was recorded in, with the moment it became known beside it.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
    keys = events.select(schema.SUBJECT_ID, EPISODE)
    first = np.flatnonzero(
        (keys != keys.shift(1)).fill_null(True).select(pl.any_horizontal(pl.all())).to_series()
    )
    table = pl.DataFrame([*keys[first].get_columns(), *_columns(_Episodes(events, first))])
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
        .filter(code.str.contains(f"^({'|'.join(begins)})"))
        .sort(schema.SUBJECT_ID, schema.TIME, maintain_order=True)
        .with_columns(first.cum_sum().over(schema.SUBJECT_ID).alias(EPISODE))
        .filter(pl.col(EPISODE) > 0)
        .collect()
    )


class _Episodes:
    """What the first event of some kind says, episode by episode.

    Rows are looked up by number: asking polars for the first of each kind of code in each episode takes several times
    as long for the half a million episodes of a city's year.

    Args:
        events: From `_numbered`, sorted by episode.
        first: `[episode]`, its first row.
    """

    def __init__(self, events: pl.DataFrame, first: NDArray[np.int64]) -> None:
        self.events, self.count = events, len(first)
        codes = events[schema.CODE].unique().sort()
        self._names, self._parts = codes.to_list(), codes.str.split(SEPARATOR)
        self._code = events[schema.CODE].cast(pl.Enum(codes)).to_physical()
        self._number = self._code.to_numpy()
        self._episode = np.repeat(np.arange(self.count), np.diff(first, append=len(events)))

    def of(self, name: str, begin: str, column: str) -> pl.Series:
        """A column of the events."""
        return self.events[column].gather(self._first(begin)).alias(name)

    def part(self, name: str, begin: str, place: int) -> pl.Series:
        """A part of the code itself."""
        code = self._code.gather(self._first(begin))
        return self._parts.list.get(place, null_on_oob=True).gather(code).alias(name)

    def word(self, name: str, begin: str, separator: str, place: int) -> pl.Series:
        """A part of the text."""
        text = self.of(name, begin, schema.TEXT_VALUE)
        return text.str.split(separator).list.get(place, null_on_oob=True)

    def any(self, name: str, begin: str) -> pl.Series:
        """Whether there is such an event."""
        return self._first(begin).is_not_null().alias(name)

    def _first(self, begin: str) -> pl.Series:
        """`[episode]`, the first row whose code begins so; null where there is none."""
        like = np.fromiter((name.startswith(begin) for name in self._names), bool, len(self._names))
        found = np.flatnonzero(like[self._number])
        own = self._episode[found]
        new = np.flatnonzero(np.diff(own, prepend=-1))
        row = np.full(self.count, -1)
        row[own[new]] = found[new]
        return pl.Series(row).replace(-1, None)


def _columns(episodes: _Episodes) -> list[pl.Series]:
    """One value per episode of everything that is known of it."""
    of, part, word = episodes.of, episodes.part, episodes.word
    found = [of(name, begin, schema.TIME) for name, begin in STEPS.items()]
    found += [of(name, begin, schema.NUMERIC_VALUE) for name, begin in VITALS.items()]
    for name, begin in FOUND_LATER.items():
        found += [of(name, begin, schema.NUMERIC_VALUE), of(f"{name}_time", begin, schema.TIME)]
    return [
        *found,
        part("complaint", STEPS["call"], 1),
        word("district", STEPS["call"], ", ", 1),
        word("complaint_seen", STEPS["triage"], "; ", 0),
        part("triage_level", STEPS["triage"], 1).cast(pl.Int8, strict=False),
        part("site", STEPS["arrival"], 2),
        episodes.any("by_ambulance", STEPS["arrival"] + SEPARATOR + "AMBULANCE"),
        part("disposition", STEPS["decision"], 1),
        part("incident", INCIDENT, 1),
        of("incident_time", INCIDENT, schema.TIME),
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
