"""Time of day and of week, as the clock of the dataset shows it.

A dataset that was shifted in time by whole weeks (MIMIC) keeps both, one shifted by days keeps the time of day.
"""

import math

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

HOURS_PER_DAY, HOURS_PER_WEEK = 24, 168
# Width of what `cyclical` gives.
N_CYCLICAL = 4

_MICROSECONDS_PER_HOUR = 3_600_000_000
_MONDAY = 96  # hours from Thursday 1970-01-01 0:00 to the first Monday


def hour_of_week(times: pl.Series) -> np.ndarray:
    """Hours since Monday 0:00, float32 in [0, 168), NaN where the time is null.

    Args:
        times: Moments, a datetime column.
    """
    microseconds = times.dt.epoch("us")
    within = (microseconds - _MONDAY * _MICROSECONDS_PER_HOUR) % (HOURS_PER_WEEK * _MICROSECONDS_PER_HOUR)
    hours = (within / _MICROSECONDS_PER_HOUR).fill_null(float("nan")).to_numpy().astype(np.float32)
    # The last microseconds of a Sunday round up to 168, which is 0.
    return np.where(hours >= HOURS_PER_WEEK, np.float32(0), hours)


def cyclical(hours: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes 4"]:
    """Sine and cosine of the time of day, then of the week; all 0 where the hour of the week is not known (NaN)."""
    known = torch.isfinite(hours)
    angles = torch.where(known, hours, 0.0)[..., None] * torch.tensor(
        [2 * math.pi / HOURS_PER_DAY, 2 * math.pi / HOURS_PER_WEEK], device=hours.device, dtype=hours.dtype
    )
    circle = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
    return torch.where(known[..., None], circle, 0.0)
