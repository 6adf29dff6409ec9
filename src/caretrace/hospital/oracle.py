"""The oracle: the chance of death given the latent state, by running the same dynamics forward.

Each state gets many futures. Within a future, death is not drawn but carried as a weight (the chance to
have lived so far), and the chances of death are added up: conditional Monte Carlo (Rao-Blackwell), the
same expectation as counting deaths, with less noise. `tests/hospital` compares it with plain counting.

A task that leaves a gap after the prediction time asks a narrower question: it leaves out those who die or
go within the gap. Then deaths count only after it, and their sum is divided by the weight of the futures that
the task keeps: those still in the ICU (in-ICU death), or still in hospital without another ICU admission
(in-hospital death). How long somebody stays on the ward is a weight, too, not a draw.
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
    back_later_than,
    come_back,
    death_probability,
    leaves,
    return_probability,
    ward_death_probability,
    ward_longer_than,
)

_NEGLIGIBLE = 1e-4  # a future whose chance to have lived so far is smaller is not followed further
_SUMS = ("icu", "icu_kept", "hospital", "hospital_kept")


@dataclasses.dataclass
class _Futures:
    """Futures still followed; axis `[future]`.

    Args:
        origin: Place of the state it started from.
        state: Where it is now.
        alive: Its weight.
        in_stay: Whether it is still in the ICU stay that was asked about.
        counts: Whether deaths in it count: the gap is over.
        icu: Weight of death in the stay asked about, after the gap.
        icu_kept: Weight with which the in-ICU task keeps it.
        hospital: Weight of death in hospital, after the gap.
        hospital_kept: Weight with which the in-hospital task keeps it.
    """

    origin: Ints
    state: IcuState
    alive: Floats
    in_stay: Bools
    counts: Bools
    icu: Floats
    icu_kept: Floats
    hospital: Floats
    hospital_kept: Floats

    def take(self, index: Ints | Bools) -> _Futures:
        rest = {f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self) if f.name != "state"}
        return _Futures(state=self.state.take(index), **rest)


def death_probabilities(
    state: IcuState, d: Dynamics, replicates: int, rng: np.random.Generator, gap_hours: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chance to die in this ICU stay, and in this hospital admission, given the state.

    Args:
        state: Stays that are in the ICU, alive, `[stay]`.
        d: Coefficients.
        replicates: Futures per stay.
        rng: Source of chance.
        gap_hours: Given, too, that nothing a task would leave out happens in the next so many hours: for the
            first chance leaving the ICU or dying, for the second leaving the hospital, dying, or coming back to
            the ICU.

    Returns:
        Two arrays `[stay]` of probabilities; without a gap the first never exceeds the second. NaN where no
        future lasts through the gap.
    """
    n = len(state)
    totals = {name: np.zeros(n) for name in _SUMS}
    futures = _start(state, replicates)
    hour = 0
    while len(futures.origin):
        if hour == gap_hours:
            _end_gap(futures)
        _one_hour(futures, gap_hours - hour, d, rng)
        hour += 1
        over = futures.alive < (_NEGLIGIBLE if hour > gap_hours else np.float32(1e-30))
        # Copying what is left costs as much as an hour, so it waits until it pays.
        if over.mean() > 0.1 or len(over) < 100:
            for name in _SUMS:
                totals[name] += np.bincount(futures.origin[over], getattr(futures, name)[over], n)
            futures = futures.take(~over)
    return _ratio(totals["icu"], totals["icu_kept"]), _ratio(totals["hospital"], totals["hospital_kept"])


def _start(state: IcuState, replicates: int) -> _Futures:
    origin = np.repeat(np.arange(len(state)), replicates)
    size = len(origin)
    return _Futures(
        origin=origin,
        state=state.take(origin),
        alive=np.ones(size, np.float32),
        in_stay=np.ones(size, np.bool_),
        counts=np.zeros(size, np.bool_),
        **{name: np.zeros(size, np.float32) for name in _SUMS},
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _end_gap(futures: _Futures) -> None:
    """Whoever is still in the stay is kept by both tasks; from now on deaths count."""
    futures.icu_kept += futures.alive * futures.in_stay
    futures.hospital_kept += futures.alive * futures.in_stay
    futures.counts |= futures.in_stay


def _one_hour(futures: _Futures, gap_left: int, d: Dynamics, rng: np.random.Generator) -> None:
    chance = death_probability(futures.state, d)
    dying = futures.alive * chance
    counted = dying * futures.counts
    futures.icu += counted * futures.in_stay
    futures.hospital += counted
    futures.alive -= dying
    leaving = np.flatnonzero(leaves(futures.state, d, rng))
    left = futures.state.take(leaving)
    back = rng.random(len(leaving)) < return_probability(left, d)
    # Whoever leaves within the gap does so somewhere in this hour; of a second stay the clock is another one.
    early = ~futures.counts[leaving]
    rest = gap_left - rng.uniform(0.02, 0.98, len(leaving)) if early.any() else np.zeros(len(leaving))
    _die_on_ward(futures, leaving[~back], left.take(~back), (early & ~back)[~back] * rest[~back], d)
    advance(futures.state, d, rng)
    returning = leaving[back]
    if len(returning):
        _put(futures.state, returning, come_back(left.take(back), d, rng))
        late = np.where(early[back], back_later_than(rest[back]), np.float32(1))
        futures.alive[returning] *= late
        futures.hospital_kept[returning] += futures.alive[returning] * early[back]
        futures.in_stay[returning] = False
        futures.counts[returning] = True


def _die_on_ward(
    futures: _Futures, gone: Ints, left: IcuState, rest: NDArray[np.float64], d: Dynamics
) -> None:
    """Those who leave for good: `rest` hours of the gap remain for them, 0 once it is over."""
    dies = ward_death_probability(left, d) * ward_longer_than(rest, left.severity, dies=True)
    stays = (1 - ward_death_probability(left, d)) * ward_longer_than(rest, left.severity, dies=False)
    futures.hospital[gone] += futures.alive[gone] * dies
    futures.hospital_kept[gone] += np.where(futures.counts[gone], 0, futures.alive[gone] * (dies + stays))
    futures.alive[gone] = 0


def _put(state: IcuState, index: Ints, values: IcuState) -> None:
    for field in dataclasses.fields(state):
        getattr(state, field.name)[index] = getattr(values, field.name)
