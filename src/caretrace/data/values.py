"""Numeric values to a common scale: each becomes its quantile among the training values of its code.

A quantile is robust to the artefacts of real charts (a temperature of -17.8, a pH of 735), needs no
unit, and spreads every code evenly over [0, 1], where `backbones.embedding` puts its knots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.data.vocabulary import Vocabulary

_KNOTS = 65


@dataclasses.dataclass(frozen=True)
class QuantileScaler:
    """Piecewise-linear map from value to quantile, one per code number.

    Args:
        knots: Code number → increasing distinct quantiles of its training values. A code with fewer
            than two distinct values in training has no entry: its values carry no information.
    """

    knots: Mapping[int, np.ndarray]

    @classmethod
    def fit(cls, measurements: pl.DataFrame, vocabulary: Vocabulary) -> QuantileScaler:
        """Quantiles of the training values of each known code."""
        # Another tool's dataset may hold NaN and infinities; one would spoil the quantiles of its code.
        valued = measurements.filter(pl.col(schema.NUMERIC_VALUE).is_finite())
        numbers = vocabulary.encode(valued[schema.CODE])
        values = valued[schema.NUMERIC_VALUE].to_numpy().astype(np.float64)
        levels = np.linspace(0.0, 1.0, _KNOTS)
        knots: dict[int, np.ndarray] = {}
        for number, part in _by_code(numbers, values):
            distinct = np.unique(np.quantile(part, levels))
            if number >= 2 and len(distinct) >= 2:
                knots[number] = distinct
        return cls(knots)

    def transform(self, numbers: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scale values.

        Args:
            numbers: Code numbers, int64 [measurement].
            values: Raw values, float [measurement], NaN where there is none.

        Returns:
            Scaled values in [0, 1], float32 [measurement] (0 where there is none), and the mask of
            measurements that have one, bool [measurement].
        """
        scaled = np.zeros(len(values), dtype=np.float32)
        mask = np.zeros(len(values), dtype=bool)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(numbers[order]) != 0]) if len(order) else np.empty(0, int)
        for rows in np.split(order, starts[1:]):
            knots = self.knots.get(int(numbers[rows[0]])) if len(rows) else None
            if knots is None:
                continue
            present = rows[np.isfinite(values[rows])]
            scaled[present] = np.interp(values[present], knots, np.linspace(0.0, 1.0, len(knots)))
            mask[present] = True
        return scaled, mask

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {"quantile_knots": {str(number): knots.tolist() for number, knots in self.knots.items()}}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> QuantileScaler:
        """The scaler that `to_dict` described."""
        return cls({int(number): np.asarray(knots) for number, knots in value["quantile_knots"].items()})


def _by_code(numbers: np.ndarray, values: np.ndarray) -> list[tuple[int, np.ndarray]]:
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    return list(zip(found.tolist(), np.split(values[order], starts[1:]), strict=True)) if len(found) else []
