"""Who lies under the monitors: age, sex, lungs, and each person's own level of every channel."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.physiology.chance import stream
from caretrace.hospital.physiology.config import DAY, DBP, HR, MAP, RESP, SBP, SPO2, TEMP

FIRST_SUBJECT = 30_000_001
FIRST_START = 19_723 * DAY  # 2024-01-01 UTC; recordings begin within the year after it

# Levels of an ICU population and their spread between people; set by hand next to the eICU demo (see
# `likeness.py`). SpO2 is a latent level that may pass 100, where the probe stops.
LEVEL = {HR: 84.0, SPO2: 97.3, RESP: 18.6, SBP: 121.5, DBP: 64.0, MAP: 0.0, TEMP: 36.85}
SPREAD = {HR: 13.5, SPO2: 2.1, RESP: 4.0, SBP: 15.5, DBP: 10.0, MAP: 0.0, TEMP: 0.34}
PRESSURE_CORRELATION = 0.5  # between people, of systolic and diastolic; eICU demo .50
LABILITY_SPREAD = 0.40  # log sd of how much somebody's signs swing; eICU demo: decile ratio of sds about 4
AGE_EFFECT = {HR: -1.5, SBP: 2.5}  # per 10 years from 65; assumed, as in `hospital.vitals`
LUNG_SHARE = 0.15  # chronic lung disease; assumed
LUNG_EFFECT = {SPO2: -1.8, RESP: 1.5}  # assumed, as in `hospital.vitals`


@dataclasses.dataclass(frozen=True)
class Person:
    """One person.

    Args:
        subject_id: Identifier in every table.
        age: Years.
        male: Sex.
        lung_disease: Whether the lungs are chronically ill.
        start: When the recording begins, seconds since 1970 (UTC).
        level: Own level of each channel, `[channel]`, in its unit; that of `map` is 0, it follows the others.
        lability: Factor on all swings of this person, about 1.
        prone: Uniform number; below `share_deteriorating` somebody deteriorates.
    """

    subject_id: int
    age: float
    male: bool
    lung_disease: bool
    start: int
    level: NDArray[np.float32]
    lability: float
    prone: float


def draw_person(seed: int, subject: int) -> Person:
    """The person with this number (from 0); depends on the seed and the number alone."""
    rng = stream(seed, subject, "person")
    prone, lung, male = rng.random(3)
    start = FIRST_START + int(rng.integers(0, 365 * DAY))
    age = float(np.clip(rng.normal(65, 16), 18, 100))  # assumed, as an ICU's
    z = rng.standard_normal(8)
    diastolic = PRESSURE_CORRELATION * z[SBP] + np.sqrt(1 - PRESSURE_CORRELATION**2) * z[DBP]
    level = np.array([LEVEL[c] for c in range(7)])
    spread = np.array([SPREAD[c] for c in range(7)])
    for channel, value in ((HR, z[HR]), (SPO2, z[SPO2]), (TEMP, z[TEMP])):
        level[channel] += spread[channel] * value
    for channel, value in ((RESP, z[RESP]), (SBP, z[SBP]), (DBP, diastolic)):  # skewed to the right
        level[channel] *= np.exp(spread[channel] / level[channel] * value)
    for channel, effect in AGE_EFFECT.items():
        level[channel] += effect * (age - 65) / 10
    lung_disease = bool(lung < LUNG_SHARE)
    for channel, effect in LUNG_EFFECT.items():
        level[channel] += effect * lung_disease
    return Person(
        subject_id=FIRST_SUBJECT + subject,
        age=age,
        male=bool(male < 0.55),
        lung_disease=lung_disease,
        start=start,
        level=level.astype(np.float32),
        lability=float(np.exp(LABILITY_SPREAD * z[7])),
        prone=float(prone),
    )
