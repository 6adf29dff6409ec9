"""Codes to integers, learned from training subjects only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.data.inputs import SAMPLE

PAD = 0
UNKNOWN = 1
_FIRST = 2


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Codes in a fixed order; `PAD` is 0, a code never seen in training is `UNKNOWN`, 1.

    Args:
        codes: Known codes; the code at position i has the number i + 2.
    """

    codes: tuple[str, ...]

    def __len__(self) -> int:
        """Numbers in use, padding and unknown included."""
        return _FIRST + len(self.codes)

    @classmethod
    def fit(cls, measurements: pl.DataFrame, min_samples: int) -> Vocabulary:
        """The codes that occur in at least `min_samples` training samples, in alphabetical order."""
        counts = measurements.group_by(schema.CODE).agg(pl.col(SAMPLE).n_unique().alias("samples"))
        kept = counts.filter(pl.col("samples") >= min_samples)[schema.CODE].sort()
        return cls(tuple(kept.to_list()))

    def encode(self, codes: pl.Series) -> np.ndarray:
        """Number of each code, int64; `UNKNOWN` for a code not in the vocabulary."""
        table = pl.DataFrame(
            {schema.CODE: self.codes, "number": np.arange(_FIRST, len(self), dtype=np.int64)},
            schema={schema.CODE: pl.String, "number": pl.Int64},
        )
        found = pl.DataFrame({schema.CODE: codes}).join(
            table, on=schema.CODE, how="left", maintain_order="left"
        )
        return found["number"].fill_null(UNKNOWN).to_numpy()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {"codes": list(self.codes)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that `to_dict` described."""
        return cls(tuple(value["codes"]))
