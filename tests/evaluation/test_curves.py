import json

import numpy as np
import pytest
from scipy.special import expit

from caretrace.evaluation import auprc, auroc, curves, net_benefit


def simulated(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, n)
    return rng.random(n) < expit(z), expit(z)


def test_everything_is_json_and_bands_hold_the_curve():
    labels, risks = simulated(500)
    result = curves(labels, {"caretrace": risks, "flat": np.full(500, 0.3)}, np.arange(500), replicates=50)
    json.dumps(result, allow_nan=False)
    model = result["models"]["caretrace"]
    for name, value in (("roc", "tpr"), ("pr", "precision"), ("calibration", "observed")):
        low, middle, high = (np.array(model[name][key]) for key in ("low", value, "high"))
        inside = (low - 1e-9 <= middle) & (middle <= high + 1e-9)
        assert inside.mean() > 0.9, name
    assert sum(model["histogram"]["positive"]) == labels.sum()
    assert sum(model["histogram"]["negative"]) == (~labels).sum()
    assert sum(model["calibration"]["count"]) == 500
    assert len(result["models"]["flat"]["calibration"]["count"]) == 1


def test_areas_under_the_grids_are_the_metrics():
    labels, risks = simulated(5000)
    model = curves(labels, {"m": risks}, np.arange(5000), replicates=2)["models"]["m"]
    assert np.trapezoid(model["roc"]["tpr"], model["roc"]["fpr"]) == pytest.approx(
        auroc(labels, risks), abs=5e-3
    )
    assert np.mean(model["pr"]["precision"]) == pytest.approx(auprc(labels, risks), abs=1e-2)


def test_a_useless_score_draws_the_diagonal():
    result = curves([0, 1, 0, 1, 0], {"m": [0.5] * 5}, np.arange(5), replicates=5)
    assert result["models"]["m"]["roc"]["tpr"] == pytest.approx(np.linspace(0, 1, 101))
    assert set(result["models"]["m"]["pr"]["precision"]) == {0.4}


def test_net_benefit_is_the_literal_definition():
    labels, risks = simulated(300)
    for threshold, value in zip(
        [0.05, 0.2, 0.5], net_benefit(labels, risks, np.array([0.05, 0.2, 0.5])), strict=True
    ):
        flagged = risks >= threshold
        true, false = (flagged & labels).sum(), (flagged & ~labels).sum()
        assert value == pytest.approx(true / 300 - false / 300 * threshold / (1 - threshold))


def test_treat_all_is_a_model_that_flags_everyone():
    labels, _ = simulated(200)
    result = curves(labels, {"all": np.ones(200)}, np.arange(200), replicates=2)
    assert result["models"]["all"]["decision"]["net_benefit"] == pytest.approx(
        result["decision"]["treat_all"]
    )
    assert set(result["decision"]["treat_none"]) == {0.0}


def test_same_seed_same_curves():
    labels, risks = simulated(100)
    first = curves(labels, {"m": risks}, np.arange(100), replicates=10, seed=4)
    assert first == curves(labels, {"m": risks}, np.arange(100), replicates=10, seed=4)
