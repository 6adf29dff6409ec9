"""Prescriptions, procedures and infusions, from the treatments each stay gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital import catalogue
from caretrace.hospital.catalogue import BRAIN, CIRCULATION, Drug
from caretrace.hospital.columns import words
from caretrace.hospital.population import People
from caretrace.hospital.signals import Ints, Mask, moments, spans
from caretrace.hospital.timeline import HOUR, Admissions, Stays
from caretrace.hospital.treatments import Bedside


@dataclasses.dataclass
class _Orders:
    """Rows under construction: place (stay or admission), start, end, and what else a table has."""

    place: list[Ints] = dataclasses.field(default_factory=list)
    start: list[Ints] = dataclasses.field(default_factory=list)
    end: list[Ints] = dataclasses.field(default_factory=list)
    kind: list[Ints] = dataclasses.field(default_factory=list)
    amount: list[NDArray[np.float64]] = dataclasses.field(default_factory=list)

    def add(
        self,
        place: Ints,
        start: Ints,
        end: Ints,
        kind: Ints | int,
        amount: NDArray[np.float64] | float = 0.0,
    ) -> None:
        """Append rows; those that would end before they start are dropped."""
        good = end > start
        self.place.append(place[good])
        self.start.append(start[good])
        self.end.append(end[good])
        self.kind.append(np.broadcast_to(np.asarray(kind, np.int64), place.shape)[good])
        self.amount.append(np.broadcast_to(np.asarray(amount, np.float64), place.shape)[good])

    def sorted(self, key: Ints) -> tuple[Ints, Ints, Ints, Ints, NDArray[np.float64]]:
        """Every row, by `key[place]`, start, kind; ties keep the order they came in."""
        place, start, end, kind = (
            np.concatenate(part) for part in (self.place, self.start, self.end, self.kind)
        )
        amount = np.concatenate(self.amount)
        order = np.lexsort((kind, start, key[place]))
        return place[order], start[order], end[order], kind[order], amount[order]


def prescribe(bedside: Bedside, rng: np.random.Generator) -> pl.DataFrame:
    """The raw table `prescriptions`: routine, long-term, and what the ICU adds."""
    admissions, stays, treatments = bedside.admissions, bedside.stays, bedside.treatments
    orders = _Orders()
    drugs = _on_admission(orders, bedside.people, admissions, rng)
    for mask, drug, share in (
        (treatments.vasopressor, catalogue.HYDROCORTISONE, 0.35),
        (treatments.diuretics, catalogue.FUROSEMIDE, 0.7),
    ):
        _course(orders, stays, mask, len(drugs), share, rng)
        drugs.append(drug)
    for drug, share in zip(catalogue.ANTIBIOTICS, (0.5, 0.45, 0.15, 0.3, 0.2), strict=True):
        _course(orders, stays, treatments.antibiotics, len(drugs), share, rng)
        drugs.append(drug)
    place, start, end, kind, _ = orders.sorted(admissions.admission_id)
    return pl.DataFrame(
        {
            "subject_id": _subject(bedside, place),
            "admission_id": admissions.admission_id[place],
            "start_time": start,
            "stop_time": end,
            "drug": words([d.name for d in drugs], kind),
            "dose": np.array([d.dose for d in drugs])[kind],
            "dose_unit": words([d.unit for d in drugs], kind),
            "route": words([d.route for d in drugs], kind),
        }
    )


def _subject(bedside: Bedside, admission: Ints) -> Ints:
    return bedside.people.subject_id[bedside.admissions.person[admission]]


def _on_admission(
    orders: _Orders, people: People, admissions: Admissions, rng: np.random.Generator
) -> list[Drug]:
    """Add what is ordered for the whole admission; returns those drugs, in the order of their kinds."""
    drugs: list[Drug] = [drug for drug, _ in catalogue.ROUTINE]
    n = len(admissions)
    everyone, first = np.arange(n), admissions.admit + rng.integers(30, 300, n) * 60
    for routine, (_, share) in enumerate(catalogue.ROUTINE):
        takes = everyone[rng.random(n) < share]
        orders.add(takes, first[takes], admissions.discharge[takes], routine)
    for illness, drug in enumerate(catalogue.LONG_TERM):
        takes = everyone[people.chronic[admissions.person, illness] & (rng.random(n) < 0.8)]
        start = first[takes] + rng.integers(0, 600, len(takes)) * 60
        orders.add(takes, start, admissions.discharge[takes], len(drugs))
        drugs.append(drug)
    return drugs


def _course(
    orders: _Orders, stays: Stays, mask: Mask, kind: int, share: float, rng: np.random.Generator
) -> None:
    """A drug ordered for some of the spans of a treatment; written an hour or so after the decision."""
    stay, start, end = _times(stays, mask, rng)
    chosen = rng.random(len(stay)) < share
    stay, start, end = stay[chosen], start[chosen] + HOUR // 2, end[chosen]
    orders.add(stays.admission[stay], start, end, kind)


def _times(stays: Stays, mask: Mask, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Spans of a treatment in calendar time, cut at the end of the stay."""
    stay, first, after = spans(mask)
    start = moments(stays, stay, first, rng)
    return stay, start, np.minimum(moments(stays, stay, after, rng), stays.end[stay])


def perform(bedside: Bedside, rng: np.random.Generator) -> pl.DataFrame:
    """The raw table `procedures`: tubes, lines, machines and pictures."""
    stays, treatments = bedside.stays, bedside.treatments
    names: list[str] = []
    orders = _Orders()

    def add(options: Sequence[str], stay: Ints, start: Ints, end: Ints) -> None:
        end = np.minimum(end, stays.end[stay])
        orders.add(stay, start, end, len(names) + rng.integers(0, len(options), len(stay)))
        names.extend(options)

    for mask, options in (
        (treatments.ventilated, catalogue.VENTILATION),
        (treatments.oxygen, catalogue.OXYGEN),
        (treatments.monitored, catalogue.ARTERIAL_LINE),
        (treatments.dialysis, catalogue.DIALYSIS),
    ):
        stay, start, end = _times(stays, mask, rng)
        add(options, stay, start, end)
        if mask is treatments.ventilated:
            add(catalogue.INTUBATION, stay, start, start + 20 * 60)
    stay, start, _ = _times(stays, treatments.vasopressor, rng)
    add(catalogue.CENTRAL_LINE, stay, start + 25 * 60, start + 55 * 60)
    for picture, stay, start in _pictures(bedside, rng):
        add((picture,), stay, start, start + 15 * 60)
    place, start, end, kind, _ = orders.sorted(stays.stay_id)
    return pl.DataFrame(
        {
            "subject_id": _subject(bedside, stays.admission[place]),
            "stay_id": stays.stay_id[place],
            "start_time": start,
            "end_time": end,
            "procedure": words(names, kind),
            "status": words(["completed", "stopped"], (end >= stays.end[place]).astype(np.int64)),
        }
    )


def _pictures(bedside: Bedside, rng: np.random.Generator) -> Iterator[tuple[str, Ints, Ints]]:
    """Pictures, the stays that get them, and when (assumed): by problem at first, then daily films."""
    stays, signals, treatments = bedside.stays, bedside.signals, bedside.treatments
    brain = signals.loads[:, BRAIN] > 0.9
    heart = signals.loads[:, CIRCULATION] > 0.9
    shares = (np.full(len(stays), 0.6), 0.1 + 0.7 * brain, 0.1 + 0.4 * heart)
    for picture, wanted in zip(catalogue.IMAGING, shares, strict=True):
        stay = np.flatnonzero(rng.random(len(stays)) < wanted)
        yield picture, stay, moments(stays, stay, rng.integers(0, 8, len(stay)), rng)
    stay, hour = np.nonzero(treatments.ventilated & (np.arange(signals.severity.shape[1]) % 24 == 18))
    yield catalogue.IMAGING[0], stay, moments(stays, stay, hour, rng)


# Fluid, unit of the amount, unit of the rate, hours between changes of the rate.
_FLUIDS = (
    ("Norepinephrine bitartrate 8 mg in 250 mL NaCl 0.9%", "mg", "mcg/kg/min", 4),
    ("Propofol 1% (10 mg/mL) infusion", "mg", "mg/h", 6),
    ("Insulin regular 100 units in 100 mL NaCl 0.9%", "units", "units/h", 4),
    ("Lactated Ringer's solution", "mL", "mL/h", 12),
    ("Sodium chloride 0.9% 500 mL bolus", "mL", "mL/h", 1),
)
_KILOGRAMS = 80  # body weight used to turn rates into amounts; assumed


def infuse(bedside: Bedside, rng: np.random.Generator) -> pl.DataFrame:
    """The raw table `infusions`; a new row begins whenever a pump is set anew."""
    stays = bedside.stays
    orders = _Orders()
    _pumps(orders, bedside, rng)
    _boluses(orders, bedside, rng)
    place, start, end, kind, rate = orders.sorted(stays.stay_id)
    rate = np.where(kind == 0, np.round(rate, 3), np.round(rate, 1))
    per_hour = np.where(kind == 0, rate * 60 * _KILOGRAMS / 1000, rate)
    return pl.DataFrame(
        {
            "subject_id": _subject(bedside, stays.admission[place]),
            "stay_id": stays.stay_id[place],
            "start_time": start,
            "end_time": end,
            "fluid": words([f[0] for f in _FLUIDS], kind),
            "amount": np.round(per_hour * (end - start) / HOUR, 1),
            "amount_unit": words([f[1] for f in _FLUIDS], kind),
            "rate": rate,
            "rate_unit": words([f[2] for f in _FLUIDS], kind),
            "status": words(["completed", "stopped"], (end >= stays.end[place]).astype(np.int64)),
        }
    )


def _pumps(orders: _Orders, bedside: Bedside, rng: np.random.Generator) -> None:
    """Add what runs for hours."""
    stays, signals, treatments = bedside.stays, bedside.signals, bedside.treatments
    pressure = signals.organ(CIRCULATION)
    # Assumed rates, per unit of what shows: they are what a reader of the chart can see of severity.
    rates = (
        np.clip(0.02 + 0.09 * np.maximum(pressure - 1, 0), 0.01, 1.5),
        np.clip(90 + 40 * signals.apparent, 40, 300),
        np.clip(1 + 1.6 * signals.apparent, 0.5, 15),
        np.full(pressure.shape, 80.0),
    )
    hours = np.arange(pressure.shape[1])
    maintenance = signals.present & (hours < 72) & (rng.random((len(stays), 1)) < 0.55)
    masks = (treatments.vasopressor, treatments.sedated, treatments.insulin, maintenance)
    for fluid, (mask, table) in enumerate(zip(masks, rates, strict=True)):
        stay, first, after = _pieces(mask, _FLUIDS[fluid][3])
        start = stays.begin[stay] + first * HOUR + 300
        end = np.minimum(stays.begin[stay] + after * HOUR + 300, stays.end[stay])
        value = table[stay, first] * rng.lognormal(0, 0.15, len(stay))
        orders.add(stay, start, end, fluid, value)


def _boluses(orders: _Orders, bedside: Bedside, rng: np.random.Generator) -> None:
    """Add fluids given quickly when the circulation looks ill (assumed: up to 15 % of hours)."""
    stays, signals = bedside.stays, bedside.signals
    pressure = signals.organ(CIRCULATION)
    stay, hour = np.nonzero(
        (rng.random(pressure.shape) < np.clip(0.05 * (pressure - 1), 0, 0.15)) & signals.present
    )
    start = moments(stays, stay, hour, rng)
    orders.add(stay, start, np.minimum(start + 1800, stays.end[stay]), 4, 1000.0)


def _pieces(mask: Mask, step: int) -> tuple[Ints, Ints, Ints]:
    """Spans cut into pieces of at most `step` hours: their stay, first hour, hour after the last."""
    stay, first, after = spans(mask)
    count = -(-(after - first) // step)
    piece = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    begin = np.repeat(first, count) + piece * step
    return np.repeat(stay, count), begin, np.minimum(begin + step, np.repeat(after, count))
