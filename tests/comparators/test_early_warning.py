import numpy as np
import pytest

from caretrace.comparators.early_warning import limit_violations, news2, sustained
from caretrace.errors import ConfigError

# Every edge of the chart: the last value of a band and the first of the next.
EDGES = [
    ("resp", [8, 9, 11, 12, 20, 21, 24, 25], [3, 1, 1, 0, 0, 2, 2, 3]),
    ("spo2", [91, 92, 93, 94, 95, 96, 100], [3, 2, 2, 1, 1, 0, 0]),
    ("sbp", [90, 91, 100, 101, 110, 111, 219, 220], [3, 2, 2, 1, 1, 0, 0, 3]),
    ("hr", [40, 41, 50, 51, 90, 91, 110, 111, 130, 131], [3, 1, 1, 0, 0, 1, 1, 2, 2, 3]),
    ("temp", [35.0, 35.1, 36.0, 36.1, 38.0, 38.1, 39.0, 39.1], [3, 1, 1, 0, 0, 1, 1, 2]),
]


@pytest.mark.parametrize(("channel", "values", "points"), EDGES)
def test_points_at_every_edge(channel, values, points):
    assert news2({channel: np.array(values, float)}).points.tolist() == points


def test_sums_channels_and_says_what_is_missing():
    found = news2({"hr": [135.0, 80.0], "spo2": [90.0, np.nan]})
    assert found.points.tolist() == [6, 0]
    assert found.missing == ("resp", "sbp", "temp", "supplemental oxygen", "consciousness")


def test_no_value_at_all_is_no_score():
    assert np.isnan(news2({"hr": [np.nan]}).points).all()


def test_refuses_signals_that_news2_does_not_know():
    with pytest.raises(ConfigError, match="give some of resp"):
        news2({"etco2": [38.0]})


def test_a_delay_silences_what_is_short():
    spo2 = np.array([95, 89, 89, 95, 89, 89, 89, 89, 95], float)
    assert limit_violations({"spo2": spo2}, 5).tolist() == (spo2 < 90).tolist()
    assert np.flatnonzero(limit_violations({"spo2": spo2}, 5, delay_seconds=15)).tolist() == [7]


def test_missing_values_violate_nothing():
    assert not limit_violations({"hr": np.array([np.nan, 80.0])}, 1).any()


def test_refuses_a_limit_for_a_channel_that_is_not_there():
    with pytest.raises(ConfigError, match="channel"):
        limit_violations({"hr": np.array([80.0])}, 1, limits={"sp02": (90, 100)})


def test_sustained_needs_the_steps_before():
    held = np.array([1, 1, 0, 1, 1, 1], bool)
    assert sustained(held, 0).tolist() == held.tolist()
    assert np.flatnonzero(sustained(held, 1)).tolist() == [1, 4, 5]
