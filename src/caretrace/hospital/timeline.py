"""From courses on their own clocks to admissions and stays in calendar time."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital import catalogue
from caretrace.hospital.config import HospitalConfig
from caretrace.hospital.course import GAP_HOURS, LANDMARK_HOURS, Course, IcuPath, run_course
from caretrace.hospital.oracle import death_probabilities
from caretrace.hospital.population import People, Plan
from caretrace.hospital.severity import concatenate, enter, static_risk

T = TypeVar("T", bound=np.generic)

HOUR = 3600
DAY = 24 * HOUR
# Seconds since 1970-01-01 of the first and last moment an admission may begin.
OPENING = int(np.datetime64("2020-01-01", "s").astype(np.int64))
CLOSING = int(np.datetime64("2024-12-31T23:00", "s").astype(np.int64))


@dataclasses.dataclass
class Admissions:
    """Hospital admissions in calendar time; axis `[admission]`, times in seconds since 1970, UTC.

    Args:
        admission_id: Identifier.
        person: Place in `People`.
        admit: Time of admission.
        discharge: Time of discharge, or of death.
        died: Whether discharge is death.
        elective: Whether planned.
        problem: Place in `catalogue.PROBLEMS`.
        loads: `[admission, system]`.
    """

    admission_id: NDArray[np.int64]
    person: NDArray[np.int64]
    admit: NDArray[np.int64]
    discharge: NDArray[np.int64]
    died: NDArray[np.bool_]
    elective: NDArray[np.bool_]
    problem: NDArray[np.int64]
    loads: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.admission_id)


@dataclasses.dataclass
class Stays:
    """ICU stays in calendar time; axis `[stay]`, times in seconds since 1970, UTC.

    Args:
        stay_id: Identifier.
        admission: Place in `Admissions`.
        begin: Time of ICU admission.
        end: Time of ICU discharge, or of death.
        died: Whether the stay ended in death.
        severity: `[stay, hour]`, NaN once the stay is over.
        setpoint: Same shape.
        phase: Same shape, -1 once the stay is over.
        oracle: Per landmark hour, `[stay, 2]`: chance to die in the ICU and in hospital after the gap of the
            tasks, given that they keep the stay; NaN if over.
    """

    stay_id: NDArray[np.int64]
    admission: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    died: NDArray[np.bool_]
    severity: NDArray[np.float32]
    setpoint: NDArray[np.float32]
    phase: NDArray[np.int8]
    oracle: dict[int, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.stay_id)


def live(
    people: People,
    plan: Plan,
    config: HospitalConfig,
    rng: np.random.Generator,
    oracle_rng: np.random.Generator,
    planted: NDArray[np.float32] | None = None,
) -> tuple[Admissions, Stays]:
    """Run every planned admission, put them in calendar time, and drop what death made impossible.

    Args:
        people: Who.
        plan: Their admissions if nobody died.
        config: Settings.
        rng: Source of chance of the courses.
        oracle_rng: Source of chance of the oracle, apart so that `oracle_replicates` changes nothing else.
        planted: What planted rules add to each person's log hazard of death, `[person]`.
    """
    d = config.dynamics
    risk = static_risk(people.age, people.frailty, d)[plan.person]
    frailty = people.frailty[plan.person]
    icu = np.flatnonzero(plan.icu)
    begin_severity = np.array([p.start for p in catalogue.PROBLEMS])[plan.problem[icu]]
    start = enter(begin_severity, risk[icu], frailty[icu], d, rng)
    if planted is not None:
        start = dataclasses.replace(start, planted=planted[plan.person[icu]])
    course = run_course(start, d, rng)
    length, died = _ward_only(len(plan.person), risk, rng)
    length[icu] = plan.before_hours[icu] + course.end_hours
    died[icu] = course.died
    admit, happens = _calendar(plan, length, died, rng)
    admissions = Admissions(
        admission_id=people.subject_id[plan.person] * 10 + plan.rank,
        person=plan.person,
        admit=admit,
        discharge=_minute(admit + length * HOUR),
        died=died,
        elective=plan.elective,
        problem=plan.problem,
        loads=plan.loads,
    )
    stays = _stays(admissions, plan, icu, course, config, oracle_rng)
    return _keep(admissions, stays, happens)


def _ward_only(
    n: int, risk: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Length in hours and death of admissions without an ICU stay; median 3 days, assumed."""
    died = rng.random(n) < 1 / (1 + np.exp(5.0 - 0.7 * risk))
    return np.clip(rng.lognormal(np.log(72), 0.7, n), 8, 30 * 24), died


def _calendar(
    plan: Plan, length: NDArray[np.float64], died: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Time of each admission, and whether it happens: before the closing date, by somebody alive."""
    day = rng.uniform(0, 1, len(length))
    # Assumed: planned admissions come in the early morning, others at any hour, fewest before dawn.
    clock = np.where(plan.elective, 6 + 2 * day, (6 + 24 * day**0.85) % 24)
    admit, happens = np.zeros(len(length), np.int64), np.zeros(len(length), np.bool_)
    for rank in range(int(plan.rank.max()) + 1):
        now = np.flatnonzero(plan.rank == rank)
        before = admit[now - 1] + (length[now - 1] * HOUR).astype(np.int64) if rank else OPENING
        midnight = (before + (plan.gap_days[now] * DAY).astype(np.int64)) // DAY * DAY
        admit[now] = _minute(midnight + clock[now] * HOUR)
        possible = happens[now - 1] & ~died[now - 1] if rank else np.ones(len(now), np.bool_)
        happens[now] = possible & (admit[now] < CLOSING)
    return admit, happens


def _stays(
    admissions: Admissions,
    plan: Plan,
    icu: NDArray[np.int64],
    course: Course,
    config: HospitalConfig,
    rng: np.random.Generator,
) -> Stays:
    first, second = course.first, course.second
    arrival = admissions.admit[icu] + plan.before_hours[icu] * HOUR
    returned = arrival[course.back] + course.back_hours * HOUR
    begin = np.concatenate([arrival, returned])
    admission = np.concatenate([icu, icu[course.back]])
    order = np.concatenate([np.zeros(len(icu), np.int64), np.ones(len(course.back), np.int64)])
    died = np.concatenate([first.died, second.died])
    end = _minute(begin + np.concatenate([first.hours, second.hours]) * HOUR)
    width = max(first.severity.shape[1], second.severity.shape[1])
    return Stays(
        stay_id=admissions.admission_id[admission] * 10 + order,
        admission=admission,
        begin=_minute(begin),
        # Death in the ICU is the end of the admission, to the minute.
        end=np.where(died, admissions.discharge[admission], end),
        died=died,
        severity=_join(first.severity, second.severity, width, np.nan),
        setpoint=_join(first.setpoint, second.setpoint, width, np.nan),
        phase=_join(first.phase, second.phase, width, -1),
        oracle=_oracle((first, second), len(begin), config, rng),
    )


def _oracle(
    paths: tuple[IcuPath, IcuPath], count: int, config: HospitalConfig, rng: np.random.Generator
) -> dict[int, NDArray[np.float64]]:
    """Chances of death at each landmark, `[stay, 2]`; stays of both paths in order, in one long run."""
    oracle = {hour: np.full((count, 2), np.nan) for hour in LANDMARK_HOURS}
    asked = [
        (hour, who + offset, state)
        for hour in LANDMARK_HOURS
        for path, offset in zip(paths, (0, len(paths[0].died)), strict=True)
        for who, state in [path.at[hour]]
    ]
    states = concatenate([state for _, _, state in asked])
    chances = np.column_stack(
        death_probabilities(states, config.dynamics, config.oracle_replicates, rng, GAP_HOURS)
    )
    start = 0
    for hour, who, _ in asked:
        oracle[hour][who] = chances[start : start + len(who)]
        start += len(who)
    return oracle


def _keep(admissions: Admissions, stays: Stays, happens: NDArray[np.bool_]) -> tuple[Admissions, Stays]:
    """Only the admissions that happen, and their stays, by person and time."""
    place = np.cumsum(happens) - 1
    kept = {f.name: getattr(admissions, f.name)[happens] for f in dataclasses.fields(admissions)}
    index = np.flatnonzero(happens[stays.admission])
    index = index[np.lexsort((stays.begin[index], stays.admission[index]))]
    rest = {f.name: getattr(stays, f.name)[index] for f in dataclasses.fields(stays) if f.name != "oracle"}
    rest["admission"] = place[rest["admission"]]
    oracle = {hour: chances[index] for hour, chances in stays.oracle.items()}
    return Admissions(**kept), Stays(**rest, oracle=oracle)


def _join(a: NDArray[T], b: NDArray[T], width: int, fill: float) -> NDArray[T]:
    out = np.full((len(a) + len(b), width), fill, a.dtype)
    out[: len(a), : a.shape[1]] = a
    out[len(a) :, : b.shape[1]] = b
    return out


def _minute(seconds: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(seconds // 60 * 60, np.int64)
