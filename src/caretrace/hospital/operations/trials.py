"""What a city tries out, block by block and hospital by hospital, as the seed draws it.

In a city that never changes its staffing, the number of crews and nurses follows the clock and sick leave, so nobody
can learn from its tables what one more would do. Drawn at random, as an organisation does that tries things out in
turns, staffing is independent of demand, and differences behind it are its effect.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.staff.roster import EARLY, NIGHT

Ints = NDArray[np.int64]

_STREAM = 9_000_001  # of the seed's streams, apart from all that the city itself draws from


@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """What is changed for a while.

    Args:
        ambulances: More crews, day and night.
        nurses: More nurses on every shift of each department and each ward of 30 beds, `[site]`.
        lounge: Whether there is a discharge lounge, `[site]`.
    """

    ambulances: int
    nurses: Ints
    lounge: NDArray[np.bool_]


def arm_on(config: OperationsConfig, seed: int, day: int) -> Arm:
    """What holds on a day; the same in every branch of the future.

    Args:
        config: The city; what it changes for good is added to what it tries out.
        seed: Of the city.
        day: Since the start of the warm-up, which belongs to the first block.
    """
    plus, trials, sites = config.interventions, config.trials, config.sites
    block = max(day - config.warm_up_days, 0) // trials.block_days
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, block)))
    return Arm(
        plus.extra_ambulances + int(rng.integers(0, trials.most_ambulances + 1)),
        plus.extra_nurses + rng.integers(0, trials.most_nurses + 1, sites),
        (rng.random(sites) < trials.lounge_share) | plus.discharge_lounge,
    )


def largest_arm(config: OperationsConfig) -> Arm:
    """The most that may be asked for: who is employed for it."""
    plus, trials, sites = config.interventions, config.trials, config.sites
    return Arm(
        plus.extra_ambulances + trials.most_ambulances,
        np.full(sites, plus.extra_nurses + trials.most_nurses),
        np.full(sites, plus.discharge_lounge or trials.lounge_share > 0),
    )


def extra_staff(arm: Arm) -> Ints:
    """People on top of those wanted anyway, `[unit, shift]`: nurses of each site, physicians of each, ambulances."""
    sites = len(arm.nurses)
    extra = np.zeros((2 * sites + 1, 3), np.int64)
    extra[:sites] = arm.nurses[:, None]
    extra[-1, [EARLY, NIGHT]] = 2 * arm.ambulances
    return extra
