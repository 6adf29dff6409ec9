"""The oracle: the chance of death given the latent state, by running the same dynamics forward.

Each state gets many futures. Within a future, death is not drawn but carried as a weight (the chance to
have lived so far), and the chances of death are added up: conditional Monte Carlo (Rao-Blackwell), the
same expectation as counting deaths, with less noise. `tests/hospital` compares it with plain counting.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.config import Dynamics
from caretrace.hospital.severity import (
    Bools,
    Floats,
    IcuState,
    Ints,
    advance,
    come_back,
    death_probability,
    leaves,
    return_probability,
    ward_death_probability,
)

_NEGLIGIBLE = 1e-4  # a future whose chance to have lived so far is smaller is not followed further


@dataclasses.dataclass
class _Futures:
    """Futures still followed; axis `[future]`."""

    origin: Ints
    state: IcuState
    alive: Floats
    in_stay: Bools
    icu: Floats
    hospital: Floats

    def take(self, index: Ints | Bools) -> _Futures:
        return _Futures(
            self.origin[index],
            self.state.take(index),
            self.alive[index],
            self.in_stay[index],
            self.icu[index],
            self.hospital[index],
        )


def death_probabilities(
    state: IcuState, d: Dynamics, replicates: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chance to die in this ICU stay, and in this hospital admission, given the state.

    Args:
        state: Stays that are in the ICU, alive, `[stay]`.
        d: Coefficients.
        replicates: Futures per stay.
        rng: Source of chance.

    Returns:
        Two arrays `[stay]` of probabilities; the first never exceeds the second.
    """
    n = len(state)
    totals = np.zeros((2, n))
    origin = np.repeat(np.arange(n), replicates)
    size = len(origin)
    futures = _Futures(
        origin,
        state.take(origin),
        np.ones(size, np.float32),
        np.ones(size, np.bool_),
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
    )
    while len(futures.origin):
        _one_hour(futures, d, rng)
        over = futures.alive < _NEGLIGIBLE
        # Copying what is left costs as much as an hour, so it waits until it pays.
        if over.mean() > 0.1 or len(over) < 100:
            totals[0] += np.bincount(futures.origin[over], futures.icu[over], n)
            totals[1] += np.bincount(futures.origin[over], futures.hospital[over], n)
            futures = futures.take(~over)
    totals /= replicates
    return totals[0], totals[1]


def _one_hour(futures: _Futures, d: Dynamics, rng: np.random.Generator) -> None:
    chance = death_probability(futures.state, d)
    dying = futures.alive * chance
    futures.icu += dying * futures.in_stay
    futures.hospital += dying
    futures.alive -= dying
    leaving = np.flatnonzero(leaves(futures.state, d, rng))
    left = futures.state.take(leaving)
    back = rng.random(len(leaving)) < return_probability(left, d)
    gone = leaving[~back]
    futures.hospital[gone] += futures.alive[gone] * ward_death_probability(left.take(~back), d)
    futures.alive[gone] = 0
    advance(futures.state, d, rng)
    returning = leaving[back]
    if len(returning):
        _put(futures.state, returning, come_back(left.take(back), d, rng))
        futures.in_stay[returning] = False


def _put(state: IcuState, index: Ints, values: IcuState) -> None:
    for field in dataclasses.fields(state):
        getattr(state, field.name)[index] = getattr(values, field.name)
