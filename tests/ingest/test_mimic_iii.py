"""MIMIC-III: two bedside systems, hidden ages, no times of results."""

import re
from datetime import datetime, timedelta

import polars as pl
import pytest

from caretrace import schema
from caretrace.ingest import ingest, source_mapping

at = datetime.fromisoformat


def timeline(dataset):
    return pl.concat(pl.read_parquet(path) for path in sorted((dataset / schema.DATA_DIR).rglob("*.parquet")))


def codes(dataset):
    return pl.read_parquet(dataset / schema.CODES_FILE)


def edit(path, change):
    path.write_text(change(path.read_text()))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    out = tmp_path_factory.mktemp("mimic-iii") / "out"
    quality = ingest("mimic-iii", source_mapping("mimic-iii").folder / "sample" / "raw", out)
    return out, quality


# Table, flag, rows flagged, of these without any measurement.
FLAGS = [
    ("patients", "age_over_89", 1, 0),
    ("patients", "date_only_death", 1, 0),
    ("patients", "no_admission", 1, 0),
    ("prescriptions", "no_startdate", 1, 1),
    ("prescriptions", "dose_is_not_one_number", 1, 0),
    ("prescriptions", "stop_before_start", 1, 0),
    ("procedureevents_mv", "rewritten", 1, 1),
    ("procedureevents_mv", "end_before_start", 1, 1),
    ("labevents", "no_storetime", 2, 0),
    ("microbiologyevents", "result_time_assumed", 2, 0),
    ("microbiologyevents", "day_only", 1, 0),
    ("inputevents_mv", "rewritten", 1, 1),
    ("inputevents_cv", "no_amount_or_rate", 2, 1),
    ("outputevents", "marked_as_error", 1, 1),
    ("outputevents", "no_value", 1, 1),
    ("chartevents", "marked_as_error", 1, 1),
    ("chartevents", "no_value", 1, 1),
    ("chartevents", "celsius_for_fahrenheit", 1, 0),
    ("datetimeevents", "marked_as_error", 1, 1),
    ("noteevents", "marked_as_error", 1, 1),
    ("noteevents", "no_storetime", 1, 0),
    ("diagnoses_icd", "no_code", 1, 1),
]


@pytest.mark.parametrize(("table", "flag", "rows", "silent"), FLAGS)
def test_what_is_odd_is_flagged(sample, table, flag, rows, silent):
    found = sample[1]["tables"][table]["flags"][flag]
    assert (found["rows"], found["rows_without_event"]) == (rows, silent)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("labevents", "valuenum: not a finite number (float32, decimal point)"),
        ("labevents", "valuenum: sodium is outside what is possible (50 to 250 mmol/L)"),
        ("chartevents", "valuenum: oxygen_saturation is outside what is possible (0 to 100 %)"),
    ],
)
def test_what_cannot_be_is_quarantined(sample, table, reason):
    assert sample[1]["tables"][table]["quarantined"][reason] == 1


def test_an_impossible_value_that_staff_marked_as_an_error_is_no_second_problem(raw, tmp_path):
    folder = raw("mimic-iii")
    edit(folder / "CHARTEVENTS.csv", lambda text: text.replace(",11,11,bpm,1,1", ",1100,1100,bpm,1,1"))
    table = ingest("mimic-iii", folder, tmp_path / "out")["tables"]["chartevents"]
    assert table["flags"]["marked_as_error"]["rows"] == 1
    assert table["rows_quarantined"] == 1


def test_the_system_decides_what_an_infusion_says(sample):
    found = timeline(sample[0]).filter(pl.col("code").str.starts_with("INFUSION"))
    assert set(found["code"]) == {
        "INFUSION//225158",
        "INFUSION_END//225158",
        "INFUSION//30045",
        "INFUSION_AMOUNT//30018",
        "INFUSION_STOPPED//30045",
    }


def test_a_laboratory_value_of_the_bedside_chart_waits_for_its_result(sample):
    times = dict(timeline(sample[0]).filter(pl.col("subject_id") > 100).select("code", "time").rows())
    assert times["LAB//1525//UNK"] == at("2160-06-29 23:40:00")  # CareVue, category Chemistry
    assert times["LAB//220615//mg/dL"] == at("2150-05-01 12:10:00")  # Metavision, category Labs
    assert times["LAB//190//fraction"] == at("2160-06-29 22:00:00")  # no laboratory value: when charted


@pytest.mark.parametrize(
    ("code", "parent"),
    [
        ("DIAGNOSIS//ICD//9//4139", "ICD9CM/413.9"),
        ("DIAGNOSIS//ICD//9//0389", "ICD9CM/038.9"),
        ("DIAGNOSIS//ICD//9//E8120", "ICD9CM/E812.0"),
        ("PROCEDURE//ICD//9//0066", "ICD9Proc/00.66"),
        ("CPT//99254", "CPT4/99254"),
        ("LAB//RESULT//50931//mg/dL", "LOINC/2345-7"),
    ],
)
def test_parent_codes(sample, code, parent):
    assert codes(sample[0]).filter(pl.col("code") == code)["parent_codes"].to_list() == [[parent]]


def test_the_case_of_headers_does_not_matter(raw, sample, tmp_path):
    folder = raw("mimic-iii")
    for path in folder.glob("*.csv"):
        head, _, rest = path.read_text().partition("\n")
        path.write_text(f"{head.swapcase()}\n{rest}")
    ingest("mimic-iii", folder, tmp_path / "out")
    assert timeline(tmp_path / "out").equals(timeline(sample[0]))


def test_one_at_each_side_of_89(raw, tmp_path):
    """Only an age that computes to centuries was hidden; a person of 89 keeps the birth as written."""
    folder = raw("mimic-iii")
    edit(folder / "PATIENTS.csv", lambda text: text.replace("2090-03-05", "2060-06-01"))
    ingest("mimic-iii", folder, tmp_path / "out")
    births = dict(
        timeline(tmp_path / "out").filter(pl.col("code") == schema.BIRTH).select("subject_id", "time").rows()
    )
    assert births[101] == at("2060-06-01 00:00:00")
    assert births[102] == at("2160-06-29 20:00:00") - timedelta(days=32_873)


@pytest.fixture(scope="module")
def demo(caretrace_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("mimic-iii-demo") / "out"
    raw = caretrace_data / "mimic-iii-demo-1.4"
    return raw, out, ingest("mimic-iii", raw, out)


@pytest.mark.data
def test_every_row_of_the_demo(demo):
    raw, _, quality = demo
    published = dict(re.findall(r"\| `(\S+)` \| ([\d,]+) \|", (raw / "README.md").read_text()))
    counted = {}
    for name, table in quality["tables"].items():
        assert table["rows_read"] == table["rows_loaded"] + table["rows_quarantined"], name
        assert "no_event" not in table["flags"], name
        counted[table["files"][0]] = table["rows_read"]
    counted |= {entry["file"]: entry["rows"] for entry in quality["not_mapped"]}
    assert counted == {file: int(rows.replace(",", "")) for file, rows in published.items()}
    assert len(counted) == 26
    assert quality["unknown_files"] == quality["missing_optional"] == []
    assert quality["rows_quarantined"] < 100
    assert set(quality["tables"]["labevents"]["quarantined"]) == {
        "valuenum: creatinine is outside what is possible (0 to 66 mg/dL)"
    }
    assert quality["tables"]["noteevents"]["rows_read"] == 0


@pytest.mark.data
def test_hand_checked_facts_of_the_demo(demo):
    _, out, quality = demo
    rows = timeline(out)
    counts = dict(codes(out).select("code", "count").rows())
    assert quality["subjects"] == counts["MEDS_BIRTH"] == counts["MEDS_DEATH"] == 100
    assert counts["HOSPITAL_DISCHARGE//DEAD/EXPIRED"] == 40
    assert sum(number for code, number in counts.items() if code.startswith("ICU_ADMISSION//")) == 136
    # 7,391 and 8,094 heart rates in CHARTEVENTS, less what staff marked as an error.
    assert counts["LAB//211//bpm"] == 7391
    assert counts["LAB//220045//bpm"] <= 8094
    temperature = rows.filter(pl.col("code").str.contains(r"^LAB//(67[6-9]|22376[12])//"))
    assert temperature["code"].str.ends_with("//°C").all()
    assert temperature["numeric_value"].is_between(32.8, 41.1).all()  # 91.1 to 105.9 °F
    first = rows.filter(pl.col("subject_id") == 10006)
    assert first.filter(pl.col("code") == "MEDS_BIRTH")["time"].to_list() == [at("2094-03-05 00:00:00")]
    assert first.filter(pl.col("code") == "MEDS_DEATH")["time"].to_list() == [at("2165-08-12 23:59:59")]
    assert first.filter(pl.col("code") == "ICU_ADMISSION//MICU")["time"].to_list() == [
        at("2164-10-23 21:10:15")
    ]
    assert (
        "ICD9CM/995.91" in codes(out).filter(pl.col("code") == "DIAGNOSIS//ICD//9//99591")[0, "parent_codes"]
    )


@pytest.mark.data
def test_the_eight_of_the_demo_over_89_are_90(demo):
    _, out, quality = demo
    assert quality["tables"]["patients"]["flags"]["age_over_89"]["rows"] == 8
    rows = timeline(out)
    births = rows.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", birth="time")
    admissions = rows.filter(pl.col("code").str.starts_with("HOSPITAL_ADMISSION//"))
    ages = (
        admissions.group_by("subject_id")
        .agg(pl.col("time").min())
        .join(births, on="subject_id")
        .select(years=(pl.col("time") - pl.col("birth")).dt.total_days() / 365.25)["years"]
    )
    assert ages.is_between(90, 90.01).sum() == 8
    assert ages.filter(~ages.is_between(90, 90.01)).max() < 90
    assert ages.min() > 15
