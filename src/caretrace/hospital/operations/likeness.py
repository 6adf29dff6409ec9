"""A simulated city beside open tables of real emergency care, figure by figure.

What there is to compare with is thin: arrivals of one London hospital are themselves synthetic, San Francisco's
delays are a sample of 1,000 units of 2002, and England counts by month. The published numbers that were
calibrated to stand in `bands.py`; nothing here was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import InputError
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.simulation import write_operations

Floats = NDArray[np.float64]


class Gathered:
    """A writer that keeps the tables it is given; columns in seconds stay in seconds.

    Args:
        names: Which tables; the others are dropped.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._parts: dict[str, list[pl.DataFrame]] = {name: [] for name in names}

    def add(self, name: str, table: pl.DataFrame) -> None:
        """Append rows of one table."""
        if name in self._parts:
            self._parts[name].append(table)

    def tables(self) -> dict[str, pl.DataFrame]:
        """Each table whole; times as date-times."""
        whole = {name: pl.concat(parts) for name, parts in self._parts.items() if parts}
        return {
            name: table.with_columns(pl.from_epoch(pl.col(c)) for c in table.columns if c.endswith("_time"))
            for name, table in whole.items()
        }


def city_tables(
    config: OperationsConfig, days: int, seed: int, names: Sequence[str] = ("visits", "runs")
) -> dict[str, pl.DataFrame]:
    """Some tables of a simulated city, in memory; the same as `simulate_operations` writes.

    Args:
        config: The city.
        days: How long.
        seed: 0 or more.
        names: For example `visits`, `truth/hours`.
    """
    gathered = Gathered(names)
    write_operations(gathered, config, days, seed)
    return gathered.tables()


def hour_shares(times: Sequence[dt.datetime]) -> Floats:
    """Share of arrivals in each hour of the day, `[24]`."""
    return np.bincount([t.hour for t in times], minlength=24) / len(times)


def total_variation(one: Floats, other: Floats) -> float:
    """Half the sum of absolute differences of two distributions; 0 equal, 1 apart."""
    return 0.5 * float(np.abs(one - other).sum())


def daily_counts(times: Sequence[dt.datetime]) -> tuple[Floats, NDArray[np.int64]]:
    """Arrivals on each day from the first to the last that is whole, and its weekday (0 Monday), `[day]`.

    Raises:
        InputError: Fewer than four weeks.
    """
    dates = [t.date() for t in times]
    first, last = min(dates), max(dates)
    days = (last - first).days + 1
    if days < 28:
        raise InputError(f"arrivals: got {days} days; give four weeks or more")
    counts = np.bincount([(d - first).days for d in dates], minlength=days).astype(float)
    return counts, (first.weekday() + np.arange(days)) % 7


def describe_arrivals(times: Sequence[dt.datetime]) -> dict[str, float]:
    """What arrivals at one hospital look like.

    Dispersion is the variance of daily counts around their weekday's mean, over the mean: 1 is what chance alone
    (Poisson) gives, more means that good and bad days differ beyond it. `memory` is their correlation from day to
    day.

    Args:
        times: Of the arrivals.

    Raises:
        InputError: Fewer than four weeks.
    """
    counts, weekday = daily_counts(times)
    means = np.array([counts[weekday == d].mean() for d in range(7)])
    left = counts - means[weekday]
    hours = hour_shares(times)
    return {
        "arrivals a day": float(counts.mean()),
        "between 8 h and 20 h": float(hours[8:20].sum()),
        "busiest hour over average": float(hours.max() * 24),
        "weekend day over weekday": float(counts[weekday >= 5].mean() / counts[weekday < 5].mean()),
        "Monday over average": float(means[0] / means.mean()),
        "dispersion of days": float(left.var() * len(left) / (len(left) - 7) / counts.mean()),
        "memory from day to day": _correlation(left[:-1], left[1:]),
    }


def describe_delays(minutes: Floats) -> dict[str, float]:
    """Response delays: level, spread and tail.

    Args:
        minutes: Above 0, `[run]`.

    Raises:
        InputError: A delay is not above 0.
    """
    if not (minutes > 0).all():
        raise InputError("delays: give minutes above 0")
    median, p95, p99 = np.quantile(minutes, (0.5, 0.95, 0.99))
    return {
        "median, min": float(median),
        "mean, min": float(minutes.mean()),
        "standard deviation of the log": float(np.log(minutes).std()),
        "95th percentile over median": float(p95 / median),
        "99th percentile over median": float(p99 / median),
        "more than twice the median": float(np.mean(minutes > 2 * median)),
    }


def months_of(visits: pl.DataFrame) -> pl.DataFrame:
    """Simulated visits counted by hospital and month, in the shape of `open_data.department_months`.

    Args:
        visits: As written by `simulate_operations`.
    """
    stay = pl.col("departure_time") - pl.col("arrival_time")
    return (
        visits.group_by("site", month=pl.col("arrival_time").dt.truncate("1mo").dt.date())
        .agg(
            visits=pl.len(),
            over_4h=(stay > dt.timedelta(hours=4)).sum(),
            admitted=pl.col("disposition").is_in(["ward", "intensive care"]).sum(),
        )
        .sort("site", "month")
    )


def season(months: pl.DataFrame) -> Floats:
    """Arrivals a day in each calendar month over the mean of the months, `[12]`; NaN where there is none.

    Only whole years from the first month on count, so that a trend does not pass for a season; less than a year
    is taken as it is.
    """
    first = months["month"].unique().sort().to_list()
    years = max(len(first) // 12, 1)
    months = months.filter(pl.col("month").is_in(first[: 12 * years]))
    days = pl.col("month").dt.month_end().dt.day()
    daily = months.group_by("month").agg((pl.col("visits").sum() / days.first()).alias("daily"))
    by_month = daily.group_by(pl.col("month").dt.month().alias("m")).agg(pl.col("daily").mean())
    out = np.full(12, np.nan)
    out[by_month["m"].to_numpy() - 1] = by_month["daily"].to_numpy()
    return out / np.nanmean(out)


def describe_months(months: pl.DataFrame) -> dict[str, float]:
    """What a year of departments looks like when only months are counted.

    Args:
        months: `site`, `month`, `visits`, `over_4h`, `admitted`.
    """
    rate = pl.col("over_4h") / pl.col("visits")
    days = pl.col("month").dt.month_end().dt.day()
    table = months.sort("site", "month").with_columns(rate=rate, daily=pl.col("visits") / days)
    table = table.with_columns(
        before=pl.col("rate").shift(1).over("site"),
        relative=pl.col("daily") / pl.col("daily").mean().over("site"),
    )
    # What all hospitals share in a month is season and trend; what is left is each hospital's own.
    own = table.select(pl.col("relative") / pl.col("relative").mean().over("month"))["relative"]
    pairs = table.drop_nulls("before")
    means = table.group_by("site").agg(pl.col("rate").mean())["rate"].to_numpy()
    within = table.select(pl.col("rate") - pl.col("rate").mean().over("site"))["rate"].to_numpy()
    total = table.select(pl.col("visits", "over_4h", "admitted").sum()).row(0, named=True)
    yearly = season(months)
    return {
        "stay over 4 h": total["over_4h"] / total["visits"],
        "admitted": total["admitted"] / total["visits"],
        "busiest calendar month over quietest": float(np.nanmax(yearly) / np.nanmin(yearly)),
        "hospital's own spread of months": float(own.to_numpy().std()),
        "stay over 4 h: spread between hospitals": float(means.std()),
        "stay over 4 h: spread within a hospital": float(within.std()),
        "stay over 4 h: correlation with last month": _correlation(
            pairs["rate"].to_numpy(), pairs["before"].to_numpy()
        ),
    }


def mean_figures(described: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each figure's mean over several descriptions, for example of hospitals."""
    return {name: float(np.mean([each[name] for each in described])) for name in described[0]}


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation; NaN where either does not vary."""
    if not (one.std() > 0 and other.std() > 0):
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
