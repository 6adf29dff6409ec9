"""Splits by time: whoever is in the city together shares its queues, so subjects cannot be told apart by split.

Time is cut into blocks, and each block belongs to one split. No sequence crosses a border, neither with what it
reads nor with what it predicts. A dataset of another simulation, or of another year, is cleaner still:
`caretrace evaluate RUN DATASET` takes all of it as held out.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from caretrace import schema
from caretrace.errors import CohortError

SHARES = {schema.TRAIN: 0.7, schema.TUNING: 0.15, schema.HELD_OUT: 0.15}
_SALT = "caretrace-safety-blocks"


def split_blocks(n_hours: int, block_days: int) -> dict[str, NDArray[np.int64]]:
    """Which blocks belong to which split.

    Args:
        n_hours: Length of the dataset.
        block_days: Length of a block; what is left at the end is a shorter one.

    Returns:
        Split → numbers of its blocks, in order. At least one block is for tuning and one held out.

    Raises:
        CohortError: Fewer than three blocks.
    """
    count = -(-n_hours // (24 * block_days))
    if count < 3:
        raise CohortError(
            f"{n_hours} hours are {count} blocks of {block_days} days: training, tuning and held-out hours need "
            "one each; simulate more days, or set block_days lower"
        )
    # Dealt out by the hash of their number: not by season, and the same for every dataset of this length.
    order = sorted(range(count), key=lambda b: hashlib.sha256(f"{_SALT}/{b}".encode()).digest())
    n_tuning = max(1, round(SHARES[schema.TUNING] * count))
    n_held_out = max(1, round(SHARES[schema.HELD_OUT] * count))
    parts = np.split(np.array(order), [n_tuning, n_tuning + n_held_out])
    return {
        split: np.sort(part)
        for split, part in zip((schema.TUNING, schema.HELD_OUT, schema.TRAIN), parts, strict=True)
    }


def block_of(hour: NDArray[np.float64], block_days: int) -> NDArray[np.int64]:
    """Number of the block that each moment lies in; -1 where there is no moment."""
    return np.where(np.isnan(hour), -1, np.nan_to_num(hour) // (24 * block_days)).astype(np.int64)
