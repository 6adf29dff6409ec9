"""Laboratory results: drawn each morning, and more often the sicker somebody looks."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.catalogue import CHEMISTRY, COUNT, GAS, LABS, LIVER
from caretrace.hospital.columns import words
from caretrace.hospital.population import People
from caretrace.hospital.signals import Ints, Signals
from caretrace.hospital.timeline import DAY, HOUR, Admissions, Stays

PANELS = (CHEMISTRY, COUNT, GAS, LIVER)


@dataclasses.dataclass(frozen=True)
class Draws:
    """Moments blood was drawn; axis `[draw]`.

    Args:
        admission: Place in `Admissions`.
        time: Seconds since 1970.
        fast: Severity at that moment.
        slow: Severity with a lag.
        panels: `[draw, panel]`, what was asked for.
    """

    admission: Ints
    time: Ints
    fast: NDArray[np.float64]
    slow: NDArray[np.float64]
    panels: NDArray[np.bool_]


def report_labs(
    people: People,
    admissions: Admissions,
    stays: Stays,
    signals: Signals,
    noise: float,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """The raw table `labs`, in the ICU and on the wards around it.

    Args:
        people: Own baselines and chronic illness.
        admissions: When in hospital.
        stays: When in the ICU.
        signals: Severity as it shows.
        noise: Scale of the measurement error.
        rng: Source of chance.
    """
    icu, ward = _icu_draws(stays, signals, rng), _ward_draws(people, admissions, stays, rng)
    draws = Draws(
        *(np.concatenate([getattr(icu, f.name), getattr(ward, f.name)]) for f in dataclasses.fields(Draws))
    )
    order = np.lexsort((draws.time, draws.admission))
    draws = Draws(*(getattr(draws, f.name)[order] for f in dataclasses.fields(Draws)))
    values = _values(people, admissions, draws, noise, rng)
    # Assumed: one in twenty-five results is lost (clotted sample, order cancelled).
    asked = draws.panels[:, [lab.panel for lab in LABS]] & (rng.random(values.shape) < 0.96)
    # Gases are read at the bedside; the laboratory takes 20 to 90 minutes.
    delay = rng.integers(35 * 60, 90 * 60, (len(draws.time), len(PANELS)))
    delay[:, GAS] = rng.integers(20 * 60, 30 * 60, len(draws.time))
    draw, lab = np.nonzero(asked)
    value = values[draw, lab]
    low, high = (np.array([getattr(x, name) for x in LABS])[lab] for name in ("ref_low", "ref_high"))
    admission = draws.admission[draw]
    return pl.DataFrame(
        {
            "subject_id": people.subject_id[admissions.person[admission]],
            "admission_id": admissions.admission_id[admission],
            "collect_time": draws.time[draw],
            "result_time": draws.time[draw] + delay[draw, np.array([x.panel for x in LABS])[lab]],
            "name": words([x.name for x in LABS], lab),
            "value": value,
            "unit": words([x.unit for x in LABS], lab),
            "ref_low": low,
            "ref_high": high,
            "flag": words([None, "low", "high"], (value < low) + 2 * (value > high)),
        }
    )


def _icu_draws(stays: Stays, signals: Signals, rng: np.random.Generator) -> Draws:
    shape = signals.severity.shape
    hours = np.arange(shape[1])
    clock = (stays.begin[:, None] + hours * HOUR) % DAY // HOUR
    morning = (clock == 4) & (rng.random(shape) < 0.96)
    arrival = np.broadcast_to(hours == 0, shape)
    # Assumed: unplanned draws, per hour; gases become common above an apparent severity of 2.
    extra = rng.random(shape) < np.clip(0.008 * np.exp(0.9 * signals.apparent), 0, 0.2)
    gas = rng.random(shape) < np.clip(0.012 * np.exp(1.0 * signals.apparent), 0, 0.33)
    liver = rng.random(shape) < np.clip(0.2 + 0.15 * signals.apparent, 0, 0.9)
    blood = morning | arrival | extra
    stay, hour = np.nonzero((blood | gas) & signals.present)
    gas |= arrival & (signals.apparent > 0.8)
    asked = np.stack(
        [blood, blood & ((morning | arrival) | (liver & extra)), gas, blood & liver & ~extra], axis=-1
    )[stay, hour]
    time = stays.begin[stay] + hour * HOUR + rng.integers(0, 50, len(stay)) * 60
    kept = (time < stays.end[stay]) & asked.any(axis=1)
    return Draws(
        stays.admission[stay[kept]],
        time[kept],
        signals.severity[stay, hour][kept],
        signals.slow[stay, hour][kept],
        asked[kept],
    )


def _ward_draws(people: People, admissions: Admissions, stays: Stays, rng: np.random.Generator) -> Draws:
    """One draw on admission and one each morning outside the ICU."""
    first_morning = admissions.admit // DAY * DAY + 6 * HOUR
    days = np.maximum((admissions.discharge - first_morning) // DAY + 1, 0)
    admission = np.repeat(np.arange(len(admissions)), days)
    day = np.arange(len(admission)) - np.repeat(np.cumsum(days) - days, days)
    time = first_morning[admission] + day * DAY + rng.integers(0, 90, len(admission)) * 60
    admission = np.concatenate([np.arange(len(admissions)), admission])
    time = np.concatenate([admissions.admit + rng.integers(10, 50, len(admissions)) * 60, time])
    # Assumed: on four mornings of five.
    drawn = (rng.random(len(time)) < 0.8) & (time > admissions.admit[admission])
    kept = drawn & (time < admissions.discharge[admission] - HOUR) & ~_in_icu(stays, admission, time)
    admission, time = admission[kept], time[kept]
    severity = _ward_severity(people.frailty[admissions.person], stays, admission, time)
    panels = rng.random((len(time), len(PANELS))) < np.array([1.0, 0.9, 0.03, 0.15])
    return Draws(admission, time, severity, severity, panels)


def _first_stay(stays: Stays, count: int, order: int) -> Ints:
    """The stay of each admission that is its first (or second), or -1, `[admission]`."""
    out = np.full(count, -1, np.int64)
    chosen = np.flatnonzero(stays.stay_id % 10 == order)
    out[stays.admission[chosen]] = chosen
    return out


def _in_icu(stays: Stays, admission: Ints, time: Ints) -> NDArray[np.bool_]:
    inside = np.zeros(len(time), np.bool_)
    for order in (0, 1):
        if not len(stays):
            break
        stay = _first_stay(stays, int(admission.max(initial=0)) + 1, order)[admission]
        # An hour's margin keeps ward draws clear of the ones at the ICU door.
        near = (time >= stays.begin[stay] - HOUR) & (time <= stays.end[stay] + HOUR)
        inside |= (stay >= 0) & near
    return inside


def _ward_severity(
    frailty: NDArray[np.float64], stays: Stays, admission: Ints, time: Ints
) -> NDArray[np.float64]:
    """Severity outside the ICU (assumed): mild, rising towards the next ICU stay, fading after the last one.

    It knows nothing of what comes after the next ICU admission: neither a death nor a second stay.
    A ward death, therefore, comes without warning.

    Args:
        frailty: `[admission]`.
        stays: Hold the severity that a rise ends at, and a fall begins with.
        admission: Place of each draw's admission, `[draw]`.
        time: Of each draw, outside the ICU, seconds since 1970.
    """
    mild = np.maximum(0.35 + 0.15 * frailty[admission], 0.05)
    if not len(stays):
        return mild
    out = mild.copy()
    last = np.maximum((~np.isnan(stays.severity)).sum(axis=1) - 1, 0)
    leaving = stays.severity[np.arange(len(stays)), last].astype(np.float64)
    first, second = (_first_stay(stays, len(frailty), order)[admission] for order in (0, 1))
    # The next stay is the first until that has begun; the last one is the first until the second has ended.
    begun, ended = time >= stays.begin[first], (second >= 0) & (time >= stays.end[second])
    ahead, behind = np.where(begun, second, first), np.where(ended, second, np.where(begun, first, -1))
    ahead = np.where(ended | (first < 0), -1, ahead)
    behind = np.where(first < 0, -1, behind)
    to_icu, since = (stays.begin[ahead] - time) / HOUR, (time - stays.end[behind]) / HOUR
    rising = (stays.severity[ahead, 0] - mild) * np.exp(-np.maximum(to_icu, 0) / 12)
    fading = (leaving[behind] - mild) * np.exp(-np.maximum(since, 0) / 48)
    out += np.where(ahead < 0, 0, rising) + np.where(behind < 0, 0, fading)
    return np.maximum(out, 0)


def _values(
    people: People, admissions: Admissions, draws: Draws, noise: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Values of every analyte at every draw, `[draw, lab]`."""
    person = admissions.person[draws.admission]
    loads = admissions.loads[draws.admission]
    out = np.empty((len(person), len(LABS)))
    for i, lab in enumerate(LABS):
        signal = (draws.slow if lab.slow else draws.fast) * (loads @ np.array(lab.gains))
        own = (
            people.lab_offset[person, i] * lab.between
            + people.chronic[person, lab.chronic[0]] * lab.chronic[1]
        )
        error = noise * lab.noise * rng.standard_normal(len(person))
        if lab.name == "Haemoglobin":
            own = own + 0.9 * people.male[person]
        total = signal + own + error
        raw = lab.typical * np.exp(np.minimum(total, 8)) if lab.log else lab.typical + total
        out[:, i] = np.round(np.clip(raw, lab.low, lab.high), lab.decimals)
    return out
