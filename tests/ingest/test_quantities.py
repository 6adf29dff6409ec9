"""The table of quantities and what it does to values, against conversions worked by hand."""

import pyarrow as pa
import pytest

from caretrace.errors import ConfigError
from caretrace.ingest.engines import running
from caretrace.ingest.quantities import (
    FLAGS,
    check_concept,
    convert,
    look_up_table,
    quantities,
    read_quantities,
)

TOO_HIGH = "oxygen_saturation is outside what is possible (0 to 100 %)"
CASES = [
    # concept, value, unit → value, unit, problem, flag
    ("heart_rate", 80.0, None, 80.0, "bpm", None, None),
    ("heart_rate", 80.0, "BPM", 80.0, "bpm", None, None),
    ("heart_rate", None, "bpm", None, "bpm", None, None),
    ("respiratory_rate", 12.0, "bpm", 12.0, "breaths/min", None, None),
    ("oxygen_saturation", 100.0, "%", 100.0, "%", None, None),
    ("oxygen_saturation", 140.0, "%", 140.0, "%", TOO_HIGH, None),
    ("temperature", 98.6, "Deg. F", 37.0, "°C", None, None),
    ("temperature", 98.6, "Cel", 37.0, "°C", None, "fahrenheit_for_celsius"),
    ("temperature", 98.6, None, 37.0, "°C", None, "fahrenheit_for_celsius"),
    ("temperature", 37.0, "?F", 37.0, "°C", None, "celsius_for_fahrenheit"),
    ("temperature", 310.15, "K", 37.0, "°C", None, None),
    ("weight", 100.0, "lbs", 45.359237, "kg", None, None),
    ("height", 70.0, "Inches", 177.8, "cm", None, None),
    ("inspired_oxygen_fraction", 40.0, "%", 0.4, "fraction", None, None),
    ("inspired_oxygen_fraction", 40.0, None, 0.4, "fraction", None, "percent_for_fraction"),
    ("inspired_oxygen_fraction", 0.4, "%", 0.4, "fraction", None, "fraction_for_percent"),
    ("age", 300.0, None, 90.0, "years", None, "age_over_89"),
    ("age", -3.0, None, -3.0, "years", "age is outside what is possible (0 to 400 years)", None),
    ("glucose", 5.5, "mmol/L", 99.0858, "mg/dL", None, None),
    ("creatinine", 88.4, "µmol/L", 1.0, "mg/dL", None, None),
    ("arterial_carbon_dioxide_pressure", 5.3, "kPa", 39.753, "mmHg", None, None),
    ("hemoglobin", 140.0, "g/L", 14.0, "g/dL", None, None),
    ("white_cells", 9000.0, "#/uL", 9.0, "K/uL", None, None),
    ("glucose", 5.5, "stones", 5.5, "stones", None, "unknown_unit"),
    (None, 5.5, "stones", 5.5, "stones", None, None),
]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    columns = list(zip(*CASES, strict=True))[:3]
    kinds = (pa.string(), pa.float64(), pa.string())
    given = {name: pa.array(column, kind) for name, column, kind in zip("cvu", columns, kinds, strict=True)}
    with running("duckdb", tmp_path_factory.mktemp("quantities")) as engine:
        rows = engine.create("rows", pa.table({"n": range(len(CASES)), **given}))
        found = convert(rows, engine.create("known", look_up_table()), rows.c, rows.v, rows.u)
        picked = found.rows.select("n", v=found.value, u=found.unit, p=found.problem, f=found.flag)
        answer = [tuple(row.values()) for row in engine.fetch(picked).to_pylist()]
    assert len(answer) == len(CASES)
    return {row[0]: row[1:] for row in answer}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_value_becomes_what_was_worked_out_by_hand(converted, number):
    value, *rest = CASES[number][3:]
    assert converted[number][0] == (value if value is None else pytest.approx(value, rel=1e-4))
    assert list(converted[number][1:]) == rest


def test_every_row_of_a_table_comes_back_once(converted):
    assert sorted(converted) == list(range(len(CASES)))


def test_no_spelling_means_two_units_of_one_quantity():
    rows = look_up_table().to_pylist()
    assert len({(row["_q_concept"], row["_q_spelling"]) for row in rows}) == len(rows)
    assert {row["_q_spelling"] for row in rows} == {
        row["_q_spelling"].lower().replace(" ", "") for row in rows
    }


def test_every_flag_has_a_meaning_and_every_limit_room():
    for quantity in quantities().values():
        raised = [part.flag for part in quantity.mistaken.values()]
        raised += [quantity.cap.flag] if quantity.cap else []
        assert set(raised) <= set(FLAGS), quantity.name
        assert quantity.low < quantity.high
        for part in quantity.mistaken.values():
            assert quantity.low <= part.low < part.high <= quantity.high


def test_an_unknown_concept_names_the_nearest():
    with pytest.raises(ConfigError, match="'hart_rate': did you mean 'heart_rate'"):
        check_concept("hart_rate", "events.yaml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x: {unit: m, low: 0, high: 1, limits: nobody}", "unknown source 'nobody'"),
        ("x: {unit: m, low: 2, high: 1, limits: us}", "low 2 is not below high 1"),
        ("x: {unit: m, low: 0, limits: us}", "'high' is missing"),
        ("x: {unit: m, low: 0, high: 1, limits: us, hihg: 3}", "unknown key 'hihg'"),
        (
            "x: {unit: m, low: 0, high: 1, limits: us, mistaken: {m: {unit: k, low: 0, high: 1, flag: f}}}",
            "unknown unit 'k'",
        ),
    ],
)
def test_the_file_is_read_strictly(tmp_path, line, words):
    path = tmp_path / "quantities.yaml"
    path.write_text(f"sources: {{us: we}}\nspellings: {{}}\nquantities:\n  {line}\n")
    with pytest.raises(ConfigError, match=words):
        read_quantities(path)
