import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.files import write_json


def day(number: float) -> dt.datetime:
    return dt.datetime(2020, 1, 1) + dt.timedelta(days=number)  # noqa: DTZ001 - MEDS times are naive UTC


ROWS = {
    "train/0": [
        (1, None, "GENDER//F", None, None),
        (1, day(-9000), schema.BIRTH, None, None),
        (1, day(0), "HR//bpm", 80.0, None),
        (1, day(1), "HR//bpm", 90.0, None),
        (1, day(3), "TEMP//C", 36.6, None),
        (2, day(0), "HR//bpm", 70.5, None),
        (2, day(0.5), "NOTE", None, "<script>alert(1)</script>"),
    ],
    "train/1": [(3, day(2), "HR//bpm", 101.0, None), (3, day(2), "HR//bpm", None, "high")],
    "held_out/0": [(4, day(5), "HR//bpm", 60.0, None), (4, day(15), "TEMP//C", 39.1, None)],
}
CODES = [
    ("HR//bpm", "Heart rate", "bpm", "vital"),
    ("TEMP//C", "Temperature", "°C", "vital"),
    ("NOTE", "<b>Note</b>", None, "other"),
    ("GENDER//F", "Female", None, "demographic"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four measured subjects and one without any, two train files, no tuning file."""
    return write_dataset(tmp_path / "tiny")


def write_dataset(folder: Path) -> Dataset:
    columns = dict(
        zip(schema.DATA_COLUMNS, (pl.Int64, pl.Datetime("us"), pl.String, pl.Float32, pl.String), strict=True)
    )
    for name, rows in ROWS.items():
        path = folder / schema.DATA_DIR / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path)
    (folder / schema.METADATA_DIR).mkdir()
    (folder / schema.QUARANTINE_DIR).mkdir()
    pl.DataFrame(
        CODES, schema=[schema.CODE, schema.DESCRIPTION, schema.UNIT, schema.EVENT_TYPE], orient="row"
    ).write_parquet(folder / schema.CODES_FILE)
    splits = [
        (1, schema.TRAIN),
        (2, schema.TRAIN),
        (3, schema.TRAIN),
        (4, schema.HELD_OUT),
        (5, schema.TUNING),
    ]
    pl.DataFrame(splits, schema=[schema.SUBJECT_ID, schema.SPLIT], orient="row").write_parquet(
        folder / schema.SPLITS_FILE
    )
    pl.DataFrame({"reason": ["a", "b"]}).write_parquet(folder / schema.QUARANTINE_DIR / "vitals.parquet")
    write_json(folder / schema.DATASET_FILE, {"dataset_name": "tiny<i>", "dataset_version": "1"})
    table = {"rows_read": 13, "rows_loaded": 11, "rows_quarantined": 2, "events": 11, "flags": {}}
    write_json(folder / schema.QUALITY_FILE, {"tables": {"vitals": table}, "not_mapped": []})
    return Dataset(folder)
