import datetime as dt

import numpy as np
import polars as pl
import pytest

from caretrace.data.grid import (
    ChannelScaler,
    GridSettings,
    Stretch,
    Window,
    batches,
    cut,
    stretches,
    time_features,
)
from caretrace.errors import CohortError, ConfigError

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC).replace(tzinfo=None)  # a Monday
SETTINGS = GridSettings(
    ("hr", "spo2"),
    step_seconds=1.0,
    length=4,
    stride=2,
    max_gap_seconds=3.0,
    fill_seconds=2.0,
    min_observed=0.0,
)


def measurements(*rows):
    """(subject, second, channel, value)"""
    return pl.DataFrame(
        {
            "subject_id": [row[0] for row in rows],
            "time": [START + dt.timedelta(seconds=row[1]) for row in rows],
            "channel": [row[2] for row in rows],
            "numeric_value": [row[3] for row in rows],
        },
        schema_overrides={"time": pl.Datetime("us"), "numeric_value": pl.Float64},
    )


def ward(subjects=5, seconds=40):
    """Everybody's heart rate is their number times a hundred, so that a value tells whose it is."""
    return measurements(
        *[
            (subject, second, channel, 100.0 * subject + (second % 3))
            for subject in range(1, subjects + 1)
            for second in range(seconds)
            for channel in ("hr", "spo2")
        ]
    )


def test_no_window_mixes_subjects():
    found = stretches(ward(), SETTINGS)
    windows = cut(found, SETTINGS)
    scaler = ChannelScaler(SETTINGS.channels, np.zeros(2, np.float32), np.ones(2, np.float32))
    assert windows
    for batch in batches(found, windows, SETTINGS, scaler, batch_size=7):
        owner = (batch.values // 100).flatten(1)
        assert (owner == owner[:, :1]).all()


def test_windows_over_all_rows_would_mix_subjects():
    # The prototype's way, so that the test above is known to see the fault.
    values = ward()["numeric_value"].to_numpy()
    mixed = np.lib.stride_tricks.sliding_window_view(values, 8) // 100
    assert (mixed != mixed[:, :1]).any()


def test_a_gap_longer_than_the_limit_ends_the_stretch():
    rows = [(1, second, "hr", 80.0) for second in (0, 1, 2, 5, 9, 10)]
    found = stretches(measurements(*rows), SETTINGS)
    assert [(stretch.first - found[0].first, len(stretch)) for stretch in found] == [(0, 6), (9, 2)]


def test_short_gaps_are_joined_by_a_line_and_marked():
    rows = [(1, 0, "hr", 80.0), (1, 2, "hr", 84.0), (1, 5, "hr", 90.0), (1, 5, "spo2", 97.0)]
    (stretch,) = stretches(measurements(*rows), SETTINGS)
    assert stretch.filled()[0, :3].tolist() == [80, 82, 84]
    assert np.isnan(stretch.filled()[0, 3:5]).all()  # three seconds apart, two are allowed
    assert stretch.observed[0].tolist() == [True, False, True, False, False, True]
    assert np.isnan(stretch.filled()[1, :5]).all()  # nothing is made up before the first measurement


def test_measurements_within_a_step_are_averaged():
    settings = GridSettings(("hr",), step_seconds=60.0, max_gap_seconds=600.0)
    rows = [(1, 10, "hr", 70.0), (1, 50, "hr", 90.0), (1, 60, "hr", 60.0)]
    (stretch,) = stretches(measurements(*rows), settings)
    assert stretch.values.tolist() == [[80, 60]]


def test_windows_lie_within_their_stretch():
    found = [Stretch(1, 0, np.zeros((1, 9), np.float32), 0), Stretch(1, 50, np.zeros((1, 3), np.float32), 0)]
    assert cut(found, SETTINGS) == [Window(0, 0), Window(0, 2), Window(0, 4)]


def test_windows_with_too_few_measurements_are_left_out():
    values = np.full((1, 8), np.nan, np.float32)
    values[0, :3] = 1
    settings = GridSettings(("hr",), length=4, stride=2, min_observed=0.5)
    assert cut([Stretch(1, 0, values, 0)], settings) == [Window(0, 0)]


def test_the_scaler_reads_what_was_measured_and_nothing_else():
    values = np.array([[1.0, np.nan, 3.0], [10.0, 20.0, 30.0]], np.float32)
    scaler = ChannelScaler.fit([Stretch(1, 0, values, 2)], ("hr", "spo2"))
    assert scaler.mean.tolist() == [2, 20]
    assert np.nanmean(scaler.transform(values), axis=1) == pytest.approx([0, 0], abs=1e-6)


def test_a_channel_that_never_changes_is_refused():
    with pytest.raises(CohortError, match="'spo2' has fewer than two"):
        ChannelScaler.fit([Stretch(1, 0, np.array([[1, 2], [5, 5]], np.float32), 0)], ("hr", "spo2"))


def test_time_features_turn_with_the_clock_at_every_step():
    (stretch,) = stretches(measurements((1, 0, "hr", 80.0)), SETTINGS)
    found = time_features(np.array([stretch.first]), 86_401, 1.0)[0].numpy()
    assert found[:, 0] == pytest.approx([0, 1, 0, 1], abs=1e-6)  # Monday 00:00
    assert found[0, 21_600] == pytest.approx(1, abs=1e-6)  # 6 o'clock
    assert found[:2, 86_400] == pytest.approx([0, 1], abs=1e-5)  # a day later
    assert found[2, 86_400] == pytest.approx(np.sin(2 * np.pi / 7), abs=1e-5)


def test_rows_without_time_or_value_are_not_used():
    rows = measurements((1, 0, "hr", 80.0), (1, 1, "hr", float("nan")), (1, 2, "hr", float("inf")))
    assert [len(stretch) for stretch in stretches(rows, SETTINGS)] == [1]
    assert stretches(rows.clear(), SETTINGS) == []


def test_refuses_a_channel_nobody_named():
    with pytest.raises(CohortError, match="'etco2' is not one of hr, spo2"):
        stretches(measurements((1, 0, "etco2", 38.0)), SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{"stride": 0}, {"max_gap_seconds": 0.5}, {"min_observed": 2.0}, {"channels": ()}]
)
def test_refuses_settings_that_make_no_grid(wrong):
    with pytest.raises(ConfigError):
        GridSettings(**{"channels": ("hr",), **wrong})
