"""One small hospital for all tests of this folder."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import polars as pl
import pytest

from caretrace.hospital import HospitalConfig, simulate


@functools.cache
def _read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)


@dataclasses.dataclass(frozen=True)
class Hospital:
    """A simulated hospital read back from its files."""

    folder: Path
    config: HospitalConfig
    rows: dict[str, int]

    def table(self, name: str) -> pl.DataFrame:
        return _read(self.folder / f"{name}.csv")

    def truth(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "truth" / f"{name}.parquet")

    def with_stays(self, name: str) -> pl.DataFrame:
        """Rows of a table beside the stay they belong to."""
        stays = self.table("icu_stays").select("stay_id", "admission_id", "in_time", "out_time")
        return self.table(name).join(stays, on="stay_id", validate="m:1")

    def with_admissions(self, name: str) -> pl.DataFrame:
        """Rows of a table beside the admission they belong to."""
        columns = ["admission_id", "admit_time", "discharge_time", "death_time"]
        return self.table(name).join(
            self.table("admissions").select(columns), on="admission_id", validate="m:1"
        )


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    config = HospitalConfig(subjects=600, seed=11, oracle_replicates=60)
    folder = tmp_path_factory.mktemp("hospital") / "raw"
    return Hospital(folder, config, simulate(folder, config))
