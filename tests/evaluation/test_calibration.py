import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from caretrace.errors import BundleError, CohortError
from caretrace.evaluation import (
    PlattScaling,
    auroc,
    calibration_curve,
    calibration_slope,
    ece,
    logit,
    shift_to_base_rate,
)


def literal_ece(labels, risks, bins=10):
    total = 0.0
    for number in range(bins):
        inside = [
            (label, risk)
            for label, risk in zip(labels, risks, strict=True)
            if min(int(risk * bins), bins - 1) == number
        ]
        if inside:
            gap = sum(label for label, _ in inside) / len(inside) - sum(risk for _, risk in inside) / len(
                inside
            )
            total += len(inside) / len(labels) * abs(gap)
    return total


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=50))
def test_ece_is_the_literal_definition(pairs):
    labels, risks = [label for label, _ in pairs], [risk for _, risk in pairs]
    assert ece(labels, risks) == pytest.approx(literal_ece(labels, risks), abs=1e-12)


def test_ece_by_hand():
    assert ece([0, 1], [0.0, 1.0]) == 0.0
    assert ece([1, 0], [0.0, 1.0]) == 1.0
    assert ece([0, 1, 0, 1], [0.45] * 4) == pytest.approx(0.05)


def simulated(n, seed=0, slope=1.0, intercept=0.0):
    """Labels drawn from known risks, and logits distorted so that (slope, intercept) mends them."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.5, 1.5, n)
    return rng.random(n) < expit(truth), (truth - intercept) / slope


def test_slope_and_intercept_are_recovered():
    labels, logits = simulated(40_000, slope=0.5, intercept=-0.7)
    slope, intercept = calibration_slope(labels, expit(logits))
    assert slope == pytest.approx(0.5, abs=0.02)
    assert intercept == pytest.approx(-0.7, abs=0.05)


def test_slope_can_be_negative_and_finite_on_separable_labels():
    assert calibration_slope([1, 1, 0, 0, 1], [0.1, 0.2, 0.8, 0.9, 0.85])[0] < 0
    assert all(math.isfinite(value) for value in calibration_slope([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]))


def test_platt_mends_what_was_distorted():
    labels, logits = simulated(20_000, slope=0.4, intercept=-0.5)
    scaling = PlattScaling.fit(logits, labels)
    assert scaling.slope == pytest.approx(0.4, abs=0.02)
    assert scaling.intercept == pytest.approx(-0.5, abs=0.06)
    assert ece(labels, scaling.apply(logits)) < 0.01 < ece(labels, expit(logits))


def test_platt_of_a_small_tuning_set_stays_near_the_identity():
    # Two rows, perfectly separated: without the prior the slope would run to infinity.
    scaling = PlattScaling.fit([-1.0, 1.0], [0, 1])
    assert 1 < scaling.slope < 1.3
    assert scaling.intercept == pytest.approx(0, abs=1e-6)
    # A calibrated model and 20 rows: on average no harm on fresh rows.
    fresh, fresh_logits = simulated(20_000, seed=99)
    harm = []
    for seed in range(20):
        labels, logits = simulated(20, seed=seed)
        if 0 < labels.sum() < 20:
            risks = PlattScaling.fit(logits, labels).apply(fresh_logits)
            harm.append(np.mean((risks - fresh) ** 2) - np.mean((expit(fresh_logits) - fresh) ** 2))
    assert np.mean(harm) < 0.01


def test_platt_never_changes_ranks():
    labels, logits = simulated(300, seed=3)
    scaling = PlattScaling.fit(-logits, labels)  # a model that ranks backwards stays backwards
    assert scaling.slope > 0
    assert auroc(labels, scaling.apply(-logits)) == auroc(labels, -logits)


def test_platt_survives_extreme_logits():
    scaling = PlattScaling.fit([-1e4, 1e4, -1e4, 1e4], [0, 1, 1, 0])
    assert math.isfinite(scaling.slope)
    assert np.isfinite(scaling.apply([-1e6, 0, 1e6])).all()


def test_platt_round_trip_and_damage():
    scaling = PlattScaling(slope=0.8, intercept=-0.1)
    assert PlattScaling.from_dict(scaling.to_dict()) == scaling
    assert PlattScaling().apply(logit([0.3])) == pytest.approx([0.3])
    for damaged in ({"slope": 1.0}, {"slope": -1.0, "intercept": 0.0}, {"slope": "x", "intercept": 0.0}):
        with pytest.raises(BundleError, match="calibration"):
            PlattScaling.from_dict(damaged)


def test_one_class_cannot_be_calibrated():
    with pytest.raises(CohortError, match="0 of 2 labels are positive"):
        PlattScaling.fit([0.1, 0.2], [0, 0])


def test_curve_bins_hold_equal_shares_and_ties_stay_together():
    labels, logits = simulated(1000)
    curve = calibration_curve(labels, expit(logits))
    assert curve.count.tolist() == [100] * 10
    assert np.all((curve.low <= curve.observed) & (curve.observed <= curve.high))
    assert np.all(np.diff(curve.predicted) > 0)
    flat = calibration_curve([0, 1, 0], [0.2, 0.2, 0.2])
    assert flat.count.tolist() == [3]
    # Wilson 1927 for 1 of 3 at 95 %, as published tables give it.
    assert (flat.low[0], flat.high[0]) == (pytest.approx(0.0615, abs=1e-4), pytest.approx(0.7923, abs=1e-4))


def test_the_shift_sets_the_mean_risk_right():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(1.0, 2.0, 500), rng.random(500) < 0.1
    shift = shift_to_base_rate(logits, labels)
    assert expit(logits + shift).mean() == pytest.approx(labels.mean(), abs=1e-9)
    assert shift_to_base_rate(logits + shift, labels) == pytest.approx(0.0, abs=1e-6)


def test_a_tight_prior_keeps_platt_scaling_at_its_center():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=100), rng.random(100) < 0.5
    scaling = PlattScaling.fit(
        logits, labels, slope_spread=1e-3, intercept_spread=1e-3, intercept_center=-0.7
    )
    assert scaling.intercept == pytest.approx(-0.7, abs=1e-3)
    assert scaling.slope == pytest.approx(1.0, abs=1e-3)
