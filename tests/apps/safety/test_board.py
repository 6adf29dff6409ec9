"""Warnings with their reasons, and the board of a control room."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.application.run import Run
from caretrace.apps.safety import drivers
from caretrace.apps.safety.board import Board, nedocs_words, open_board
from caretrace.apps.safety.drivers import GROUPS, RAISES, Usual, predict_system_breakdown
from caretrace.apps.safety.finishing import reach
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.sequences import HOSPITAL, HOUR
from caretrace.apps.safety.site_hours import DASHBOARD
from caretrace.apps.safety.training import foresee, load
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError


@pytest.fixture(scope="module")
def board(run: Run, small_city: tuple[Path, Path]) -> Board:
    return open_board(run, Dataset(small_city[1]))


def test_the_board_is_plain_complete_and_about_the_hour_asked(board):
    time = board.times[400]
    found = board.at(time)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [each["site"] for each in found] == list(board.hours.sites)
    for number, each in enumerate(found):
        assert each["time"] == "2023-01-18T16:00:00Z" == f"{time.isoformat()}Z"
        assert each["nedocs"]["value"] == pytest.approx(
            float(board.hours.channel("STATE//nedocs")[number, 400])
        )
        assert [one["hours"] for one in each["horizons"]] == [1, 8, 24]
        for one in each["horizons"]:
            assert 0 <= one["low"] <= one["probability"] <= one["high"] <= 1
        assert len(each["hours"]) == 24
        assert each["hours"][-1]["time"] == each["time"]
        ahead = {one["hours"]: one["probability"] for one in each["horizons"]}
        assert each["hours"][-1]["probability"] == pytest.approx(ahead[8], abs=1e-5)
        assert 0 < each["response_minutes"]["p50"] < each["response_minutes"]["p80"] < 60
    last = board.last_known()
    assert np.isfinite(board.hours.channel("STATE//nedocs")[:, last]).any()
    assert np.isnan(board.hours.channel("STATE//nedocs")[:, last + 1 :]).all()
    assert board.at()[0]["time"] == f"{board.times[last].isoformat()}Z"
    assert board.last_known(300) == 300


def test_a_forecast_does_not_look_ahead(board):
    hour = 300
    changed = board.hospital.steps.with_columns(
        pl.when(pl.col(HOUR) > hour).then(pl.col(name) * 3).otherwise(pl.col(name)).alias(name)
        for name in DASHBOARD
    )
    other = dataclasses.replace(board, hospital=dataclasses.replace(board.hospital, steps=changed))
    for one, two in zip(board.at(board.times[hour]), other.at(board.times[hour]), strict=True):
        assert one["horizons"] == two["horizons"]


def test_a_time_that_is_not_there(board):
    with pytest.raises(ConfigError, match="2023-01"):
        board.at(board.times[-1] + dt.timedelta(hours=1))


@pytest.mark.parametrize("together", [1, 3, 50])
def test_one_warning_per_sample_for_any_batch_size(board, together):
    rows = [30, 31, 200, len(board.hospital.steps) - 1, 30]
    found = predict_system_breakdown(board.fitted, board.hospital, rows, together=together)
    whole = predict_system_breakdown(board.fitted, board.hospital, rows, together=len(rows))
    assert len(found) == len(rows)
    assert predict_system_breakdown(board.fitted, board.hospital, []) == []
    assert found[0] == found[4] or found[0].probability == pytest.approx(found[4].probability, abs=1e-6)
    for one, other in zip(found, whole, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-6)
        assert [each.words for each in one.reasons] == [each.words for each in other.reasons]


def test_the_only_reason_is_what_was_planted(board, monkeypatch):
    """Where nothing but boarding patients differs from the usual, they alone are named, with the hour's numbers."""
    monkeypatch.setattr(drivers, "SMALLEST_EFFECT", 1e-6)
    steps = board.hospital.steps
    row = int(np.argmax(np.nan_to_num(steps["boarding"].to_numpy())))
    boarding = next(group for group in GROUPS if group.channels[0] == "boarding")
    others = [name for group in GROUPS if group is not boarding for name in group.channels]
    flat = board.hospital.steps.with_columns(
        pl.lit(0.5).cast(steps.schema[name]).alias(name) for name in others if name in steps.columns
    )
    # All other groups stand at their usual value at every hour, so only this one can have an effect.
    sequences = dataclasses.replace(board.hospital, steps=flat)
    found = predict_system_breakdown(board.fitted, sequences, [row], most=11)[0]
    assert len(found.reasons) == 1
    assert f"({steps['boarding'][row]:.0f}, usually" in found.reasons[0].words
    assert (found.reasons[0].effect > 0) == (found.reasons[0].direction == RAISES)


def test_every_channel_of_a_group_is_one_that_is_read(site_hours):
    channels = [name for group in GROUPS for name in group.channels]
    assert set(channels) <= set(site_hours.channels)
    assert len(channels) == len(set(channels))


def test_horizons_that_are_not_foreseen_are_refused(board):
    with pytest.raises(ConfigError, match="0, 1, 8, 24"):
        predict_system_breakdown(board.fitted, board.hospital, [5], hours_ahead=2)


@pytest.mark.parametrize(
    ("value", "words"),
    [(-5, "not busy"), (60, "busy"), (141, "severely overcrowded"), (200, "dangerously overcrowded")],
)
def test_nedocs_in_words(value, words):
    assert nedocs_words(value) == words


def test_a_run_says_the_same_after_it_was_read_back(run, board):
    again = load(run)
    rows = board.hospital.where(pl.col(HOUR) < 100)
    assert again.finishes == board.fitted.finishes
    for target in CRISIS:
        np.testing.assert_array_equal(foresee(again, rows)[target], foresee(board.fitted, rows)[target])
    assert reach(foresee(again, rows)[CRISIS[0]]).shape == (len(rows.steps),)
    assert board.hospital.kind == HOSPITAL


def test_one_reading_for_all_horizons_says_what_one_for_each_says(board):
    """The board reads the hours once, and asks the usual once; the figures are those of the long way."""
    hour = 400
    rows = [number * board.hours.n_hours + hour for number in range(len(board.hours.sites))]
    found = board.at(board.times[hour])
    for place, ahead in enumerate((1, 8, 24)):
        alone = predict_system_breakdown(
            board.fitted, board.hospital, rows, ahead, most=5 if ahead == 8 else 0
        )
        for each, one in zip(found, alone, strict=True):
            said = each["horizons"][place]
            for name in ("probability", "low", "high"):
                assert said[name] == pytest.approx(getattr(one, name), abs=1e-6)
            assert (said["level"], said["warned"]) == (one.level, one.warned)
            if ahead == 8:
                assert [driver["words"] for driver in each["drivers"]] == [its.words for its in one.reasons]
                effects = [its.effect for its in one.reasons]
                assert [driver["effect"] for driver in each["drivers"]] == pytest.approx(effects, abs=1e-6)
    whole = reach(foresee(board.fitted, board.hospital)[CRISIS[2]]).reshape(len(rows), -1)
    first = hour - board.fitted.config.window_hours + 1
    if first <= 0:  # the window begins with the recording, so the long way reads the same
        for each, chances in zip(found, whole, strict=True):
            past = [one["probability"] for one in each["hours"]]
            assert past == pytest.approx(chances[hour - 23 : hour + 1].tolist(), abs=1e-5)


def test_what_is_usual_is_computed_once_and_nobody_reads_staff(board, run, small_city, monkeypatch):
    counted = []

    class Counting(Usual):
        def __init__(self, hospital):
            counted.append(1)
            super().__init__(hospital)

    monkeypatch.setattr("caretrace.apps.safety.board.Usual", Counting)
    monkeypatch.setattr(
        "caretrace.apps.safety.reading.staff_sequences", lambda *_: pytest.fail("staff was read")
    )
    again = open_board(run, Dataset(small_city[1]))
    assert again.at(again.times[300])[0]["horizons"] == again.at(again.times[300])[0]["horizons"]
    assert again.at(again.times[200]) != again.at(again.times[300])
    assert len(counted) == 1
