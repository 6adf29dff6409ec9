"""What ingest does with input that is not as it should be: refused whole, or quarantined row by row."""

import gzip
import os

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import CaretraceError, ConfigError, InputError, OutputExistsError
from caretrace.files import read_json
from caretrace.ingest import ingest


def edit(path, change):
    path.write_text(change(path.read_text()))


def refused(source, folder, tmp_path, *needed, error=InputError):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(error) as caught:
        ingest(source, folder, tmp_path / "out")
    for text in needed:
        assert text in str(caught.value), str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*")), "a partial folder was left behind"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def quarantine(out, table):
    return pl.read_parquet(out / schema.QUARANTINE_DIR / f"{table}.parquet")


def test_an_output_that_exists_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="already exists"):
        ingest("no-such-source", tmp_path / "no-such-folder", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'mimic-iv'"):
        ingest("mimic4", tmp_path, tmp_path / "out")


def test_a_missing_folder(tmp_path):
    refused("hospital", tmp_path / "nowhere", tmp_path, "is not a folder")


def test_a_missing_table(raw, tmp_path):
    folder = raw("hospital")
    (folder / "icu_stays.csv").unlink()
    refused("hospital", folder, tmp_path, "icu_stays.csv[.gz]", "missing", "fetch it from")


def test_a_folder_of_another_source(raw, tmp_path):
    refused("mimic-iv", raw("hospital"), tmp_path, "is not a mimic-iv folder", "looks like hospital")


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    refused("hospital", tmp_path / "empty", tmp_path, "none of its required tables", "patients")


def test_an_optional_table_with_a_header_only_is_fine(raw, tmp_path):
    folder = raw("hospital")
    edit(folder / "cultures.csv", lambda text: text.splitlines()[0] + "\n")
    quality = ingest("hospital", folder, tmp_path / "out")
    assert quality["tables"]["cultures"]["rows_read"] == 0


def test_the_same_table_twice(raw, tmp_path):
    folder = raw("hospital")
    (folder / "vitals.csv.gz").write_bytes(gzip.compress((folder / "vitals.csv").read_bytes()))
    refused("hospital", folder, tmp_path, "the same table twice")


def test_an_unknown_engine_and_a_bad_memory_limit(raw, tmp_path):
    with pytest.raises(ConfigError, match="'duckbd': did you mean 'duckdb'"):
        ingest("hospital", raw("hospital"), tmp_path / "out", engine="duckbd")
    with pytest.raises(ConfigError, match="memory-limit 'lots'"):
        ingest("hospital", tmp_path / "raw-hospital", tmp_path / "out", memory_limit="lots")
    assert not (tmp_path / "out").exists()


def test_long_and_short_rows_are_quarantined_with_their_place(raw, tmp_path):
    folder = raw("hospital")
    good = "".join(f"1,100,2021-03-26 12:{i // 60 % 60:02}:{i % 60:02},HR,80,bpm\n" for i in range(2000))
    short, long = "1,100,2021-03-26 12:00:00,HR\n", "1,1,1,1,1,1,1\n"
    bad = "1,100,2021-03-26 12:00:00,HR,soon,bpm\n"
    edit(folder / "vitals.csv", lambda text: text + good + short + good + long + good + bad)
    quality = ingest("hospital", folder, tmp_path / "out")["tables"]["vitals"]
    assert quality["rows_read"] == 6 + 6000 + 3
    assert quality["rows_quarantined"] == 2 + 3
    rows = quarantine(tmp_path / "out", "vitals").filter(pl.col("row") > 6)
    assert rows["row"].to_list() == [2007, 4008, 6009]  # the first after the header is row 1
    assert rows["raw_line"].to_list() == ["1,100,2021-03-26 12:00:00,HR", "1,1,1,1,1,1,1", None]
    assert "too few values: " in rows["reason"][0]
    assert "too many values: " in rows["reason"][1]
    assert rows["column"][2] == "value"
    assert rows["value"][2] == "soon"
    assert rows["raw.value"][2] == "soon"
    assert rows["file"].unique().to_list() == ["vitals.csv"]


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_other_line_ends_and_a_byte_order_mark_change_nothing(raw, tmp_path, ending):
    folder = raw("hospital")
    first = ingest("hospital", folder, tmp_path / "one")
    for path in folder.glob("*.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", ending).encode())
    second = ingest("hospital", folder, tmp_path / "two")
    assert second["rows_read"] == first["rows_read"]
    for path in (tmp_path / "one" / "data").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_parquet_and_gzip_give_the_same_dataset(raw, tmp_path):
    folder = raw("hospital")
    first = ingest("hospital", folder, tmp_path / "one")
    for path in folder.glob("*.csv"):
        if path.stem < "m":
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        else:
            pl.read_csv(path, infer_schema=False).write_parquet(path.with_suffix(".parquet"))
        path.unlink()
    second = ingest("hospital", folder, tmp_path / "two")
    assert second["events"] == first["events"]
    for path in (tmp_path / "one" / "data").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_truth_is_never_read_and_unknown_files_are_named(raw, tmp_path):
    folder = raw("hospital")
    (folder / "notes.csv").write_text("subject_id,note\n1,hello\n")
    # A named pipe blocks whoever opens it: ingest would hang here if it looked inside.
    os.mkfifo(folder / "truth" / "patients.csv")
    quality = ingest("hospital", folder, tmp_path / "out")
    assert quality["unknown_files"] == ["notes.csv"]
    assert list(quality["never_read"]) == ["truth"]
    assert "truth/" not in str(quality["ignored_files"])


def test_tables_that_are_not_mapped_are_counted_with_a_reason(raw, tmp_path):
    quality = ingest("mimic-iv", raw("mimic-iv"), tmp_path / "out")
    assert quality["not_mapped"] == [
        {"file": "hosp/provider.csv", "rows": 2, "reason": "a bare list of staff ids"}
    ]


def test_codes_with_several_units_have_none(raw, tmp_path):
    folder = raw("mimic-iv")
    edit(
        folder / "icu/ingredientevents.csv",
        lambda text: text + text.splitlines()[1].replace("mL/hour", "mg/min") + "\n",
    )
    quality = ingest("mimic-iv", folder, tmp_path / "out")
    assert quality["codes_with_mixed_units"] == {"INFUSION//220490": ["mL/hour", "mg/min"]}
    codes = pl.read_parquet(tmp_path / "out" / schema.CODES_FILE).filter(pl.col("code") == "INFUSION//220490")
    assert codes["unit"].to_list() == [None]
    assert codes["count"].to_list() == [2]


def test_both_layouts_of_physionet_2012_agree(raw, tmp_path):
    folder = raw("physionet-2012")
    ingest("physionet-2012", folder, tmp_path / "one")
    official = tmp_path / "official"
    for name in ("set-a", "set-b"):
        (official / name).mkdir(parents=True)
        for line in (folder / f"{name}.csv").read_text().splitlines()[1:]:
            record, rest = line.split(",", 1)
            path = official / name / f"{record}.txt"
            head = "" if path.exists() else f"Time,Parameter,Value\n00:00,RecordID,{record}\n"
            with path.open("a") as file:
                file.write(f"{head}{rest}\n")
    (official / "Outcomes-a.txt").write_text((folder / "outcomes-a.csv").read_text())
    (official / "surprise.txt").write_text("?")
    (official / "README.md").write_text("about")
    quality = ingest("physionet-2012", official, tmp_path / "two")
    assert quality["tables"]["series"]["flags"]["record_id_row"]["rows"] == 3
    assert quality["unknown_files"] == ["surprise.txt"]
    for path in (tmp_path / "one" / "data").rglob("*.parquet"):
        same = pl.read_parquet(path).equals(
            pl.read_parquet(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        )
        assert same, path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1001.txt", b"Time,Value\n", "first line must be"),
        ("notes.txt", b"Time,Parameter,Value\n", "named by its number"),
        ("1001.txt", b"Time,Parameter,Value\n00:00,\xe9,1\n", "not UTF-8"),
    ],
)
def test_record_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / "raw" / "set-a").mkdir(parents=True)
    (tmp_path / "raw" / "set-a" / name).write_bytes(content)
    refused("physionet-2012", tmp_path / "raw", tmp_path, message)


def test_a_missing_outcome_is_never_a_survivor(raw, tmp_path):
    folder = raw("physionet-2012")
    (folder / "outcomes-a.csv").unlink()
    quality = ingest("physionet-2012", folder, tmp_path / "out")
    codes = set(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE)["code"])
    assert not {code for code in codes if code.startswith(("HOSPITAL_DISCHARGE", "MEDS_DEATH"))}
    assert quality["views"]["records"]["flags"]["outcome_missing"]["rows"] == quality["subjects"] == 3


def test_an_unreadable_outcome_is_never_a_survivor(raw, tmp_path):
    folder = raw("physionet-2012")
    edit(folder / "outcomes-a.csv", lambda text: text.replace("1,1\n", "1,yes\n").replace("-1,0\n", "-1,2\n"))
    quality = ingest("physionet-2012", folder, tmp_path / "out")
    codes = set(pl.read_parquet(tmp_path / "out" / schema.CODES_FILE)["code"])
    assert not {code for code in codes if code.startswith(("HOSPITAL_DISCHARGE", "MEDS_DEATH"))}
    assert quality["tables"]["outcomes"]["rows_quarantined"] == 1
    assert quality["tables"]["outcomes"]["flags"]["neither_died_nor_alive"]["rows"] == 1


def test_the_report_is_the_one_on_disk(raw, tmp_path):
    steps = {}

    def progress(step, done, total):
        steps.setdefault(step, []).append((done, total))

    quality = ingest("hospital", raw("hospital"), tmp_path / "out", progress=progress)
    assert read_json(tmp_path / "out" / schema.QUALITY_FILE) == quality
    assert {"reading patients", "mapping labs", "writing"} <= set(steps)
    assert steps["writing"][-1] == (quality["events"], quality["events"])
    assert all(0 <= done <= total for told in steps.values() for done, total in told)
    assert not list((tmp_path / "out").glob(".*"))
    assert issubclass(InputError, CaretraceError)
