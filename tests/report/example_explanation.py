"""A small explanation in a run folder: hand-made numbers in the shapes `caretrace explain` writes."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.explain.explanation import (
    CREDIT,
    CREDIT_SPREAD,
    FEATURE,
    HOURS_BEFORE,
    RISK_WITHOUT,
    VALUE,
    Explanation,
)
from caretrace.explain.surroundings import Surroundings
from caretrace.files import write_json

NOW = dt.datetime(2024, 5, 2, 8)  # noqa: DTZ001 - MEDS times are naive UTC
NAME = "7-20240502T080000-removal"
MEASUREMENTS = [
    (30.0, "RX//furosemide", None, "prescription", None, None, "Furosemide 40 mg IV", 0.02, 0.03, 0.41),
    (20.0, "LAB//lactate", "Lactate", "lab", 5.6, "mmol/L", None, 0.61, 0.10, 0.30),
    (19.0, "LAB//gcs", "Coma scale", "lab", 7.0, None, None, 0.22, 0.02, 0.38),
    (4.0, "CULTURE", "Blood culture", "microbiology", None, None, "No growth", -0.31, 0.04, 0.50),
    (1.5, "VITAL//hr", "Heart rate", "vital", 131.0, "bpm", None, 0.08, 0.01, 0.41),
]


def explanation(**changes: Any) -> Explanation:
    columns = [HOURS_BEFORE, schema.CODE, schema.DESCRIPTION, schema.EVENT_TYPE, schema.NUMERIC_VALUE,
               schema.UNIT, schema.TEXT_VALUE, CREDIT, CREDIT_SPREAD, RISK_WITHOUT]  # fmt: skip
    rows = pl.DataFrame(MEASUREMENTS, schema=columns, orient="row", infer_schema_length=None)
    times = [NOW - dt.timedelta(hours=row[0]) for row in MEASUREMENTS]
    whole = Explanation(
        subject_id=7,
        prediction_time=NOW.isoformat(),
        application="mortality",
        method="removal",
        heading="as it was called when it was explained",
        certified=False,
        risk=0.427,
        outcome=True,
        logit=-0.29,
        reference="the record without it",
        reference_logit=None,
        measurements=rows.with_columns(pl.Series(schema.TIME, times)),
        static=pl.DataFrame(
            {FEATURE: ["age", "ICU_ADMISSION"], VALUE: ["71 years", "Medical ICU"], CREDIT: [0.12, -0.05],
             RISK_WITHOUT: [0.40, 0.44]}
        ),
        windows=[],
        types={},
        limits=["Research use only, never a bedside device."],
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def surroundings(**changes: Any) -> Surroundings:
    kinds = [("lab", 2, 0.90, 0.22), ("microbiology", 1, -0.31, 0.50), ("vital", 1, 0.08, 0.41)]
    hours = [4.0, 8.0, 16.0, 24.0]
    whole = Surroundings(
        hours_since_admission=24.0,
        low=0.351,
        high=0.508,
        members=5,
        compared={
            "split": "held_out", "predictions": 1565, "mean_risk": 0.142, "outcome_share": 0.141, "share_below": 0.937,
        },
        window_hours=4.0,
        n_windows=6,
        types=[dict(zip(("event_type", "measurements", "credit", "risk_without"), row, strict=True)) for row in kinds],
        windows=[
            {"window": 6, "measurements": 1, "credit": 0.02, "risk_without": 0.41},
            {"window": 5, "measurements": 2, "credit": 0.90, "risk_without": 0.22},
            {"window": 0, "measurements": 1, "credit": 0.08, "risk_without": 0.41},
        ],
        types_over_time=[
            {"event_type": "lab", "window": 5, "measurements": 2, "credit": 0.90, "risk_without": 0.22},
            {"event_type": "vital", "window": 0, "measurements": 1, "credit": 0.08, "risk_without": 0.41},
        ],
        evolution={
            "hours_earlier": [16.0, 8.0, 0.0],
            "codes": [
                {"code": "LAB//lactate", "description": "Lactate", "credit": [0.5, 0.6, 0.61]},
                {"code": "NEVER//MATTERS", "description": None, "credit": [0.0, 0.001, 0.0]},
            ],
        },
        interactions=[
            {"first": 1, "second": 2, "alone": 0.61, "other_alone": 0.22, "together": -0.15},
            {"first": 1, "second": 3, "alone": 0.61, "other_alone": -0.31, "together": 0.0},
        ],
        looks=[],
        trajectory=pl.DataFrame(
            {"hours_since_admission": hours, "risk": [0.2, 0.31, 0.35, 0.427], "low": [0.1, 0.2, 0.3, 0.351],
             "high": [0.3, 0.4, 0.45, 0.508]}
        ),
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def looks() -> list[dict[str, Any]]:
    return [{"pooling": [[0.7, 0.2, 0.1], [0.34, 0.33, 0.33]], "hours": [8.0, 4.0, 0.0]}]


def heads() -> dict[str, Any]:
    def follows(correlation: float, p: float) -> list[dict[str, Any]]:
        shared = {"agreeing": 0.9, "records": 40}
        return [
            {"what": "time", "which": None, "correlation": correlation, "p": p, **shared},
            {"what": "event type", "which": "lab", "correlation": 0.02, "p": 0.8, **shared},
            {"what": "severity", "which": None, "correlation": -0.01, "p": 0.9, **shared},
        ]

    pointed = [{"kind": "code", "name": "Lactate", "cosine": -0.81, "p": 0.004}]
    return {
        "format_version": 1,
        "bundle": "ab",
        "records": 48,
        "draws": 2000,
        "heads": [
            {"member": 0, "head": 0, "effective_steps": 1.9, "steps": 3.0, "follows": follows(0.64, 0.0005),
             "points_at": pointed},
            {"member": 0, "head": 1, "effective_steps": 3.0, "steps": 3.0, "follows": follows(0.05, 0.7),
             "points_at": pointed},
        ],
        "layers": [
            {"member": 0, "layer": 0, "head": head, "records": 48, "hours": 3.0 + head, "even_hours": 8.0, "near": 0.8,
             "even_near": 0.5, "nearer": 1.0}
            for head in range(2)
        ],
    }  # fmt: skip


def write_explanation(
    run: Path, found: Explanation | None = None, around: Surroundings | None = None
) -> Path:
    """Write an explanation into a run; returns its folder."""
    folder = run / "explain" / NAME
    folder.mkdir(parents=True)
    (found or explanation()).write(folder)
    (around or surroundings()).write(folder)
    if (around or surroundings()).looks:
        write_json(folder.parent / "heads.json", heads())
    return folder
