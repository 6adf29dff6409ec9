"""Planted rules of death: which events they are made of, who gets those events, and whom they harm.

Two events, A and B, make a rule (`single` has A alone). Whether somebody gets them is drawn per person,
before anything else is known of that person, so the events are independent of severity; all of a
person's ICU stays carry the same ones, so an older stay in the record never contradicts the newest.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.config import RULES, HospitalConfig, Rule
from caretrace.hospital.severity import PLANTING_HOURS, Bools, Floats

Cell = str | float | None


class Event(NamedTuple):
    """An ordinary row of a raw table that a rule is made of.

    `row` holds the cells that are always the same; `text` names the one a reader knows the event by, and
    `code` is what `caretrace ingest` calls it (`end_code`, from its end on, where it has an end).
    """

    table: str
    text: str
    row: dict[str, Cell]
    code: str
    end_code: str | None = None


def _drug(drug: str, dose: float, unit: str, route: str) -> Event:
    row: dict[str, Cell] = {"drug": drug, "dose": dose, "dose_unit": unit, "route": route}
    return Event("prescriptions", "drug", row, f"PRESCRIPTION//{drug}")


def _lab(name: str, unit: str, low: float, high: float) -> Event:
    row: dict[str, Cell] = {"name": name, "unit": unit, "ref_low": low, "ref_high": high}
    return Event("labs", "name", row, f"LAB//RESULT//{name}//{unit}")


def _procedure(procedure: str) -> Event:
    codes = f"PROCEDURE//{procedure}", f"PROCEDURE_END//{procedure}"
    return Event("procedures", "procedure", {"procedure": procedure}, *codes)


def _infusion(fluid: str, rate: float, unit: str) -> Event:
    row: dict[str, Cell] = {"fluid": fluid, "amount_unit": unit, "rate": rate, "rate_unit": f"{unit}/h"}
    return Event("infusions", "fluid", row, f"INFUSION//{fluid}", f"INFUSION_END//{fluid}")


def _virus(test: str, organism: str) -> Event:
    row: dict[str, Cell] = {"specimen": "NASOPHARYNGEAL SWAB", "test": test, "organism": organism}
    return Event("cultures", "test", row | {"comment": "Detected."}, f"MICROBIOLOGY//{test}")


# Texts that stand nowhere else in the virtual hospital, so that a code and an event are the same thing.
EVENTS: dict[Rule, tuple[Event, ...]] = {
    "single": (_drug("Amiodarone 200 mg tablet", 400, "mg", "PO"),),
    "conjunctive": (
        _procedure("Peripherally inserted central catheter, basilic vein"),
        _drug("Haloperidol lactate 5 mg/mL injection", 2.5, "mg", "IV"),
    ),
    "ordered": (
        _lab("Troponin T, high sensitivity", "ng/L", 0, 14),
        _infusion("Octreotide 500 mcg in 100 mL NaCl 0.9%", 50.0, "mcg"),
    ),
    "redundant": (
        _virus("Influenza A/B PCR, rapid", "INFLUENZA A VIRUS"),
        _drug("Oseltamivir 75 mg capsule", 75, "mg", "PO"),
    ),
    "decoy": (
        _drug("Digoxin 0.25 mg/mL injection", 0.25, "mg", "IV"),
        _lab("Digoxin level", "ng/mL", 0.8, 2.0),
    ),
}
DECOY = 1  # the place of the decoy among the events of the rule `decoy`
# Chance of each event; of B given A and given no A where it is not the same.
A_SHARE: dict[Rule, float] = {
    "single": 0.30, "conjunctive": 0.55, "ordered": 0.75, "redundant": 0.30, "decoy": 0.30,
}  # fmt: skip
B_SHARES: dict[Rule, tuple[float, float]] = {
    "single": (0.0, 0.0), "conjunctive": (0.55, 0.55), "ordered": (0.75, 0.75), "redundant": (1.0, 0.0),
    "decoy": (0.90, 0.10),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Roles:
    """Who gets the events of one rule.

    Args:
        present: `[person, event]`.
        a_first: Whether A would come before B, `[person]`.
    """

    present: Bools
    a_first: Bools


def draw_roles(count: int, rng: np.random.Generator) -> dict[Rule, Roles]:
    """Who gets which events, for every rule, switched on or not: switching one on moves no other.

    Args:
        count: Number of people.
        rng: Source of chance.
    """
    roles: dict[Rule, Roles] = {}
    for rule in RULES:
        u = rng.random((count, 3))
        a = u[:, 0] < A_SHARE[rule]
        b = u[:, 1] < np.where(a, *B_SHARES[rule])
        present = np.column_stack([a, b])[:, : len(EVENTS[rule])]
        # The level of a drug is measured after the drug was given.
        roles[rule] = Roles(present, (u[:, 2] < 0.5) | (rule == "decoy"))
    return roles


def holds(rule: Rule, roles: Roles) -> Bools:
    """Whether a rule holds, given which of its events happened and in which order; axis as in `roles`."""
    a, b = roles.present[:, 0], roles.present[:, -1]
    if rule == "conjunctive":
        return a & b
    if rule == "ordered":
        return a & b & roles.a_first
    if rule == "redundant":
        return a | b
    return a


def log_hazards(roles: dict[Rule, Roles], config: HospitalConfig) -> Floats:
    """What the rules add to everybody's log hazard of death: more where one holds, less where none does.

    Returns:
        `[person]`; zeros if no rule is switched on.
    """
    held = [holds(rule, roles[rule]) for rule in config.rules]
    if not held:
        return np.zeros(len(roles["single"].a_first), np.float32)
    strength = np.float32(config.planted_strength)
    return np.where(np.any(held, axis=0), strength, -strength).astype(np.float32)


def draw_hours(rule: Rule, a_first: Bools, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hours since ICU admission at which a rule's events become known, all before the landmark.

    Order is settled by at least two hours, a redundant pair is never further apart than one hour.

    Returns:
        `[stay, event]`, between 1 and 22.
    """
    u = rng.random((len(a_first), 2))
    last = PLANTING_HOURS - 2
    if rule == "redundant":
        middle, apart = 1.5 + (last - 2) * u[:, 0], (0.1 + 0.4 * u[:, 1]) * np.where(a_first, 1, -1)
        return np.column_stack([middle - apart, middle + apart])
    if rule in {"ordered", "decoy"}:
        early, late = 1 + (last - 3) * u.min(axis=1), 3 + (last - 3) * u.max(axis=1)
        return np.column_stack([np.where(a_first, early, late), np.where(a_first, late, early)])
    return (1 + (last - 1) * u)[:, : len(EVENTS[rule])]
