"""Trees mixed in where they help, chances that hold, and forecasts from the calendar alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from caretrace.apps.safety.finishing import FEWEST, Finish, reach
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.seasonal import (
    CURVE,
    HOLT_WINTERS,
    LEVEL,
    WEEK_AGO,
    fit_seasonal,
    holt_winters,
    predict_seasonal,
)
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, SEQUENCE, Sequences

N = 4_000


def _sequences(kind: str, target: str, value: np.ndarray) -> Sequences:
    steps = pl.DataFrame(
        {SEQUENCE: np.zeros(len(value), int), HOUR: np.arange(len(value), dtype=float), target: value}
    )
    return Sequences(kind, steps, (), (), (target,))


def _levels(rng: np.random.Generator, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Chances of levels, and levels drawn from them."""
    chance = rng.dirichlet(np.full(5, 0.7), n)
    return chance, (rng.random(n)[:, None] > chance.cumsum(1)).sum(1).astype(float)


def test_it_takes_the_model_that_is_right_and_sets_its_chances_right():
    rng = np.random.default_rng(0)
    chance, level = _levels(rng)
    overconfident = chance**3 / (chance**3).sum(1, keepdims=True)
    noise = rng.dirichlet(np.ones(5), N)
    tuning = _sequences(HOSPITAL, CRISIS[1], level)
    finish = Finish.fit(tuning, {"network": {CRISIS[1]: noise}, "boosted_trees": {CRISIS[1]: overconfident}})
    assert finish.share[CRISIS[1]]["boosted_trees"] >= 0.6
    fresh, what = _levels(rng)
    readings = {
        "network": {CRISIS[1]: rng.dirichlet(np.ones(5), N)},
        "boosted_trees": {CRISIS[1]: fresh**3 / (fresh**3).sum(1, keepdims=True)},
    }
    said = finish.apply(readings)[CRISIS[1]]
    assert said.sum(1) == pytest.approx(1)
    crisis = what >= 3
    for low in np.arange(0.05, 0.95, 0.15):
        inside = (reach(said) >= low) & (reach(said) < low + 0.15)
        assert crisis[inside].mean() == pytest.approx(reach(said)[inside].mean(), abs=0.07)
    three = {"network": {CRISIS[1]: noise}, "boosted_trees": {}, "linear": {CRISIS[1]: chance}}
    assert Finish.fit(tuning, three).share[CRISIS[1]]["linear"] >= 0.9
    assert Finish.fit(tuning, {"network": {CRISIS[1]: noise}}).share[CRISIS[1]] == {"network": 1.0}


def test_warnings_from_the_threshold_reach_four_of_five_crises_and_the_interval_holds_the_chance():
    chance, level = _levels(np.random.default_rng(1))
    finish = Finish.fit(_sequences(HOSPITAL, CRISIS[2], level), {"network": {CRISIS[2]: chance}})
    said = finish.apply({"network": {CRISIS[2]: chance}})[CRISIS[2]]
    assert (reach(said)[level >= 3] >= finish.threshold[CRISIS[2]]).mean() == pytest.approx(0.8, abs=0.01)
    at = np.linspace(0, 1, 21)
    low, high = finish.interval(CRISIS[2], at)
    assert ((low <= at) & (at <= high)).all()
    assert 0.02 < (high - low)[5:15].mean() < 0.5
    assert [list(each) for each in Finish().interval(CRISIS[0], np.array([0.3]))] == [[0.0], [1.0]]


@pytest.mark.parametrize("width", [0.3, 2.5])
def test_quantiles_too_narrow_or_too_wide_come_to_hold_what_they_say(width):
    rng = np.random.default_rng(2)
    z = np.array([-1.2816, 0.0, 0.8416, 1.2816])

    def draw() -> tuple[np.ndarray, np.ndarray]:
        middle = rng.normal(2.0, 0.3, N)
        return np.exp(middle[:, None] + width * 0.4 * z), np.exp(rng.normal(middle, 0.4))

    said, minutes = draw()
    finish = Finish.fit(_sequences(PATHWAY, "delay", minutes), {"network": {"delay": said}})
    said, minutes = draw()
    after = finish.apply({"network": {"delay": said}})["delay"]
    assert (np.diff(after, axis=1) >= 0).all()
    for place, level in enumerate(QUANTILES):
        assert (minutes <= after[:, place]).mean() == pytest.approx(level, abs=0.025)
        if place != 1:
            assert abs((minutes <= said[:, place]).mean() - level) > 0.04


def test_with_few_tuning_values_nothing_is_touched():
    rng = np.random.default_rng(3)
    share, said = rng.random(FEWEST - 1), rng.random(FEWEST - 1)
    readings = {"network": {"handoff": said}, "boosted_trees": {"handoff": share}}
    finish = Finish.fit(_sequences(PATHWAY, "handoff", share), readings)
    assert finish == Finish()
    assert np.array_equal(finish.apply(readings)["handoff"], said)
    assert Finish.from_dict(dataclasses.asdict(finish)) == finish


def test_holt_winters_finds_a_week_and_never_looks_ahead():
    hours = np.arange(24 * 7 * 8)
    curve = 50 + 20 * np.sin(2 * np.pi * hours / 24) + 10 * (hours // 24 % 7 >= 5)
    found = holt_winters(curve[None].copy(), (1, 24), 0.3, 0.15)[0]
    late = hours[168 * 6 : -24]
    assert np.abs(found[late, 1] - curve[late + 24]).max() < 2
    changed = curve.copy()
    changed[1000:] += 99
    again = holt_winters(changed[None], (1, 24), 0.3, 0.15)[0]
    assert np.array_equal(again[:1000], found[:1000])
    changed[5:9] = np.nan
    assert np.isfinite(holt_winters(changed[None], (1,), 0.3, 0.15)).all()


def test_a_week_ago_is_the_level_of_that_hour(kinds):
    hospital = kinds[HOSPITAL]
    found = predict_seasonal(fit_seasonal(hospital), hospital)
    assert set(found) == {HOLT_WINTERS, WEEK_AGO}
    # With levels that repeat each week, the same hour a week ago says everything.
    hour = hospital.steps[HOUR].to_numpy().astype(int)
    weekly = (hour % 168 // 34).astype(float)
    audited = (((hour - 1) % 168) // 34).astype(float)
    columns = {
        name: ((hour + ahead) % 168 // 34).astype(float)
        for name, ahead in zip(CRISIS, (0, 1, 8, 24), strict=True)
    }
    steps = hospital.steps.with_columns(pl.Series(name, value) for name, value in columns.items())
    steps = steps.with_columns(pl.Series(LEVEL, audited), pl.Series(CURVE, weekly))
    repeated = dataclasses.replace(hospital, steps=steps)
    said = predict_seasonal(fit_seasonal(repeated), repeated)[WEEK_AGO]
    late = hour >= 168
    for name, value in columns.items():
        assert (said[name].argmax(1) == value)[late].all()
