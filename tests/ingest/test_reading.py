"""Which files are a table: one, or the parts in which data warehouses export it."""

import polars as pl
import pytest

from caretrace import schema
from caretrace.errors import InputError
from caretrace.files import read_json
from caretrace.ingest import ingest
from caretrace.ingest.reading import find_file, find_files, stems_of


def names(raw, stem):
    return [path.relative_to(raw).as_posix() for path in find_files(raw, stem)]


def make(raw, *files):
    for file in files:
        (raw / file).parent.mkdir(parents=True, exist_ok=True)
        (raw / file).write_text("a\n1\n")


@pytest.mark.parametrize(
    "files",
    [
        ["icu/chartevents.parquet"],
        ["icu/chartevents-000000000000.parquet"],
        ["icu/chartevents-000000000000.parquet", "icu/chartevents-000000000001.parquet"],
        ["icu/chartevents-00001-of-00002.csv.gz", "icu/chartevents-00002-of-00002.csv.gz"],
        ["icu/chartevents/part-00000-1a2b.snappy.parquet", "icu/chartevents/part-00001-1a2b.snappy.parquet"],
    ],
)
def test_a_table_in_parts(tmp_path, files):
    others = (
        "icu/d_items.csv",
        "icu/chartevents-old.csv",
        "icu/chartevents-1.csv",
        "icu/chartevents/_SUCCESS",
    )
    make(tmp_path, *files, *others[: 3 if len(files[0].split("/")) == 2 else 4])
    assert names(tmp_path, "icu/chartevents") == files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["t.csv", "t.parquet"], "the same table twice"),
        (["t.csv", "t-000.csv"], "the same table twice"),
        (["t.csv", "t/0.parquet"], "the same table twice"),
        (["t-000.csv", "t-000.parquet"], "the same part"),
        (["t-000.csv", "t/0.parquet"], "the same part"),
        (["t-000.csv", "t-002.csv"], "number 1 is missing"),
        (["t-003.csv"], "number 1 is missing"),
        (["t-00000-of-00003.csv", "t-00001-of-00003.csv"], "number 2 is missing"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path, files, message):
    make(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        find_files(tmp_path, "t")


def test_what_is_read_as_one_file_may_not_be_in_parts(tmp_path):
    make(tmp_path, "t-000.csv", "u-000.csv", "u-001.csv")
    assert find_file(tmp_path, "t") == tmp_path / "t-000.csv"
    assert find_file(tmp_path, "absent") is None
    with pytest.raises(InputError, match="join them into one"):
        find_file(tmp_path, "u")


def test_a_part_that_leads_out_of_the_folder_is_refused(tmp_path):
    make(tmp_path, "raw/t-000.csv", "elsewhere.csv")
    (tmp_path / "raw" / "t-001.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(InputError, match="link that leads out"):
        find_files(tmp_path / "raw", "t")


def test_the_stems_of_a_file():
    assert stems_of("icu/t-000000000000.parquet") == ["icu/t-000000000000", "icu/t", "icu"]
    assert stems_of("t.csv.gz") == ["t"]
    assert stems_of("README") == ["README"]


def test_tables_in_parts_give_the_same_dataset(raw, tmp_path):
    folder = raw("hospital")
    (folder / "extra.csv").write_text("a\n1\n")
    ingest("hospital", folder, tmp_path / "whole")
    header, *rows = (folder / "vitals.csv").read_text().splitlines(keepends=True)
    (folder / "vitals.csv").unlink()
    (folder / "vitals-000.csv").write_text(header + "".join(rows[:2]))
    (folder / "vitals-001.csv").write_text(header + "".join(rows[2:]))
    labs = pl.read_csv(folder / "labs.csv", infer_schema=False)
    (folder / "labs.csv").unlink()
    (folder / "labs").mkdir()
    labs[:1].write_parquet(folder / "labs" / "part-00000.parquet")
    labs[1:].write_parquet(folder / "labs" / "part-00001.parquet")
    quality = ingest("hospital", folder, tmp_path / "parts")
    assert quality["tables"]["vitals"]["files"] == ["vitals-000.csv", "vitals-001.csv"]
    assert quality["unknown_files"] == ["extra.csv"]
    before = read_json(tmp_path / "whole" / schema.QUALITY_FILE)
    assert [quality[key] for key in ("rows_read", "events")] == [
        before[key] for key in ("rows_read", "events")
    ]
    for path in sorted((tmp_path / "whole" / schema.DATA_DIR).rglob("*.parquet")):
        other = tmp_path / "parts" / path.relative_to(tmp_path / "whole")
        assert pl.read_parquet(path).equals(pl.read_parquet(other))
