"""Features of the stay that do not change: sex, age, admission type, care unit …

Length of stay is not among them and cannot be: only measurements at or before the prediction time
reach this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE

_HOURS_PER_YEAR = 24 * 365.25
_MIN_SAMPLES = 10


@dataclasses.dataclass(frozen=True)
class StaticFeatures:
    """One-hot categories of the latest code under each prefix, and the age in years, standardised.

    Args:
        categories: Prefix such as `GENDER` → the codes under it that were common enough in training.
        age_mean: Mean age of the training samples, years.
        age_std: Standard deviation of the age of the training samples, years.
    """

    categories: Mapping[str, tuple[str, ...]]
    age_mean: float
    age_std: float

    @property
    def names(self) -> list[str]:
        """One name per column."""
        codes = [code for prefix in self.categories for code in self.categories[prefix]]
        return ["age", "age unknown", *codes]

    @classmethod
    def fit(cls, measurements: pl.DataFrame, n_samples: int, prefixes: Sequence[str]) -> StaticFeatures:
        """Learn the categories and the age scale from training samples."""
        categories = {}
        for prefix in prefixes:
            counts = latest_code(measurements, prefix)[schema.CODE].value_counts()
            kept = counts.filter(pl.col("count") >= min(_MIN_SAMPLES, max(1, n_samples // 20)))
            categories[prefix] = tuple(kept[schema.CODE].sort().to_list())
        ages = ages_in_years(measurements, n_samples)
        known = ages[np.isfinite(ages)]
        return cls(
            categories,
            float(known.mean()) if len(known) else 0.0,
            float(known.std() or 1.0) if len(known) else 1.0,
        )

    def transform(self, measurements: pl.DataFrame, n_samples: int) -> np.ndarray:
        """Static features, float32 [sample, len(names)]."""
        columns = [self._age(measurements, n_samples)]
        for prefix, codes in self.categories.items():
            block = np.zeros((n_samples, len(codes)), dtype=np.float32)
            position = pl.DataFrame(
                {schema.CODE: codes, "column": np.arange(len(codes))},
                schema={schema.CODE: pl.String, "column": pl.Int64},
            )
            found = latest_code(measurements, prefix).join(position, on=schema.CODE, how="inner")
            block[found[SAMPLE].to_numpy(), found["column"].to_numpy()] = 1.0
            columns.append(block)
        return np.concatenate(columns, axis=1)

    def _age(self, measurements: pl.DataFrame, n_samples: int) -> np.ndarray:
        ages = ages_in_years(measurements, n_samples)
        unknown = ~np.isfinite(ages)
        scaled = np.where(unknown, 0.0, (ages - self.age_mean) / self.age_std)
        return np.stack([scaled, unknown], axis=1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {
            "categories": {prefix: list(codes) for prefix, codes in self.categories.items()},
            "age_mean": self.age_mean,
            "age_std": self.age_std,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> StaticFeatures:
        """The features that `to_dict` described."""
        categories = {prefix: tuple(codes) for prefix, codes in value["categories"].items()}
        return cls(categories, value["age_mean"], value["age_std"])


def latest_code(measurements: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """The last code under a prefix, per sample (measurements are in chronological order)."""
    under = (pl.col(schema.CODE) == prefix) | pl.col(schema.CODE).str.starts_with(
        prefix + schema.CODE_SEPARATOR
    )
    return measurements.filter(under).group_by(SAMPLE, maintain_order=True).agg(pl.col(schema.CODE).last())


def ages_in_years(measurements: pl.DataFrame, n_samples: int) -> np.ndarray:
    """Age at prediction time in years, float64 [sample], NaN where the birth is unknown."""
    ages = np.full(n_samples, np.nan)
    births = measurements.filter(pl.col(schema.CODE) == schema.BIRTH, pl.col(HOURS_BEFORE).is_not_null())
    ages[births[SAMPLE].to_numpy()] = births[HOURS_BEFORE].to_numpy() / _HOURS_PER_YEAR
    return ages
