"""The dynamics of severity, and the oracle that runs them forward."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from caretrace.hospital.config import Dynamics
from caretrace.hospital.course import Course, run_course
from caretrace.hospital.oracle import death_probabilities
from caretrace.hospital.severity import (
    DETERIORATING,
    IMPROVING,
    IcuState,
    advance,
    concatenate,
    death_probability,
    enter,
    static_risk,
)

D = Dynamics()


def states(n: int, seed: int = 0) -> IcuState:
    rng = np.random.default_rng(seed)
    age, frailty = rng.normal(64, 14, n), rng.normal(0, 1, n)
    return enter(rng.choice([0.9, 1.3, 1.6], n), static_risk(age, frailty, D), frailty, D, rng)


@pytest.fixture(scope="module")
def course() -> Course:
    return run_course(states(3000), D, np.random.default_rng(1))


def test_the_improving_get_better_and_the_deteriorating_worse() -> None:
    start = states(2000)
    rng = np.random.default_rng(2)
    still = dataclasses.replace(D, switch_per_hour=0.0, shock_per_hour=0.0)
    later = start.take(np.arange(2000))
    later.shock_rate[:] = 0
    for _ in range(12):
        advance(later, still, rng)
    change = later.severity - start.severity
    assert change[start.phase == IMPROVING].mean() < -0.2
    assert change[start.phase == DETERIORATING].mean() > 0.2
    assert (later.hours == 12).all()
    assert later.severity.min() >= 0


def test_hazard_grows_with_severity_age_and_frailty() -> None:
    base = states(1)
    grid = concatenate(
        [dataclasses.replace(base, severity=np.array([s], np.float32)) for s in (0, 1, 2, 3, 4)]
    )
    chance = death_probability(grid, D)
    assert (np.diff(chance) > 0).all()
    assert 0 < chance[0] < 1e-4
    assert chance[-1] > 0.02
    young, old = (static_risk(np.array([age]), np.zeros(1), D) for age in (40.0, 80.0))
    frail = static_risk(np.array([40.0]), np.ones(1), D)
    assert old > young
    assert frail > young


def test_shocks_happen_at_their_rate() -> None:
    state = states(4000)
    rough = dataclasses.replace(D, volatility=0.0, reversion=0.0)
    before = state.severity.copy()
    expected = state.shock_rate.sum()
    advance(state, rough, np.random.default_rng(3))
    jumped = (state.severity > before + 0.05).sum()
    assert abs(jumped - expected) < 5 * np.sqrt(expected) + 1


def test_two_halves_of_the_stay_are_recorded(course: Course) -> None:
    path = course.first
    lasting = (~np.isnan(path.severity)).sum(axis=1)
    assert (lasting == np.floor(path.hours) + 1).all()
    assert (path.severity[~np.isnan(path.severity)] >= 0).all()
    assert set(course.back) <= set(np.flatnonzero(~path.died))
    assert len(course.back) == len(course.second.died) > 20
    assert (course.end_hours >= path.hours).all()


def test_mortality_and_length_are_those_of_an_icu(course: Course) -> None:
    long = course.first.hours >= 48
    assert 0.06 < course.first.died.mean() < 0.14
    assert 0.09 < course.first.died[long].mean() < 0.18
    assert 0.01 < course.died.mean() - course.in_icu.mean() < 0.06
    assert 36 < np.median(course.first.hours) < 84


def worst_third(chance: np.ndarray, died: np.ndarray) -> float:
    """Largest gap between deaths and expected deaths over thirds of risk, in standard deviations."""
    gaps = []
    for part in np.array_split(np.argsort(chance), 3):
        spread = np.sqrt((chance[part] * (1 - chance[part])).sum())
        gaps.append(abs(died[part].sum() - chance[part].sum()) / (spread + 0.5))
    return max(gaps)


@pytest.mark.parametrize("hour", [24, 48])
@pytest.mark.parametrize("place", [0, 1], ids=["icu", "hospital"])
def test_the_oracle_is_calibrated(course: Course, hour: int, place: int) -> None:
    who, state = course.first.at[hour]
    chance = death_probabilities(state, D, 40, np.random.default_rng(4))[place]
    died = (course.first.died, course.died)[place][who]
    assert worst_third(chance, died) < 4


def kept_through_the_gap(course: Course, place: int) -> np.ndarray:
    """Admissions a task keeps: nothing it leaves out happens in the 24 h after the start of the course."""
    if place == 0:
        return np.flatnonzero(course.first.hours > 24)
    back = np.full(len(course.died), np.inf)
    back[course.back] = course.back_hours
    return np.flatnonzero((course.end_hours > 24) & (back > 24))


def test_the_oracle_of_a_task_with_a_gap_agrees_with_counting(course: Course) -> None:
    """Copies of stays at 24 h live on; of those the task keeps, as many die as the oracle says, and not as many
    as without a gap."""
    _, state = course.first.at[24]
    order = np.argsort(state.severity)
    chosen = np.append(order[[-1, -5, -60, len(order) // 2]], np.argmax(state.calm))
    few, copies = state.take(chosen), 4000
    futures = run_course(few.take(np.repeat(np.arange(5), copies)), D, np.random.default_rng(5))
    whole = [
        chance
        for gap in (24, 0)
        for chance in death_probabilities(few, D, 2000, np.random.default_rng(6), gap)
    ]
    for place, dead in enumerate((futures.first.died, futures.died)):
        kept = np.isin(np.arange(len(dead)), kept_through_the_gap(futures, place)).reshape(5, copies)
        died = dead.reshape(5, copies)
        counted = (kept * died).sum(axis=1) / kept.sum(axis=1)
        spread = np.sqrt(counted * (1 - counted) / kept.sum(axis=1)) + 1e-3
        assert (np.abs(whole[place] - counted) < 4 * spread).all(), (whole[place], counted)
        assert (np.abs(whole[place + 2] - counted) > 8 * spread).any(), "the gap's deaths make no difference"


def test_who_leaves_within_the_gap_is_not_asked_about() -> None:
    """Two stays alike but for how long they have been calm: whether somebody leaves tells nothing of death."""
    one = states(400, seed=3)
    rushed = dataclasses.replace(D, calm_severity=99.0, calm_hours=0, discharge_per_hour=1.0)
    icu, hospital = death_probabilities(one, rushed, 20, np.random.default_rng(0), 24)
    assert np.isnan(icu).all()
    assert ((hospital > 0) & (hospital < 1)).all()


def test_an_oracle_with_another_hazard_is_not_calibrated(course: Course) -> None:
    """The test above can fail: an oracle that believes in 2.7 times the hazard is caught."""
    who, state = course.first.at[24]
    wrong = dataclasses.replace(D, death_log_hazard=D.death_log_hazard + 1)
    chance, _ = death_probabilities(state, wrong, 40, np.random.default_rng(4))
    assert worst_third(chance, course.first.died[who]) > 5


def test_the_oracle_agrees_with_counting_deaths() -> None:
    """Adding up chances of death (fast) against letting copies of a stay die (literal)."""
    chosen = states(4000, seed=9)
    few = chosen.take(np.argsort(chosen.severity)[[400, 2000, 3200, 3900, 3990]])
    copies = 3000
    futures = run_course(few.take(np.repeat(np.arange(5), copies)), D, np.random.default_rng(5))
    counted_icu = futures.first.died.reshape(5, copies).mean(axis=1)
    counted_all = futures.died.reshape(5, copies).mean(axis=1)
    icu, hospital = death_probabilities(few, D, 3000, np.random.default_rng(6))
    for fast, counted in ((icu, counted_icu), (hospital, counted_all)):
        spread = np.sqrt(counted * (1 - counted) / copies) + 1e-3
        assert (np.abs(fast - counted) < 5 * spread).all(), (fast, counted)
    assert (hospital >= icu).all()
