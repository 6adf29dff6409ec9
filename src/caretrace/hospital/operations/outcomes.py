"""What becomes of visits: adverse events, deaths, quality of handoffs and documentation, drawn in blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.staff import safety

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DOCUMENT_ITEMS = 12  # items a visit's record should have; assumed


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What became of visits, and the chances it had; axis `[visit]`.

    Args:
        shift: The staff who looked after each visit.
        ward_load: Patients per nurse on the ward when first seen.
        adverse_probability: Of at least one adverse event.
        adverse: Whether there was one.
        death_probability: Of dying in hospital; 0 without admission.
        died: Whether the patient did.
        quality: Of the ambulance handoff, 0 to 100; NaN for walk-ins.
        item_probability: Of an item of the record being filled in.
        items: Items filled in, of `DOCUMENT_ITEMS`.
    """

    shift: safety.Shift
    ward_load: Floats
    adverse_probability: Floats
    adverse: Bools
    death_probability: Floats
    died: Bools
    quality: Floats
    item_probability: Floats
    items: NDArray[np.int64]


def draw_outcomes(visits: Sequence[Case], config: OperationsConfig, rng: np.random.Generator) -> Outcomes:
    """Draw what becomes of visits that have left the emergency department.

    Args:
        visits: Finished visits.
        config: The city.
        rng: Source of chance.
    """
    c, n = config.staff, len(visits)
    quiet = (c.kss_reference, 0.0, 0.0, c.burnout_nurse, config.flow.nurse_reference, config.flow.ward_ratio)
    table = np.array([case.shift or quiet for case in visits]).reshape(
        n, 6
    )  # who left unseen: as in quiet times
    load = np.maximum(table[:, 4] / config.flow.nurse_reference, 0.5)
    shift = safety.Shift(table[:, 0], np.log2(load), table[:, 1], table[:, 2], table[:, 3])
    severity = np.array([case.severity for case in visits], float)
    seen = np.array([bool(case.shift) for case in visits], bool)
    adverse_p = safety.adverse_event_probability(shift, severity, c) * seen
    admitted = np.array([case.admitted for case in visits], bool) & seen
    death_p = np.where(admitted, death_chance(visits, table[:, 5], config), 0.0)
    crew_kss = np.array([case.crew_kss for case in visits], float)
    outage = np.array([case.outage for case in visits], float)
    item_p = safety.completeness(shift, outage, c)
    return Outcomes(
        shift=shift,
        ward_load=table[:, 5],
        adverse_probability=adverse_p,
        adverse=rng.random(n) < adverse_p,
        death_probability=death_p,
        died=rng.random(n) < death_p,
        quality=safety.handoff_quality(shift, crew_kss, rng.standard_normal(n), c),
        item_probability=item_p,
        items=rng.binomial(DOCUMENT_ITEMS, item_p),
    )


def patient_log_odds(visits: Sequence[Case], config: OperationsConfig) -> Floats:
    """Log odds of dying in hospital that come from the patient alone, `[visit]`."""
    flow = config.flow
    severity = np.array([case.severity for case in visits], float)
    age = np.array([case.age for case in visits], float)
    return flow.death + flow.death_severity * severity + flow.death_age * (age - 65)


def death_chance(visits: Sequence[Case], ward_load: Floats, config: OperationsConfig) -> Floats:
    """Chance to die in hospital if admitted, `[visit]`.

    Args:
        visits: The visits.
        ward_load: Patients per nurse on the ward, `[visit]`.
        config: The city.
    """
    hours = np.array([case.bedded - case.arrived for case in visits], float) / 60
    return safety.death_probability(
        patient_log_odds(visits, config),
        ward_load,
        config.flow.ward_ratio,
        np.nan_to_num(hours),
        config.staff,
    )
