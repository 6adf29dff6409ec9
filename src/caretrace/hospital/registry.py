"""The administrative tables: who, when admitted, which ICU stay."""

from __future__ import annotations

import numpy as np
import polars as pl

from caretrace.hospital import catalogue
from caretrace.hospital.columns import words
from caretrace.hospital.population import FIRST_SUBJECT, People
from caretrace.hospital.timeline import DAY, Admissions, Stays

_TYPES = ("EMERGENCY", "URGENT", "ELECTIVE")
_FROM = ("EMERGENCY ROOM", "TRANSFER FROM HOSPITAL", "PHYSICIAN REFERRAL")
_TO = ("DIED", "HOME", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHABILITATION")
_PAYERS = ("MEDICARE", "PRIVATE", "MEDICAID", "SELF PAY")


def first_subjects(table: pl.DataFrame, count: int) -> pl.DataFrame:
    """Only the rows of the first `count` people of the hospital."""
    return table.filter(pl.col("subject_id") < FIRST_SUBJECT + count)


def patients(people: People, admissions: Admissions) -> pl.DataFrame:
    """The raw table `patients`; the birth date fits the age at the first admission."""
    first = np.full(len(people.age), -1, np.int64)
    first[admissions.person[::-1]] = admissions.admit[::-1]
    birth = first - (people.age * 365.25 * DAY).astype(np.int64)
    return pl.DataFrame(
        {
            "subject_id": people.subject_id,
            "sex": words(["F", "M"], people.male.astype(np.int64)),
            "birth_date": birth // DAY,
            "race": words(catalogue.RACES, people.race),
            "marital_status": words(catalogue.MARITAL, people.marital),
        }
    )


def admissions(people: People, admitted: Admissions, stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """The raw table `admissions`."""
    n = len(admitted)
    age, frailty = people.age[admitted.person], people.frailty[admitted.person]
    kind = np.where(admitted.elective, 2, (rng.random(n) < 0.15).astype(np.int64))
    origin = np.where(kind == 2, 2, np.where(rng.random(n) < 0.15, 1, 0))
    icu = np.isin(np.arange(n), stays.admission)
    # Assumed: the older, frailer and sicker leave for a facility rather than home.
    care = rng.logistic(size=n) + 0.35 * (age - 65) / 10 + 0.5 * frailty + 0.6 * icu
    to = np.where(care < 0.3, 1, np.where(care < 1.5, 2, np.where(rng.random(n) < 0.6, 3, 4)))
    u = rng.random(n)
    payer = np.where(age >= 65, np.where(u < 0.85, 0, 1), np.where(u < 0.6, 1, np.where(u < 0.93, 2, 3)))
    return pl.DataFrame(
        {
            "admission_id": admitted.admission_id,
            "subject_id": people.subject_id[admitted.person],
            "admit_time": admitted.admit,
            "discharge_time": admitted.discharge,
            "admission_type": words(_TYPES, kind),
            "admission_location": words(_FROM, origin),
            "discharge_location": words(_TO, np.where(admitted.died, 0, to)),
            "insurance": words(_PAYERS, payer),
            "death_time": pl.Series(admitted.discharge).set(pl.Series(~admitted.died), None),
        }
    )


def icu_stays(people: People, admitted: Admissions, stays: Stays) -> pl.DataFrame:
    """The raw table `icu_stays`."""
    problem = admitted.problem[stays.admission]
    units = [unit for p in catalogue.PROBLEMS for unit in p.units]
    offsets = np.cumsum([0, *(len(p.units) for p in catalogue.PROBLEMS)])[:-1]
    choices = np.array([len(p.units) for p in catalogue.PROBLEMS])
    # Which of a problem's units: by the admission's number, so no further stream of chance is needed.
    unit = offsets[problem] + (stays.stay_id // 100) % choices[problem]
    return pl.DataFrame(
        {
            "stay_id": stays.stay_id,
            "admission_id": admitted.admission_id[stays.admission],
            "subject_id": people.subject_id[admitted.person[stays.admission]],
            "care_unit": words(units, unit),
            "in_time": stays.begin,
            "out_time": stays.end,
        }
    )
