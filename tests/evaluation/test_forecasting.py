"""Figures of forecasts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.forecasting import (
    Judged,
    mean,
    mean_sums,
    pinball,
    r2,
    r2_sums,
    warnings_at_recall,
)


def test_pinball_by_hand():
    found = pinball(np.array([3.0]), np.array([[1.0, 2.0, 6.0]]), (0.1, 0.5, 0.9))
    assert found == pytest.approx([(0.1 * 2 + 0.5 * 1 + 0.1 * 3) / 3])


def test_r2_is_that_of_the_textbook():
    rng = np.random.default_rng(0)
    value = rng.normal(size=200)
    forecast = value + 0.5 * rng.normal(size=200)
    expected = 1 - ((value - forecast) ** 2).mean() / value.var()
    assert float(r2(r2_sums(value, forecast).sum(0))) == pytest.approx(expected)
    assert float(r2(r2_sums(value, np.full(200, value.mean())).sum(0))) == pytest.approx(0)


def test_intervals_resample_groups_and_not_rows():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(20), 50)
    value = rng.normal(size=20)[group]  # all rows of a group alike: 20 facts, not 1,000
    judged = Judged(value, group)
    found, _ = judged.compare({"ours": {"mean": mean_sums(value)}}, {"mean": mean}, "ours")
    width = found["ours"]["mean"]["high"] - found["ours"]["mean"]["low"]
    expected = 2 * 1.96 * value[::50].std() / np.sqrt(20)
    assert width == pytest.approx(expected, rel=0.2)
    rows, _ = Judged(value, np.arange(1000)).compare(
        {"ours": {"mean": mean_sums(value)}}, {"mean": mean}, "ours"
    )
    assert rows["ours"]["mean"]["high"] - rows["ours"]["mean"]["low"] < 0.3 * width


def test_differences_are_paired():
    rng = np.random.default_rng(2)
    value = rng.normal(size=400)
    sums = {"ours": {"mean": mean_sums(value)}, "other": {"mean": mean_sums(value + 1)}}
    _, paired = Judged(value, np.arange(400)).compare(sums, {"mean": mean}, "ours")
    assert paired["other"]["mean"] == pytest.approx({"difference": -1.0, "low": -1.0, "high": -1.0})


def test_warnings_by_hand():
    crisis = np.zeros((1, 12), bool)
    crisis[0, [4, 5, 9]] = True
    score = np.array([[0.1, 0.7, 0.1, 0.6, 0.9, 0.8, 0.7, 0.1, 0.1, 0.2, 0.1, np.nan]])
    found = warnings_at_recall(score, crisis, horizon=8, recall=0.6)
    # Two of three hours are reached at 0.8; nothing else is that high; the first crisis is warned of on time.
    assert (found.threshold, found.recall, found.precision) == (0.8, pytest.approx(2 / 3), 1.0)
    assert (found.false_per_week, found.lead_hours) == (0.0, 8.0)
    lower = warnings_at_recall(score, crisis, horizon=8, recall=1.0)
    assert lower.threshold == 0.2
    # False: hour 1; hour 3; hour 6. Each is a warning of its own; 11 hours were asked for.
    assert lower.false_per_week == pytest.approx(3 / 11 * 168)
    # The first crisis was warned of from hour 3 on, the second at its beginning: 9 and 8 hours.
    assert lower.lead_hours == 8.5


def test_nothing_to_warn_of_is_an_error():
    with pytest.raises(CohortError, match="no hour of crisis"):
        warnings_at_recall(np.zeros((1, 4)), np.zeros((1, 4), bool), 1, 0.8)


def test_rows_without_groups_are_refused():
    with pytest.raises(CohortError, match="one of each per row"):
        Judged(np.zeros(3), np.zeros(2, np.int64))
    with pytest.raises(ConfigError, match="at least 2"):
        Judged(np.zeros(3), np.zeros(3, np.int64), replicates=1)
