import csv
import gzip
import importlib.util

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.ingest import ingest, source_mapping


@pytest.fixture(scope="module")
def prepare():
    path = source_mapping("diabetes-130").folder / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare_diabetes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("38", "038"), ("8", "008"), ("428", "428"), ("250.6", "25060"), ("250.02", "25002"),
        ("250", "25000"), ("V27", "V27"), ("E888", "E888"), (" v27 ", "V27"), ("365.44", "36544"),
        ("?", ""), ("", ""), ("12x", ""), ("V7", ""), ("2500", ""), ("250.", ""),
    ],
)  # fmt: skip
def test_zeros_are_put_back(prepare, written, code):
    assert prepare.whole_icd9(written) == code


def test_the_calendar_keeps_order_and_stay_and_nothing_else(prepare):
    calendar = prepare.nominal_calendar({(1, 50, 3), (1, 9, 5), (2, 20, 1), (1, 700, 99), (1, 900, 1)})
    gap = prepare.NOMINAL_GAP_DAYS
    assert calendar[1, 9, 5] == (0, 0)
    assert calendar[1, 50, 3] == (1, 5 + gap)
    assert calendar[1, 700, 99] == (2, 5 + gap + 3 + gap)
    assert calendar[1, 900, 1] == (3, 5 + gap + 3 + gap + 14 + gap)
    assert calendar[2, 20, 1] == (0, 0)


def timeline(dataset):
    rows = pl.concat(pl.read_parquet(path) for path in sorted((dataset / "data").rglob("*.parquet")))
    return rows.sort("subject_id", "time", maintain_order=True)


def test_no_input_at_or_before_a_discharge_sees_the_outcome(raw, tmp_path):
    ingest("diabetes-130", raw("diabetes-130"), tmp_path / "out")
    check_outcomes(timeline(tmp_path / "out"))


def check_outcomes(rows):
    """Each outcome lies after the discharge it speaks of by 30 or 60 days, and before the next admission."""
    kinds = rows.select(
        "subject_id",
        "time",
        "code",
        kind=pl.col("code").str.extract("^(HOSPITAL_ADMISSION|HOSPITAL_DISCHARGE|READMITTED)//"),
    ).filter(pl.col("kind").is_not_null())
    kinds = kinds.with_columns(
        before=pl.col("kind").shift(1).over("subject_id"),
        days=pl.col("time").diff().over("subject_id").dt.total_days(),
    )
    outcomes = kinds.filter(pl.col("kind") == "READMITTED")
    assert outcomes.height
    assert (outcomes["before"] == "HOSPITAL_DISCHARGE").all()
    soon = pl.col("code") == "READMITTED//<30"
    assert outcomes.select((pl.col("days") == pl.when(soon).then(30).otherwise(60)).all()).item()
    again = kinds.filter((pl.col("kind") == "HOSPITAL_ADMISSION") & pl.col("before").is_not_null())
    assert (again["days"] > 0).all()


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_gz_bom_and_carriage_returns(raw, tmp_path):
    plain, packed = raw("diabetes-130"), tmp_path / "packed"
    ingest("diabetes-130", plain, tmp_path / "one")
    packed.mkdir()
    text = b"\xef\xbb\xbf" + (plain / "diabetic_data.csv").read_bytes().replace(b"\n", b"\r\n")
    (packed / "diabetic_data.csv.gz").write_bytes(gzip.compress(text))
    ingest("diabetes-130", packed, tmp_path / "two")
    assert timeline(tmp_path / "one").equals(timeline(tmp_path / "two"))


def test_another_encoding_is_refused(raw, tmp_path):
    folder = raw("diabetes-130")
    (folder / "diabetic_data.csv").write_bytes(
        (folder / "diabetic_data.csv").read_text().replace("Caucasian", "Café").encode("latin-1")
    )
    with pytest.raises(InputError, match="UTF-8"):
        ingest("diabetes-130", folder, tmp_path / "out")


def test_a_cut_file_is_refused(raw, tmp_path):
    folder = raw("diabetes-130")
    text = gzip.compress((folder / "diabetic_data.csv").read_bytes())
    (folder / "diabetic_data.csv").unlink()
    (folder / "diabetic_data.csv.gz").write_bytes(text[:-40])
    with pytest.raises(InputError, match=r"diabetic_data\.csv\.gz"):
        ingest("diabetes-130", folder, tmp_path / "out")


def test_a_missing_column_is_named(raw, tmp_path):
    folder = raw("diabetes-130")
    change(folder / "diabetic_data.csv", "time_in_hospital", "days")
    with pytest.raises(InputError, match="time_in_hospital"):
        ingest("diabetes-130", folder, tmp_path / "out")


@pytest.mark.data
def test_the_ids_mean_what_the_publisher_says(caretrace_data):
    tables, name = {}, ""
    with (caretrace_data / "diabetes130" / "IDs_mapping.csv").open(newline="") as text:
        for cells in csv.reader(text):
            if cells and cells[0].endswith("_id"):
                name = cells[0].removesuffix("_id")
            elif len(cells) == 2 and cells[0].strip():
                tables.setdefault(name, {})[int(cells[0])] = cells[1].strip().rstrip(" .")
    values = source_mapping("diabetes-130").values
    names = {
        "admission_types": "admission_type",
        "admission_sources": "admission_source",
        "dispositions": "discharge_disposition",
    }
    for ours, theirs in names.items():
        assert {number: label for number, label, _ in values[ours].rows} == tables[theirs]


@pytest.mark.data
@pytest.mark.slow
def test_every_row_of_the_real_file(caretrace_data, tmp_path):
    quality = ingest("diabetes-130", caretrace_data / "diabetes130", tmp_path / "out")
    table = quality["tables"]["encounters"]
    assert quality["subjects"] == 47_492
    assert (table["rows_read"], table["rows_loaded"], table["rows_quarantined"]) == (67_908, 67_908, 0)
    assert table["rows_without_event"] == 0
    flags = {name: flag["rows"] for name, flag in table["flags"].items()}
    assert flags["sex_unknown"] == 2
    assert flags["hospice"] == 263 + 255
    assert flags["readmission_of_the_dead"] == 1148
    assert flags["encounter_after_death"] == 7
    assert flags["later_encounter_but_not_readmitted"] == 335
    assert not {"unknown_id", "diagnosis_unreadable", "stay_outside_1_to_14_days"} & set(flags)
    codes = dict(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).select("code", "count").rows())
    assert codes["MEDS_DEATH"] == 1148
    assert codes["HOSPITAL_DISCHARGE//Expired"] == 1141
    assert codes["READMITTED//<30"] == 7700
    assert codes["READMITTED//NO"] == 36_445 - 1148
    assert codes["DIAGNOSIS//ICD//9//25060"] <= 2174
    assert "DIAGNOSIS//ICD//9//38" not in codes
    assert codes["PRESCRIPTION//insulin//Up"] == 7572
    assert codes["LAB//RESULT//HbA1c//>8"] == 5378
    rows = timeline(tmp_path / "out")
    check_outcomes(rows)
    # Subject and encounter read by hand in the file: the encounter 2278392 of the first line.
    first = rows.filter(pl.col("subject_id") == 8_222_157)["code"].to_list()
    assert "GENDER//F" in first
    assert "AGE_BAND//[0-10)" in first
    assert "DIAGNOSIS//ICD//9//25083" in first
    assert first[-1] == "READMITTED//NO"
