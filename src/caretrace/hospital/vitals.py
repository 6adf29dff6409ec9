"""Vital signs: severity shown through organ systems, own baselines, time of day, treatment and noise."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.catalogue import DBP, GCS, HR, MAP, RESP, SBP, SPO2, VITALS
from caretrace.hospital.columns import words
from caretrace.hospital.population import People
from caretrace.hospital.signals import Ints, Signals, correlated
from caretrace.hospital.timeline import DAY, HOUR, Admissions, Stays
from caretrace.hospital.treatments import Treatments


def chart_vitals(
    people: People,
    admissions: Admissions,
    stays: Stays,
    signals: Signals,
    treatments: Treatments,
    noise: float,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """The raw table `vitals`.

    Args:
        people: Own baselines.
        admissions: Whose stays they are.
        stays: When.
        signals: Severity as it shows.
        treatments: Ventilation, sedation and vasopressors change what is measured.
        noise: Scale of the measurement error.
        rng: Source of chance.
    """
    error = correlated(rng, (*signals.severity.shape, len(VITALS)), np.array([v.correlation for v in VITALS]))
    rows = []
    for extra in (False, True):
        stay, hour, time = _charting(stays, signals, extra, rng)
        values = _values(people, admissions, stays, signals, stay, hour)
        own = error[hour, stay]
        if extra:  # a second look within the hour shares most of the hour's error
            own = 0.8 * own + 0.6 * rng.standard_normal(own.shape)
        values += noise * own * np.array([v.noise for v in VITALS])
        _treat(values, treatments, stay, hour)
        rows.append(_rows(values, stay, time, extra, rng))
    stay, time, vital, value = (np.concatenate(part) for part in zip(*rows, strict=True))
    order = np.lexsort((vital, time, stay))
    stay, time, vital, value = stay[order], time[order], vital[order], value[order]
    return pl.DataFrame(
        {
            "subject_id": people.subject_id[admissions.person[stays.admission[stay]]],
            "stay_id": stays.stay_id[stay],
            "time": time,
            "name": words([v.name for v in VITALS], vital),
            "value": value,
            "unit": words([v.unit for v in VITALS], vital),
        }
    )


def _charting(
    stays: Stays, signals: Signals, extra: bool, rng: np.random.Generator
) -> tuple[Ints, Ints, NDArray[np.int64]]:
    """When somebody writes down vital signs: hourly, and more often the sicker a patient looks."""
    u = rng.random(signals.severity.shape)
    if extra:  # assumed: half-hourly looks become common above an apparent severity of 2
        chance = np.clip(0.02 + 0.16 * (signals.apparent - 1), 0.02, 0.6)
        second = rng.integers(20 * 60, 58 * 60, u.shape)
    else:  # assumed: the well are looked at about two hours in three
        chance = np.clip(0.68 + 0.14 * signals.apparent, 0.68, 0.98)
        second = rng.integers(0, 8 * 60, u.shape)
    stay, hour = np.nonzero((u < chance) & signals.present)
    time = stays.begin[stay] + hour * HOUR + second[stay, hour]
    kept = time < stays.end[stay]
    return stay[kept], hour[kept], time[kept]


def _values(
    people: People, admissions: Admissions, stays: Stays, signals: Signals, stay: Ints, hour: Ints
) -> NDArray[np.float64]:
    """Vital signs without error, `[look, vital]`."""
    person = admissions.person[stays.admission[stay]]
    organs = signals.loads[stay] * signals.severity[stay, hour, None]
    values = np.array([v.mean for v in VITALS]) + organs @ np.array([v.gains for v in VITALS]).T
    values += people.vital_offset[person] * np.array([v.between for v in VITALS])
    clock = (stays.begin[stay] + hour * HOUR) % DAY / DAY
    # Assumed: a daily wave with its top at 16:00, flatter in the very ill.
    wave = np.cos(2 * np.pi * (clock - 16 / 24)) / (1 + 0.5 * signals.severity[stay, hour])
    values += wave[:, None] * np.array([v.swing for v in VITALS])
    old = (people.age[person] - 65) / 10
    values[:, SBP] += 2.5 * old + 6 * people.chronic[person, 4]
    values[:, HR] -= 1.5 * old
    values[:, SPO2] -= 1.8 * people.chronic[person, 2]
    values[:, RESP] += 1.5 * people.chronic[person, 2]
    return values


def _treat(values: NDArray[np.float64], treatments: Treatments, stay: Ints, hour: Ints) -> None:
    """What treatment does to the signs it acts on (assumed sizes), and the pressure in the mean."""
    vasopressor = treatments.vasopressor[stay, hour]
    for sign, target in ((SBP, 112.0), (DBP, 58.0)):
        lift = np.maximum(target - values[:, sign], 0) * 0.55
        values[:, sign] += np.where(vasopressor, lift, 0)
    ventilated = treatments.ventilated[stay, hour]
    values[:, RESP] = np.where(ventilated, 0.3 * values[:, RESP] + 12, values[:, RESP])
    values[:, SPO2] += np.where(ventilated, np.maximum(96 - values[:, SPO2], 0) * 0.5, 0)
    values[:, GCS] -= np.where(treatments.sedated[stay, hour], 5.0, 0)
    values[:, DBP] = np.minimum(values[:, DBP], values[:, SBP] - 12)
    values[:, MAP] += values[:, DBP] + (values[:, SBP] - values[:, DBP]) / 3


def _rows(
    values: NDArray[np.float64], stay: Ints, time: Ints, extra: bool, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
    """The signs actually written down, rounded and within what a monitor can show."""
    often = np.array([v.charted for v in VITALS]) * np.where(extra, 0.9, 1.0)
    written = rng.random(values.shape) < often
    written[:, MAP] &= written[:, SBP]
    written[:, DBP] &= written[:, SBP]
    out = np.empty_like(values)
    for i, v in enumerate(VITALS):
        out[:, i] = np.round(np.clip(values[:, i], v.low, v.high), v.decimals)
    look, vital = np.nonzero(written)
    return stay[look], time[look], vital, out[look, vital]
