"""Fixtures shared by every test."""

import os
from pathlib import Path

# Spinning OpenMP threads on busy cores run 10-90 times slower; tests are small, one thread is enough.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def caretrace_data() -> Path:
    """The folder with open real data; skips the test when CARETRACE_DATA does not name one."""
    folder = os.environ.get("CARETRACE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set CARETRACE_DATA to the folder with the open data to run this test")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MEDS dataset of 240 invented ICU stays in which a rising lactate precedes death."""
    return write_tiny_dataset(tmp_path_factory.mktemp("meds") / "tiny")


def write_tiny_dataset(path: Path, n_subjects: int = 240, seed: int = 0, corrupt_after_hours: float | None = None) -> Path:
    """Write the dataset of `tiny_dataset`.

    Args:
        path: Folder to write.
        n_subjects: Number of stays, one per subject.
        seed: Seed of everything random.
        corrupt_after_hours: If given, every measurement later than this many hours after ICU admission
            gets another value and code: what a model sees before must not change.
    """
    import datetime

    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    start = datetime.datetime(2020, 1, 1)
    rows: list[tuple] = []
    for subject in range(1, n_subjects + 1):
        dies = rng.random() < 0.35
        end = 72 + 24 * rng.random()
        rows.append((subject, None, "GENDER//F" if rng.random() < 0.5 else "GENDER//M", None))
        rows.append((subject, -24 * 365.25 * (40 + 40 * rng.random()), "MEDS_BIRTH", None))
        rows.append((subject, 0.0, "HOSPITAL_ADMISSION//EMERGENCY", None))
        rows.append((subject, 0.0, "ICU_ADMISSION//Medical", None))
        for hour in np.sort(rng.uniform(0, end - 1, 40)):
            code = str(rng.choice(["LAB//lactate", "LAB//creatinine", "VITAL//HR", "DRUG//a", "DRUG//b"]))
            value = None
            if not code.startswith("DRUG"):
                value = float(rng.normal(1.0, 0.5) + (0.06 * hour if dies and code == "LAB//lactate" else 0.0))
            if corrupt_after_hours is not None and hour > corrupt_after_hours:
                code, value = "LAB//creatinine", 1e6
            rows.append((subject, float(hour), code, value))
        rows.append((subject, end, "ICU_DISCHARGE//Medical", None))
        if dies:
            rows.append((subject, end, "MEDS_DEATH", None))
        rows.append((subject, end, "HOSPITAL_DISCHARGE//" + ("DIED" if dies else "HOME"), None))
    frame = pl.DataFrame(
        {
            "subject_id": [r[0] for r in rows],
            "time": [None if r[1] is None else start + datetime.timedelta(hours=r[1]) for r in rows],
            "code": [r[2] for r in rows],
            "numeric_value": [r[3] for r in rows],
            "text_value": [None for _ in rows],
        },
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
            "text_value": pl.String,
        },
    ).sort("subject_id", "time", nulls_last=False, maintain_order=True)
    split = pl.DataFrame(
        {
            "subject_id": range(1, n_subjects + 1),
            "split": [("train", "train", "tuning", "held_out")[s % 4] for s in range(n_subjects)],
        }
    )
    kinds = {"LAB": "lab", "VITAL": "vital", "DRUG": "prescription"}
    codes = frame["code"].unique().sort()
    (path / "metadata").mkdir(parents=True)
    for name in ("train", "tuning", "held_out"):
        (path / "data" / name).mkdir(parents=True)
        members = split.filter(pl.col("split") == name)
        frame.join(members.select("subject_id"), on="subject_id", how="semi").write_parquet(
            path / "data" / name / "0.parquet"
        )
    split.write_parquet(path / "metadata" / "subject_splits.parquet")
    pl.DataFrame(
        {
            "code": codes,
            "description": codes,
            "event_type": [kinds.get(c.split("//")[0], "administrative") for c in codes],
        }
    ).write_parquet(path / "metadata" / "codes.parquet")
    (path / "metadata" / "dataset.json").write_text('{"dataset_name": "tiny"}')
    (path / "metadata" / "predicates.yaml").write_text(
        "predicates:\n"
        '  hospital_admission: {code: {regex: "^HOSPITAL_ADMISSION//.*"}}\n'
        '  hospital_discharge: {code: {regex: "^HOSPITAL_DISCHARGE//.*"}}\n'
        '  icu_admission: {code: {regex: "^ICU_ADMISSION//.*"}}\n'
        '  icu_discharge: {code: {regex: "^ICU_DISCHARGE//.*"}}\n'
        "  death: {code: MEDS_DEATH}\n"
        "  hospital_death: {code: HOSPITAL_DISCHARGE//DIED}\n"
    )
    return path
