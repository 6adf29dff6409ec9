"""The bands that must hold: published numbers beside what independent replications of the city give."""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student

from caretrace.errors import ConfigError
from caretrace.hospital.operations import demand, experiments, profiles
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.city import City
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.environment import Environment
from caretrace.hospital.staff.roster import NURSE, PHYSICIAN

CHECK_DAYS = 28  # of each replication, after the warm-up
FEWEST_DAYS = 10


@dataclasses.dataclass(frozen=True)
class Band:
    """One published number and what the simulation makes of it.

    Args:
        name: What is measured, with its unit.
        target: The published number.
        low: Lowest value that will do.
        high: Highest.
        value: Mean over the replications.
        interval: 95 % confidence interval of that mean, by Student's t over replications.
        source: Who published the target.
    """

    name: str
    target: float
    low: float
    high: float
    value: float
    interval: tuple[float, float]
    source: str

    @property
    def inside(self) -> bool:
        """Whether the value lies in the band."""
        return self.low <= self.value <= self.high


@dataclasses.dataclass(frozen=True)
class Target:
    """A published number, how far from it is still good, and its source."""

    name: str
    value: float
    within: float
    source: str


TARGETS = {
    "runs": Target("ambulance runs a year, in thousands", 279.471, 8.0, "Feuerwehr Hamburg 2023"),
    "scene_8": Target("ambulance on scene within 8 min, %", 65.0, 2.0, "Hamburg press and parliament papers"),
    "scene_10": Target("ambulance on scene after 10 min, %", 11.8, 1.5, "Hamburg press and parliament papers"),
    "scene_12": Target("ambulance on scene after 12 min, %", 4.5, 1.0, "Hamburg press and parliament papers"),
    "shape": Target("hourly arrivals, total variation from the published shape", 0.0, 0.03, "patientflow, UCLH-shaped"),
    "weekend": Target("arrivals on weekend days over weekdays", 290 / 245, 0.05, "Charite"),
    "new_year": Target("arrivals on 1 January over an average day", 1.68, 0.10, "Charite"),
    "triage_1": Target("Manchester level 1, %", 0.4, 0.1, "s40001-019-0390-9"),
    "triage_2": Target("Manchester level 2, %", 5.9, 0.5, "s40001-019-0390-9"),
    "triage_3": Target("Manchester level 3, %", 26.9, 1.0, "s40001-019-0390-9"),
    "triage_4": Target("Manchester level 4, %", 53.9, 1.0, "s40001-019-0390-9"),
    "triage_5": Target("Manchester level 5, %", 12.9, 0.7, "s40001-019-0390-9"),
    "stay": Target("stay in the emergency department, mean min", 208.0, 10.0, "AKTIN"),
    "stay_admitted": Target("longer stay of admitted patients, min", 64.0, 10.0, "AKTIN"),
    "admission": Target("admitted, %", 42.5, 2.0, "German MTS cohort, BMJ Open"),
    "ward": Target("ward stay, median days", 5.0, 0.5, "German MTS cohort, BMJ Open"),
    "intensive": Target("intensive care among admitted, %", 13.3, 1.0, "German MTS cohort, BMJ Open"),
    "burnout_nurse": Target("nurses burnt out, %", 26.0, 2.0, "Magnet4Europe 2024"),
    "burnout_physician": Target("physicians burnt out, %", 25.0, 2.0, "Magnet4Europe 2024"),
    "leave_nurse": Target("nurses who intend to leave, %", 33.0, 2.0, "Magnet4Europe 2024"),
    "leave_physician": Target("physicians who intend to leave, %", 29.0, 2.0, "Magnet4Europe 2024"),
    "death_load": Target("one more patient per nurse: odds ratio of death", 1.07, 0.02, "Aiken 2002"),
    "burnout_load": Target("one more patient per nurse: odds ratio of burnout", 1.23, 0.03, "Aiken 2002"),
    "death_boarding": Target("bed later than 8 h: added deaths per 1,000", 1000 / 82, 1.5, "Jones 2022"),
    "unsafe_long": Target("duties of 12 h or more: odds ratio of poor safety", 1.41, 0.06, "Griffiths 2014"),
    "unsafe_overtime": Target("overtime: odds ratio of poor safety", 1.67, 0.06, "Griffiths 2014"),
}  # fmt: skip


# Effects measured by designs of their own: by construction only their own published coefficient moves them.
ISOLATED = ("death_load", "burnout_load", "death_boarding", "unsafe_long", "unsafe_overtime")


def check(
    seeds: Sequence[int],
    config: OperationsConfig | None = None,
    days: int = CHECK_DAYS,
    progress: Callable[[float], None] | None = None,
) -> list[Band]:
    """Every band, from one replication per seed.

    Replications are independent and start spread evenly over a year, so that all seasons are in the mean and
    the spread between seasons is in the interval, which is therefore wider than chance alone would make it.

    Args:
        seeds: At least two, all different.
        config: The city; by default one of Hamburg's size.
        days: Length of each replication after the warm-up.
        progress: Called with 1 after each replication.

    Raises:
        ConfigError: Fewer than two seeds, or one twice, or too few days.
    """
    if len(set(seeds)) < 2 or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds: got {list(seeds)[:10]}; give at least two different ones")
    base = config or OperationsConfig()
    values = []
    for place, seed in enumerate(seeds):
        first = base.first_day + dt.timedelta(days=round(place * 365 / len(seeds)))
        values.append(measure(dataclasses.replace(base, start=first.isoformat()), seed, days))
        if progress is not None:
            progress(1)
    return [_band(target, [value[key] for value in values]) for key, target in TARGETS.items()]


def measure(config: OperationsConfig, seed: int, days: int = CHECK_DAYS) -> dict[str, float]:
    """What every band measures, in one replication.

    Args:
        config: The city.
        seed: 0 or more.
        days: Length after the warm-up; at least `FEWEST_DAYS`, to hold whole weekdays and a weekend.

    Raises:
        ConfigError: `days` is too short.
    """
    city, cases = _replicate(config, seed, days)
    return _routine(city, cases, days) | _isolated(city, cases)


def measure_routine(config: OperationsConfig, seed: int, days: int = CHECK_DAYS) -> dict[str, float]:
    """As `measure`, without the effects that need a design of their own (`ISOLATED`)."""
    city, cases = _replicate(config, seed, days)
    return _routine(city, cases, days)


def _replicate(config: OperationsConfig, seed: int, days: int) -> tuple[City, list[Case]]:
    if days < FEWEST_DAYS:
        raise ConfigError(f"days: got {days}; the bands need at least {FEWEST_DAYS} days per replication")
    city = City(config, seed)
    city.advance(24 * (config.warm_up_days + days))
    begin = config.warm_up_days * 1440.0
    # Whoever came in the last day may not have left yet; cutting at arrival keeps the long stays in.
    return city, [c for c in city.done if begin <= c.began < begin + (days - 1) * 1440.0]


def _visits(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Visits, and those of them that were admitted."""
    visits = [case for case in cases if case.site >= 0]
    return visits, [case for case in visits if case.admitted and case.shift]


def _routine(city: City, cases: Sequence[Case], days: int) -> dict[str, float]:
    visits, admitted = _visits(cases)
    return (
        _ambulances(cases, city.config, days - 1)
        | _arrivals(visits, city)
        | _stays(visits, admitted)
        | _staff(city)
        | {"new_year": _new_year(city.config, city.seed)}
    )


def _isolated(city: City, cases: Sequence[Case]) -> dict[str, float]:
    visits, admitted = _visits(cases)
    config, rng = city.config, city.random("outcomes", 2_000_000)
    long, overtime = experiments.unsafe_odds_ratios(visits, config, rng)
    return {
        "death_load": experiments.death_odds_ratio(admitted, config, rng),
        "burnout_load": experiments.burnout_odds_ratio(config.staff, rng),
        "death_boarding": 1000 * experiments.boarding_excess(admitted, config, rng),
        "unsafe_long": long,
        "unsafe_overtime": overtime,
    }


def _ambulances(cases: Sequence[Case], config: OperationsConfig, days: int) -> dict[str, float]:
    minutes = np.array([case.on_scene - case.began for case in cases if case.ambulance])
    return {
        "runs": len(minutes) / days * 365 / config.size / 1000,
        "scene_8": 100 * float(np.mean(minutes <= 8)),
        "scene_10": 100 * float(np.mean(minutes > 10)),
        "scene_12": 100 * float(np.mean(minutes > 12)),
    }


def _arrivals(visits: Sequence[Case], city: City) -> dict[str, float]:
    minutes = np.array([case.arrived for case in visits])
    by_hour = np.bincount((minutes // 60).astype(int) % 24, minlength=24) / len(minutes)
    triage = np.bincount([case.triage for case in visits], minlength=6) / len(visits)
    per_day = np.bincount((minutes // 1440).astype(int))
    first, last = city.config.warm_up_days + 1, per_day.size - 1
    dates = {report.number: report.day.date for report in city.reports}
    inner = [i for i in range(first, last) if dates[i].timetuple().tm_yday != 1]
    weekend = [per_day[i] for i in inner if dates[i].weekday() >= 5]
    weekday = [per_day[i] for i in inner if dates[i].weekday() < 5]
    return {
        "shape": 0.5 * float(np.abs(by_hour - profiles.ARRIVALS).sum()),
        "weekend": float(np.mean(weekend) / np.mean(weekday)),
        **{f"triage_{level}": 100 * float(triage[level]) for level in range(1, 6)},
    }


def _stays(visits: Sequence[Case], admitted: Sequence[Case]) -> dict[str, float]:
    stay = np.array([case.departed - case.arrived for case in visits])
    is_admitted = np.array([case.admitted for case in visits])
    ward = [case.discharged - case.bedded for case in admitted if not case.intensive]
    return {
        "stay": float(stay.mean()),
        "stay_admitted": float(stay[is_admitted].mean() - stay[~is_admitted].mean()),
        "admission": 100 * float(is_admitted.mean()),
        "ward": float(np.median(ward)) / 1440,
        "intensive": 100 * float(np.mean([case.intensive for case in admitted])),
    }


def _staff(city: City) -> dict[str, float]:
    staff, out = city.staff, {}
    for name, group in (("nurse", NURSE), ("physician", PHYSICIAN)):
        here = (staff.posts.group == group) & (staff.staff_id >= 0)
        out[f"burnout_{name}"] = 100 * float(staff.burnt_out[here].mean())
        out[f"leave_{name}"] = 100 * float(staff.intends_to_leave[here].mean())
    return out


def _new_year(config: OperationsConfig, seed: int) -> float:
    """Arrivals drawn for a 1 January over an average day's; demand alone, nobody is treated."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(102,)))
    environment = Environment(seed, config.sites, config.flow)
    day = environment.next_day(dt.date(config.first_day.year, 1, 1), rng)
    cases = demand.draw_day(config, day, 0.0, rng, 1)
    return sum(case.transported for case in cases) / profiles.daily_visits(config.flow, config.sites)


def _band(target: Target, values: Sequence[float]) -> Band:
    mean, n = statistics.fmean(values), len(values)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    low, high = target.value - target.within, target.value + target.within
    return Band(target.name, target.value, low, high, mean, (mean - half, mean + half), target.source)
