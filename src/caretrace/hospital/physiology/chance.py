"""Streams of chance: one per person and purpose, so that a change in one part leaves the others as they were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.physiology.config import DAY

# The order is part of what a seed means: append, never reorder.
STREAMS = ("person", "noise", "deteriorations", "artefacts", "disturbances")


def stream(seed: int, subject: int, name: str) -> np.random.Generator:
    """The generator of one person and purpose.

    Args:
        seed: Of the configuration.
        subject: Number of the person, from 0.
        name: One of `STREAMS`.
    """
    key = (subject, STREAMS.index(name))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def poisson_days(
    rng: np.random.Generator, per_hour: float, seconds: int, marks: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Points of a Poisson process, drawn day by day so that a longer recording repeats the shorter one's.

    Args:
        rng: Source of chance, used for nothing else.
        per_hour: Mean number of points per hour.
        seconds: Length of the recording.
        marks: How many uniform numbers go with each point.

    Returns:
        Whole seconds in order, `[point]`, and uniform numbers, `[point, mark]`.
    """
    times: list[NDArray[np.int64]] = []
    uniform: list[NDArray[np.float64]] = []
    for day in range(-(-seconds // DAY)):
        drawn = rng.random((rng.poisson(per_hour * 24), marks + 1))
        drawn = drawn[np.argsort(drawn[:, 0], kind="stable")]
        times.append(day * DAY + (drawn[:, 0] * DAY).astype(np.int64))
        uniform.append(drawn[:, 1:])
    time, mark = np.concatenate(times), np.concatenate(uniform)
    kept = time < seconds
    return time[kept], mark[kept]
