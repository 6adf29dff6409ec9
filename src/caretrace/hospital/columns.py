"""Small columns from arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray


def words(options: Sequence[str | None], index: NDArray[np.int64]) -> pl.Series:
    """A text column: the option at each index; an option may be None (written as an empty cell)."""
    return pl.Series("", list(options), dtype=pl.String).gather(np.asarray(index, np.int64))
