"""Faults of the prototype, each brought back here on purpose: the guard that stands against it must notice.

FACTS: windows over a table of other people; fusion of an embedding with its own copy; a detector scored on its own
generator; point-adjusted F1 on its own.
"""

import dataclasses
import datetime as dt
import inspect
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application import silent
from caretrace.application.run import Run
from caretrace.apps.vitals import evaluate as judging
from caretrace.apps.vitals.config import GridConfig, VitalsConfig
from caretrace.apps.vitals.document.fusion import Views
from caretrace.apps.vitals.evaluate import evaluate
from caretrace.apps.vitals.model import load_monitor
from caretrace.apps.vitals.task import collect
from caretrace.apps.vitals.training import events_file, read_events, train
from caretrace.config import load
from caretrace.data.grid import cut
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, InputError
from caretrace.evaluation.detection import point_adjusted_f1

from .small_ward import QUICK, write_ward


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return Dataset(write_ward(tmp_path_factory.mktemp("ward") / "data"))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    train(dataset, load(VitalsConfig, None, QUICK), path, ["None."], resume=False, progress=silent)
    return Run(path)


# --- windows across patients ----------------------------------------------------------------------


def joined(found):
    """The fault: everybody's values in one long series."""
    first = found.stretches[0]
    values = np.concatenate([stretch.values for stretch in found.stretches], axis=1)
    return dataclasses.replace(found, stretches=[dataclasses.replace(first, values=values)])


def crossing(found, lengths):
    """Windows that hold values of more than one subject."""
    ends = np.cumsum(lengths)[:-1]
    windows = cut(found.stretches, found.settings)
    position = np.cumsum([0, *(len(stretch) for stretch in found.stretches)])
    begin = np.array([position[window.stretch] + window.start for window in windows])
    return [
        window
        for window, low in zip(windows, begin, strict=True)
        if ((ends > low) & (ends < low + found.settings.length)).any()
    ]


def test_no_window_holds_two_subjects_and_a_joined_series_would_be_seen(dataset):
    found = collect(dataset, GridConfig(step_seconds=30.0, length=64), schema.TRAIN)
    lengths = [len(stretch) for stretch in found.stretches]
    assert crossing(found, lengths) == []
    assert crossing(joined(found), lengths) != []


# --- fusion on copied signals ---------------------------------------------------------------------


def test_a_copy_is_no_second_opinion():
    rng = np.random.default_rng(0)
    heart, lungs = (rng.standard_normal((50, 8)).astype(np.float32) for _ in range(2))
    assert Views((("hr", "sbp"), ("spo2", "resp")), (heart, lungs))
    with pytest.raises(CohortError, match="copies of each other"):
        Views((("hr", "sbp"), ("spo2", "resp")), (heart, heart.copy()))
    with pytest.raises(CohortError, match="copies of each other"):
        Views((("hr",), ("spo2",)), (heart, 2 * heart + 1))
    with pytest.raises(CohortError, match="two encoders read 'hr'"):
        Views((("hr",), ("hr", "spo2")), (heart, lungs))


# --- scoring on the training generator ------------------------------------------------------------


def test_figures_are_of_subjects_that_training_never_read(run, dataset, monkeypatch):
    read = []
    real = judging.collect

    def watched(data, config, split, **more):
        read.append(split)
        return real(data, config, split, **more)

    monkeypatch.setattr(judging, "collect", watched)
    figures = evaluate(run, None, split=schema.HELD_OUT, replicates=100, seed=0, progress=silent)
    held = {who for who, split in dataset.splits.iter_rows() if split == schema.HELD_OUT}
    assert figures["n_subjects"] == len(held)
    # Training recordings are read once, for what the comparators learn from; the judged ones are the held-out ones.
    assert read == [schema.HELD_OUT, schema.TRAIN]
    assert figures["events"] == "deviations put in"  # and says so: no event of this dataset is known


def test_known_events_take_the_place_of_the_generator_that_taught_the_model(run, dataset, tmp_path):
    """The fault: a model taught on put-in deviations judged on more of them, although the truth is known."""
    held = sorted(who for who, split in dataset.splits.iter_rows() if split == schema.HELD_OUT)
    start = dataset.scan(schema.HELD_OUT).select(schema.TIME).min().collect().item()
    pl.DataFrame(
        {
            schema.SUBJECT_ID: held[:2],
            "onset": [start + dt.timedelta(hours=2)] * 2,
            "end": [start + dt.timedelta(hours=4)] * 2,
            "course": ["abrupt", "gradual"],
        }
    ).write_parquet(tmp_path / "events.parquet")
    monitor = load_monitor(run.bundle)
    recordings = collect(dataset, monitor.config.grid, schema.HELD_OUT, like=monitor.like)
    truth, unchanged = judging.find_truth(monitor, recordings, tmp_path / "events.parquet", 0)
    assert truth.source == "truth"
    assert unchanged is recordings
    assert truth.abrupt.tolist() == [True, False]
    put_in, changed = judging.find_truth(monitor, recordings, None, 0)
    assert put_in.source == "deviations put in"
    assert any(
        (a.values != b.values).any() for a, b in zip(changed.stretches, recordings.stretches, strict=True)
    )


# --- point-adjusted F1 ----------------------------------------------------------------------------


def test_point_adjusted_f1_flatters_chance_and_is_no_figure_of_ours(run):
    rng = np.random.default_rng(0)
    label = np.zeros(20_000, bool)
    label[5_000:9_000] = label[12_000:15_000] = True
    assert point_adjusted_f1(label, rng.random(20_000) < 0.01) > 0.9
    assert "point_adjusted" not in inspect.getsource(judging)
    figures = evaluate(run, None, split=schema.HELD_OUT, replicates=100, seed=0, progress=silent)
    names = {
        *figures["metrics"],
        *figures["gates"],
        *(n for each in figures["comparators"].values() for n in each),
    }
    assert not any("f1" in name for name in names)


def test_events_of_a_run_are_not_taken_for_those_of_another_dataset(dataset, tmp_path):
    """Simulated wards number their subjects alike: the onsets of one say nothing about the other."""
    assert events_file(dataset, "given.parquet") == Path("given.parquet")
    assert events_file(dataset, None) is None
    other = Dataset(write_ward(tmp_path / "other", subjects=4, hours=1))
    beside = other.path / schema.METADATA_DIR / "known_events.parquet"
    pl.DataFrame({schema.SUBJECT_ID: [1]}).write_parquet(beside)
    assert events_file(other, None) == beside
    with pytest.raises(InputError, match="column onset is missing"):
        read_events(beside, [1])
