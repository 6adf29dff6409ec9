"""Tiny MEDS datasets for cohort tests: rows of (subject, hours since T0 or None, code[, value])."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from caretrace import schema
from caretrace.dataset import Dataset

T0 = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone

PREDICATES = {
    "icu_admission": {"code": {"regex": "^ICU_ADMISSION"}},
    "icu_discharge": {"code": {"regex": "^ICU_DISCHARGE"}},
    "hospital_discharge": {"code": {"regex": "^HOSPITAL_DISCHARGE"}},
    "hospital_death": {"code": "HOSPITAL_DISCHARGE//DIED"},
    "death": {"code": "MEDS_DEATH"},
}

MakeDataset = Callable[..., Dataset]


def at(hours: float | timedelta) -> datetime:
    return T0 + (hours if isinstance(hours, timedelta) else timedelta(hours=hours))


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> MakeDataset:
    """Write rows, in the order given, as a MEDS dataset; subject 2 is in `held_out`, others in `train`."""

    def make(rows: Sequence[tuple[Any, ...]], predicates: dict[str, Any] | None = None) -> Dataset:
        folder = tmp_path_factory.mktemp("meds")
        records = [
            (subject, None if when is None else at(when), code, rest[0] if rest else None, None)
            for subject, when, code, *rest in rows
        ]
        types = [pl.Int64, pl.Datetime("us"), pl.String, pl.Float32, pl.String]
        frame = pl.DataFrame(
            records, schema=dict(zip(schema.DATA_COLUMNS, types, strict=True)), orient="row"
        ).with_columns(
            pl.when(pl.col("subject_id") == 2)
            .then(pl.lit("held_out"))
            .otherwise(pl.lit("train"))
            .alias("split")
        )
        (folder / "metadata").mkdir()
        for split in ("train", "held_out"):
            (folder / "data" / split).mkdir(parents=True)
            frame.filter(split=split).drop("split").write_parquet(folder / "data" / split / "0.parquet")
        (folder / schema.DATASET_FILE).write_text("{}")
        frame.select("code").unique().write_parquet(folder / schema.CODES_FILE)
        frame.select("subject_id", "split").unique().write_parquet(folder / schema.SPLITS_FILE)
        if predicates is not None:
            (folder / schema.PREDICATES_FILE).write_text(yaml.safe_dump({"predicates": predicates}))
        return Dataset(folder)

    return make


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "my_task.yaml"
        path.write_text(text)
        return path

    return write
