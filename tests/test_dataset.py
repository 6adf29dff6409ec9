"""A dataset folder opened for reading, and what is wrong with those that cannot be."""

import json
import shutil

import polars as pl
import pytest

from caretrace import schema
from caretrace.dataset import Dataset, scan_file
from caretrace.errors import DatasetError

from .tiny import write_meds

ROWS = [
    (1, None, "GENDER//F", None),
    (1, 1.0, "LAB//a", 1.5),
    (2, 2.0, "LAB//a", 2.5),
    (3, 3.0, "DRUG//x", None),
]
SPLITS = {1: "train", 2: "tuning", 3: "held_out"}


@pytest.fixture
def path(tmp_path):
    return write_meds(tmp_path / "meds", ROWS, SPLITS)


def test_all_measurements_or_those_of_a_split(path):
    dataset = Dataset(path)
    frame = dataset.scan().collect()
    assert frame.columns == list(schema.DATA_COLUMNS)
    assert sorted(frame[schema.SUBJECT_ID]) == [1, 1, 2, 3]
    assert dataset.scan("tuning").collect()[schema.NUMERIC_VALUE].to_list() == [2.5]
    assert [file.parent.name for file in dataset.files()] == ["held_out", "train", "tuning"]
    assert dict(dataset.splits.iter_rows()) == SPLITS
    assert dataset.metadata == {"dataset_name": "tiny"}
    assert set(dataset.codes[schema.CODE]) == {"GENDER//F", "LAB//a", "DRUG//x"}
    assert "death" in dataset.predicates


def test_parts_that_other_tools_do_not_write_may_be_missing(path):
    (path / schema.PREDICATES_FILE).unlink()
    assert Dataset(path).predicates == {}
    assert Dataset(path).quality is None
    (path / schema.QUALITY_FILE).write_text('{"rows": 3}')
    assert Dataset(path).quality == {"rows": 3}


def test_no_data_files_are_no_measurements(path):
    for file in Dataset(path).files():
        file.unlink()
    assert Dataset(path).scan().collect().is_empty()
    assert Dataset(path).scan().collect().columns == list(schema.DATA_COLUMNS)


# --- files of other tools ------------------------------------------------------------------------


def test_optional_columns_may_be_missing_and_others_are_left_aside(path):
    file = path / "data" / "train" / "0.parquet"
    frame = pl.read_parquet(file).drop(schema.NUMERIC_VALUE, schema.TEXT_VALUE)
    frame.with_columns(pl.lit(7).alias("hospital_id")).write_parquet(file)
    found = Dataset(path).scan().collect()
    assert found.columns == list(schema.DATA_COLUMNS)
    assert found.filter(pl.col(schema.SUBJECT_ID) == 1)[schema.NUMERIC_VALUE].to_list() == [None, None]
    assert found.filter(pl.col(schema.SUBJECT_ID) == 2)[schema.NUMERIC_VALUE].to_list() == [2.5]


def test_other_dtypes_are_cast(path):
    file = path / "data" / "train" / "0.parquet"
    pl.read_parquet(file).with_columns(
        pl.col(schema.CODE).cast(pl.Categorical),
        pl.col(schema.TIME).dt.cast_time_unit("ns"),
        pl.col(schema.NUMERIC_VALUE).cast(pl.Float64),
    ).write_parquet(file)
    before = scan_file(path / "data" / "tuning" / "0.parquet").collect().schema
    assert scan_file(file).collect().schema == before


@pytest.mark.parametrize("column", ["subject_id", "time", "code"])
def test_a_file_without_a_column_that_meds_demands_is_refused(path, column):
    file = path / "data" / "train" / "0.parquet"
    pl.read_parquet(file).drop(column).write_parquet(file)
    with pytest.raises(DatasetError, match=rf"0\.parquet: column {column} is missing, found"):
        Dataset(path).scan()


@pytest.mark.parametrize("content", [b"", b"subject_id,time\n1,2\n", b"PAR1 and then nothing"])
def test_a_file_that_is_not_parquet_is_refused(path, content):
    (path / "data" / "train" / "0.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"train/0\.parquet: not readable as Parquet.*ingest again"):
        Dataset(path).scan()


# --- folders that are no dataset -----------------------------------------------------------------


def test_a_missing_folder_names_the_command(tmp_path):
    with pytest.raises(
        DatasetError, match=r"nowhere: no such dataset folder; make one with `caretrace ingest"
    ):
        Dataset(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="no such dataset folder"):
        Dataset(tmp_path / "file")


@pytest.mark.parametrize(
    "part", [schema.DATA_DIR, schema.DATASET_FILE, schema.CODES_FILE, schema.SPLITS_FILE]
)
def test_a_folder_that_lacks_a_part_is_no_dataset(path, part):
    target = path / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(DatasetError, match=f"is not a MEDS dataset: {part} is missing; point at the folder"):
        Dataset(path)


def test_an_unknown_split_is_answered_with_the_nearest(path):
    with pytest.raises(DatasetError, match="unknown split 'heldout': did you mean 'held_out'"):
        Dataset(path).files("heldout")


def write_splits(path, *rows):
    pl.DataFrame(rows, schema={"subject_id": pl.Int64, "split": pl.String}, orient="row").write_parquet(
        path / schema.SPLITS_FILE
    )


@pytest.mark.parametrize("second", ["held_out", "train"])
def test_a_subject_in_two_splits_is_refused(path, second):
    write_splits(path, (1, "train"), (2, "tuning"), (1, second))
    with pytest.raises(
        DatasetError, match=r"subject 1 stands in more than one split \(1 such subjects\).*tested on"
    ):
        _ = Dataset(path).splits


def test_a_split_of_another_name_is_refused(path):
    write_splits(path, (1, "train"), (2, "validation"))
    with pytest.raises(DatasetError, match=r"subject_splits\.parquet: unknown split 'validation'"):
        _ = Dataset(path).splits


# --- fingerprint ---------------------------------------------------------------------------------


def test_equal_datasets_share_a_fingerprint_wherever_they_are(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    assert Dataset(tmp_path / "copy").fingerprint == Dataset(path).fingerprint
    (tmp_path / "copy" / schema.DATASET_FILE).write_text(json.dumps({"dataset_name": "another name"}))
    assert Dataset(tmp_path / "copy").fingerprint == Dataset(path).fingerprint


def test_another_value_or_split_gives_another_fingerprint(path, tmp_path):
    changed = [(1, 1.0, "LAB//a", 9.0), *ROWS[2:], ROWS[0]]
    prints = {
        Dataset(path).fingerprint,
        Dataset(write_meds(tmp_path / "value", changed, SPLITS)).fingerprint,
        Dataset(write_meds(tmp_path / "split", ROWS, {**SPLITS, 2: "train"})).fingerprint,
    }
    assert len(prints) == 3
