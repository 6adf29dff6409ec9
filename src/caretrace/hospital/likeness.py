"""Simulated ICU stays in the shape of the open hourly grids, so that `physiology.likeness` can compare them."""

from __future__ import annotations

import polars as pl

from caretrace.hospital.catalogue import VITALS
from caretrace.hospital.physiology.config import CHANNELS

NAMES = dict(zip((v.name for v in VITALS), CHANNELS, strict=False))


def stay_hours(vitals: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Vital signs of simulated stays hour by hour, the median where there are several.

    Args:
        vitals: The raw table `vitals`.
        stays: The raw table `icu_stays`.

    Returns:
        `subject_id` (one per stay), `hour` since ICU admission, and one column per channel; hours without any
        value are absent. Values written before admission or after the stay are left out.
    """
    hour = (pl.col("time") - pl.col("in_time")).dt.total_seconds() // 3600
    rows = (
        vitals.filter(pl.col("name").is_in(list(NAMES)))
        .join(stays.select("stay_id", "in_time", "out_time"), on="stay_id")
        .filter(pl.col("time") >= pl.col("in_time"), pl.col("time") <= pl.col("out_time"))
        .with_columns(pl.col("name").replace_strict(NAMES), hour=hour)
    )
    wide = rows.pivot("name", index=["stay_id", "hour"], values="value", aggregate_function="median")
    return wide.sort("stay_id", "hour").select(pl.col("stay_id").alias("subject_id"), "hour", *CHANNELS)
