"""Who calls and who walks in on a day, and how long everything will take them: drawn in blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from caretrace.hospital.operations import profiles
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import Flow, OperationsConfig
from caretrace.hospital.operations.environment import Day

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Districts: share of the calls, and factor on the drive there; assumed, the outer ones slower.
ZONES = ("Mitte", "Altona", "Eimsbuettel", "Nord", "Wandsbek", "Bergedorf", "Harburg")
ZONE_SHARES = np.array([0.20, 0.14, 0.13, 0.16, 0.20, 0.07, 0.10])
ZONE_DRIVE = np.array([0.90, 1.00, 0.95, 0.93, 1.06, 1.20, 1.14])
POOL = 900_000  # people per way of arriving at size 1; assumed, near a city of Hamburg's size
COMPLAINTS = (
    "chest pain", "shortness of breath", "abdominal pain", "fall", "limb injury", "collapse", "headache",
    "stroke symptoms", "fever", "back pain", "wound", "intoxication", "dizziness", "unwell",
)  # fmt: skip
# Shares of complaints by urgency (rows: Manchester 1-2, 3, 4-5); assumed.
_COMPLAINT_SHARES = np.array([
    [20, 20, 6, 5, 2, 14, 3, 14, 5, 1, 1, 4, 3, 2],
    [11, 9, 15, 9, 8, 6, 7, 4, 8, 5, 3, 5, 6, 4],
    [4, 3, 10, 9, 22, 2, 6, 1, 7, 11, 12, 3, 5, 5],
], float)  # fmt: skip


def draw_day(
    config: OperationsConfig, day: Day, midnight: float, rng: np.random.Generator, first_number: int
) -> list[Case]:
    """Everybody who will call or walk in on a day, in the order in which they do.

    A non-homogeneous Poisson process: independent counts per hour, uniform within the hour.

    Args:
        config: The city.
        day: Its conditions.
        midnight: When the day begins, in minutes.
        rng: Source of chance.
        first_number: Number of the first case.
    """
    flow, sites = config.flow, config.sites
    weekly = profiles.week_factor(day.weekend, flow.weekend_calls)
    calls = profiles.daily_runs(flow, config.size) * weekly * profiles.CALLS * day.calls
    walking = profiles.walk_ins(flow, config.size, sites, day.weekend) * day.walk_ins
    began = [_moments(rate, rng) for rate in (calls, walking)]
    ambulance = np.repeat([True, False], [len(part) for part in began])
    minute = np.concatenate(began)
    order = np.argsort(minute, kind="stable")
    return _people(config, ambulance[order], midnight + minute[order], rng, first_number)


def durations(
    flow: Flow, cases: int, drive: Floats, longer: Floats, rng: np.random.Generator
) -> list[list[float]]:
    """How long everything takes, one row per case in the order of `case.DURATIONS`.

    Args:
        flow: Coefficients.
        cases: How many rows.
        drive: Factor on the drive, `[case]`.
        longer: Factor on diagnostics and treatment, `[case]`.
        rng: Source of chance.
    """
    pairs = [
        (flow.call_minutes, flow.call_spread), (flow.turnout_minutes, flow.turnout_spread),
        (flow.drive_minutes, flow.drive_spread), (flow.scene_minutes, flow.scene_spread),
        (flow.transport_minutes, flow.transport_spread), (flow.handoff_minutes, flow.handoff_spread),
        (flow.clear_minutes, flow.clear_spread), (flow.triage_minutes, flow.triage_spread),
        (flow.assess_minutes, flow.assess_spread), (flow.work_up_minutes, flow.work_up_spread),
        (flow.transfer_minutes, flow.transfer_spread), (flow.patience_minutes, flow.patience_spread),
        (flow.intensive_days, flow.intensive_spread), (flow.ward_days, flow.ward_spread),
    ]  # fmt: skip
    median, spread = np.array(pairs).T
    table = np.exp(np.log(median) + spread * rng.standard_normal((cases, len(pairs))))
    table[:, 2] *= drive
    table[:, 9] *= longer
    table[:, 13] = np.minimum(table[:, 13], LONGEST_STAY_DAYS)
    hour = rng.choice(profiles.DISCHARGE_HOURS, cases, p=profiles.DISCHARGE_SHARES) + rng.random(cases)
    waits = rng.random(cases) < flow.weekend_stay
    return np.column_stack([table, hour, waits]).tolist()


LONGEST_STAY_DAYS = 60.0


def redraw(flow: Flow, cases: Sequence[Case], rng: np.random.Generator) -> None:
    """New durations for everything that has not begun; what has begun is already on the agenda."""
    drive = ZONE_DRIVE[[case.zone for case in cases]]
    longer = np.where([case.admitted for case in cases], math.exp(flow.work_up_admitted), 1.0)
    rows = durations(flow, len(cases), drive, longer, rng)
    for case, row in zip(cases, rows, strict=True):
        case.set_durations(row)


def _moments(rate: Floats, rng: np.random.Generator) -> Floats:
    """Minutes of the day at which somebody comes, given expected counts per hour, `[24]`."""
    hours = np.repeat(np.arange(24), rng.poisson(rate))
    return (hours + rng.random(len(hours))) * 60


def _people(
    config: OperationsConfig,
    ambulance: NDArray[np.bool_],
    began: Floats,
    rng: np.random.Generator,
    first_number: int,
) -> list[Case]:
    flow, n = config.flow, len(began)
    subject, age, male = _subjects(ambulance, config.size, rng)
    share = profiles.ambulance_share(flow, config.size, config.sites)
    mix = [np.cumsum(m) for m in (profiles.triage_walk_in(share), profiles.TRIAGE_AMBULANCE)]
    u = rng.random(n)
    triage = 1 + np.where(ambulance, np.searchsorted(mix[1], u), np.searchsorted(mix[0], u))
    triage = np.minimum(triage, 5)
    severity = 0.55 * (3.7 - triage) + 0.85 * rng.standard_normal(n)  # assumed; mean 0, variance about 1
    admitted = rng.random(n) < admission_probability(flow, age, triage, ambulance)
    intensive = admitted & (rng.random(n) < _intensive(flow, triage))
    ventilated = (
        rng.random(n) < np.where(triage == 1, 0.5, np.where(triage == 2, 0.04, 0))
    ) & admitted  # assumed
    zone = rng.choice(len(ZONES), n, p=ZONE_SHARES / ZONE_SHARES.sum())
    candidates = _candidates(config.sites, n, rng)
    detours = np.cumsum(np.column_stack([np.zeros(n), rng.exponential(4.0, (n, 2))]), axis=1)  # assumed, min
    transported = ~ambulance | (rng.random(n) < flow.transported)
    columns = [
        np.arange(first_number, first_number + n), ambulance, transported, zone, subject, age, male,
        _complaint(triage, rng), triage, severity, admitted, intensive, ventilated, began, candidates, detours,
    ]  # fmt: skip
    longer = np.where(admitted, math.exp(flow.work_up_admitted), 1.0)
    times = durations(flow, n, ZONE_DRIVE[zone], longer, rng)
    settled = zip(*(column.tolist() for column in columns), strict=True)
    return [Case(one, two) for one, two in zip(settled, times, strict=True)]


def admission_probability(flow: Flow, age: Floats, triage: Ints, ambulance: NDArray[np.bool_]) -> Floats:
    """Chance to be admitted, `[case]`, from age in years, Manchester level 1-5 and way of arriving."""
    log_odds = (
        flow.admission
        + flow.admission_age * (age - 50)
        + flow.admission_urgent * (4 - triage)
        + flow.admission_ambulance * ambulance
    )
    return 1 / (1 + np.exp(-log_odds))


def _intensive(flow: Flow, triage: Ints) -> Floats:
    """Chance that an admission is to intensive care: by urgency, `flow.intensive` on average (assumed shape)."""
    return np.clip(flow.intensive * np.array([0, 5.0, 2.65, 1.17, 0.42, 0.3])[triage], 0, 0.95)


def _subjects(
    ambulance: NDArray[np.bool_], size: float, rng: np.random.Generator
) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Who it is: some come often; age and sex are functions of the id, so that they never contradict."""
    pool = max(int(POOL * size), 1000)
    place = np.floor(pool * rng.random(len(ambulance)) ** 1.6).astype(np.int64)  # assumed skew
    subject = 2 * place + ambulance
    age = np.where(
        ambulance, 64 + 20 * ndtri(_hash(subject, 1)), 45 + 22 * ndtri(_hash(subject, 1))
    )  # assumed
    return 20_000_000 + subject, np.floor(np.clip(age, 1, 101)), _hash(subject, 2) < 0.5


def _hash(number: Ints, salt: int) -> Floats:
    """A fixed uniform number for each integer (splitmix64)."""
    mask = np.uint64(0xFFFFFFFFFFFFFFFF)
    z = (number.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) & mask
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB) & mask
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53 + 1e-17


def _candidates(sites: int, n: int, rng: np.random.Generator) -> Ints:
    """Up to three hospitals in reach, nearest first, larger ones more often; `[case, 3]`."""
    race = rng.exponential(1, (n, sites)) / profiles.site_weights(sites)
    first = np.argsort(race, axis=1)[:, :3]
    return np.pad(first, ((0, 0), (0, 3 - first.shape[1])), mode="edge")


def _complaint(triage: Ints, rng: np.random.Generator) -> Ints:
    shares = np.cumsum(_COMPLAINT_SHARES / _COMPLAINT_SHARES.sum(1, keepdims=True), axis=1)
    row = np.array([0, 0, 0, 1, 2, 2])[triage]
    place = (rng.random(len(triage))[:, None] > shares[row]).sum(1)
    return np.minimum(place, len(COMPLAINTS) - 1)
