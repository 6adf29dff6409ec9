"""MIMIC-IV: hospital, intensive care and, where it is there, the emergency department."""

import re
import shutil
from datetime import datetime

import polars as pl
import pytest

from caretrace import schema
from caretrace.ingest import ingest, source_mapping

at = datetime.fromisoformat


def timeline(dataset):
    return pl.concat(pl.read_parquet(path) for path in sorted((dataset / schema.DATA_DIR).rglob("*.parquet")))


def codes(dataset):
    return pl.read_parquet(dataset / schema.CODES_FILE)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    out = tmp_path_factory.mktemp("mimic-iv") / "out"
    quality = ingest("mimic-iv", source_mapping("mimic-iv").folder / "sample" / "raw", out)
    return out, quality


# Table, flag, rows flagged, of these without any measurement.
FLAGS = [
    ("patients", "older_than_89", 1, 0),
    ("patients", "date_only_death", 1, 0),
    ("labevents", "no_storetime", 1, 0),
    ("labevents", "value_removed", 1, 0),
    ("microbiologyevents", "no_storetime", 1, 0),
    ("prescriptions", "no_starttime", 1, 1),
    ("prescriptions", "dose_is_not_one_number", 1, 0),
    ("chartevents", "no_value", 1, 1),
    ("emar_detail", "no_dose_given", 2, 2),
    ("vitalsign", "impossible_vital", 1, 0),
    ("vitalsign", "celsius_for_fahrenheit", 1, 0),
    ("vitalsign", "nothing_written", 1, 1),
    ("medrecon", "another_group", 1, 1),
    ("pyxis", "another_group", 1, 1),
]


@pytest.mark.parametrize(("table", "flag", "rows", "silent"), FLAGS)
def test_what_is_odd_is_flagged(sample, table, flag, rows, silent):
    found = sample[1]["tables"][table]["flags"][flag]
    assert (found["rows"], found["rows_without_event"]) == (rows, silent)


def test_one_impossible_vital_sign_does_not_cost_the_others_of_its_row(sample):
    at_six = timeline(sample[0]).filter(
        (pl.col("time") == at("2161-06-29 18:00:00")) & pl.col("code").str.starts_with("VITAL//")
    )
    assert dict(at_six.select("code", "numeric_value").rows()) == {
        "VITAL//temperature//°C": pytest.approx(38.2),
        "VITAL//heart_rate//bpm": 118,
        "VITAL//systolic_pressure//mmHg": 90,
        "VITAL//diastolic_pressure//mmHg": 50,
    }


def test_an_impossible_charted_value_is_quarantined(sample):
    assert sample[1]["tables"]["chartevents"]["quarantined"] == {
        "valuenum: oxygen_saturation is outside what is possible (0 to 100 %)": 1
    }


def test_fahrenheit_becomes_celsius_and_the_code_says_so(sample):
    found = timeline(sample[0]).filter(pl.col("code").str.starts_with("LAB//223761//"))
    assert found.select("code", "numeric_value").rows() == [("LAB//223761//°C", pytest.approx(38.0))]


@pytest.mark.parametrize(
    ("code", "parents"),
    [
        ("DIAGNOSIS//ICD//9//4139", ["ICD9CM/413.9"]),
        ("DIAGNOSIS//ICD//10//A419", ["ICD10CM/A41.9"]),
        ("DIAGNOSIS//ICD//10//R509", ["ICD10CM/R50.9"]),
        ("PROCEDURE//ICD//9//3961", ["ICD9Proc/39.61"]),
        ("HCPCS//93454", ["CPT4/93454"]),
    ],
)
def test_parent_codes(sample, code, parents):
    assert codes(sample[0]).filter(pl.col("code") == code)["parent_codes"].to_list() == [parents]


def test_the_dot_stands_where_the_vocabulary_has_it(raw, tmp_path):
    hosp = raw("mimic-iv") / "hosp"
    for name, rows in {
        "procedures_icd": "10002,202,1,2161-06-30,02HV33Z,10\n10002,202,2,2161-06-30,966,9\n",
        "diagnoses_icd": "10002,202,2,E8120,9\n10002,202,3,V08,9\n10002,202,4,I10,10\n",
    }.items():
        path = hosp / f"{name}.csv"
        path.write_text(path.read_text() + rows)
    ingest("mimic-iv", hosp.parent, tmp_path / "out")
    parents = dict(codes(tmp_path / "out").select("code", "parent_codes").rows())
    assert parents["PROCEDURE//ICD//10//02HV33Z"] == ["ICD10PCS/02HV33Z"]
    assert parents["PROCEDURE//ICD//9//966"] == ["ICD9Proc/96.6"]
    assert parents["DIAGNOSIS//ICD//9//E8120"] == ["ICD9CM/E812.0"]
    assert parents["DIAGNOSIS//ICD//9//V08"] == ["ICD9CM/V08"]
    assert parents["DIAGNOSIS//ICD//10//I10"] == ["ICD10CM/I10"]


def test_without_the_emergency_department_the_rest_is_the_same(raw, sample, tmp_path):
    folder = raw("mimic-iv")
    shutil.rmtree(folder / "ed")
    quality = ingest("mimic-iv", folder, tmp_path / "out")
    assert {file for file in quality["missing_optional"] if file.startswith("ed/")} == {
        f"ed/{name}" for name in ("edstays", "triage", "vitalsign", "medrecon", "pyxis", "diagnosis")
    }
    emergency = (
        r"^VITAL//|^HOME_MEDICATION|//Dispensed$|^ED_(ADMISSION|DISCHARGE|PAIN|RHYTHM|TRIAGE|CHIEF)|//R509$"
    )
    whole = timeline(sample[0]).filter(~pl.col("code").str.contains(emergency))
    assert timeline(tmp_path / "out").equals(whole)


def test_triage_without_its_stay_is_counted(raw, tmp_path):
    folder = raw("mimic-iv")
    path = folder / "ed" / "triage.csv"
    path.write_text(path.read_text().replace("10002,502", "10002,599"))
    table = ingest("mimic-iv", folder, tmp_path / "out")["tables"]["triage"]
    assert table["events"] == 0
    assert table["flags"]["no_time"]["rows_without_event"] == 1


@pytest.fixture(scope="module")
def demo(caretrace_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("mimic-iv-demo") / "out"
    raw = caretrace_data / "mimic-iv-demo-2.2"
    return raw, out, ingest("mimic-iv", raw, out)


@pytest.mark.data
def test_every_row_of_the_demo(demo):
    raw, _, quality = demo
    published = dict(re.findall(r"\| `(\S+)` \| ([\d,]+) \|", (raw / "README.md").read_text()))
    counted = {}
    for name, table in quality["tables"].items():
        assert table["rows_quarantined"] == 0, name
        assert table["rows_read"] == table["rows_loaded"], name
        assert "no_event" not in table["flags"], name
        assert table["rows_without_event"] == 0 or name == "emar_detail" or not table["events"], name
        counted[table["files"][0]] = table["rows_read"]
    counted |= {entry["file"]: entry["rows"] for entry in quality["not_mapped"]}
    assert counted == {file: int(rows.replace(",", "")) for file, rows in published.items()}
    assert len(counted) == 31
    assert quality["unknown_files"] == []


@pytest.mark.data
def test_hand_checked_facts_of_the_demo(demo):
    _, out, quality = demo
    counts = dict(codes(out).select("code", "count").rows())
    assert quality["subjects"] == counts["MEDS_BIRTH"] == 100
    assert counts["MEDS_DEATH"] == 31
    assert counts["HOSPITAL_DISCHARGE//DIED"] == 15
    assert sum(number for code, number in counts.items() if code.startswith("ICU_ADMISSION//")) == 140
    assert sum(number for code, number in counts.items() if code.startswith("DIAGNOSIS//ICD//9//")) == 2193
    assert sum(number for code, number in counts.items() if code.startswith("DIAGNOSIS//ICD//10//")) == 2313
    # 32,655 doses in emar_detail, 88 of them removed by the publisher.
    assert sum(number for code, number in counts.items() if code.startswith("MEDICATION_DOSE//")) == 32_567
    icd = codes(out).filter(pl.col("code").str.contains("^(DIAGNOSIS|PROCEDURE)//ICD//"))
    assert icd["parent_codes"].list.len().eq(1).all()
    assert icd["parent_codes"].list.first().str.contains(
        r"^(ICD9CM/(\d{3}|V\d\d|E\d{3})(\.\d+)?|ICD10CM/[A-Z]\w\w(\.\w+)?|ICD9Proc/\d\d(\.\d+)?|ICD10PCS/\w{7})$"
    ).all()  # fmt: skip
