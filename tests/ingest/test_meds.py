import datetime as dt
import math

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.ingest import ingest, source_mapping

SHAPE = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("time", pa.timestamp("us")),
        ("code", pa.string()),
        ("numeric_value", pa.float32()),
        ("text_value", pa.large_string()),
    ]
)


def day(number, hour=0):
    return dt.datetime(2150, 5, number, hour)  # noqa: DTZ001 - MEDS times carry no zone


def write(path, rows, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {field.name: pa.array([row[i] for row in rows], field.type) for i, field in enumerate(shape)}
    pq.write_table(pa.table(columns, schema=shape), path)


def events(dataset):
    paths = sorted((dataset / "data").rglob("*.parquet"))
    return pl.concat(pl.read_parquet(path) for path in paths).sort("subject_id", maintain_order=True)


def reasons(quality):
    return {
        reason.split(":")[0]: rows
        for reason, rows in quality["tables"]["measurements"]["quarantined"].items()
    }


GOOD = (1, day(1), "LAB//K//mmol/L", 4.0, None)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ((1, day(2), "LAB//K//mmol/L", math.inf, None), "numeric_value"),
        ((1, day(2), "LAB//K//mmol/L", -math.inf, None), "numeric_value"),
        ((1, day(2), "LAB//K//mmol/L", math.nan, None), "numeric_value"),
        ((1, day(2), "", 4.0, None), "code"),
        ((1, day(2), None, 4.0, None), "code"),
        ((None, day(2), "LAB//K//mmol/L", 4.0, None), "subject_id"),
        ((1, dt.datetime(1, 1, 1), "LAB//K//mmol/L", 4.0, None), "time"),  # noqa: DTZ001
        ((1, dt.datetime(9999, 1, 1), "LAB//K//mmol/L", 4.0, None), "time"),  # noqa: DTZ001
    ],
)
def test_rows_the_validator_accepts_are_quarantined(tmp_path, row, column):
    write(tmp_path / "raw" / "data" / "0.parquet", [GOOD, row])
    quality = ingest("meds", tmp_path / "raw", tmp_path / "out")
    assert reasons(quality) == {column: 1}
    assert events(tmp_path / "out").rows() == [GOOD]


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([GOOD, (1, day(1, 5), "A", None, None), (1, day(1, 4), "B", None, None)], {"out_of_order": 1}),
        ([GOOD, GOOD, GOOD], {"duplicate": 2}),
        ([(1, None, "GENDER//F", None, None)] * 2, {"duplicate": 1}),
        ([GOOD, (1, None, "GENDER//F", None, None)], {}),
        ([GOOD, (1, day(1), "LAB//K//mmol/L", None, None)], {}),
        ([GOOD, (1, day(1), "LAB//K//mmol/L", 4.0, "haemolytic")], {}),
        ([(2, day(1), "A", None, None), (1, day(1), "A", None, None)], {}),
    ],
)
def test_order_and_repetition_are_flagged(tmp_path, rows, flags):
    write(tmp_path / "raw" / "data" / "0.parquet", rows)
    quality = ingest("meds", tmp_path / "raw", tmp_path / "out")
    found = quality["tables"]["measurements"]["flags"]
    raised = {name: flag["rows"] for name, flag in found.items() if name in ("out_of_order", "duplicate")}
    assert raised == flags
    written = events(tmp_path / "out")
    assert written.height == len(rows)
    assert written.equals(written.sort("subject_id", "time", nulls_last=False, maintain_order=True))


def test_a_code_with_an_empty_part_is_flagged(tmp_path):
    write(tmp_path / "raw" / "data" / "0.parquet", [GOOD, (1, day(2), "MEDICATION//", None, None)])
    quality = ingest("meds", tmp_path / "raw", tmp_path / "out")
    assert quality["tables"]["measurements"]["flags"]["empty_code_part"]["rows"] == 1


def list_splits(raw, pairs):
    (raw / "metadata").mkdir(parents=True, exist_ok=True)
    table = {"subject_id": pa.array([p[0] for p in pairs], pa.int64()), "split": [p[1] for p in pairs]}
    pq.write_table(pa.table(table), raw / schema.SPLITS_FILE)


def test_splits_are_kept_unless_asked_otherwise(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "data" / "0.parquet", [(n, day(1), "A", None, None) for n in range(1, 8)])
    list_splits(raw, [(n, ("tuning", "held_out")[n % 2]) for n in range(1, 5)] + [(5, "mine"), (9, "train")])
    quality = ingest("meds", raw, tmp_path / "out")
    splits = dict(pl.read_parquet(tmp_path / "out" / schema.SPLITS_FILE).rows())
    assert [splits[n] for n in (1, 2, 3, 4, 9)] == ["held_out", "tuning", "held_out", "tuning", "train"]
    assert set(splits) == {1, 2, 3, 4, 5, 6, 7, 9}
    assert quality["tables"]["measurements"]["flags"]["split_unknown"]["by"] == {"mine": 1}
    ingest("meds", raw, tmp_path / "hash", splits="hash")
    drawn = dict(pl.read_parquet(tmp_path / "hash" / schema.SPLITS_FILE).rows())
    assert {n: splits[n] for n in (5, 6, 7)} == {n: drawn[n] for n in (5, 6, 7)}


def listed_twice(raw):
    write(raw / "data" / "0.parquet", [GOOD])
    list_splits(raw, [(1, "train"), (77, "train"), (77, "held_out")])


def in_two_folders(raw):
    write(raw / "data" / "train" / "0.parquet", [GOOD, (77, day(1), "A", None, None)])
    write(raw / "data" / "held_out" / "0.parquet", [(77, day(2), "A", None, None)])


def listed_and_filed_at_odds(raw):
    write(raw / "data" / "tuning" / "0.parquet", [GOOD, (77, day(1), "A", None, None)])
    list_splits(raw, [(1, "tuning"), (77, "train")])


@pytest.mark.parametrize("damage", [listed_twice, in_two_folders, listed_and_filed_at_odds])
def test_a_subject_in_two_splits_is_refused(tmp_path, damage):
    damage(tmp_path / "raw")
    with pytest.raises(InputError, match="subject 77 is in the splits"):
        ingest("meds", tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subject_over_several_files_is_one(tmp_path):
    for number in range(3):
        write(
            tmp_path / "raw" / "data" / f"{number}.parquet", [(1, day(3 - number), "A", float(number), None)]
        )
    ingest("meds", tmp_path / "raw", tmp_path / "out")
    assert events(tmp_path / "out")["numeric_value"].to_list() == [2.0, 1.0, 0.0]


def test_what_codes_parquet_says_is_kept(tmp_path):
    ingest("meds", source_mapping("meds").folder / "sample" / "raw", tmp_path / "out")
    codes = {row["code"]: row for row in pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).to_dicts()}
    creatinine = codes["LAB//50912//mg/dL"]
    assert creatinine["parent_codes"] == ["LOINC/2160-0", "LOINC/38483-4"]
    assert (creatinine["description"], creatinine["unit"], creatinine["event_type"]) == (
        "Creatinine",
        "mg/dL",
        "lab",
    )
    assert codes["my own code"]["event_type"] == "output"
    assert codes["VITAL//heart rate"]["event_type"] == "vital"
    assert codes["HOSPITAL_DISCHARGE//HOME"]["parent_codes"] is None


VALUE = pa.schema([*list(SHAPE)[:3], ("table", pa.string()), ("value", pa.float32())])


@pytest.mark.parametrize("form", ["file", "folder"])
def test_one_parquet_with_a_column_called_value(tmp_path, form):
    rows = [(1, None, "GENDER//F", "t", None), (1, day(1), "LAB//1//UNK", "t", 2.5)]
    path = tmp_path / "raw" / "some_events.parquet"
    write(path, rows, VALUE)
    ingest("meds", path if form == "file" else path.parent, tmp_path / "out")
    assert events(tmp_path / "out").rows() == [
        (1, None, "GENDER//F", None, None),
        (1, day(1), "LAB//1//UNK", 2.5, None),
    ]


def test_files_without_optional_columns(tmp_path):
    write(tmp_path / "raw" / "data" / "a.parquet", [GOOD])
    write(tmp_path / "raw" / "data" / "b.parquet", [(2, day(1), "A")], pa.schema(list(SHAPE)[:3]))
    ingest("meds", tmp_path / "raw", tmp_path / "out")
    assert events(tmp_path / "out").rows() == [GOOD, (2, day(1), "A", None, None)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda raw: write(raw / "data" / "0.parquet", [(1,)], pa.schema(list(SHAPE)[:1])),
            "no column 'time'",
        ),
        (
            lambda raw: ((raw / "data").mkdir(parents=True), (raw / "data" / "0.parquet").write_text("x")),
            "Parquet",
        ),
        (lambda raw: [write(raw / f"{name}.parquet", [GOOD]) for name in "ab"], "side by side"),
        (lambda raw: raw.mkdir(), "not a meds folder"),
        (lambda raw: write(raw / "data" / "0.parquet", [(None, *GOOD[1:])]), "names a subject"),
        (
            lambda raw: write(
                raw / "data" / "0.parquet",
                [(2**63, *GOOD[1:])],
                pa.schema([("subject_id", pa.uint64()), *list(SHAPE)[1:]]),
            ),
            "beyond int64",
        ),
        (
            lambda raw: write(
                raw / "data" / "0.parquet",
                [("p1", *GOOD[1:])],
                pa.schema([("subject_id", pa.string()), *list(SHAPE)[1:]]),
            ),
            "of type string",
        ),
    ],
)
def test_what_is_no_meds_dataset_is_refused(tmp_path, damage, message):
    damage(tmp_path / "raw")
    with pytest.raises(InputError, match=message):
        ingest("meds", tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("source", ["physionet-2012", "mimic-iv", "diabetes-130"])
@pytest.mark.slow
def test_a_dataset_of_ours_comes_out_as_it_went_in(tmp_path, source):
    ingest(source, source_mapping(source).folder / "sample" / "raw", tmp_path / "one", subjects_per_file=1)
    ingest("meds", tmp_path / "one", tmp_path / "two", subjects_per_file=2)
    assert events(tmp_path / "one").equals(events(tmp_path / "two"))
    for file in (schema.CODES_FILE, schema.SPLITS_FILE):
        assert pl.read_parquet(tmp_path / "one" / file).equals(pl.read_parquet(tmp_path / "two" / file)), file


@pytest.mark.data
@pytest.mark.slow
def test_the_public_mimic_iv_demo_in_meds(caretrace_data, tmp_path):
    raw = caretrace_data / "mimic-iv-demo-meds"
    quality = ingest("meds", raw, tmp_path / "out")
    table = quality["tables"]["measurements"]
    assert (table["rows_read"], table["rows_loaded"], table["events"]) == (916_166,) * 3
    assert quality["subjects"] == 100
    written = pl.read_parquet(raw / "mimic_iv_demo_meds_events.parquet")
    # Codes are taken without blanks at their ends, which makes three more rows equal to another.
    bare = written.with_columns(pl.col("code").str.strip_chars(" "))
    twice = written.height - bare.unique(["subject_id", "time", "code", "value"]).height
    assert table["flags"]["duplicate"]["rows"] == twice
    codes = pl.read_parquet(tmp_path / "out" / schema.CODES_FILE)
    counts = dict(codes.select("code", "count").rows())
    assert counts["LAB//220045//bpm"] == 13_913
    assert counts["LAB//220277//%"] == 13_540
    assert counts["MEDS_DEATH"] == 31
    assert codes.filter(pl.col("code").str.starts_with("LAB//"))["event_type"].unique().to_list() == ["lab"]
    found = events(tmp_path / "out")
    assert found["numeric_value"].count() == written["value"].count()
    assert found.select(pl.col("numeric_value").sum()).item() == pytest.approx(
        written["value"].sum(), rel=1e-6
    )
