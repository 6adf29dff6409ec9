"""Harmless moments that look like trouble: exertion (turning, walking, coughing) and short desaturations.

They are real physiology, no artefacts and no deterioration; an alarm they raise is a false one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.physiology.chance import poisson_days
from caretrace.hospital.physiology.config import DBP, HR, RESP, SBP, SPO2, PhysiologyConfig

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

DISTURBANCES = ("exertion", "desaturation")
# Change at the middle of one of size 1, shortest and longest seconds; all assumed.
EFFECTS = ({HR: 16.0, RESP: 5.0, SBP: 14.0, DBP: 7.0, SPO2: -1.0}, {SPO2: -6.0, HR: 3.0})
SECONDS = ((60, 600), (20, 90))
SIZE = (0.4, 1.6)  # uniform between; assumed


@dataclasses.dataclass(frozen=True)
class Disturbances:
    """Those of one person, in order of start; axes `[disturbance]`, seconds since the recording began."""

    kind: Ints
    start: Ints
    end: Ints
    size: NDArray[np.float64]


def plan_disturbances(config: PhysiologyConfig, rng: np.random.Generator) -> Disturbances:
    """Those that begin within the recording; `rng` is the stream `disturbances`."""
    start, mark = poisson_days(rng, config.disturbances_per_hour, config.seconds, 3)
    kind = (mark[:, 0] * len(DISTURBANCES)).astype(np.int64)
    bounds = np.array(SECONDS, np.float64)[kind].reshape(-1, 2)
    length = np.rint(bounds[:, 0] * (bounds[:, 1] / bounds[:, 0]) ** mark[:, 1]).astype(np.int64)
    return Disturbances(kind, start, start + length, SIZE[0] + (SIZE[1] - SIZE[0]) * mark[:, 2])


def disturb(signs: Floats, plan: Disturbances, first_second: int, step_seconds: int) -> None:
    """Add what falls into this block to `signs`, `[channel, sample]`, in place."""
    count = signs.shape[1]
    longest = max(high for _, high in SECONDS)
    low = np.searchsorted(plan.start, first_second - longest)
    high = np.searchsorted(plan.start, first_second + count * step_seconds)
    for i in range(int(low), int(high)):
        begin = max(-(-(int(plan.start[i]) - first_second) // step_seconds), 0)
        stop = min(-(-(int(plan.end[i]) - first_second) // step_seconds), count)
        if begin >= stop:
            continue
        second = first_second + np.arange(begin, stop) * step_seconds
        done = (second - plan.start[i]) / (plan.end[i] - plan.start[i])
        bump = (plan.size[i] * np.sin(np.pi * done) ** 2).astype(np.float32)
        for channel, effect in EFFECTS[plan.kind[i]].items():
            signs[channel, begin:stop] += np.float32(effect) * bump
