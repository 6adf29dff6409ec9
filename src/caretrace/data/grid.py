"""Measurements → regular grids, one stretch of one subject at a time, and windows cut from them.

A stretch ends where nothing was measured for longer than a limit. A window lies within one stretch, so it
can neither mix subjects nor bridge a gap: there is no index that could.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from caretrace import schema
from caretrace.data.batch import GridBatch
from caretrace.data.clock import cyclical
from caretrace.errors import CohortError, ConfigError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_MICROSECONDS = 1_000_000
# 1970-01-01 was a Thursday; hours of the week are counted from Monday 00:00.
_EPOCH_HOUR_OF_WEEK = 72.0
CHANNEL = "channel"


@dataclasses.dataclass(frozen=True)
class GridSettings:
    """How measurements become a grid, and a grid windows.

    Args:
        channels: Signals, in order.
        step_seconds: Length of a step; steps begin at whole multiples of it.
        length: Steps of a window.
        stride: Steps from one window to the next.
        max_gap_seconds: A stretch ends where nothing is measured for longer.
        fill_seconds: A channel is interpolated linearly between two measurements no farther apart than this.
        min_observed: Share of a window's values that must have been measured.

    Raises:
        ConfigError: A length, step or stride that is not positive, or no channel.
    """

    channels: tuple[str, ...]
    step_seconds: float = 1.0
    length: int = 256
    stride: int = 128
    max_gap_seconds: float = 60.0
    fill_seconds: float = 10.0
    min_observed: float = 0.5

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) < len(self.channels):
            raise ConfigError(f"channels: got {', '.join(self.channels) or 'none'}; name each signal once")
        if min(self.step_seconds, self.length, self.stride) <= 0:
            raise ConfigError(
                f"step_seconds {self.step_seconds}, length {self.length}, stride {self.stride}: all must be positive"
            )
        if self.max_gap_seconds < self.step_seconds or self.fill_seconds < 0:
            raise ConfigError(
                f"max_gap_seconds {self.max_gap_seconds} must be at least one step, fill_seconds {self.fill_seconds} "
                "0 or more"
            )
        if not 0 <= self.min_observed <= 1:
            raise ConfigError(f"min_observed: got {self.min_observed}; give a share from 0 to 1")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """One subject on a regular grid, without a gap longer than the limit.

    Args:
        subject: Whose signals these are.
        first: Number of the first step: whole steps since 1970-01-01 00:00 UTC.
        values: [channel, step], mean of the measurements of a step; NaN where there is none.
        fill_steps: Farthest two measurements may lie apart to be joined by a line, steps.
    """

    subject: int
    first: int
    values: FloatArray
    fill_steps: int

    def __len__(self) -> int:
        return int(self.values.shape[1])

    @property
    def observed(self) -> BoolArray:
        """[channel, step], whether there was a measurement."""
        return ~np.isnan(self.values)

    def filled(self) -> FloatArray:
        """Values with short gaps joined by a line; NaN where none is allowed.

        A line needs the measurement after the gap: use it to learn and to judge, never to raise an alarm at a
        step inside the gap.
        """
        return np.stack([_interpolated(channel, self.fill_steps) for channel in self.values])


@dataclasses.dataclass(frozen=True)
class Window:
    """A place in a list of stretches.

    Args:
        stretch: Position of the stretch.
        start: Its first step there.
    """

    stretch: int
    start: int


def stretches(measurements: pl.DataFrame, settings: GridSettings) -> list[Stretch]:
    """Put measurements on a grid.

    Args:
        measurements: `subject_id`, `time`, `channel` (one of the settings' channels) and `numeric_value`; rows
            without a time or a finite value are not used.
        settings: Channels, step and limits.

    Returns:
        Stretches in order of subject and time.

    Raises:
        CohortError: A channel that the settings do not name.
    """
    number = {name: index for index, name in enumerate(settings.channels)}
    strange = set(measurements[CHANNEL].unique()) - set(number)
    if strange:
        raise CohortError(f"grid: channel {min(strange)!r} is not one of {', '.join(settings.channels)}")
    microseconds = round(settings.step_seconds * _MICROSECONDS)
    cells = (
        measurements.filter(pl.col(schema.NUMERIC_VALUE).is_finite() & pl.col(schema.TIME).is_not_null())
        .group_by(
            schema.SUBJECT_ID,
            step=pl.col(schema.TIME).cast(pl.Int64) // microseconds,
            channel=pl.col(CHANNEL).replace_strict(number, return_dtype=pl.Int32),
        )
        .agg(pl.col(schema.NUMERIC_VALUE).cast(pl.Float64).mean())
        .sort(schema.SUBJECT_ID, "step", CHANNEL)
    )
    subject, step = cells[schema.SUBJECT_ID].to_numpy(), cells["step"].to_numpy()
    channel, value = cells[CHANNEL].to_numpy(), cells[schema.NUMERIC_VALUE].to_numpy()
    gap = int(settings.max_gap_seconds / settings.step_seconds)
    fill = int(settings.fill_seconds / settings.step_seconds)
    breaks = np.flatnonzero((subject[1:] != subject[:-1]) | (step[1:] - step[:-1] > gap)) + 1
    found = []
    for low, high in zip([0, *breaks], [*breaks, len(step)], strict=True):
        if low == high:  # there was nothing at all
            continue
        grid = np.full((len(number), int(step[high - 1] - step[low]) + 1), np.nan, np.float32)
        grid[channel[low:high], step[low:high] - step[low]] = value[low:high]
        found.append(Stretch(int(subject[low]), int(step[low]), grid, fill))
    return found


def cut(found: Sequence[Stretch], settings: GridSettings) -> list[Window]:
    """Every window that lies wholly within a stretch and was measured often enough.

    Args:
        found: From `stretches`.
        settings: Length, stride and `min_observed`.
    """
    windows: list[Window] = []
    for number, stretch in enumerate(found):
        measured = np.concatenate([[0.0], np.cumsum(stretch.observed.mean(axis=0))])
        starts = np.arange(0, len(stretch) - settings.length + 1, settings.stride)
        enough = (
            measured[starts + settings.length] - measured[starts] >= settings.min_observed * settings.length
        )
        windows += [Window(number, int(start)) for start in starts[enough]]
    return windows


@dataclasses.dataclass(frozen=True)
class ChannelScaler:
    """Each channel to mean 0 and standard deviation 1 of its training values; features of time stay as they are.

    Args:
        channels: Signals, in order.
        mean: [channel].
        sd: [channel], above 0.
    """

    channels: tuple[str, ...]
    mean: FloatArray
    sd: FloatArray

    @classmethod
    def fit(cls, train: Sequence[Stretch], channels: tuple[str, ...]) -> ChannelScaler:
        """Mean and standard deviation of what was measured of training subjects.

        Raises:
            CohortError: A channel without two different values.
        """
        together = np.concatenate([stretch.values for stretch in train], axis=1).astype(np.float64)
        measured = ~np.isnan(together)
        for index, name in enumerate(channels):
            if len(np.unique(together[index, measured[index]])) < 2:
                raise CohortError(
                    f"grid: channel {name!r} has fewer than two different values in {len(train)} training stretches; "
                    "leave it out or use more subjects"
                )
        mean, sd = np.nanmean(together, axis=1), np.nanstd(together, axis=1)
        return cls(channels, mean.astype(np.float32), sd.astype(np.float32))

    def transform(self, values: FloatArray) -> FloatArray:
        """Scale [channel, step]."""
        return (values - self.mean[:, None]) / self.sd[:, None]


def batches(
    found: Sequence[Stretch],
    windows: Sequence[Window],
    settings: GridSettings,
    scaler: ChannelScaler,
    batch_size: int,
) -> Iterator[GridBatch]:
    """Windows as tensors, in the order given; what could not be filled is 0, the training mean.

    Args:
        found: The stretches that `windows` point into.
        windows: Which windows.
        settings: Their length and step.
        scaler: Fitted on training stretches.
        batch_size: Windows per batch.
    """
    scaled = {number: scaler.transform(found[number].filled()) for number in {w.stretch for w in windows}}
    for low in range(0, len(windows), batch_size):
        chosen = windows[low : low + batch_size]
        ends = [window.start + settings.length for window in chosen]
        values = np.stack([scaled[w.stretch][:, w.start : end] for w, end in zip(chosen, ends, strict=True)])
        observed = [found[w.stretch].observed[:, w.start : end] for w, end in zip(chosen, ends, strict=True)]
        starts = np.array([found[w.stretch].first + w.start for w in chosen])
        yield GridBatch(
            values=torch.from_numpy(np.nan_to_num(values, nan=0.0)),
            observed=torch.from_numpy(np.stack(observed)),
            time_features=time_features(starts, settings.length, settings.step_seconds),
        )


def time_features(starts: npt.NDArray[np.int64], length: int, step_seconds: float) -> torch.Tensor:
    """Sine and cosine of hour of day and of hour of week at every step, [window, 4, step]."""
    steps = starts[:, None] + np.arange(length)
    hours = steps * (step_seconds / 3600) + _EPOCH_HOUR_OF_WEEK
    return cyclical(torch.from_numpy(hours % 168.0)).transpose(1, 2).float()


def _interpolated(values: FloatArray, limit: int) -> FloatArray:
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return values
    at = np.arange(len(values))
    after = np.minimum(np.searchsorted(known, at), known.size - 1)
    before = np.maximum(after - (known[after] > at), 0)
    bridged = (known[before] <= at) & (at <= known[after]) & (known[after] - known[before] <= limit)
    return np.where(bridged, np.interp(at, known, values[known]), np.nan).astype(np.float32)
