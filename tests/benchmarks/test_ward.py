"""The wards of several seeds: recordings, truth and the table."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.data.grid import CHANNEL, stretches
from caretrace.hospital.physiology.config import CHANNELS, PhysiologyConfig
from caretrace.hospital.physiology.monitor import vitals_of


@pytest.fixture(scope="module")
def ward():
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("ward")
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def small(ward):
    return ward.simulate(3, 8, 60, 1.0)


def test_a_ward_in_memory_is_the_ward_that_files_hold(small):
    """What is judged is what measurements put on a grid would be."""
    recordings = small.recordings
    recording = vitals_of(5, PhysiologyConfig(subjects=8, step_seconds=60, share_deteriorating=1.0, seed=3))
    stretch = recordings.stretches[5]
    begin = stretch.first * 60
    rows = [
        (5, begin + int(second), name, float(recording.block.values[place, at]))
        for at, second in enumerate(recording.block.second.tolist())
        for place, name in enumerate(CHANNELS)
        if not np.isnan(recording.block.values[place, at])
    ]
    table = pl.DataFrame(
        rows, schema=[schema.SUBJECT_ID, "second", CHANNEL, schema.NUMERIC_VALUE], orient="row"
    ).with_columns((pl.col("second") * 1_000_000).cast(pl.Datetime("us")).alias(schema.TIME))
    read = stretches(table, recordings.settings)
    assert sum(map(len, read)) > 1000
    for each in read:
        at = each.first - stretch.first
        np.testing.assert_array_equal(each.values, stretch.values[:, at : at + len(each)])


def test_events_lie_where_the_simulator_says(small):
    truth, known = small.truth(), small.known()
    first = next(number for number, own in enumerate(small.events) if own)
    event = small.events[first][0]
    begin = small.recordings.stretches[first].first * 60
    at = int(np.flatnonzero(truth.events.subject == first)[0])
    assert truth.events.onset[at] == begin + event.onset
    assert known.onset[at] == truth.events.onset[at]
    sudden = known.sudden_until > known.onset
    np.testing.assert_array_equal(sudden, truth.abrupt)
    # The shown signal stays within what was recorded.
    assert (truth.events.end <= begin + 10**9).all()
    whole = small.part(0.0, 0.5).truth().events.onset.size + small.part(0.5, 1.0).truth().events.onset.size
    assert whole == truth.events.onset.size


def test_one_command_judges_seeds_and_keeps_them(ward, tmp_path):
    given = "--seeds 1 --people 30 --step 60 --replicates 2 --teachers deviations both"
    quick = ["--set", "detector.batches=20", "detector.d_model=8"]
    options = ward.parser().parse_args([*given.split(), "--folder", str(tmp_path), *quick])
    cases = {case.case: case.ours for case in ward.bench(options)}
    kept = json.loads((tmp_path / "1.json").read_text())
    assert set(kept) == {"deviations", "both"}
    rate = kept["both"]["metrics"]["false_alarms_per_patient_day"]["value"]
    assert cases["both: rate_over_nominal, mean of 1 seeds"] == pytest.approx(rate / 0.2)
    kept["both"]["metrics"]["event_recall"]["value"] = 0.123
    (tmp_path / "1.json").write_text(json.dumps(kept))
    again = {case.case: case.ours for case in ward.bench(options)}  # not judged again
    assert again["both: event_recall, mean of 1 seeds"] == pytest.approx(0.123)


def test_the_interval_is_that_of_students_t(ward):
    mean, low, high = ward.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.3027 / np.sqrt(3), abs=1e-3)
    assert mean - low == pytest.approx(high - mean)
