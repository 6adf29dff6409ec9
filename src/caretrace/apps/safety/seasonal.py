"""Forecasts from the calendar and the past of one curve: Holt-Winters, and the same hour a week ago.

Both say what they expect of a hospital's curve, and a table says how often each crisis level followed such a
forecast in training. Neither looks at patients, staff or weather.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS, LEVELS
from caretrace.apps.safety.sequences import Sequences

Floats = NDArray[np.float64]

HOLT_WINTERS, WEEK_AGO = "holt_winters", "week_ago"
CURVE, LEVEL = "STATE//nedocs", "last_level"
WEEK_HOURS = 168
_BINS = 24
_LEVEL_STEPS, _SEASON_STEPS = (0.3, 0.6, 0.9), (0.05, 0.15)


def holt_winters(curve: Floats, horizons: tuple[int, ...], level_step: float, season_step: float) -> Floats:
    """Additive Holt-Winters without trend, with a season of a week (Winters 1960).

    Args:
        curve: `[series, hour]`, NaN where unknown.
        horizons: Hours ahead.
        level_step: How far the level follows each hour, 0 to 1.
        season_step: How far the season does.

    Returns:
        `[series, hour, horizon]`, forecasts made with what is known at each hour; the last value in the first week.
    """
    count, hours = curve.shape
    known: NDArray[np.bool_] = np.asarray(~np.isnan(curve))
    last, level, season = np.zeros(count), np.zeros(count), np.zeros((count, WEEK_HOURS))
    out = np.empty((count, hours, len(horizons)))
    for hour in range(hours):
        place, there = hour % WEEK_HOURS, known[:, hour]
        last = np.where(there, curve[:, hour], last)
        if hour >= WEEK_HOURS:
            error = np.where(there, curve[:, hour] - level - season[:, place], 0.0)
            level, season[:, place] = level + level_step * error, season[:, place] + season_step * error
        elif hour == WEEK_HOURS - 1:  # the first week is the first season
            week = np.where(known[:, :WEEK_HOURS], curve[:, :WEEK_HOURS], np.nan)
            level = np.nanmean(np.where(known[:, :WEEK_HOURS].any(1, keepdims=True), week, 0.0), 1)
            season = np.nan_to_num(week - level[:, None])
        for number, ahead in enumerate(horizons):
            ready = hour >= WEEK_HOURS - 1
            out[:, hour, number] = level + season[:, (hour + ahead) % WEEK_HOURS] if ready else last
    return out


def fit_seasonal(train: Sequences) -> dict[str, Any]:
    """Steps of Holt-Winters that miss least, and the levels that followed each forecast."""
    steps = min(((a, b) for a in _LEVEL_STEPS for b in _SEASON_STEPS), key=lambda pair: _miss(train, *pair))
    forecast = _forecasts(train, *steps)
    edges = {
        name: np.unique(np.nanquantile(forecast[:, number], np.linspace(0, 1, _BINS + 1)[1:-1])).tolist()
        for number, name in enumerate(CRISIS)
    }
    model: dict[str, Any] = {"steps": list(steps), "edges": edges}
    model["shares"] = {
        kind: {name: frequencies(place[name], train.steps[name].to_numpy(), size).tolist() for name in CRISIS}
        for kind, (place, size) in _places(model, train).items()
    }
    return model


def predict_seasonal(model: Mapping[str, Any], sequences: Sequences) -> dict[str, dict[str, Floats]]:
    """Model → target → `[step, level]`."""
    return {
        kind: {name: np.asarray(model["shares"][kind][name])[place[name]] for name in CRISIS}
        for kind, (place, _) in _places(model, sequences).items()
    }


def _places(
    model: Mapping[str, Any], sequences: Sequences
) -> dict[str, tuple[dict[str, NDArray[np.int64]], int]]:
    """Which row of its table each step reads, by target, and how many rows there are."""
    forecast = _forecasts(sequences, *model["steps"])
    smooth = {
        name: np.digitize(forecast[:, number], model["edges"][name]) for number, name in enumerate(CRISIS)
    }
    return {HOLT_WINTERS: (smooth, _BINS), WEEK_AGO: (_week_ago(sequences), LEVELS + 1)}


def _forecasts(sequences: Sequences, level_step: float, season_step: float) -> Floats:
    """`[step, horizon]`."""
    curve = sequences.steps[CURVE].to_numpy().astype(float)
    out = np.empty((len(curve), len(HORIZONS_HOURS)))
    for rows, stretch in _together(sequences, curve):
        out[rows] = holt_winters(stretch, HORIZONS_HOURS, level_step, season_step)
    return out


def _together(sequences: Sequences, curve: Floats) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Sequences of one length side by side: their rows, and their curves."""
    begins = sequences.begins
    lengths = np.diff(begins)
    found = []
    for length in np.unique(lengths):
        rows = begins[:-1][lengths == length][:, None] + np.arange(length)
        found.append((rows, curve[rows]))
    return found


def _miss(train: Sequences, level_step: float, season_step: float) -> float:
    """Mean squared error of the forecasts, all horizons, after the first two weeks of each sequence."""
    curve = train.steps[CURVE].to_numpy().astype(float)
    total, count = 0.0, 0
    for _, stretch in _together(train, curve):
        forecast = holt_winters(stretch, HORIZONS_HOURS, level_step, season_step)
        for number, ahead in enumerate(HORIZONS_HOURS):
            until = stretch.shape[1] - ahead
            error = stretch[:, 2 * WEEK_HOURS + ahead :] - forecast[:, 2 * WEEK_HOURS : until, number]
            total, count = total + float(np.nansum(error**2)), count + int((~np.isnan(error)).sum())
    return total / max(count, 1)


def _week_ago(sequences: Sequences) -> dict[str, NDArray[np.int64]]:
    """Level of the foreseen hour a week before, as it was audited; one more place where that is unknown.

    An audit is known an hour later, so the level of hour t + h - 168 stands in row t + h - 167.
    """
    level = sequences.steps[LEVEL].cast(float).to_numpy()
    out = {}
    for name, ahead in zip(CRISIS, HORIZONS_HOURS, strict=True):
        back = WEEK_HOURS - 1 - ahead
        shifted = np.full(len(level), np.nan)
        for begin, end in zip(sequences.begins[:-1], sequences.begins[1:], strict=True):
            if end - begin > back:
                shifted[begin + back : end] = level[begin : end - back]
        out[name] = np.where(np.isnan(shifted), LEVELS, np.nan_to_num(shifted)).astype(np.int64)
    return out


def frequencies(place: NDArray[np.int64], level: Floats, count: int) -> Floats:
    """`[place, level]`, with one imagined hour of the average mixed in."""
    rows = ~np.isnan(level)
    overall = np.bincount(level[rows].astype(int), minlength=LEVELS) / max(1, rows.sum())
    out = np.tile(overall, (count, 1))
    np.add.at(out, (place[rows], level[rows].astype(int)), 1.0)
    return out / out.sum(1, keepdims=True)
