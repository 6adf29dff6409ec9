"""The oracle: the chance of each crisis level given everything latent now, by branching the whole city.

The system's state is its agenda and its queues, so it can be copied at any hour (`City.branch`). Each copy
keeps what has begun and draws everything else anew; the share of copies at a level some hours later is the
probability that somebody who saw everything would state. One run of the history serves every landmark.

For the other labels no branching is needed: `truth/visits` holds the chance of an adverse event, of death and of
an item being documented, and `truth/staff` the chance of the intent to leave, each in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import ConfigError
from caretrace.hospital.operations.city import City
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.crisis import LEVELS
from caretrace.hospital.operations.register import site_name
from caretrace.hospital.operations.tables import Clock

HORIZONS_HOURS = (1, 8, 24)


def crisis_oracle(
    config: OperationsConfig,
    seed: int,
    landmarks: Sequence[int],
    branches: int = 20,
    horizons_hours: Sequence[int] = HORIZONS_HOURS,
) -> pl.DataFrame:
    """Probabilities of the crisis levels ahead, with what then happened.

    Args:
        config: The city; the same history as `simulate_operations` with the same config and seed.
        seed: 0 or more.
        landmarks: Prediction times in hours since the first day written.
        branches: Futures per landmark; the standard error of a probability is at most 0.5 / sqrt(branches).
        horizons_hours: How far ahead.

    Returns:
        One row per landmark, hospital and horizon: `hour_time` (seconds since 1970), `site`, `horizon_hours`, `level`
        (what happened) and `p0` … `p4`.

    Raises:
        ConfigError: A landmark or horizon is negative, or there is no branch to run.
    """
    if not landmarks or min(landmarks) < 0 or min(horizons_hours) < 0 or branches < 1:
        raise ConfigError(
            f"oracle: got landmarks {list(landmarks)[:5]}, horizons {list(horizons_hours)}, branches {branches}; "
            "give hours from 0 on and at least one branch"
        )
    city, offset = City(config, seed), 24 * config.warm_up_days
    horizons = np.array(horizons_hours)
    chances = {}
    for landmark in sorted(set(landmarks)):
        city.advance(landmark + offset - city.hour)
        # Nobody asks for those who have left; kept, a year of them makes every branch slower.
        city.done.clear()
        city.reports.clear()
        futures = [_levels(city.branch(number), horizons) for number in range(1, branches + 1)]
        counts = np.stack(
            [np.mean([f == level for f in futures], axis=0) for level in range(len(LEVELS))], -1
        )
        chances[landmark] = counts
    last = max(landmarks) + offset
    city.advance(last + int(horizons.max()) + 1 - city.hour)
    happened = np.array([s.level for s in city.states]).reshape(-1, config.sites)
    return _table(config, chances, horizons, happened[offset:])


def _levels(future: City, horizons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Crisis levels of one future, `[horizon, site]`."""
    future.advance(int(horizons.max()) + 1)
    levels = np.array([s.level for s in future.states]).reshape(-1, future.config.sites)
    return levels[horizons]


def _table(
    config: OperationsConfig,
    chances: dict[int, NDArray[np.float64]],
    horizons: NDArray[np.int64],
    happened: NDArray[np.int64],
) -> pl.DataFrame:
    zero = Clock(config, 1).zero + config.warm_up_days * 86_400
    rows = [
        (
            zero + landmark * 3600,
            site_name(site),
            int(horizon),
            int(happened[landmark + horizon, site]),
            *p[h, site],
        )
        for landmark, p in chances.items()
        for site in range(config.sites)
        for h, horizon in enumerate(horizons.tolist())
    ]
    names = ["hour_time", "site", "horizon_hours", "level", *(f"p{level}" for level in range(len(LEVELS)))]
    return pl.DataFrame(rows, schema=names, orient="row")
