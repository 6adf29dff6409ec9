"""Hospitals hour by hour: what a control room could know at each full hour, and the crisis level of that hour.

Beside what dashboards show (`STATE`, `WEATHER`, calendar) stand counts made from the pathways of the patients
who are there: who waits beyond their Manchester limit, which crews are held at the door, who boards. Everything
in row t was known at hour t.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.pathways import SEPARATOR
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

Floats = NDArray[np.float64]

SITE, STATE, AUDIT = "SITE", "STATE", "AUDIT//crisis_level"
DASHBOARD = (
    "STATE//patients", "STATE//waiting", "STATE//places", "STATE//boarders", "STATE//ventilated",
    "STATE//longest_boarding//h", "STATE//last_wait//h", "STATE//nurses", "STATE//physicians", "STATE//ward_nurses",
    "STATE//ward_busy", "STATE//ward_beds", "STATE//intensive_busy", "STATE//intensive_beds", "STATE//crews_waiting",
    "STATE//crews", "STATE//crews_free", "STATE//nedocs", "WEATHER//temperature//°C", "WEATHER//rain//mm",
)  # fmt: skip
# What stands in a calendar; other kinds are not read, so that every dataset has the same channels.
KINDS = ("public holiday", "festival", "heat wave", "influenza", "flood", "IT outage")
PLANNED, STARTS, ENDS = "EVENT_PLANNED", "EVENT_START", "EVENT_END"
PLANNED_AHEAD_HOURS = 7 * 24
# Longest wait for a physician by Manchester level, hours (s40001-019-0390-9).
LONGEST_WAIT_HOURS = {1: 0.0, 2: 10 / 60, 3: 0.5, 4: 1.5, 5: 2.0}
HELD_HOURS = 0.25  # a crew that waits longer at the door for a place is held
_ADMITTED = ("ward", "intensive care")
# Counts that mean more per treatment place, and that every hospital also hears of the others.
_PER_PLACE = ("overdue", "crews_held", "boarding", "in_department")


@dataclasses.dataclass(frozen=True, eq=False)
class SiteHours:
    """All hospitals of one dataset on one clock.

    Args:
        start: The first full hour, UTC.
        sites: Names, in order.
        subjects: `subject_id` of each site.
        channels: Names of what is known.
        values: `[site, hour, channel]`; NaN where unknown.
        level: `[site, hour]`, crisis level of each hour as audited, 0 to 4, NaN where it was not. An audit is known
            an hour later: `values` has the last known one as `last_level`.
    """

    start: dt.datetime
    sites: tuple[str, ...]
    subjects: NDArray[np.int64]
    channels: tuple[str, ...]
    values: NDArray[np.float32]
    level: Floats

    @property
    def n_hours(self) -> int:
        """How many hours there are."""
        return self.values.shape[1]

    def channel(self, name: str) -> NDArray[np.float32]:
        """`[site, hour]`."""
        return self.values[..., self.channels.index(name)]


def collect_site_hours(dataset: Dataset, episodes: pl.DataFrame) -> SiteHours:
    """Put every site of a dataset on its hourly grid.

    Args:
        dataset: Where the sites stand.
        episodes: Of the same dataset, from `collect_episodes`.

    Raises:
        CohortError: No site, or none with a state.
    """
    events = _site_events(dataset)
    named = events.filter(pl.col(schema.CODE).str.starts_with(SITE + SEPARATOR))
    site = pl.col(schema.CODE).str.split(SEPARATOR).list.get(1)
    named = named.select(schema.SUBJECT_ID, name=site).sort("name")
    states = events.filter(pl.col(schema.CODE).is_in(DASHBOARD))
    if named.is_empty() or states.is_empty():
        raise CohortError(
            f"{dataset.path}: no hospital with an hourly state (codes {SITE}//…, {STATE}//…); "
            "ingest `hospital-operations`, or a source that writes these codes"
        )
    times = states[schema.TIME].sort()
    grid = _Grid(times[0].replace(minute=0, second=0, microsecond=0), times[-1], tuple(named["name"]))
    events = events.join(named, on=schema.SUBJECT_ID).with_columns(known=grid.hours(schema.TIME).ceil())
    audited = grid.last(events.filter(pl.col(schema.CODE) == AUDIT))
    known = {code: grid.last(events.filter(pl.col(schema.CODE) == code)) for code in DASHBOARD}
    known |= _calendar(grid, events) | _clock(grid) | _from_patients(grid, episodes)
    known["last_level"] = audited
    known |= _compared(known)
    level = np.full_like(audited, np.nan)
    level[:, :-1] = audited[:, 1:]
    values = np.stack([np.broadcast_to(values, grid.shape) for values in known.values()], -1)
    return SiteHours(
        grid.start,
        grid.sites,
        named[schema.SUBJECT_ID].to_numpy(),
        tuple(known),
        values.astype(np.float32),
        level,
    )


def hours_since(start: dt.datetime, time: str) -> pl.Expr:
    """Hours from `start` to a column of times."""
    return (pl.col(time) - pl.lit(start)).dt.total_microseconds() / 3.6e9


class _Grid:
    """Sites by hours, and ways to put things there."""

    def __init__(self, start: dt.datetime, last: dt.datetime, sites: tuple[str, ...]) -> None:
        self.start, self.sites = start, sites
        self.shape = len(sites), int((last - start).total_seconds() // 3600) + 1
        self.number = {name: index for index, name in enumerate(sites)}

    def hours(self, time: str) -> pl.Expr:
        return hours_since(self.start, time)

    def last(self, events: pl.DataFrame) -> Floats:
        """`[site, hour]`: the latest value that became known in the hour before, NaN where none did."""
        rows = events.filter(pl.col("known").is_between(0, self.shape[1] - 1)).sort(schema.TIME)
        out = np.full(self.shape, np.nan)
        site = rows["name"].replace_strict(self.number, return_dtype=pl.Int64).to_numpy()
        out[site, rows["known"].cast(pl.Int64).to_numpy()] = rows[schema.NUMERIC_VALUE].to_numpy()
        return out

    def present(self, site: NDArray[np.int64], begin: Floats, end: Floats) -> Floats:
        """`[site, hour]`: how many have begun at the full hour and not ended; hours, NaN end for not yet."""
        hours = self.shape[1]
        first = np.clip(np.ceil(begin), 0, hours)
        last = np.clip(np.ceil(np.where(np.isnan(end), np.inf, end)), 0, hours)
        real = ~np.isnan(begin) & (last > first) & (site >= 0)
        change = np.zeros((self.shape[0], hours + 1))
        np.add.at(change, (site[real], first[real].astype(int)), 1)
        np.add.at(change, (site[real], last[real].astype(int)), -1)
        return np.cumsum(change, axis=1)[:, :hours]


def _site_events(dataset: Dataset) -> pl.DataFrame:
    code = pl.col(schema.CODE).cast(pl.String)
    wanted = code.is_in((*DASHBOARD, AUDIT)) | code.str.contains(
        f"^({SITE}|{PLANNED}|{STARTS}|{ENDS}){SEPARATOR}"
    )
    return dataset.scan().with_columns(code).filter(wanted).drop(schema.TEXT_VALUE).collect()


def _calendar(grid: _Grid, events: pl.DataFrame) -> dict[str, Floats]:
    """Whether each kind of event is on, and whether a planned one begins within a day."""
    code = pl.col(schema.CODE)
    out = {}
    for kind in KINDS:
        change = np.zeros((grid.shape[0], grid.shape[1] + 1))
        for begin, sign in ((STARTS, 1), (ENDS, -1)):
            rows = events.filter(code == f"{begin}{SEPARATOR}{kind}")
            site = rows["name"].replace_strict(grid.number, return_dtype=pl.Int64).to_numpy()
            known = rows["known"].cast(pl.Int64).clip(0, grid.shape[1]).to_numpy()
            np.add.at(change, (site, known), sign)
        out[f"on//{kind}"] = (np.cumsum(change, axis=1)[:, :-1] > 0).astype(float)
    planned = events.filter(code.str.starts_with(PLANNED + SEPARATOR))
    site = planned["name"].replace_strict(grid.number, return_dtype=pl.Int64).to_numpy()
    begins = planned.select(grid.hours(schema.TIME)).to_series().to_numpy() + PLANNED_AHEAD_HOURS
    out["planned_within_24_h"] = (grid.present(site, begins - 24, begins) > 0).astype(float)
    return out


def _clock(grid: _Grid) -> dict[str, Floats]:
    """Hour, weekday and season, on circles."""
    hour = np.arange(grid.shape[1]) + grid.start.hour
    weekday, day = hour // 24 + grid.start.weekday(), hour // 24 + grid.start.timetuple().tm_yday
    out = {"weekend": (weekday % 7 >= 5).astype(float)}
    for name, turn in (("hour", hour / 24), ("weekday", (weekday % 7) / 7), ("season", day / 365.25)):
        out |= {f"{name}_sin": np.sin(2 * np.pi * turn), f"{name}_cos": np.cos(2 * np.pi * turn)}
    return out


def _from_patients(grid: _Grid, episodes: pl.DataFrame) -> dict[str, Floats]:
    """Counts of those who are there, from when each step was reached."""
    visits = episodes.filter(pl.col("site").is_in(grid.sites) & pl.col("arrival").is_not_null())
    site = visits["site"].replace_strict(grid.number, return_dtype=pl.Int64).to_numpy()
    names = ("arrival", "triage", "place", "physician", "decision", "departure", "at_hospital", "handover")
    at = {name: visits.select(grid.hours(name).alias(name)).to_series().to_numpy() for name in names}
    level = visits["triage_level"].to_numpy()
    limit = np.select([level == key for key in LONGEST_WAIT_HOURS], list(LONGEST_WAIT_HOURS.values()), np.nan)
    # Who left unseen has no physician; who is beyond the limit is known once the level is.
    seen = np.where(np.isnan(at["physician"]), at["departure"], at["physician"])
    overdue = np.fmax(at["triage"], at["arrival"] + limit)
    admitted = visits["disposition"].is_in(_ADMITTED).to_numpy()
    out = {
        "overdue": grid.present(site, overdue, seen),
        "crews_held": grid.present(
            site, at["at_hospital"] + HELD_HOURS, np.fmin(at["place"], at["handover"])
        ),
        "boarding": grid.present(site, np.where(admitted, at["decision"], np.nan), at["departure"]),
        "in_department": grid.present(site, at["arrival"], at["departure"]),
        "arrivals_last_hour": grid.present(site, at["arrival"], at["arrival"] + 1),
        "untriaged": grid.present(site, at["arrival"], np.where(np.isnan(at["triage"]), seen, at["triage"])),
    }
    for key in (2, 3, 4, 5):
        out[f"unseen_level_{key}"] = grid.present(site, np.where(level == key, at["triage"], np.nan), seen)
    return out


def _compared(known: dict[str, Floats]) -> dict[str, Floats]:
    """Counts per treatment place, here and in the city, and the share of crews free."""
    places = known["STATE//places"]
    out = {f"{name}_per_place": known[name] / np.where(places > 0, places, np.nan) for name in _PER_PLACE}
    crews = known["STATE//crews"]
    out["share_of_crews_free"] = known["STATE//crews_free"] / np.where(crews > 0, crews, np.nan)
    for name in [f"{name}_per_place" for name in _PER_PLACE]:
        there = ~np.isnan(out[name])
        total = np.where(there, out[name], 0.0).sum(0, keepdims=True)
        out[f"city_{name}"] = total / np.maximum(there.sum(0, keepdims=True), 1)
    return out
