"""The cut: what may be seen for each label, and in which order it comes."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.data import inputs as inputs_module
from caretrace.data.inputs import HOURS_BEFORE, SAMPLE, collect_inputs
from caretrace.dataset import Dataset
from caretrace.errors import DatasetError

from ..tiny import START, hours, write_meds

SPLITS = {1: "train", 2: "tuning", 3: "held_out", 4: "train"}
ROWS = [
    (1, None, "GENDER//F", None),
    (1, 0.0, "LAB//a", 1.0),
    (1, 10.0, "LAB//a", 2.0),
    (1, 10.0, "DRUG//x", None),
    (1, 20.0, "LAB//a", 3.0),
    (2, 1.0, "LAB//a", 4.0),
    (3, 1.0, "LAB//b", 5.0),
    (4, 1.0, "LAB//a", 6.0),
]


def labels(*asked: tuple[int, float | timedelta, bool]) -> pl.DataFrame:
    when = [START + (h if isinstance(h, timedelta) else hours(h)) for _, h, _ in asked]
    return pl.DataFrame(
        {
            "subject_id": [s for s, _, _ in asked],
            "prediction_time": when,
            "boolean_value": [b for *_, b in asked],
        },
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean},
    )


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset(write_meds(tmp_path / "meds", ROWS, SPLITS))


def seen(inputs, sample=0):
    part = inputs.measurements.filter(pl.col(SAMPLE) == sample)
    return part.select(schema.CODE, schema.NUMERIC_VALUE, HOURS_BEFORE).rows()


def test_static_first_then_oldest_first_ties_by_code(dataset):
    inputs = collect_inputs(dataset, labels((1, 20.0, True)))
    assert seen(inputs) == [
        ("GENDER//F", None, None),
        ("LAB//a", 1.0, 20.0),
        ("DRUG//x", None, 10.0),
        ("LAB//a", 2.0, 10.0),
        ("LAB//a", 3.0, 0.0),
    ]
    assert inputs.measurements[schema.EVENT_TYPE].to_list() == [
        "administrative", "lab", "prescription", "lab", "lab",
    ]  # fmt: skip
    assert inputs.outcomes.tolist() == [1.0]
    assert inputs.subject_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("microseconds", "found"),
    [(-1, False), (0, True), (1, True)],
    ids=["just before the measurement", "at the measurement", "just after the measurement"],
)
def test_what_is_measured_at_the_prediction_time_is_used_and_a_microsecond_later_is_not(
    dataset, microseconds, found
):
    when = timedelta(hours=10, microseconds=microseconds)
    codes = [row[0] for row in seen(collect_inputs(dataset, labels((1, when, True))))]
    assert ("DRUG//x" in codes) is found
    assert codes.count("LAB//a") == 1 + found


@pytest.mark.parametrize(("lookback", "values"), [(None, [1, 2]), (10.0, [1, 2]), (9.99, [2]), (0.0, [2])])
def test_a_lookback_forgets_what_is_older_but_not_what_is_static(dataset, lookback, values):
    inputs = collect_inputs(dataset, labels((1, 10.0, True)), lookback_hours=lookback)
    assert [row[1] for row in seen(inputs) if row[0] == "LAB//a"] == values
    assert seen(inputs)[0][0] == "GENDER//F"


def test_each_prediction_time_of_a_subject_is_a_sample_of_its_own(dataset):
    inputs = collect_inputs(dataset, labels((4, 5.0, False), (1, 20.0, True), (1, 5.0, False)))
    assert inputs.subject_ids.tolist() == [1, 1, 4]
    assert inputs.outcomes.tolist() == [0, 1, 0]
    assert [len(seen(inputs, sample)) for sample in range(3)] == [2, 5, 1]


def test_a_split_keeps_its_subjects_alone(dataset):
    asked = labels(*((subject, 5.0, True) for subject in SPLITS))
    for split, subjects in {"train": [1, 4], "tuning": [2], "held_out": [3], None: [1, 2, 3, 4]}.items():
        inputs = collect_inputs(dataset, asked, split)
        assert inputs.subject_ids.tolist() == subjects
        assert inputs.measurements[SAMPLE].unique().sort().to_list() == list(range(len(subjects)))


def test_files_of_other_splits_are_not_even_opened(dataset):
    (dataset.path / "data" / "held_out" / "0.parquet").write_bytes(b"not a parquet file")
    assert len(collect_inputs(dataset, labels((1, 5.0, True)), "train")) == 1
    with pytest.raises(DatasetError, match=r"held_out/0\.parquet: not readable as Parquet"):
        collect_inputs(dataset, labels((1, 5.0, True)))


def test_how_a_split_is_cut_into_files_changes_nothing(tmp_path):
    asked = labels((1, 20.0, True), (4, 5.0, False))
    one, two = (
        collect_inputs(
            Dataset(write_meds(tmp_path / str(n), ROWS, SPLITS, files_per_split=n)), asked, "train"
        )
        for n in (1, 2)
    )
    assert one.measurements.equals(two.measurements)
    assert one.labels.equals(two.labels)


def test_a_sample_without_measurements_stays(dataset):
    inputs = collect_inputs(dataset, labels((1, 5.0, True), (2, 0.5, False)))
    assert len(inputs) == 2
    assert seen(inputs, 1) == []


def test_nobody_with_measurements_is_refused(dataset):
    with pytest.raises(DatasetError, match="none of 1 labels has a measurement at or before"):
        collect_inputs(dataset, labels((2, 0.5, False)))


def test_no_labels_give_no_samples(dataset):
    inputs = collect_inputs(dataset, labels())
    assert len(inputs) == 0
    assert inputs.measurements.is_empty()


def test_a_label_of_a_stranger_is_refused(dataset):
    with pytest.raises(
        DatasetError, match=r"2 labels name subjects that .* does not have, the first is subject 77"
    ):
        collect_inputs(dataset, labels((1, 5.0, True), (77, 5.0, True), (88, 5.0, True)))


def test_a_subject_in_two_splits_is_refused(dataset):
    pl.concat([dataset.splits, pl.DataFrame({"subject_id": [1], "split": ["held_out"]})]).write_parquet(
        dataset.path / schema.SPLITS_FILE
    )
    with pytest.raises(DatasetError, match=r"subject 1 stands in more than one split \(1 such subjects\)"):
        collect_inputs(Dataset(dataset.path), labels((1, 5.0, True)))


def test_a_dataset_without_event_types_reads_as_other(dataset):
    pl.DataFrame({"code": ["LAB//a"]}).write_parquet(dataset.path / schema.CODES_FILE)
    inputs = collect_inputs(Dataset(dataset.path), labels((1, 20.0, True)))
    assert set(inputs.measurements[schema.EVENT_TYPE]) == {"other"}
    assert len(inputs.measurements) == 5


def test_a_code_described_twice_does_not_double_its_measurements(dataset):
    pl.concat([dataset.codes, dataset.codes]).write_parquet(dataset.path / schema.CODES_FILE)
    inputs = collect_inputs(Dataset(dataset.path), labels((1, 20.0, True)))
    assert len(inputs.measurements) == 5


def test_a_dataset_whose_files_are_not_in_split_folders_is_read_too(dataset):
    asked = labels((1, 20.0, True), (3, 5.0, False))
    before = collect_inputs(dataset, asked, "held_out").measurements
    for split in schema.SPLITS:
        folder = dataset.path / schema.DATA_DIR / split
        (folder / "0.parquet").rename(folder.parent / f"{split}.parquet")
        folder.rmdir()
    assert collect_inputs(dataset, asked, "held_out").measurements.equals(before)
    assert len(before) == 1


def test_subjects_in_the_folder_of_another_split_are_noticed(dataset):
    """Every measurement would be missing, and a model would learn from nothing."""
    data = dataset.path / schema.DATA_DIR
    (data / "train" / "0.parquet").rename(data / "aside")
    (data / "held_out" / "0.parquet").rename(data / "train" / "0.parquet")
    with pytest.raises(DatasetError, match=r"none of 2 labels has a measurement.*in its folder under data/"):
        collect_inputs(dataset, labels((1, 5.0, True), (4, 5.0, False)), "train")


def test_progress_counts_files(dataset):
    told = []
    collect_inputs(dataset, labels((1, 5.0, True)), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_take_renumbers(dataset):
    inputs = collect_inputs(dataset, labels((1, 5.0, True), (1, 20.0, False), (4, 5.0, True)))
    some = inputs.take(np.array([1, 2]))
    assert some.subject_ids.tolist() == [1, 4]
    assert seen(some, 0) == seen(inputs, 1)
    assert seen(some, 1) == seen(inputs, 2)
    assert some.outcomes.tolist() == [0, 1]


@pytest.mark.parametrize("pairs", [1, 5, 40])
def test_a_long_stay_in_portions_gives_the_same(tmp_path, monkeypatch, pairs):
    """A stay of five years with a label every day would be 400 million pairs at once."""
    rows = [(subject, float(hour), "LAB//a", float(hour)) for subject in (1, 4) for hour in range(40)]
    dataset = Dataset(write_meds(tmp_path / "long", rows, SPLITS))
    asked = labels(*((subject, hour, False) for subject in (1, 4) for hour in range(5, 40, 7)))
    whole = collect_inputs(dataset, asked, lookback_hours=3.0)
    monkeypatch.setattr(inputs_module, "_PAIRS", pairs)
    portions = []
    cut = inputs_module._precede
    monkeypatch.setattr(inputs_module, "_precede", lambda *given: portions.append(1) or cut(*given))
    assert collect_inputs(dataset, asked, lookback_hours=3.0).measurements.equals(whole.measurements)
    assert len(portions) > 1
    assert whole.measurements[HOURS_BEFORE].max() == 3
