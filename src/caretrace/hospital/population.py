"""People, and the admissions they will have: everything that is settled before a course begins."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital import catalogue
from caretrace.hospital.config import HospitalConfig

FIRST_SUBJECT = 10_000_001
ADMISSIONS_MAX = 3


@dataclasses.dataclass(frozen=True)
class People:
    """Subjects of one chunk; axis `[subject]` unless stated.

    Args:
        subject_id: Identifier.
        age: Years at the first admission.
        male: Whether male.
        race: Place in `catalogue.RACES`.
        marital: Place in `catalogue.MARITAL`.
        frailty: Latent, about standard normal.
        chronic: `[subject, illness]`, illnesses as in `catalogue.CHRONIC`.
        vital_offset: `[subject, vital]`, own baseline in standard deviations.
        lab_offset: `[subject, lab]`, likewise.
    """

    subject_id: NDArray[np.int64]
    age: NDArray[np.float64]
    male: NDArray[np.bool_]
    race: NDArray[np.int64]
    marital: NDArray[np.int64]
    frailty: NDArray[np.float64]
    chronic: NDArray[np.bool_]
    vital_offset: NDArray[np.float64]
    lab_offset: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Admissions as they would happen if nobody died; axis `[admission]`, by person, then rank.

    Args:
        person: Place in `People`.
        rank: 0 for the first admission of a person, then 1, 2.
        icu: Whether it has an ICU stay.
        problem: Place in `catalogue.PROBLEMS`.
        elective: Whether it was planned.
        loads: `[admission, system]`, how strongly severity shows in each organ system.
        before_hours: Hours in the hospital before the ICU.
        gap_days: Days since the admission before it (or, for the first, since the start of 2020).
    """

    person: NDArray[np.int64]
    rank: NDArray[np.int64]
    icu: NDArray[np.bool_]
    problem: NDArray[np.int64]
    elective: NDArray[np.bool_]
    loads: NDArray[np.float64]
    before_hours: NDArray[np.float64]
    gap_days: NDArray[np.float64]


def draw_people(first: int, count: int, rng: np.random.Generator) -> People:
    """Draw `count` people whose ids start at `FIRST_SUBJECT + first`."""
    # Assumed: adults, mean age 64 and sd 16; the old are frailer on average.
    age = np.clip(rng.normal(64, 16, count), 18, 97)
    frailty = 0.3 * (age - 64) / 16 + rng.normal(0, 0.95, count)
    male = rng.random(count) < 0.55
    logits = np.array(catalogue.CHRONIC_LOGITS)
    odds = logits[:, 0] + np.outer((age - 65) / 10, logits[:, 1]) + np.outer(frailty, logits[:, 2])
    widowed = np.clip((age - 60) / 80, 0, 0.4)
    u = rng.random(count)
    marital = np.where(u < widowed, 2, np.where(u < widowed + 0.45, 0, np.where(u < widowed + 0.55, 3, 1)))
    return People(
        subject_id=FIRST_SUBJECT + first + np.arange(count),
        age=age,
        male=male,
        race=rng.choice(len(catalogue.RACES), count, p=catalogue.RACE_SHARES),
        marital=marital,
        frailty=frailty,
        chronic=rng.random(odds.shape) < 1 / (1 + np.exp(-odds)),
        vital_offset=rng.normal(0, 1, (count, len(catalogue.VITALS))),
        lab_offset=rng.normal(0, 1, (count, len(catalogue.LABS))),
    )


def plan_admissions(people: People, config: HospitalConfig, rng: np.random.Generator) -> Plan:
    """Draw how often, when and with what each person comes to the hospital."""
    count = len(people.age)
    again = 1 / (1 + np.exp(0.6 - 0.5 * people.frailty))  # assumed: about 0.37 come again, the frail more
    admissions = 1 + (rng.random((count, ADMISSIONS_MAX - 1)) < again[:, None]).cumprod(axis=1).sum(axis=1)
    person = np.repeat(np.arange(count), admissions)
    rank = np.concatenate([np.arange(n) for n in admissions])
    n = len(person)
    problem = rng.choice(len(catalogue.PROBLEMS), n, p=[p.share for p in catalogue.PROBLEMS])
    elective = (problem == catalogue.POSTOPERATIVE) & (rng.random(n) < 0.7)
    loads = np.array([p.loads for p in catalogue.PROBLEMS])[problem]
    return Plan(
        person=person,
        rank=rank,
        icu=rng.random(n) < config.icu_probability * np.where(rank == 0, 1, 2 / 3),
        problem=problem,
        elective=elective,
        loads=loads * rng.lognormal(0, 0.3, loads.shape),
        before_hours=_before_hours(elective, rng),
        gap_days=np.where(rank == 0, rng.uniform(0, 4.2 * 365, n), 10 + rng.exponential(220, n)),
    )


def _before_hours(elective: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Hours from hospital to ICU admission: theatre, emergency department, or a ward first (a fifth)."""
    n = len(elective)
    emergency = rng.uniform(1, 8, n)
    ward = 6 + rng.exponential(30, n)
    theatre = rng.uniform(4, 10, n)
    return np.where(elective, theatre, np.where(rng.random(n) < 0.2, ward, emergency))
