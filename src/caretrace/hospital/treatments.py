"""Who gets which treatment when: hysteresis on how ill an organ system looks, with delay.

Treatment follows severity but does not change it (a simplification of this version); it does change
what is measured, see `vitals`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from caretrace.hospital.catalogue import BRAIN, CIRCULATION, INFECTION, KIDNEYS, LUNGS
from caretrace.hospital.population import People
from caretrace.hospital.signals import Mask, Matrix, Signals, switched
from caretrace.hospital.timeline import Admissions, Stays


@dataclasses.dataclass(frozen=True)
class Treatments:
    """Masks `[stay, hour]` of the treatments that last.

    Args:
        ventilated: Invasive ventilation.
        sedated: Propofol, while ventilated.
        oxygen: High-flow oxygen or a mask, without a tube.
        vasopressor: Noradrenaline.
        monitored: An arterial line is in.
        dialysis: Renal replacement.
        antibiotics: For a suspected infection.
        insulin: Insulin infusion.
        diuretics: Furosemide.
    """

    ventilated: Mask
    sedated: Mask
    oxygen: Mask
    vasopressor: Mask
    monitored: Mask
    dialysis: Mask
    antibiotics: Mask
    insulin: Mask
    diuretics: Mask


@dataclasses.dataclass(frozen=True)
class Bedside:
    """All that the writers of orders and samples look at, for one chunk of people.

    Args:
        people: Who.
        admissions: When in hospital.
        stays: When in the ICU.
        signals: Severity as it shows.
        treatments: What each stay gets.
    """

    people: People
    admissions: Admissions
    stays: Stays
    signals: Signals
    treatments: Treatments


def plan_treatments(signals: Signals, diabetic: Mask, rng: np.random.Generator) -> Treatments:
    """Decide treatments from what staff see.

    Args:
        signals: Severity as it shows.
        diabetic: Whether the patient has diabetes, `[stay]`.
        rng: Source of chance: staff differ in when they act.
    """
    count = len(diabetic)

    def treat(signal: Matrix, on: float, off: float) -> Mask:
        # Assumed: thresholds differ by 15 % between patients (and their doctors).
        scale = rng.lognormal(0, 0.15, (count, 1))
        return switched(signal, on * scale, off * scale, signals.present)

    organ = signals.organ
    breathing = np.maximum(organ(LUNGS), 0.75 * organ(BRAIN))
    ventilated = treat(breathing, 2.0, 1.1)
    sugar = signals.apparent + np.where(diabetic, 1.2, 0)[:, None]
    return Treatments(
        ventilated=ventilated,
        sedated=ventilated & treat(signals.apparent, 1.3, 0.9),
        oxygen=treat(organ(LUNGS), 1.2, 0.7) & ~ventilated,
        vasopressor=treat(organ(CIRCULATION), 1.8, 1.1),
        monitored=treat(np.maximum(organ(CIRCULATION), organ(LUNGS)), 1.4, 0.5),
        dialysis=treat(organ(KIDNEYS, slow=True), 2.0, 1.0),
        antibiotics=treat(organ(INFECTION), 0.9, 0.2),
        insulin=treat(sugar, 2.6, 1.6),
        diuretics=treat(organ(CIRCULATION, slow=True), 1.2, 0.5),
    )
