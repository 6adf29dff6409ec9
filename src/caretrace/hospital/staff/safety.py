"""What fatigue, load and burnout do to care: handoffs, documentation, delay, adverse events, death.

Pure functions of arrays. `Shift` holds what a shift is like for the patients it looks after; its references are
chosen so that an ordinary shift changes nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.staff.burnout import logistic
from caretrace.hospital.staff.config import Staff

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Shift:
    """The staff who look after a patient; one entry per visit, axis `[visit]`.

    Args:
        kss: Mean sleepiness of those on duty.
        overload: log2 of patients per nurse over the reference; 0 is ordinary, 1 twice as many.
        overtime: Share on duty who work overtime.
        long: Share on duty whose duty lasts 12 h or more.
        burnt_out: Share on duty who are burnt out.
    """

    kss: Floats
    overload: Floats
    overtime: Floats
    long: Floats
    burnt_out: Floats


def handoff_quality(shift: Shift, crew_kss: Floats, noise: Floats, c: Staff) -> Floats:
    """Quality of an ambulance handoff, 0 to 100, `[visit]`; `noise` is standard normal."""
    tired = (shift.kss + crew_kss) / 2 - c.kss_reference
    points = (
        c.quality_base
        + c.quality_fatigue * tired
        + c.quality_overload * shift.overload
        + c.quality_burnout * c.quality_spread * (shift.burnt_out - c.burnout_nurse)
        + c.quality_spread * noise
    )
    return np.clip(points, 0, 100)


def completeness(shift: Shift, outage: Floats, c: Staff) -> Floats:
    """Chance that an item of the documentation is filled in, `[visit]`; `outage` is 1 during one."""
    return logistic(
        c.document_base
        + c.document_fatigue * (shift.kss - c.kss_reference)
        + c.document_overload * shift.overload
        + c.document_outage * outage
    )


def turnout_factor(crew_kss: float, c: Staff) -> float:
    """Factor on the time a crew needs to set off."""
    return float(np.exp(c.delay_fatigue * (crew_kss - c.kss_reference)))


def adverse_event_probability(shift: Shift, severity: Floats, c: Staff) -> Floats:
    """Chance of at least one adverse event in a visit, `[visit]`; `severity` is standardised."""
    climate = c.climate_burnout * (shift.burnt_out - c.burnout_nurse)
    base = np.log(c.unsafe_base / (1 - c.unsafe_base))
    return logistic(
        base
        + 0.4 * severity  # assumed
        + c.unsafe_long * shift.long
        + c.unsafe_overtime * shift.overtime
        + c.unsafe_fatigue * (shift.kss - c.kss_reference)
        + c.unsafe_overload * shift.overload
        + c.unsafe_climate * climate
    )


def death_probability(
    log_odds: Floats, patients_per_nurse: Floats, reference: float, hours_to_bed: Floats, c: Staff
) -> Floats:
    """Chance of an admitted patient to die in hospital, `[visit]`.

    Args:
        log_odds: From the patient alone, at the reference load.
        patients_per_nurse: On the ward.
        reference: Patients per nurse at which `log_odds` holds.
        hours_to_bed: From arrival; beyond 6-8 h (ramped) the published excess is added.
        c: Coefficients.
    """
    p = logistic(log_odds + c.death_load * (patients_per_nurse - reference))
    late = np.clip((hours_to_bed - 6) / 2, 0, 1)
    return np.minimum(p + c.death_boarding * late, 1)
