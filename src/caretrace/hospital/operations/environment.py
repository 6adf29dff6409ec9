"""Weather, calendar and one-off events: what the city's days are like, one after the other."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import math

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations.config import Flow
from caretrace.hospital.operations.profiles import week_factor

Floats = NDArray[np.float64]


MEAN_DEMAND = 1.018  # what weather, events and wandering add over a year; taken off, so that the year adds up


@dataclasses.dataclass(frozen=True)
class Event:
    """Something out of the ordinary.

    Args:
        kind: "festival", "heat wave", "flood", "influenza", "IT outage" or "public holiday".
        first_hour: First hour of the day it affects.
        hours: How many.
        site: The one hospital it affects, or -1 for the whole city.
        planned: Whether it was in the calendar beforehand.
    """

    kind: str
    first_hour: int
    hours: int
    site: int = -1
    planned: bool = False


@dataclasses.dataclass(frozen=True)
class Day:
    """Conditions of one day; axis `[24]` unless stated.

    Args:
        date: Which day.
        weekend: Saturday, Sunday or public holiday.
        calls: Factor on emergency calls (without the hour's share).
        walk_ins: Factor on walk-ins.
        drive: Factor on drive times.
        outage: Whether IT is down, `[site, 24]`.
        influenza: 0 outside a wave, 1 at its peak; one number.
        temperature: Degrees Celsius.
        rain: Millimetres in the hour.
        ice: Whether roads are icy.
        events: What happens.
    """

    date: dt.date
    weekend: bool
    calls: Floats
    walk_ins: Floats
    drive: Floats
    outage: NDArray[np.bool_]
    influenza: float
    temperature: Floats
    rain: Floats
    ice: NDArray[np.bool_]
    events: tuple[Event, ...]


@dataclasses.dataclass
class Environment:
    """What is carried from day to day.

    Args:
        seed: Of the simulation; fixes each winter's wave.
        sites: Number of hospitals.
        flow: Coefficients.
        anomaly: Temperature above what the season expects, degrees.
        wet: Whether the last day was wet.
        demand: Log demand's own wandering.
        hot_days: Days in a row of 30 degrees or more.
    """

    seed: int
    sites: int
    flow: Flow
    anomaly: float = 0.0
    wet: bool = False
    demand: float = 0.0
    hot_days: int = 0

    def branch(self) -> Environment:
        """An independent copy."""
        return copy.copy(self)

    def next_day(self, date: dt.date, rng: np.random.Generator) -> Day:
        """Draw one day's conditions and move on."""
        flow = self.flow
        memory = flow.demand_memory
        self.demand = memory * self.demand + flow.demand_spread * math.sqrt(1 - memory**2) * rng.normal()
        temperature, rain = self._weather(date, rng)
        ice = (temperature < 0.5) & (rain > 0)
        hot = float(temperature.max()) >= 30
        self.hot_days = self.hot_days + 1 if hot else 0
        influenza = influenza_level(date, self.seed)
        events = self._events(date, influenza, rng)
        flood, festival = _during(events, "flood"), _during(events, "festival")
        outage = np.stack([_during(events, "IT outage", site) > 0 for site in range(self.sites)])
        holiday = public_holiday(date)
        weekend = date.weekday() >= 5 or holiday is not None
        season = flow.season * math.cos(2 * math.pi * (date.timetuple().tm_yday - 15) / 365.25)
        shared = (
            -math.log(MEAN_DEMAND)
            + season
            + self.demand
            + flow.influenza_visits * influenza
            + flow.heat_calls * hot
        )
        shared += math.log(flow.new_year / week_factor(True, flow.weekend_visits)) * (holiday == "New Year")
        wet = rain > 0
        calls = shared + flow.ice_calls * ice + flow.rain_calls * wet + flow.flood_calls * flood
        rush = np.isin(np.arange(24), (7, 8, 16, 17)) & (not weekend)
        drive = flow.drive_rush * rush + flow.drive_ice * ice + flow.drive_rain * wet
        return Day(
            date,
            weekend,
            np.exp(calls + flow.festival_calls * festival),
            np.exp(shared + flow.festival_calls / 2 * festival),
            np.exp(drive + flow.drive_flood * flood),
            outage,
            influenza,
            temperature,
            rain,
            ice,
            events,
        )

    def _weather(self, date: dt.date, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Temperature and rain by the hour; a rough northern German climate, assumed."""
        self.anomaly = 0.75 * self.anomaly + 3.3 * math.sqrt(1 - 0.75**2) * rng.normal()
        self.wet = bool(rng.random() < (0.62 if self.wet else 0.38))
        yearly = 9.8 - 8.6 * math.cos(2 * math.pi * (date.timetuple().tm_yday - 20) / 365.25)
        hours = np.arange(24)
        daily = 3.5 * (0.6 if self.wet else 1.3) * np.cos(2 * np.pi * (hours - 15) / 24)
        showers = (rng.random(24) < 0.3) & self.wet
        return yearly + self.anomaly + daily, np.where(showers, np.round(rng.exponential(1.2, 24), 1), 0.0)

    def _events(self, date: dt.date, influenza: float, rng: np.random.Generator) -> tuple[Event, ...]:
        flow, events = self.flow, []
        holiday = public_holiday(date)
        if holiday:
            events.append(Event("public holiday", 0, 24, planned=True))
        if is_festival(date):
            events.append(Event("festival", 12, 12, planned=True))
        if self.hot_days >= 2:
            events.append(Event("heat wave", 0, 24))
        if influenza > 0.2:
            events.append(Event("influenza", 0, 24))
        winter = date.month >= 10 or date.month <= 3
        if rng.random() < flow.flood_rate / 182 * winter:
            events.append(Event("flood", int(rng.integers(0, 14)), 10))
        for site in np.flatnonzero(rng.random(self.sites) < flow.outage_rate / 365).tolist():
            first = int(rng.integers(0, 21))
            hours = 1 + int(rng.exponential(flow.outage_hours - 1))
            events.append(Event("IT outage", first, min(hours, 24 - first), site))
        return tuple(events)


def _during(events: tuple[Event, ...], kind: str, site: int = -1) -> Floats:
    """1 in the hours in which an event of a kind affects a site (-1: the city), else 0; `[24]`."""
    out = np.zeros(24)
    for event in events:
        if event.kind == kind and event.site == site:
            out[event.first_hour : event.first_hour + event.hours] = 1
    return out


def influenza_level(date: dt.date, seed: int) -> float:
    """How far a winter's wave has come: 0 outside, 1 at the peak; each year's wave is fixed by the seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(101, date.year)))
    peak, width, height = rng.uniform(20, 65), rng.uniform(12, 20), rng.uniform(0.5, 1.0)
    return float(height * math.exp(-0.5 * ((date.timetuple().tm_yday - peak) / width) ** 2))


def public_holiday(date: dt.date) -> str | None:
    """Name of a public holiday in Hamburg, or None."""
    fixed = {
        (1, 1): "New Year", (5, 1): "Labour Day", (10, 3): "Unity Day", (10, 31): "Reformation Day",
        (12, 25): "Christmas Day", (12, 26): "Boxing Day",
    }  # fmt: skip
    movable = {-2: "Good Friday", 1: "Easter Monday", 39: "Ascension Day", 50: "Whit Monday"}
    after_easter = (date - _easter(date.year)).days
    return fixed.get((date.month, date.day)) or movable.get(after_easter)


def is_festival(date: dt.date) -> bool:
    """The harbour's birthday (Friday to Sunday of the second weekend of May) and New Year's Eve."""
    if (date.month, date.day) == (12, 31):
        return True
    return date.month == 5 and date.weekday() >= 4 and 8 <= date.day - (date.weekday() - 4) <= 14


def _easter(year: int) -> dt.date:
    """Easter Sunday by the anonymous Gregorian algorithm (Meeus, Jones, Butcher)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (b - (b + 8) // 25 + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return dt.date(year, month, day + 1)
