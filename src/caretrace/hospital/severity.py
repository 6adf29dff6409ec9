"""Latent severity: where it starts, how it moves in an hour, and what it does to the patient.

Time runs in whole hours from ICU admission. In hour `t` the order is: death by the hazard of the
severity at `t`; else discharge, if calm for long enough; else severity moves on to `t + 1`. The oracle
runs the very same functions forward, so it knows what there is to know.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from caretrace.hospital.config import Dynamics

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

IMPROVING, STEADY, DETERIORATING = 0, 1, 2
PHASES = ("improving", "steady", "deteriorating")
_WARD_MEDIANS, _WARD_SPREAD, _WARD_MIN, _WARD_MAX = (
    (60, 96),
    0.7,
    2,
    24 * 60,
)  # h (death, discharge), log, h, h
_BACK_MIN, _BACK_MEAN = 6, 30  # h on the ward before a second ICU stay: at least, and on average beyond that
PLANTING_HOURS = 24  # the events of planted rules lie in these first hours of an ICU stay


@dataclasses.dataclass
class IcuState:
    """Everything the future depends on, one entry per stay; axis `[stay]` throughout.

    Args:
        severity: Severity now.
        setpoint: What severity reverts to.
        phase: IMPROVING, STEADY or DETERIORATING.
        calm: Hours in a row with low severity.
        hours: Hours since ICU admission.
        risk: Log hazard of death that age and frailty add; fixed.
        shock_rate: Shocks per hour; fixed.
        returned: Whether this is the admission's second ICU stay (there is no third).
        planted: Log hazard of death that the planted rules add or take away once they act; fixed.
    """

    severity: Floats
    setpoint: Floats
    phase: NDArray[np.int8]
    calm: NDArray[np.int16]
    hours: NDArray[np.int16]
    risk: Floats
    shock_rate: Floats
    returned: Bools
    planted: Floats

    def __len__(self) -> int:
        return len(self.severity)

    def take(self, index: Ints | Bools) -> IcuState:
        """A copy with the stays of `index`, in that order."""
        return IcuState(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


def concatenate(states: list[IcuState]) -> IcuState:
    """All stays of several states, in order."""
    names = [field.name for field in dataclasses.fields(IcuState)]
    return IcuState(**{name: np.concatenate([getattr(s, name) for s in states]) for name in names})


def static_risk(age: NDArray[np.float64], frailty: NDArray[np.float64], d: Dynamics) -> NDArray[np.float64]:
    """Log hazard of death that age (years) and frailty (unit-free) add; axis `[subject]`."""
    return d.death_age * (age - 65) / 10 + d.death_frailty * frailty


def enter(
    start: NDArray[np.float64],
    risk: NDArray[np.float64],
    frailty: NDArray[np.float64],
    d: Dynamics,
    rng: np.random.Generator,
) -> IcuState:
    """The state at ICU admission.

    Args:
        start: Expected severity at admission, `[stay]`.
        risk: From `static_risk`, `[stay]`.
        frailty: Unit-free, about standard normal, `[stay]`.
        d: Coefficients.
        rng: Source of chance.
    """
    n = len(start)
    severity = np.maximum(start + 0.15 * frailty + rng.normal(0, 0.6, n), 0.1)  # assumed
    # Assumed: half are already on the mend; the frail less often.
    u = rng.random(n) + 0.04 * frailty
    phase = np.where(u < 0.62, IMPROVING, np.where(u < 0.86, STEADY, DETERIORATING))
    return IcuState(
        severity=severity.astype(np.float32),
        setpoint=np.clip(severity + rng.normal(0, 0.2, n), 0, d.setpoint_max).astype(np.float32),
        phase=phase.astype(np.int8),
        calm=np.zeros(n, np.int16),
        hours=np.zeros(n, np.int16),
        risk=risk.astype(np.float32),
        shock_rate=(d.shock_per_hour * np.exp(d.shock_frailty * frailty)).clip(0, 0.05).astype(np.float32),
        returned=np.zeros(n, np.bool_),
        planted=np.zeros(n, np.float32),
    )


def come_back(state: IcuState, d: Dynamics, rng: np.random.Generator) -> IcuState:
    """The state of patients who return from the ward to the ICU, given their state when they left it."""
    n = len(state)
    severity = state.severity + np.abs(rng.normal(1.2, 0.4, n))  # assumed: sicker than when they left
    return dataclasses.replace(
        state,
        severity=severity.astype(np.float32),
        setpoint=np.minimum(severity, d.setpoint_max).astype(np.float32),
        phase=rng.choice(np.array([IMPROVING, STEADY, DETERIORATING], np.int8), n, p=[0.4, 0.35, 0.25]),
        calm=np.zeros(n, np.int16),
        hours=np.zeros(n, np.int16),
        returned=np.ones(n, np.bool_),
    )


def log_hazard(severity: Floats, risk: Floats, d: Dynamics) -> Floats:
    """Log hazard of death per hour in the ICU, planted rules aside, `[stay]`."""
    return np.float32(d.death_log_hazard) + np.float32(d.death_severity) * severity + risk


def death_probability(state: IcuState, d: Dynamics) -> Floats:
    """Chance to die in the coming hour in the ICU, `[stay]`."""
    hazard = log_hazard(state.severity, state.risk, d)
    if state.planted.any():
        hazard += np.where(state.hours >= d.rule_from_hours, state.planted, np.float32(0))
    return -np.expm1(-np.exp(np.minimum(hazard, np.float32(3))))


def leaves(state: IcuState, d: Dynamics, rng: np.random.Generator) -> Bools:
    """Who is discharged from the ICU alive in the coming hour, among those who survive it, `[stay]`."""
    out: Bools = state.hours >= d.max_icu_hours - 1
    calm = np.flatnonzero(state.calm >= d.calm_hours)
    out[calm] |= rng.random(len(calm)) < d.discharge_per_hour
    return out


def return_probability(state: IcuState, d: Dynamics) -> Floats:
    """Chance to come back to the ICU in the same admission, given the state at ICU discharge."""
    return np.where(state.returned, 0, _logistic(d.return_logit + d.return_severity * state.severity))


def ward_death_probability(state: IcuState, d: Dynamics) -> Floats:
    """Chance to die on the ward, given the state at the ICU discharge that was the last."""
    logit = d.ward_death_logit + d.ward_death_severity * state.severity + d.ward_death_risk * state.risk
    if state.planted.any():  # a stay that was over before all of its events could happen is left alone
        logit += np.where(state.hours >= PLANTING_HOURS, state.planted, np.float32(0))
    return _logistic(logit)


def ward_hours(severity: Floats, dies: Bools, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hours on the ward after the ICU until discharge or, where somebody `dies`, death, `[stay]`.

    Assumed: median 4 days, longer for the sicker; 2.5 days to a ward death.
    """
    hours = rng.lognormal(np.log(np.where(dies, *_WARD_MEDIANS)), _WARD_SPREAD) * _ward_stretch(severity)
    return np.clip(hours, _WARD_MIN, _WARD_MAX)


def ward_longer_than(hours: NDArray[np.float64], severity: Floats, dies: bool) -> Floats:
    """Chance that `ward_hours` gives more than `hours`, `[stay]`; `hours` below 60 days."""
    median = _WARD_MEDIANS[0 if dies else 1]
    log = np.log(np.maximum(hours, 1e-6) / (median * _ward_stretch(severity)))
    return np.where(hours < _WARD_MIN, 1, ndtr(-log / _WARD_SPREAD)).astype(np.float32)


def back_after(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hours on the ward before coming back to the ICU (assumed): at least 6, a day and a half on average."""
    return _BACK_MIN + rng.exponential(_BACK_MEAN, count)


def back_later_than(hours: NDArray[np.float64]) -> Floats:
    """Chance that `back_after` gives more than `hours`, `[stay]`."""
    return np.exp(-np.maximum(hours - _BACK_MIN, 0) / _BACK_MEAN).astype(np.float32)


def _ward_stretch(severity: Floats) -> Floats:
    return 1 + np.float32(0.3) * severity


def advance(state: IcuState, d: Dynamics, rng: np.random.Generator) -> None:
    """Move every stay on by one hour, in place."""
    n = len(state)
    drift = np.array([d.drift_improving, 0, d.drift_deteriorating], np.float32)
    state.setpoint += drift[state.phase]
    np.clip(state.setpoint, 0, d.setpoint_max, out=state.setpoint)
    pull = state.setpoint - state.severity
    pull *= np.float32(d.reversion)
    state.severity += pull
    state.severity += np.float32(d.volatility) * rng.standard_normal(n, np.float32)
    # One uniform number decides between shock, change of phase and neither.
    u = rng.random(n, np.float32)
    shocked = np.flatnonzero(u < state.shock_rate)
    turned = np.flatnonzero((u >= state.shock_rate) & (u < state.shock_rate + np.float32(d.switch_per_hour)))
    _shock(state, shocked, d, rng)
    better = rng.random(len(turned)) < d.recovery_share
    phase = state.phase[turned]
    up = np.where(phase == IMPROVING, STEADY, IMPROVING)
    down = np.where(phase == DETERIORATING, STEADY, DETERIORATING)
    state.phase[turned] = np.where(better, up, down)
    np.maximum(state.severity, 0, out=state.severity)
    state.calm += 1
    state.calm *= state.severity < np.float32(d.calm_severity)
    state.hours += 1


def _shock(state: IcuState, index: Ints, d: Dynamics, rng: np.random.Generator) -> None:
    """A sudden complication: severity jumps, half of the jump stays, and things may get worse."""
    size = (d.shock_size * rng.lognormal(0, 0.4, len(index))).astype(np.float32)
    state.severity[index] += size
    state.setpoint[index] = np.minimum(state.setpoint[index] + size / 2, np.float32(d.setpoint_max))
    state.phase[index] = np.where(rng.random(len(index)) < 0.5, STEADY, DETERIORATING)


def _logistic(x: Floats) -> Floats:
    return (1 / (1 + np.exp(-x))).astype(np.float32)
