"""Finished cases as tables: what a hospital would export, and the truth apart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.demand import COMPLAINTS, ZONES
from caretrace.hospital.operations.outcomes import DOCUMENT_ITEMS, Outcomes
from caretrace.hospital.operations.register import site_name

Floats = NDArray[np.float64]

_NOTES = (
    "",
    "worse since yesterday",
    "brought by relatives",
    "known to us",
    "on blood thinners",
    "lives alone",
)


class Clock:
    """Turns minutes since the start of the warm-up into seconds since 1970; null after the end.

    Args:
        config: The city.
        days: Days written.
    """

    def __init__(self, config: OperationsConfig, days: int) -> None:
        first = config.first_day - dt.timedelta(days=config.warm_up_days)
        self.zero = (first - dt.date(1970, 1, 1)).days * 86_400
        self.begin = config.warm_up_days * 1440.0
        self.end = self.begin + days * 1440.0

    def column(self, minutes: Sequence[float] | NDArray[Any]) -> pl.Series:
        """A column of seconds since 1970; NaN and what lies after the end become null."""
        array = np.asarray(minutes, float)
        known = np.isfinite(array) & (array <= self.end)
        seconds = np.where(known, self.zero + np.round(np.where(known, array, 0) * 60), 0).astype(np.int64)
        return pl.Series(seconds).scatter(np.flatnonzero(~known), None)


def site_column(numbers: Sequence[int] | NDArray[np.int64], sites: int) -> pl.Series:
    """The names of hospitals, given their places."""
    return pl.Series([site_name(i) for i in range(sites)]).gather(np.asarray(numbers, np.int64))


def _get(cases: Sequence[Case], name: str) -> list[Any]:
    return [getattr(case, name) for case in cases]


def run_tables(runs: Sequence[Case], clock: Clock) -> pl.DataFrame:
    """The ambulance runs, one row each."""
    return pl.DataFrame(
        {
            "run_id": _get(runs, "number"),
            "subject_id": _get(runs, "subject_id"),
            "call_time": clock.column(_get(runs, "began")),
            "dispatch_time": clock.column(_get(runs, "dispatched")),
            "scene_time": clock.column(_get(runs, "on_scene")),
            "leave_time": clock.column(_get(runs, "left_scene")),
            "door_time": clock.column(_get(runs, "arrived")),
            "handover_time": clock.column(_get(runs, "handed_over")),
            "clear_time": clock.column(_get(runs, "cleared")),
            "district": pl.Series(ZONES).gather(_get(runs, "zone")),
            "complaint": pl.Series(COMPLAINTS).gather(_get(runs, "complaint")),
            "outcome": ["transported" if case.transported else "treated on scene" for case in runs],
        }
    )


def visit_tables(
    visits: Sequence[Case], o: Outcomes, clock: Clock, sites: int, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Visits, handoffs, documentation, incident reports, and the truth behind them."""
    return {
        "visits": _visits(visits, o, clock, sites, rng),
        "handoffs": _handoffs(visits, o, clock, sites, rng),
        "documentation": _documentation(visits, o, clock, rng),
        "incidents": _incidents(visits, o, clock, sites, rng),
        "truth/visits": _visit_truth(visits, o),
    }


def _visits(
    visits: Sequence[Case], o: Outcomes, clock: Clock, sites: int, rng: np.random.Generator
) -> pl.DataFrame:
    discharged = np.where(_get(visits, "admitted"), _get(visits, "discharged"), _get(visits, "departed"))
    over = clock.column(discharged)
    status = pl.Series(["alive", "died"]).gather(o.died.astype(np.int64))
    return pl.DataFrame(
        {
            "visit_id": _get(visits, "number"),
            "subject_id": _get(visits, "subject_id"),
            "run_id": [case.number if case.ambulance else None for case in visits],
            "site": site_column(_get(visits, "site"), sites),
            "sex": ["M" if case.male else "F" for case in visits],
            "age": pl.Series(_get(visits, "age")).cast(pl.Int64),
            "arrival_time": clock.column(_get(visits, "arrived")),
            "triage_time": clock.column(_get(visits, "triaged")),
            "triage": _get(visits, "triage"),
            "complaint": _complaints(visits, o, rng),
            **_vitals(visits, o, rng),
            "place_time": clock.column(_get(visits, "placed")),
            "physician_time": clock.column(_get(visits, "seen")),
            "decision_time": clock.column(_get(visits, "decided")),
            "departure_time": clock.column(_get(visits, "departed")),
            "disposition": [_disposition(case) for case in visits],
            "discharge_time": over,
            "status": pl.select(pl.when(over.is_not_null()).then(status)).to_series(),
        }
    )


def _documentation(
    visits: Sequence[Case], o: Outcomes, clock: Clock, rng: np.random.Generator
) -> pl.DataFrame:
    """How much of each record was filled in, and when it was closed; none for who left unseen."""
    n = len(visits)
    seen = np.array([bool(case.shift) for case in visits], bool)
    return pl.DataFrame(
        {
            "visit_id": _get(visits, "number"),
            "items_expected": np.full(n, DOCUMENT_ITEMS),
            "items_completed": o.items,
            "closed_time": clock.column(np.array(_get(visits, "departed")) + rng.exponential(40, n)),
        }
    ).filter(seen)


def _disposition(case: Case) -> str:
    if not case.shift:
        return "left unseen"
    return ("intensive care" if case.intensive else "ward") if case.admitted else "home"


def _complaints(visits: Sequence[Case], o: Outcomes, rng: np.random.Generator) -> pl.Series:
    """The complaint with a nurse's free-text addition; both may be missing."""
    words = pl.Series(COMPLAINTS).gather(_get(visits, "complaint"))
    note = pl.Series(_NOTES).gather(rng.choice(len(_NOTES), len(visits), p=(0.5, 0.1, 0.1, 0.1, 0.1, 0.1)))
    text = pl.select(pl.when(note == "").then(words).otherwise(words + "; " + note)).to_series()
    missing = rng.random(len(visits)) > o.item_probability
    return text.scatter(np.flatnonzero(missing), None)


def _vitals(visits: Sequence[Case], o: Outcomes, rng: np.random.Generator) -> dict[str, pl.Series]:
    """Vital signs at triage; they follow severity (coefficients assumed) and may be missing."""
    severity, n = np.array(_get(visits, "severity"), float), len(visits)
    ill = np.maximum(severity, 0)
    rows = {
        "heart_rate": (82 + 7 * severity, 14, 30, 220),
        "respiration": (16 + 2.2 * ill, 2.5, 6, 60),
        "spo2": (97.2 - 1.6 * ill, 1.4, 50, 100),
        "systolic": (136 - 4 * ill, 20, 50, 260),
        "temperature": (36.8 + 0.15 * ill, 0.6, 33, 42),
    }
    out = {}
    for name, (mean, spread, low, high) in rows.items():
        value = np.clip(np.round(mean + spread * rng.standard_normal(n), 1), low, high)
        missing = rng.random(n) > o.item_probability
        out[name] = pl.Series(value).scatter(np.flatnonzero(missing), None)
    return out


def _handoffs(
    visits: Sequence[Case], o: Outcomes, clock: Clock, sites: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Ambulance handoffs with the receiving nurse's rating, 1 to 5, where one was given."""
    mine = np.flatnonzero(_get(visits, "ambulance"))
    some = [visits[i] for i in mine.tolist()]
    rating = np.clip(
        np.round((o.quality[mine] + 8 * rng.standard_normal(len(mine))) / 20), 1, 5
    )  # assumed noise
    rated = rng.random(len(mine)) < 0.6  # assumed
    start = np.array(_get(some, "arrived"), float)
    return pl.DataFrame(
        {
            "run_id": _get(some, "number"),
            "site": site_column(_get(some, "site"), sites),
            "door_time": clock.column(start),
            "handover_time": clock.column(_get(some, "handed_over")),
            "rating": pl.Series(rating).cast(pl.Int64).scatter(np.flatnonzero(~rated), None),
        }
    )


def _incidents(
    visits: Sequence[Case], o: Outcomes, clock: Clock, sites: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Incident reports: a third of the adverse events is reported (assumed)."""
    some = [visits[i] for i in np.flatnonzero(o.adverse & (rng.random(len(visits)) < 1 / 3)).tolist()]
    reported = np.array(_get(some, "departed"), float) + rng.exponential(600, len(some))
    kinds = ("medication", "delay", "fall", "communication", "diagnosis")
    return pl.DataFrame(
        {
            "visit_id": pl.Series(_get(some, "number"), dtype=pl.Int64),
            "site": site_column(_get(some, "site"), sites),
            "report_time": clock.column(reported),
            "kind": pl.Series(kinds).gather(rng.integers(0, len(kinds), len(some))),
        }
    )


def _visit_truth(visits: Sequence[Case], o: Outcomes) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "visit_id": _get(visits, "number"),
            "severity": _get(visits, "severity"),
            "needs_bed": _get(visits, "admitted"),
            "kss": o.shift.kss,
            "overload": o.shift.overload,
            "overtime": o.shift.overtime,
            "long_duties": o.shift.long,
            "burnt_out": o.shift.burnt_out,
            "crew_kss": _get(visits, "crew_kss"),
            "free_crews": _get(visits, "free_share"),
            "ward_patients_per_nurse": o.ward_load,
            "handoff_quality": o.quality,
            "item_probability": o.item_probability,
            "adverse_probability": o.adverse_probability,
            "adverse": o.adverse,
            "death_probability": o.death_probability,
            "died": o.died,
        }
    )
