"""An explanation on disk."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import BundleError
from caretrace.explain.explanation import CREDIT, RISK_WITHOUT, Explanation, read_explanation, words_of


@pytest.fixture
def explanation() -> Explanation:
    measurements = pl.DataFrame(
        {
            schema.TIME: [datetime(2024, 1, 1, 8), datetime(2024, 1, 1, 9), datetime(2024, 1, 1, 10)],  # noqa: DTZ001
            schema.CODE: ["a", "b", "c"],
            schema.NUMERIC_VALUE: [1.0, None, float("nan")],
            CREDIT: [0.1, -2.0, 1.0],
            RISK_WITHOUT: [0.5, 0.9, 0.3],
        }
    )
    return Explanation(
        subject_id=7,
        prediction_time="2024-01-01T12:00:00",
        application="mortality",
        method="removal",
        heading="…",
        certified=False,
        risk=0.5,
        outcome=None,
        logit=0.0,
        reference="nothing",
        reference_logit=None,
        measurements=measurements,
        static=pl.DataFrame({"feature": ["age"], CREDIT: [0.2]}),
        windows=[{"from_hours": 4.0, "to_hours": 0.0, "measurements": 3.0, "credit": 1.0}],
        types={"lab": 1.0},
        limits=["…"],
    )


def test_it_survives_the_disk(explanation: Explanation, tmp_path: Path) -> None:
    explanation.save(tmp_path / "e")
    again = read_explanation(tmp_path / "e")
    assert again.measurements.equals(explanation.measurements)
    assert again.static.equals(explanation.static)
    nothing = pl.DataFrame()
    blank = [dataclasses.replace(each, measurements=nothing, static=nothing) for each in (again, explanation)]
    assert blank[0].to_dict() == blank[1].to_dict()


def test_the_largest_credit_in_either_direction_comes_first(explanation: Explanation) -> None:
    assert explanation.top(2)[schema.CODE].to_list() == ["b", "c"]


def test_it_is_plain_json(explanation: Explanation) -> None:
    found = json.loads(json.dumps(explanation.to_dict(2), allow_nan=False))
    assert found["n_measurements"] == 3
    assert [row["code"] for row in found["measurements"]] == ["b", "c"]
    assert found["measurements"][1]["numeric_value"] is None
    assert found["measurements"][0]["time"].startswith("2024-01-01T09:00:00")


@pytest.mark.parametrize("damage", ["explanation.json", "measurements.parquet"])
def test_a_damaged_one_is_refused(explanation: Explanation, tmp_path: Path, damage: str) -> None:
    explanation.save(tmp_path / "e")
    (tmp_path / "e" / damage).write_text("{")
    with pytest.raises(BundleError, match="is not an explanation"):
        read_explanation(tmp_path / "e")


def test_a_newer_one_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    explanation.save(tmp_path / "e")
    path = tmp_path / "e" / "explanation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 9}))
    with pytest.raises(BundleError, match="explanation format 9"):
        read_explanation(tmp_path / "e")


def test_a_measurement_in_words() -> None:
    row = {schema.CODE: "C", schema.DESCRIPTION: None, schema.NUMERIC_VALUE: None, schema.UNIT: None}
    row[schema.TEXT_VALUE] = None
    valued = {**row, schema.DESCRIPTION: "Lactate", schema.NUMERIC_VALUE: 5.6}
    assert words_of(row) == ("C", "")
    assert words_of({**row, schema.TEXT_VALUE: "Furosemide 40 mg"}) == ("Furosemide 40 mg", "")
    assert words_of({**valued, schema.UNIT: "mmol/L"}) == ("Lactate", "5.6 mmol/L")
    assert words_of(valued) == ("Lactate", "5.6")
    assert words_of({**valued, schema.TEXT_VALUE: "40 mg"}) == ("40 mg", ""), (
        "the text says the number, with its unit"
    )
    assert words_of({**valued, schema.NUMERIC_VALUE: float("nan")}) == ("Lactate", "")
