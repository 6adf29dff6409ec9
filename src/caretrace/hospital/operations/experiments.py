"""Designs that isolate one effect: the same people twice, everything equal but one thing.

In the routine tables load, severity and delay go together, so a plain comparison there answers another question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.outcomes import patient_log_odds
from caretrace.hospital.staff import burnout, safety
from caretrace.hospital.staff.config import Staff

Floats = NDArray[np.float64]

WARD_ARMS = (4.0, 5.0, 6.0, 7.0, 8.0)  # patients per nurse: the range of Aiken et al. 2002


def death_odds_ratio(visits: Sequence[Case], config: OperationsConfig, rng: np.random.Generator) -> float:
    """Odds ratio of death per patient per nurse: each admitted patient once in each kind of ward.

    Patients come from the simulated flow; deaths are drawn, and a logistic regression adjusts for the patient as
    the published one does.
    """
    odds = patient_log_odds(visits, config)
    load = np.repeat(WARD_ARMS, len(odds))
    patient = np.tile(odds, len(WARD_ARMS))
    at_once = np.zeros(len(load))
    p = safety.death_probability(patient, load, config.flow.ward_ratio, at_once, config.staff)
    died = (rng.random(len(p)) < p).astype(float)
    design = np.column_stack([np.ones(len(load)), patient, load - 6])
    return float(np.exp(logistic_fit(design, died)[2]))


def boarding_excess(visits: Sequence[Case], config: OperationsConfig, rng: np.random.Generator) -> float:
    """Added risk of death with a bed after 9 h instead of 3 h, the same admitted patients in both arms."""
    odds = np.tile(patient_log_odds(visits, config), 5)
    load = np.full(len(odds), config.flow.ward_ratio)
    u = rng.random(len(odds))  # one draw for both arms: nothing but the delay differs
    deaths = [
        u
        < safety.death_probability(
            odds, load, config.flow.ward_ratio, np.full(len(odds), hours), config.staff
        )
        for hours in (3.0, 9.0)
    ]
    return float(deaths[1].mean() - deaths[0].mean())


def unsafe_odds_ratios(
    visits: Sequence[Case], config: OperationsConfig, rng: np.random.Generator
) -> tuple[float, float]:
    """Odds ratios of an adverse event with long duties and with overtime, against neither."""
    severity = np.tile(np.array([case.severity for case in visits]), 4)
    n, c = len(severity), config.staff
    zero, one = np.zeros(n), np.ones(n)
    kss, burnt = np.full(n, c.kss_reference), np.full(n, c.burnout_nurse)
    happened = []
    for overtime, long in ((zero, zero), (zero, one), (one, zero)):
        shift = safety.Shift(kss, zero, overtime, long, burnt)
        happened.append(rng.random(n) < safety.adverse_event_probability(shift, severity, c))
    ratios = []
    for arm in happened[1:]:
        design = np.column_stack([np.ones(2 * n), np.tile(severity, 2), np.repeat([0.0, 1.0], n)])
        ratios.append(
            float(np.exp(logistic_fit(design, np.concatenate([happened[0], arm]).astype(float))[2]))
        )
    return ratios[0], ratios[1]


def burnout_odds_ratio(c: Staff, rng: np.random.Generator, people: int = 4000) -> float:
    """Odds ratio of burnout in the long run with one more patient per nurse, the same people in both arms."""
    shift = burnout.shift_for_log_odds(c.burnout_load, c.burnout_nurse)
    trait = np.sqrt(c.burnout_trait) * rng.standard_normal(people)
    spread = float(np.sqrt(1 - c.burnout_trait))
    slow = trait + spread * rng.standard_normal(people)
    arms = [slow, slow]
    for _ in range(int(5 * c.burnout_days)):
        noise = rng.standard_normal(people)
        arms = [
            burnout.drift(level, trait + extra, c.burnout_days, spread, noise)
            for level, extra in zip(arms, (0.0, shift), strict=True)
        ]
    share = [float(np.mean(level > burnout.threshold(c.burnout_nurse))) for level in arms]
    return share[1] / (1 - share[1]) / (share[0] / (1 - share[0]))


def logistic_fit(design: Floats, outcome: Floats, steps: int = 12) -> Floats:
    """Coefficients of a logistic regression by Newton's method; `[column]`.

    Args:
        design: `[row, column]`, with a column of ones.
        outcome: 0 or 1, `[row]`.
        steps: Newton steps; a dozen is far past convergence here.
    """
    beta = np.zeros(design.shape[1])
    for _ in range(steps):
        p = burnout.logistic(design @ beta)
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        beta = beta + np.linalg.solve(hessian, design.T @ (outcome - p))
    return beta
