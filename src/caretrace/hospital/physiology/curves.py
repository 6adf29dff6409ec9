"""Curves behind the figures of `likeness.py`: distributions, memory, coupling and density of hourly vital signs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.hospital.physiology.config import CHANNELS
from caretrace.hospital.physiology.likeness import LEAST_HOURS

Floats = NDArray[np.float64]


def histogram(table: pl.DataFrame, channel: str, edges: Sequence[float]) -> Floats:
    """Share of the values of a channel in each bin; what lies outside the edges counts in the total.

    Args:
        table: Hourly, as from `simulated_hours`.
        channel: For example `hr`.
        edges: Ascending, one more than bins.
    """
    values = table[channel].drop_nulls().to_numpy()
    return np.histogram(values, np.asarray(edges, float))[0] / len(values)


def correlation_ahead(table: pl.DataFrame, one: str, other: str, lags: Sequence[int]) -> Floats:
    """Correlation of a channel now with one some hours later, both around the subject's mean, `[lag]`.

    With the same channel twice it is the autocorrelation. Only subjects with `LEAST_HOURS` values or more of a
    channel count.

    Args:
        table: Hourly.
        one: The channel now.
        other: The channel later.
        lags: Hours from one to the other; may be negative.
    """
    names = list(dict.fromkeys((one, other)))
    own = pl.col(names)
    centred = table.select(
        "subject_id",
        "hour",
        pl.when(own.count().over("subject_id") >= LEAST_HOURS).then(own - own.mean().over("subject_id")),
    )
    now = centred.select("subject_id", "hour", now=one).drop_nulls()
    out = []
    for lag in lags:
        later = centred.select("subject_id", pl.col("hour") - lag, later=other).drop_nulls()
        pairs = now.join(later, on=["subject_id", "hour"])
        out.append(float(np.corrcoef(pairs["now"].to_numpy(), pairs["later"].to_numpy())[0, 1]))
    return np.array(out)


def density(table: pl.DataFrame) -> Floats:
    """Share of each subject's hours, from first to last row, that have a value, over all subjects, `[channel]`.

    Args:
        table: Hourly; an hour without any value may be absent.
    """
    hours = table.group_by("subject_id").agg(n=pl.col("hour").max() - pl.col("hour").min() + 1)["n"].sum()
    return np.array([table[c].count() / hours for c in CHANNELS])


def gaps(table: pl.DataFrame, channel: str, longest: int = 12) -> Floats:
    """Share of the steps between two values of a channel that take 1 h, 2 h, … `longest` h or more.

    Args:
        table: Hourly.
        channel: For example `temp`.
        longest: Hours; longer steps count with it.
    """
    rows = table.select("subject_id", "hour", channel).drop_nulls().sort("subject_id", "hour")
    step = rows.select(pl.col("hour").diff().over("subject_id")).drop_nulls()["hour"].to_numpy()
    return np.bincount(np.minimum(step, longest), minlength=longest + 1)[1:] / len(step)
