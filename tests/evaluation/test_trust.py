"""Subgroups and abstention on data whose answers are known."""

import numpy as np
import pytest

from caretrace.evaluation import auroc
from caretrace.evaluation.trust import MOST_VALUES, abstention_curve, subgroup_table


def data(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    risk = rng.uniform(0.05, 0.6, n)
    return rng.random(n) < risk, risk, np.arange(n)


def test_a_group_the_model_fails_is_seen():
    outcome, risk, subjects = data()
    group = np.where(np.arange(len(risk)) % 2 == 0, "even", "odd")
    told = np.where(group == "even", risk, np.random.default_rng(1).permutation(risk) / 2)
    rows = {
        row["value"]: row
        for row in subgroup_table(outcome, told, subjects, {"parity": list(group)}, replicates=200)
    }
    assert rows["even"]["group"] == "parity: even"
    assert rows["even"]["auroc"]["low"] > rows["odd"]["auroc"]["high"]
    assert rows["even"]["calibration"]["low"] < 1 < rows["even"]["calibration"]["high"]
    assert rows["odd"]["calibration"]["low"] > 1.5  # stated risks are half of what they should be
    for value, here in (("even", group == "even"), ("odd", group == "odd")):
        assert rows[value]["auroc"]["value"] == pytest.approx(auroc(outcome[here], told[here]))
        assert rows[value]["n"] == rows[value]["subjects"] == 2000
        assert rows[value]["positives"] == outcome[here].sum()


def test_one_outcome_only_has_counts_and_no_figures():
    outcome, risk, subjects = data(50)
    values = ["dead" if each else "alive" for each in outcome]
    for row in subgroup_table(outcome, risk, subjects, {"fate": values}, replicates=20):
        assert (row["auroc"], row["ece"], row["calibration"]) == (None, None, None)
        assert row["n"] > 0


def test_rare_values_are_counted_together():
    outcome, risk, subjects = data(400)
    values = [f"value {min(number % 40, 20)}" for number in range(400)]
    rows = subgroup_table(outcome, risk, subjects, {"many": values}, replicates=20)
    assert len(rows) == MOST_VALUES + 1
    assert sum(row["n"] for row in rows) == 400
    assert "other" in [row["value"] for row in rows]


def test_intervals_resample_subjects():
    """The same rows twice, as rows of the same subjects, leave the interval as it was."""
    outcome, risk, subjects = data(300)
    once = subgroup_table(outcome, risk, subjects, {"all": ["a"] * 300}, replicates=100)
    twice = [np.concatenate([each, each]) for each in (outcome, risk, subjects)]
    again = subgroup_table(*twice, {"all": ["a"] * 600}, replicates=100)
    for name in ("auroc", "ece", "calibration"):
        assert again[0][name] == pytest.approx(once[0][name])


def test_silence_where_it_is_wrong_pays_and_blind_silence_does_not():
    rng = np.random.default_rng(0)
    outcome, risk, _ = data()
    unsure = rng.random(len(risk)) < 0.4
    told = np.where(unsure, rng.uniform(0.05, 0.6, len(risk)), risk)
    knowing = abstention_curve(outcome, told, unsure + 0.01 * rng.random(len(risk)))
    blind = abstention_curve(outcome, told, rng.random(len(risk)))
    assert [row["coverage"] for row in knowing][:2] == [1.0, 0.95]
    assert knowing[0]["auroc"] == pytest.approx(auroc(outcome, told))
    half = next(row for row in knowing if row["coverage"] == 0.6)
    assert half["n"] == 2400
    assert half["auroc"] > knowing[0]["auroc"] + 0.05
    assert abs(next(row for row in blind if row["coverage"] == 0.6)["auroc"] - blind[0]["auroc"]) < 0.02


def test_when_one_outcome_is_left_there_is_no_figure():
    rows = abstention_curve([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4], [0, 1, 2, 9])
    assert rows[0]["auroc"] == 1.0
    assert rows[-1]["auroc"] is None
    assert rows[-1]["brier"] == pytest.approx(0.01)
