"""Measurements before a prediction as one row of numbers per sample.

Per code and window (whole record, last 24 h, last 6 h): count, last, min, max, mean and slope per
hour; once per code: the first value and the hours since the last one. Codes without numeric values
get counts only. Which codes count is decided on training samples and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from caretrace.comparators.base import FloatMatrix
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE
from caretrace.errors import BundleError, ConfigError, InputError
from caretrace.schema import CODE, NUMERIC_VALUE

COUNT = "count"
WINDOW_STATISTICS = ("last", "min", "max", "mean", "slope")
RECORD_STATISTICS = ("first", "hours_since_last")
WINDOWS_HOURS = (None, 24.0, 6.0)
MAX_CODES = 200


@dataclass(frozen=True)
class TabularFeatures:
    """Which features there are; the same for every split.

    Attributes:
        codes: Codes that get features, most widely measured first.
        numeric: For each code, whether its values are used or only its counts.
        windows_hours: Window lengths back from the prediction time, both ends included; None is the
            whole record, static measurements included.
    """

    codes: tuple[str, ...]
    numeric: tuple[bool, ...]
    windows_hours: tuple[float | None, ...] = WINDOWS_HOURS

    @classmethod
    def fit(
        cls,
        events: pl.DataFrame,
        n_samples: int,
        *,
        windows_hours: Sequence[float | None] = WINDOWS_HOURS,
        min_samples: int | None = None,
        max_codes: int = MAX_CODES,
    ) -> Self:
        """Choose codes on training samples.

        Args:
            events: Measurements of the training samples: `sample`, `code`, `numeric_value`, `hours_before`.
            n_samples: Number of training samples.
            windows_hours: Window lengths in hours; None is the whole record.
            min_samples: Samples that must have a code (or a value) for it to count; by default one in a
                hundred, and at least two.
            max_codes: Keep the codes measured in the most samples.

        Raises:
            ConfigError: No window, or a window that is not a positive number of hours.
        """
        if not windows_hours or any(hours is not None and not hours > 0 for hours in windows_hours):
            raise ConfigError(
                f"windows_hours: got {list(windows_hours)}; give positive hours, None for the record"
            )
        least = max(2, n_samples // 100) if min_samples is None else min_samples
        spread = (
            events.lazy()
            .group_by(CODE)
            .agg(
                pl.col(SAMPLE).n_unique().alias("samples"),
                pl.col(SAMPLE).filter(_finite()).n_unique().alias("with_value"),
            )
            .filter(pl.col("samples") >= least)
            .sort(["samples", CODE], descending=[True, False])
            .head(max_codes)
            .collect()
        )
        return cls(
            codes=tuple(spread[CODE].to_list()),
            numeric=tuple((spread["with_value"] >= least).to_list()),
            windows_hours=tuple(None if hours is None else float(hours) for hours in windows_hours),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature, `code|statistic|window`, in the order of the columns."""
        windows = ["all" if hours is None else f"{hours:g}h" for hours in self.windows_hours]
        return tuple(
            f"{code}|{statistic}|{window}"
            for code, numeric in zip(self.codes, self.numeric, strict=True)
            for statistic, window in [
                *((statistic, window) for window in windows for statistic in _window_statistics(numeric)),
                *((statistic, "all") for statistic in RECORD_STATISTICS if numeric),
            ]
        )

    def transform(self, events: pl.DataFrame, n_samples: int) -> tuple[FloatMatrix, tuple[str, ...]]:
        """The features of every sample.

        Of several values at the same time, the last row of the table counts as the later one.

        Args:
            events: As in `fit`, of any samples; codes that were not chosen are ignored.
            n_samples: Number of samples; those without measurements have counts of 0, the rest missing.

        Returns:
            Float32 [n_samples, features] with NaN where missing, and the feature names.

        Raises:
            InputError: A `sample` that is not a row number below `n_samples`.
        """
        names = self.names
        matrix = np.full((n_samples, len(names)), np.nan, dtype=np.float32)
        position = {name: column for column, name in enumerate(names)}
        counts = [column for name, column in position.items() if name.split("|")[-2] == COUNT]
        matrix[:, counts] = 0.0
        beyond = events.select((pl.col(SAMPLE) >= n_samples).sum()).item()
        if beyond:
            raise InputError(
                f"events: {beyond} rows belong to a sample beyond the last, {n_samples - 1}; "
                "`sample` is the row number in the label table"
            )
        chosen = self._chosen(events)
        for hours in self.windows_hours:
            window = "all" if hours is None else f"{hours:g}h"
            inside = chosen if hours is None else chosen.filter(pl.col(HOURS_BEFORE) <= hours)
            self._fill(matrix, position, _counts(inside), window)
            values = inside.filter(pl.col(NUMERIC_VALUE).is_not_null())
            self._fill(matrix, position, _statistics(values), window)
        valued = chosen.filter(pl.col(NUMERIC_VALUE).is_not_null())
        self._fill(matrix, position, _record_statistics(valued), "all")
        return matrix, names

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` reads it back."""
        return {
            "codes": list(self.codes),
            "numeric": list(self.numeric),
            "windows_hours": list(self.windows_hours),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            BundleError: A key is missing or the lists do not belong together.
        """
        try:
            codes, numeric = tuple(map(str, values["codes"])), tuple(map(bool, values["numeric"]))
            windows = tuple(None if hours is None else float(hours) for hours in values["windows_hours"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"tabular features: damaged settings ({error!r}); train again") from None
        if len(codes) != len(numeric):
            raise BundleError(f"tabular features: {len(codes)} codes but {len(numeric)} kinds; train again")
        return cls(codes, numeric, windows)

    def _chosen(self, events: pl.DataFrame) -> pl.DataFrame:
        """Measurements of the chosen codes, oldest first, static ones before all."""
        table = pl.DataFrame(
            {
                CODE: pl.Series(self.codes, dtype=pl.String),
                "_code": pl.Series(range(len(self.codes)), dtype=pl.UInt32),
                "_numeric": pl.Series(self.numeric, dtype=pl.Boolean),
            }
        )
        value = pl.when(_finite() & pl.col("_numeric")).then(pl.col(NUMERIC_VALUE).cast(pl.Float64))
        return (
            events.select(SAMPLE, CODE, NUMERIC_VALUE, pl.col(HOURS_BEFORE).cast(pl.Float64))
            .join(table, on=CODE, how="inner", maintain_order="left")
            .select(SAMPLE, "_code", value.alias(NUMERIC_VALUE), HOURS_BEFORE)
            .sort(HOURS_BEFORE, descending=True, nulls_last=False, maintain_order=True)
        )

    def _fill(
        self, matrix: FloatMatrix, position: Mapping[str, int], cells: pl.DataFrame, window: str
    ) -> None:
        """Put one column of `cells` per statistic where its sample and code stand."""
        rows, codes = cells[SAMPLE].to_numpy(), cells["_code"].to_numpy()
        for statistic in cells.columns[2:]:
            columns = np.array([position.get(f"{code}|{statistic}|{window}", -1) for code in self.codes])
            with np.errstate(over="ignore"):
                values = cells[statistic].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float32)
            matrix[rows, columns[codes]] = np.where(np.isfinite(values), values, np.float32(np.nan))


def _window_statistics(numeric: bool) -> tuple[str, ...]:
    return (COUNT, *WINDOW_STATISTICS) if numeric else (COUNT,)


def _finite() -> pl.Expr:
    return pl.col(NUMERIC_VALUE).is_not_null() & pl.col(NUMERIC_VALUE).is_finite()


def _counts(events: pl.DataFrame) -> pl.DataFrame:
    return events.group_by(SAMPLE, "_code").agg(pl.len().alias(COUNT))


def _statistics(events: pl.DataFrame) -> pl.DataFrame:
    """Last, min, max, mean and least-squares slope per hour of each sample and code."""
    value, hours = pl.col(NUMERIC_VALUE), pl.col(HOURS_BEFORE)
    # Static values have no time: they take no part in a slope, and neither do values at a single time.
    timed_value = value.filter(hours.is_not_null())
    timed = hours.drop_nulls()
    centred = timed - timed.mean()
    slope = -(centred * (timed_value - timed_value.mean())).sum() / (centred**2).sum()
    return events.group_by(SAMPLE, "_code").agg(
        value.last().alias("last"),
        value.min().alias("min"),
        value.max().alias("max"),
        value.mean().alias("mean"),
        pl.when(timed.max() > timed.min()).then(slope).alias("slope"),
    )


def _record_statistics(events: pl.DataFrame) -> pl.DataFrame:
    return events.group_by(SAMPLE, "_code").agg(
        pl.col(NUMERIC_VALUE).first().alias("first"),
        pl.col(HOURS_BEFORE).min().alias("hours_since_last"),
    )
