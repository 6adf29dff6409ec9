"""A small simulated city as a MEDS dataset, and the same city cut at a moment: what was known by then."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import polars as pl

from caretrace import schema
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.ingest import ingest

DAYS = 22
CITY = OperationsConfig(size=0.2, start="2023-01-02", warm_up_days=3)


def write_city(raw: Path, out: Path, days: int = DAYS, seed: int = 3) -> Path:
    """Simulate and ingest."""
    simulate_operations(raw, CITY, days, seed)
    ingest("hospital-operations", raw, out)
    return out


def cut(dataset: Path, out: Path, moment: dt.datetime) -> Path:
    """The same dataset with nothing after a moment."""
    shutil.copytree(dataset, out)
    for file in (out / schema.DATA_DIR).rglob("*.parquet"):
        time = pl.col(schema.TIME)
        pl.read_parquet(file).filter(time.is_null() | (time <= moment)).write_parquet(file)
    return out
