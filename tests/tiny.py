"""MEDS datasets small enough for tests, written row by row."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from caretrace import schema

START = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone

# Subject, hours since START or None for a static measurement, code, value.
Row = tuple[int, float | None, str, float | None]

EVENT_TYPES = {"LAB": "lab", "VITAL": "vital", "DRUG": "prescription"}

# A training of a second or two: two members, four epochs.
QUICK = ("training.members=2", "training.max_steps=16", "training.batch_size=32", "d_model=16", "n_bins=4")

PREDICATES = """predicates:
  hospital_admission: {code: {regex: "^HOSPITAL_ADMISSION//.*"}}
  hospital_discharge: {code: {regex: "^HOSPITAL_DISCHARGE//.*"}}
  icu_admission: {code: {regex: "^ICU_ADMISSION//.*"}}
  icu_discharge: {code: {regex: "^ICU_DISCHARGE//.*"}}
  death: {code: MEDS_DEATH}
  hospital_death: {code: HOSPITAL_DISCHARGE//DIED}
"""


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def write_meds(path: Path, rows: Iterable[Row], splits: Mapping[int, str], files_per_split: int = 1) -> Path:
    """Write rows as a MEDS dataset folder, sorted by subject and time.

    Args:
        path: Folder to write.
        rows: Measurements.
        splits: Split of each subject.
        files_per_split: Over how many data files the subjects of a split are spread.
    """
    rows = list(rows)
    frame = pl.DataFrame(
        {
            schema.SUBJECT_ID: [row[0] for row in rows],
            schema.TIME: [None if row[1] is None else START + hours(row[1]) for row in rows],
            schema.CODE: [row[2] for row in rows],
            schema.NUMERIC_VALUE: [row[3] for row in rows],
            schema.TEXT_VALUE: [None for _ in rows],
        },
        schema={
            schema.SUBJECT_ID: pl.Int64,
            schema.TIME: pl.Datetime("us"),
            schema.CODE: pl.String,
            schema.NUMERIC_VALUE: pl.Float32,
            schema.TEXT_VALUE: pl.String,
        },
    ).sort(schema.SUBJECT_ID, schema.TIME, nulls_last=False, maintain_order=True)
    (path / schema.METADATA_DIR).mkdir(parents=True)
    for split in schema.SPLITS:
        (path / schema.DATA_DIR / split).mkdir(parents=True)
        members = [subject for subject, its in splits.items() if its == split]
        for number in range(files_per_split):
            part = frame.filter(pl.col(schema.SUBJECT_ID).is_in(members[number::files_per_split]))
            part.write_parquet(path / schema.DATA_DIR / split / f"{number}.parquet")
    pl.DataFrame(
        {schema.SUBJECT_ID: list(splits), schema.SPLIT: list(splits.values())},
        schema={schema.SUBJECT_ID: pl.Int64, schema.SPLIT: pl.String},
    ).write_parquet(path / schema.SPLITS_FILE)
    codes = frame[schema.CODE].unique().sort()
    kinds = [EVENT_TYPES.get(code.split("//")[0], "administrative") for code in codes]
    pl.DataFrame({schema.CODE: codes, schema.DESCRIPTION: codes, schema.EVENT_TYPE: kinds}).write_parquet(
        path / schema.CODES_FILE
    )
    (path / schema.DATASET_FILE).write_text(json.dumps({"dataset_name": "tiny"}))
    (path / schema.PREDICATES_FILE).write_text(PREDICATES)
    return path


def write_tiny_dataset(
    path: Path, n_subjects: int = 240, seed: int = 0, corrupt_after_hours: float | None = None
) -> Path:
    """Write invented ICU stays in which a rising lactate precedes death.

    Every stay lasts 72 to 96 hours; subjects 1, 2, 5, 6, … are `train`, 3, 7, … `tuning`, 4, 8, … `held_out`.

    Args:
        path: Folder to write.
        n_subjects: Number of stays, one per subject.
        seed: Seed of everything random.
        corrupt_after_hours: If given, what was measured later than this many hours after ICU admission
            gets another code, value and time, and company: what a model sees before must not change.
    """
    rng = np.random.default_rng(seed)
    rows = [row for subject in range(1, n_subjects + 1) for row in _stay(subject, rng, corrupt_after_hours)]
    order = (schema.TRAIN, schema.TRAIN, schema.TUNING, schema.HELD_OUT)
    return write_meds(path, rows, {subject: order[(subject - 1) % 4] for subject in range(1, n_subjects + 1)})


def _stay(subject: int, rng: np.random.Generator, corrupt_after_hours: float | None) -> list[Row]:
    dies = rng.random() < 0.35
    end = 72 + 24 * rng.random()
    rows: list[Row] = [
        (subject, None, "GENDER//F" if rng.random() < 0.5 else "GENDER//M", None),
        (subject, -24 * 365.25 * (40 + 40 * rng.random()), "MEDS_BIRTH", None),
        (subject, 0.0, "HOSPITAL_ADMISSION//EMERGENCY", None),
        (subject, 0.0, "ICU_ADMISSION//Medical", None),
    ]
    for hour in np.sort(rng.uniform(0, end - 1, 40)):
        code = str(rng.choice(["LAB//lactate", "LAB//creatinine", "VITAL//HR", "DRUG//a", "DRUG//b"]))
        value = None
        if not code.startswith("DRUG"):
            value = float(rng.normal(1.0, 0.5) + (0.06 * hour if dies and code == "LAB//lactate" else 0.0))
        if corrupt_after_hours is not None and hour > corrupt_after_hours:
            rows.append((subject, float(hour) + 0.5, "LAB//creatinine", 1e6))
            rows.append((subject, float(hour) + 0.9, "DRUG//poison", None))
        else:
            rows.append((subject, float(hour), code, value))
    rows.append((subject, end, "ICU_DISCHARGE//Medical", None))
    if dies:
        rows.append((subject, end, "MEDS_DEATH", None))
    rows.append((subject, end, "HOSPITAL_DISCHARGE//" + ("DIED" if dies else "HOME"), None))
    return rows
