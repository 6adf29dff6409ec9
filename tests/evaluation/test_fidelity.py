"""Excess divergence is 1 for fresh samples, whatever their size, and rises with a fault."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from caretrace.evaluation.fidelity import (
    Counts,
    distinct_codes,
    js_divergence,
    plan,
    prevalence_r2,
    r_squared,
)
from caretrace.evaluation.planted import collapse, independent_marginals
from caretrace.evaluation.views import code_events, pair_events

from .small_histories import by_chance, written


def excess(train, held_out, synthetic, events=code_events, seed=0):
    counts = Counts(
        events(train), events(held_out), events(synthetic), (len(train), len(held_out), len(synthetic))
    )
    return counts.excess(plan(len(train), len(held_out), len(synthetic), seed))


def test_the_divergence_is_that_of_scipy_squared():
    rng = np.random.default_rng(0)
    p, q = rng.random(50) * (rng.random(50) > 0.3), rng.random(50) * (rng.random(50) > 0.3)
    assert js_divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert js_divergence(p, 3 * p) == pytest.approx(0, abs=1e-12)
    assert js_divergence(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert js_divergence(np.zeros(2), np.array([0, 1.0])) == 1
    assert js_divergence(np.zeros(2), np.zeros(2)) == 0


@pytest.mark.parametrize("n", [200, 800])
def test_fresh_samples_have_excess_one_and_their_intervals_and_bounds_hold(n):
    """Forty fresh samples: the mean is 1, nine in ten intervals hold 1, at most one crosses a bound."""
    found = [
        excess(by_chance(4 * n, 3 * s), by_chance(n, 3 * s + 1), by_chance(n, 3 * s + 2), seed=s)
        for s in range(40)
    ]
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(1, abs=0.1)
    assert np.mean([one.low <= 1 <= one.high for one in found]) >= 0.9
    assert sum(not one.fresh_least <= one.value <= one.fresh_most for one in found) <= 1
    # The stated spread is the real one: it counts what is drawn from one finite training set and more.
    assert np.mean([one.spread for one in found]) == pytest.approx(values.std(), rel=0.5)


def test_faults_raise_it():
    train, held_out = by_chance(3000, 0), by_chance(800, 1)
    collapsed = excess(train, held_out, collapse(train, 800, codes=5))
    assert collapsed.low > 3
    assert collapsed.value > collapsed.fresh_most
    less = by_chance(800, 2, weights=0.3 / np.arange(1, 41) ** 1.1)
    assert excess(train, held_out, less).value > excess(train, held_out, by_chance(800, 2)).value


def test_more_synthetic_subjects_are_used_in_draws_of_the_same_size():
    draws = plan(3000, 800, 5000)
    assert draws.n == 800
    assert draws.synthetic.shape == (6, 800)
    assert len(np.unique(draws.synthetic)) == 4800
    assert plan(1000, 800, 5000).n == 500  # half of training: two draws must fit


def test_a_view_without_events_has_no_excess_and_a_generator_without_has_the_worst():
    singles = written([[[0]], [[1]]] * 50, 3)
    pairs = written([[[0, 1]], [[1, 2]]] * 50, 3)
    assert excess(singles, singles, singles, pair_events) is None
    rng = np.random.default_rng(0)
    mixed = pairs.take(rng.permutation(100))
    found = excess(mixed, by_chance(50, 0, n_codes=3), singles, pair_events)
    assert found.divergence == 1


def test_prevalences_are_compared_on_the_line_of_equality():
    real = np.array([0.1, 0.2, 0.4])
    assert r_squared(real, real) == 1
    assert r_squared(2 * real, real) < 0  # a fitted line would say 1
    train, held_out = by_chance(3000, 0), by_chance(800, 1)
    draws = plan(3000, 800, 800)
    fresh = prevalence_r2(train, held_out, by_chance(800, 2), draws)
    assert fresh.value > fresh.fresh_least
    bad = prevalence_r2(train, held_out, collapse(train, 800, codes=5), draws)
    assert bad.value < bad.fresh_least


def test_a_collapse_has_fewer_codes_and_independence_fewer_common_pairs():
    train, held_out = by_chance(3000, 0), by_chance(800, 1)
    draws = plan(3000, 800, 800)
    bad = distinct_codes(train, collapse(train, 800, codes=5), draws)
    assert bad.value == 5
    assert bad.value < bad.fresh_least
    same = independent_marginals(train, 800)
    assert excess(train, held_out, same).value < excess(train, held_out, same).fresh_most
