import datetime as dt

import numpy as np
import pytest

from caretrace import schema
from caretrace.apps.vitals.config import GridConfig
from caretrace.apps.vitals.task import channel_codes, collect
from caretrace.data.grid import cut
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError

from ... import tiny

HR, SPO2 = "VITAL//heart_rate//bpm", "VITAL//oxygen_saturation//%"
SECOND = 1 / 3600


def monitored(path, subjects=4, seconds=3000, every=1, gap=None):
    """Subject n has a heart rate of 100 n + step number / 1000, so that a window tells whose it is."""
    rows = [
        (who, second * SECOND, code, 100.0 * who + second / 1000)
        for who in range(1, subjects + 1)
        for second in range(0, seconds, every)
        if gap is None or not gap[0] <= second < gap[1]
        for code in (HR, SPO2)
    ]
    splits = dict.fromkeys(range(1, subjects + 1), schema.TRAIN)
    return Dataset(tiny.write_meds(path, rows, splits, files_per_split=2))


def test_windows_belong_to_one_subject(tmp_path):
    found = collect(
        monitored(tmp_path / "d"),
        GridConfig(step_seconds=1.0, length=256, max_gap_seconds=60.0),
        schema.TRAIN,
    )
    windows = cut(found.stretches, found.settings)
    assert len(windows) == 4 * ((3000 - 256) // 128 + 1)
    for window in windows:
        values = found.stretches[window.stretch].values[0, window.start : window.start + 256]
        assert set(values // 100) == {float(found.stretches[window.stretch].subject)}


def test_no_window_bridges_a_long_gap(tmp_path):
    data = monitored(tmp_path / "d", subjects=1, gap=(1000, 1500))
    found = collect(data, GridConfig(step_seconds=1.0, max_gap_seconds=60.0), schema.TRAIN)
    assert [len(each) for each in found.stretches] == [1000, 1500]
    assert found.watched() == {1: 2500.0}


def test_a_monitor_and_a_chart_get_their_own_steps(tmp_path):
    monitor = collect(monitored(tmp_path / "monitor", subjects=1), GridConfig(), schema.TRAIN)
    assert (monitor.settings.step_seconds, monitor.settings.length, monitor.settings.stride) == (10, 256, 128)
    assert monitor.known_after == 9.0
    chart = collect(monitored(tmp_path / "chart", 1, 72 * 3600, every=3600), GridConfig(), schema.TRAIN)
    assert (chart.settings.step_seconds, chart.settings.length) == (3600, 48)
    assert chart.known_after == 0.0


def test_a_step_is_known_when_its_last_measurement_is(tmp_path):
    found = collect(monitored(tmp_path / "d", subjects=1, seconds=100), GridConfig(), schema.TRAIN)
    start = tiny.START.replace(tzinfo=dt.UTC).timestamp()
    np.testing.assert_allclose(found.times(found.stretches[0])[:2] - start, [9, 19])


def test_another_split_keeps_the_channels_and_the_steps_of_training(tmp_path):
    first = collect(monitored(tmp_path / "a"), GridConfig(channels=("hr",)), schema.TRAIN)
    second = collect(monitored(tmp_path / "b", 2, 72 * 3600, every=3600), GridConfig(), None, like=first)
    assert second.settings is first.settings
    assert second.channels == ("hr",)


def test_a_table_with_one_row_per_person_is_no_time_series(tmp_path):
    data = monitored(tmp_path / "d", subjects=50, seconds=2)
    with pytest.raises(CohortError, match=r"no time series.*median has 2.*cross-section"):
        collect(data, GridConfig(), schema.TRAIN)


def test_a_dataset_without_vital_signs_says_what_is_read(tmp_path):
    rows = [(1, float(hour), "LAB//glucose//mg/dL", 90.0) for hour in range(20)]
    data = Dataset(tiny.write_meds(tmp_path / "d", rows, {1: schema.TRAIN}))
    with pytest.raises(CohortError, match="VITAL//heart_rate//bpm"):
        channel_codes(data)
    with pytest.raises(ConfigError, match="pulse"):
        GridConfig(channels=("pulse",))
