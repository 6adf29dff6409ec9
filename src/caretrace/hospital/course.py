"""The course of an admission through ICU and ward, on a clock that starts at ICU admission."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.config import Dynamics
from caretrace.hospital.severity import (
    Bools,
    Floats,
    IcuState,
    Ints,
    advance,
    back_after,
    come_back,
    death_probability,
    leaves,
    return_probability,
    ward_death_probability,
    ward_hours,
)

LANDMARK_HOURS = (24, 48)
GAP_HOURS = 24  # the mortality tasks ask about what happens this long after the landmark, and later


@dataclasses.dataclass
class IcuPath:
    """ICU stays from admission to exit.

    Args:
        severity: `[stay, hour]`, NaN once the stay is over.
        setpoint: Same shape.
        phase: Same shape; -1 once the stay is over.
        hours: Length of stay in hours, with the fraction, `[stay]`.
        died: Whether the stay ended in death, `[stay]`.
        exit: State in the hour of exit, `[stay]`.
        at: Per landmark hour, the stays still there and their states.
    """

    severity: Floats
    setpoint: Floats
    phase: NDArray[np.int8]
    hours: NDArray[np.float64]
    died: Bools
    exit: IcuState
    at: dict[int, tuple[Ints, IcuState]]


def run_icu(start: IcuState, d: Dynamics, rng: np.random.Generator) -> IcuPath:
    """Run stays hour by hour until every one has ended.

    Args:
        start: States at ICU admission, `[stay]`.
        d: Coefficients.
        rng: Source of chance.
    """
    n, width = len(start), d.max_icu_hours
    path = IcuPath(
        severity=np.full((n, width), np.nan, np.float32),
        setpoint=np.full((n, width), np.nan, np.float32),
        phase=np.full((n, width), -1, np.int8),
        hours=np.zeros(n),
        died=np.zeros(n, np.bool_),
        exit=start.take(np.arange(n)),
        at={hour: (np.zeros(0, np.int64), start.take(np.zeros(0, np.int64))) for hour in LANDMARK_HOURS},
    )
    state, who, hour = start.take(np.arange(n)), np.arange(n), 0
    while len(who):
        path.severity[who, hour] = state.severity
        path.setpoint[who, hour] = state.setpoint
        path.phase[who, hour] = state.phase
        if hour in LANDMARK_HOURS:
            path.at[hour] = (who, state.take(np.arange(len(who))))
        dies = rng.random(len(who)) < death_probability(state, d)
        ends = dies | leaves(state, d, rng)
        gone = who[ends]
        path.died[gone] = dies[ends]
        path.hours[gone] = hour + rng.uniform(0.02, 0.98, len(gone))
        for field in dataclasses.fields(state):
            getattr(path.exit, field.name)[gone] = getattr(state, field.name)[ends]
        who, state = who[~ends], state.take(~ends)
        advance(state, d, rng)
        hour += 1
    width = max(hour, 1)
    path.severity, path.setpoint = path.severity[:, :width], path.setpoint[:, :width]
    path.phase = path.phase[:, :width]
    return path


@dataclasses.dataclass
class Course:
    """Admissions with an ICU stay; axis `[admission]`, hours from the first ICU admission.

    Args:
        first: The first ICU stay of each.
        second: The ICU stays of those who came back.
        back: Which admissions those are, `[second stay]`.
        back_hours: When they came back, `[second stay]`.
        end_hours: When the admission ended.
        died: Whether it ended in death, in the ICU or on the ward.
        in_icu: Whether it ended in the ICU.
    """

    first: IcuPath
    second: IcuPath
    back: Ints
    back_hours: NDArray[np.float64]
    end_hours: NDArray[np.float64]
    died: Bools
    in_icu: Bools


def run_course(start: IcuState, d: Dynamics, rng: np.random.Generator) -> Course:
    """Run admissions from ICU admission to the end: ICU, ward, for some the ICU again, and out.

    Args:
        start: States at ICU admission, `[admission]`.
        d: Coefficients.
        rng: Source of chance.
    """
    first = run_icu(start, d, rng)
    returns = ~first.died & (rng.random(len(start)) < return_probability(first.exit, d))
    back = np.flatnonzero(returns)
    second = run_icu(come_back(first.exit.take(back), d, rng), d, rng)
    back_hours = first.hours[back] + back_after(len(back), rng)
    last, end, icu_death = first.exit.take(np.arange(len(start))), first.hours.copy(), first.died.copy()
    for field in dataclasses.fields(last):
        getattr(last, field.name)[back] = getattr(second.exit, field.name)
    end[back] = back_hours + second.hours
    icu_death[back] = second.died
    ward_death = ~icu_death & (rng.random(len(end)) < ward_death_probability(last, d))
    end += np.where(icu_death, 0, ward_hours(last.severity, ward_death, rng))
    return Course(first, second, back, back_hours, end, icu_death | ward_death, icu_death)
