"""Hospitals as sequences: a step per hour, and the crisis level then, and 1, 8 and 24 hours later."""

from __future__ import annotations

import numpy as np
import polars as pl

from caretrace.apps.safety.blocks import block_of
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, SEQUENCE, Sequences
from caretrace.apps.safety.site_hours import SiteHours

HORIZONS_HOURS = (0, 1, 8, 24)
LEVELS = 5
# A forecast is asked for once a day's history lies behind; before, every model would guess.
WARM_UP_HOURS = 24
CRISIS = tuple(f"crisis_{hours}_h" for hours in HORIZONS_HOURS)


def hospital_sequences(hours: SiteHours, block_days: int) -> Sequences:
    """One sequence per hospital and block.

    Args:
        hours: Of all hospitals.
        block_days: No sequence, and no target of one, reaches beyond a block; 0 makes one block of all.
    """
    sites, n_hours = hours.level.shape
    clock = np.arange(n_hours, dtype=float)
    block = block_of(clock, block_days or n_hours)
    columns: dict[str, object] = {
        SEQUENCE: (np.arange(sites)[:, None] * (block[-1] + 1) + block).ravel(),
        HOUR: np.tile(clock, sites),
        "site": np.repeat(np.array(hours.sites), n_hours),
    }
    for number, name in enumerate(hours.channels):
        columns[name] = hours.values[..., number].ravel()
    first = np.flatnonzero(np.diff(block, prepend=-1))[block]
    for name, ahead in zip(CRISIS, HORIZONS_HOURS, strict=True):
        later = np.full(hours.level.shape, np.nan)
        later[:, : n_hours - ahead] = hours.level[:, ahead:]
        within = np.append(block[ahead:], np.full(ahead, -1)) == block
        later[:, ~within | (clock - first < WARM_UP_HOURS)] = np.nan
        columns[name] = later.ravel()
    return Sequences(HOSPITAL, pl.DataFrame(columns), hours.channels, ("site",), CRISIS)
