"""The open data the hospital is compared with, read into the shapes of the comparisons (`*/likeness.py`).

Each reader takes the folder that holds the downloads; docs/hospital/stress.md says where they come from.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import InputError
from caretrace.hospital.histories.likeness import Visits, category
from caretrace.hospital.physiology.config import CHANNELS

Floats = NDArray[np.float64]


def vital_hours(folder: Path, database: str = "eicu") -> pl.DataFrame:
    """Hourly vital signs of the open ICU demos (PhysioNet; grids by the YAIB authors; ODbL).

    Args:
        folder: Holds `icu-demo-hourly/`.
        database: "eicu" or "mimic3".

    Returns:
        As from `physiology.simulated_hours`: `subject_id` (one stay), `hour` and one column per channel.

    Raises:
        InputError: The file is not there.
    """
    path = _there(folder / "icu-demo-hourly" / database / "los" / "dyn.parquet")
    names = {name: "o2sat" if name == "spo2" else name for name in CHANNELS}
    hour = pl.col("time").dt.total_hours()
    table = pl.read_parquet(path).select(subject_id="stay_id", hour=hour, **names)
    return table.with_columns(pl.col(CHANNELS).fill_nan(None))


def diabetic_visits(folder: Path) -> Visits:
    """Hospital encounters of diabetic subjects, at most three diagnoses each (UCI, Strack et al. 2014; CC BY).

    There are no dates; encounter numbers stand for the order. `recorded` is the number of diagnoses entered,
    of which the file keeps the first three.

    Args:
        folder: Holds `diabetes130/`.

    Raises:
        InputError: The file is not there.
    """
    table = (
        pl.read_csv(_there(folder / "diabetes130" / "diabetic_data.csv.gz"), infer_schema_length=0)
        .filter(pl.col("gender").is_in(["Male", "Female"]))
        .with_columns(pl.col("encounter_id", "patient_nbr").cast(pl.Int64))
        .sort("patient_nbr", "encounter_id")
    )
    out = Visits([], [], [], [], [])
    columns = ["patient_nbr", "age", "gender", "number_diagnoses", "diag_1", "diag_2", "diag_3"]
    for subject, age, sex, recorded, *codes in table.select(columns).iter_rows():
        if found := frozenset(category(c) for c in codes if c != "?"):
            out.codes.append(found)
            out.subject.append(subject)
            out.age.append(int(age[1:].split("-")[0]) + 5)
            out.female.append(sex == "Female")
            out.recorded.append(int(recorded))
    return out


def admission_times(folder: Path) -> list[dt.datetime]:
    """Arrivals of emergency admissions shaped like those of a London hospital: SYNTHETIC (patientflow; MIT).

    Args:
        folder: Holds `emergency-ops/`.

    Raises:
        InputError: The file is not there.
    """
    path = _there(folder / "emergency-ops" / "uclh_synthetic_admission_arrivals.csv")
    return pl.read_csv(path, try_parse_dates=True)["arrival_datetime"].sort().to_list()


def response_delays(folder: Path) -> Floats:
    """Response delay of units sent to medical incidents, San Francisco 2002, minutes, `[unit]` (DataSF; PDDL).

    Args:
        folder: Holds `emergency-ops/`.

    Raises:
        InputError: The file is not there.
    """
    path = _there(folder / "emergency-ops" / "sf_fire_calls_2002_sample.csv")
    table = pl.read_csv(path, infer_schema_length=10_000).filter(pl.col("CallType") == "Medical Incident")
    return table["Delay"].to_numpy()


def department_months(folder: Path) -> pl.DataFrame:
    """Months of England's major emergency departments, April 2016 to September 2018 (NHS England; OGL).

    Args:
        folder: Holds `emergency-ops/`.

    Returns:
        `site`, `month` (its first day), `visits`, `over_4h`, `admitted`: trusts with a type 1 department that
        reported 1,000 attendances or more in every month.

    Raises:
        InputError: The file is not there.
    """
    path = _there(folder / "emergency-ops" / "nhs_ae_attendances.csv")
    table = (
        pl.read_csv(path, try_parse_dates=True)
        .filter(pl.col("type") == "1", pl.col("attendances") >= 1000)
        .select(
            site="org_code", month="period", visits="attendances", over_4h="breaches", admitted="admissions"
        )
    )
    months = table["month"].n_unique()
    return table.filter(pl.len().over("site") == months).sort("site", "month")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError(
            f"{path} is not there; name the folder with the open data, docs/hospital/stress.md says what it holds"
        )
    return path
