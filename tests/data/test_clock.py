"""Time of day and of week against the calendar of the standard library."""

import datetime as dt
import math

import numpy as np
import polars as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from caretrace.data.clock import cyclical, hour_of_week

# Naive on purpose: a dataset has one clock and no time zones.
moments = st.datetimes(dt.datetime(1850, 1, 1), dt.datetime(2300, 1, 1))  # noqa: DTZ001


@given(moments)
def test_hour_of_week_is_what_the_calendar_says(moment):
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = 24 * moment.weekday() + (moment - midnight).total_seconds() / 3600
    (found,) = hour_of_week(pl.Series([moment], dtype=pl.Datetime("us")))
    assert found.dtype == np.float32
    assert 0 <= found < 168
    off = abs(found - expected)
    assert min(off, 168 - off) < 1e-4


def test_no_time_no_hour():
    assert np.isnan(hour_of_week(pl.Series([None], dtype=pl.Datetime("us")))).all()
    assert hour_of_week(pl.Series([], dtype=pl.Datetime("us"))).shape == (0,)


def test_cyclical_by_hand():
    monday_six, wednesday_noon = 6.0, 60.0
    found = cyclical(torch.tensor([[monday_six, wednesday_noon, torch.nan]]))
    week = [2 * math.pi * hour / 168 for hour in (monday_six, wednesday_noon)]
    expected = [
        [1, 0, math.sin(week[0]), math.cos(week[0])],
        [0, -1, math.sin(week[1]), math.cos(week[1])],
        [0, 0, 0, 0],
    ]
    torch.testing.assert_close(found[0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_midnight_on_sunday_is_next_to_midnight_on_monday():
    before, after = cyclical(torch.tensor([167.999, 0.001]))
    assert (before - after).abs().max() < 1e-3
