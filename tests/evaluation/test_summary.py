import json

import numpy as np
import pytest
from scipy.special import expit

from caretrace.errors import ConfigError
from caretrace.evaluation import evaluate, gate, recommend


def simulated(n=600, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, n)
    labels = rng.random(n) < expit(z)
    return labels, expit(z), expit(z + 2 * rng.normal(size=n))


def judged(scores, labels):
    return evaluate(
        labels,
        scores,
        np.repeat(np.arange(labels.size // 2), 2),
        application="mortality",
        split="held_out",
        replicates=100,
    )


def test_shape_is_the_one_the_design_fixes():
    labels, good, noisy = simulated()
    result = judged({"caretrace": good, "logistic_regression": noisy, "boosted_trees": noisy}, labels)
    json.dumps(result, allow_nan=False)
    assert (result["application"], result["split"]) == ("mortality", "held_out")
    assert (result["n"], result["n_subjects"]) == (600, 300)
    assert set(result["metrics"]) == {"auroc", "auprc", "brier", "ece"}
    assert set(result["metrics"]["auroc"]) == {"value", "low", "high"}
    assert set(result["comparators"]) == {"logistic_regression", "boosted_trees"}
    paired = result["paired"]["boosted_trees"]["auroc"]
    assert set(paired) == {"difference", "low", "high"}
    value = result["metrics"]["auroc"]["value"] - result["comparators"]["boosted_trees"]["auroc"]["value"]
    assert paired["difference"] == pytest.approx(value)
    calibration = result["gates"]["calibration"]
    assert calibration["passed"] == (calibration["value"] <= calibration["bound"])
    assert calibration["value"] == result["metrics"]["ece"]["value"]


def test_the_better_comparator_is_recommended_and_so_is_the_better_model():
    labels, good, noisy = simulated()
    assert judged({"caretrace": good, "trees": noisy}, labels)["recommended"]["name"] == "caretrace"
    beaten = judged({"caretrace": noisy, "trees": good}, labels)["recommended"]
    assert beaten["name"] == "trees"
    assert "lies entirely below zero" in beaten["reason"]


def test_an_overlap_is_said_so():
    labels, good, _ = simulated()
    result = judged({"caretrace": good, "trees": good}, labels)["recommended"]
    assert result["name"] == "caretrace"
    assert "overlaps zero against trees" in result["reason"]


def test_of_two_that_cannot_be_told_apart_the_simpler_is_recommended_if_it_is_ahead():
    overlapping = {"auroc": {"difference": -0.01, "low": -0.03, "high": 0.01}}
    behind = {"auroc": {"difference": 0.02, "low": 0.01, "high": 0.03}}
    result = recommend("ours", {"trees": overlapping, "logistic": behind})
    assert result["name"] == "trees"
    assert "cannot tell trees from ours" in result["reason"]


def test_miscalibrated_risks_fail_the_gate():
    labels, good, _ = simulated()
    assert not judged({"caretrace": good**4}, labels)["gates"]["calibration"]["passed"]
    assert judged({"caretrace": good}, labels)["recommended"]["reason"].endswith(
        "no comparator stood beside it."
    )


def test_recommend_names_the_comparator_furthest_ahead():
    def metrics(difference):
        return {"auroc": {"difference": difference, "low": difference - 0.01, "high": difference + 0.01}}

    assert recommend("ours", {"a": metrics(-0.02), "b": metrics(-0.05), "c": metrics(0.1)})["name"] == "b"
    clear = recommend("ours", {"a": metrics(0.02), "b": metrics(0.05)})
    assert "ranks better than every comparator" in clear["reason"]
    assert "+0.020" in clear["reason"]


def test_unknown_model_and_gate_without_bound():
    labels, good, _ = simulated()
    with pytest.raises(ConfigError, match="unknown model 'caretrace'"):
        judged({"ours": good}, labels)
    with pytest.raises(ConfigError, match="exactly one"):
        gate(0.1)
    assert gate(0.9, at_least=0.9) == {"passed": True, "value": 0.9, "bound": 0.9}
    assert gate(0.06, at_most=0.05)["passed"] is False
