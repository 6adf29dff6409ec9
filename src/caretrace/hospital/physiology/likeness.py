"""Simulated vital signs beside real hourly ones, figure by figure."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import polars as pl

from caretrace.errors import InputError
from caretrace.hospital.physiology.config import CHANNELS, PhysiologyConfig
from caretrace.hospital.physiology.monitor import vitals_of

SAMPLE_SECONDS = 300  # the eICU database keeps vital signs every 5 minutes
LEAST_HOURS = 12  # a subject needs this many values of a channel to count for what happens within subjects
QUANTILES = (0.05, 0.50, 0.95)


def simulated_hours(subjects: int, config: PhysiologyConfig) -> pl.DataFrame:
    """Recordings brought to the shape of the real table: a value every 5 minutes, the median of each hour.

    Args:
        subjects: How many people.
        config: Settings; `subjects` and `step_seconds` are ignored.

    Returns:
        `subject_id`, `hour` since the recording began, and one column per channel (null: nothing measured).
    """
    config = dataclasses.replace(config, step_seconds=SAMPLE_SECONDS)
    tables = []
    for subject in range(subjects):
        recording = vitals_of(subject, config)
        hour = recording.block.second // 3600
        columns = {name: recording.block.values[c] for c, name in enumerate(CHANNELS)}
        table = pl.DataFrame({"hour": hour, **columns}).with_columns(pl.col(CHANNELS).fill_nan(None))
        hours = table.group_by("hour", maintain_order=True).agg(pl.col(CHANNELS).median())
        tables.append(hours.with_columns(subject_id=pl.lit(recording.plan.person.subject_id)))
    return pl.concat(tables).select("subject_id", "hour", *CHANNELS)


def describe_hours(table: pl.DataFrame) -> pl.DataFrame:
    """What an hourly table of vital signs looks like.

    Args:
        table: As from `simulated_hours`.

    Returns:
        `channel`, `figure`, `value`. Figures: `mean`, `sd`, `q05`, `q50`, `q95`; `sd between` subjects' means;
        `sd within` subjects; `lag 1 h`, `lag 6 h`: autocorrelation around the subject's mean; and for pairs
        (`hr~spo2`) `correlation within` subjects.

    Raises:
        InputError: A column is missing.
    """
    if absent := [name for name in ("subject_id", "hour", *CHANNELS) if name not in table.columns]:
        raise InputError(
            f"hourly table: no column {', '.join(absent)}; give subject_id, hour, {', '.join(CHANNELS)}"
        )
    centred = table.with_columns(
        pl.when(pl.col(c).count().over("subject_id") >= LEAST_HOURS).then(
            pl.col(c) - pl.col(c).mean().over("subject_id")
        )
        for c in CHANNELS
    )
    rows: list[tuple[str, str, float]] = []
    for channel in CHANNELS:
        value = table[channel].drop_nulls().to_numpy()
        rows += [(channel, "mean", float(value.mean())), (channel, "sd", float(value.std()))]
        rows += [(channel, f"q{q * 100:02.0f}", float(np.quantile(value, q))) for q in QUANTILES]
        means = table.group_by("subject_id").agg(pl.col(channel).mean(), n=pl.col(channel).count())
        rows.append((channel, "sd between", _number(means.filter(pl.col("n") >= LEAST_HOURS)[channel].std())))
        rows.append((channel, "sd within", _number((centred[channel] ** 2).mean()) ** 0.5))
        rows += [(channel, f"lag {k} h", _lagged(centred, channel, k)) for k in (1, 6)]
    for one, other in itertools.combinations(CHANNELS, 2):
        both = centred.select(one, other).drop_nulls()
        rows.append((f"{one}~{other}", "correlation within", _correlation(both[one], both[other])))
    return pl.DataFrame(rows, schema=["channel", "figure", "value"], orient="row")


def compare_hours(real: pl.DataFrame, simulated: pl.DataFrame) -> pl.DataFrame:
    """Both described side by side: `channel`, `figure`, `real`, `simulated`.

    Args:
        real: Hourly table, as from `simulated_hours`.
        simulated: The same.

    Raises:
        InputError: A column is missing.
    """
    left = describe_hours(real).rename({"value": "real"})
    right = describe_hours(simulated).rename({"value": "simulated"})
    return left.join(right, on=["channel", "figure"], maintain_order="left")


def _lagged(centred: pl.DataFrame, channel: str, hours: int) -> float:
    now = centred.select("subject_id", "hour", channel).drop_nulls()
    later = now.select("subject_id", pl.col("hour") - hours, later=channel)
    pairs = now.join(later, on=["subject_id", "hour"])
    return _correlation(pairs[channel], pairs["later"])


def _correlation(one: pl.Series, other: pl.Series) -> float:
    return float(np.corrcoef(one.to_numpy(), other.to_numpy())[0, 1])


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
