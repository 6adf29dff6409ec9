"""Random numbers by their address: (seed, subject, draw) → a number in (0, 1), whoever asks and in whatever order.

So a subject is the same in a batch of one or of a thousand, and subject 7 of ten is subject 7 of ten million. The
mixing is SplitMix64's finaliser (Steele, Lea and Flood 2014, OOPSLA, "Fast splittable pseudorandom number
generators", section 3), applied to each part of the address in turn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caretrace.evaluation.histories import Floats, Ints

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniform(seed: int, subject: Ints, draw: Ints) -> Floats:
    """Uniform numbers, never 0 and never 1.

    Args:
        seed: Of the sample, not negative.
        subject: Whose; broadcast against `draw`.
        draw: Number of the draw of this subject.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.uint64(seed) + _GOLDEN)
        state = _mix(state ^ (np.asarray(subject, np.uint64) + np.uint64(1)) * _GOLDEN)
        state = _mix(state ^ (np.asarray(draw, np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(state: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    state = np.asarray(state, np.uint64)
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
