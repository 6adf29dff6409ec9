"""From dataset and task to labels and attrition on disk, and back."""

import itertools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from meds import LabelSchema

from caretrace.cohort import build_labels, default_task, read_labels, read_task
from caretrace.cohort.labels import Labels
from caretrace.cohort.task import Task, parse_task
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, OutputExistsError

from .conftest import PREDICATES, at

TASKS = Path(str(files("caretrace.apps").joinpath("mortality", "tasks")))

# One line per subject; | is hour 24, 48, 72; A admission, d ICU discharge, h hospital discharge, † death.
#
#      0   24   48   72   96            in ICU, 24 h           in hospital, 24 h
#   1  A    |    |    †d   h            dies: True             dies: True
#   2  A    |    |    d    h            lives: False           lives: False
#   3  A    | d  |         h            out in the gap         lives: False
#   4  A    |    † (at 48 exactly)      dies in the gap        dies in the gap
#   5  A    | A  |    d    h            readmitted in the gap; its second admission, at 30, lives: False
#   6  A    |    |                      no outcome recorded    no outcome recorded
#   7  A    |    |    d  † h            lives: False           dies on the ward: True
#   8  A    |    d+1s      h            lives: False (one second after the gap)
STAYS = [
    (1, 0, "ICU_ADMISSION//A"), (1, 72, "MEDS_DEATH"), (1, 72.5, "ICU_DISCHARGE//A"),
    (1, 96, "HOSPITAL_DISCHARGE//DIED"),
    (2, 0, "ICU_ADMISSION//A"), (2, 72, "ICU_DISCHARGE//A"), (2, 96, "HOSPITAL_DISCHARGE//ALIVE"),
    (3, 0, "ICU_ADMISSION//A"), (3, 30, "ICU_DISCHARGE//A"), (3, 96, "HOSPITAL_DISCHARGE//ALIVE"),
    (4, 0, "ICU_ADMISSION//A"), (4, 48, "MEDS_DEATH"), (4, 48, "HOSPITAL_DISCHARGE//DIED"),
    (5, 30, "ICU_ADMISSION//B"), (5, 0, "ICU_ADMISSION//A"), (5, 96, "HOSPITAL_DISCHARGE//ALIVE"),
    (5, 80, "ICU_DISCHARGE//B"),
    (6, 0, "ICU_ADMISSION//A"), (6, 100, "HR"),
    (7, 0, "ICU_ADMISSION//A"), (7, 72, "ICU_DISCHARGE//A"), (7, 80, "MEDS_DEATH"),
    (7, 96, "HOSPITAL_DISCHARGE//DIED"),
    (8, 0, "ICU_ADMISSION//A"), (8, 48 + 1 / 3600, "ICU_DISCHARGE//A"), (8, 96, "HOSPITAL_DISCHARGE//ALIVE"),
    (9, None, "GENDER//F"),
]  # fmt: skip


@pytest.fixture(scope="module")
def stays(make_dataset: Any) -> Dataset:
    return make_dataset(STAYS, PREDICATES)


def pairs(labels: Labels) -> dict[tuple[int, Any], bool]:
    return {(subject, when): value for subject, when, value in labels.frame.rows()}


def test_in_icu_death_as_drawn(stays: Dataset) -> None:
    labels = build_labels(stays, TASKS / "in_icu_death_24h.yaml")
    day = at(24)
    expected = {(1, day): True, (2, day): False, (5, at(54)): False, (7, day): False, (8, day): False}
    assert pairs(labels) == expected
    assert [(step.rule, step.removed, step.remaining) for step in labels.attrition] == [
        ("trigger: every icu_admission", 0, 9),
        ("input: the record starts before trigger + 24h", 0, 9),
        ("gap: no icu_admission in (trigger, trigger + 48h]", 1, 8),
        ("gap: no discharge_or_death in (trigger, trigger + 48h]", 2, 6),
        ("target: a discharge_or_death after gap.end (none recorded; outcome unreadable)", 1, 5),
    ]
    assert labels.counts["splits"]["held_out"] == {"subjects": 1, "labels": 1, "positives": 0}
    assert (labels.counts["subjects"], labels.counts["labels"], labels.counts["positives"]) == (5, 5, 1)


def test_in_hospital_death_as_drawn(stays: Dataset) -> None:
    labels = build_labels(stays, TASKS / "in_hospital_death_24h.yaml")
    day = at(24)
    assert pairs(labels) == {
        (1, day): True, (2, day): False, (3, day): False, (5, at(54)): False, (7, day): True, (8, day): False,
    }  # fmt: skip


def test_the_two_day_tasks_leave_out_who_is_gone_by_hour_72(make_dataset: Any) -> None:
    late = [(s, hours + 8 if hours and hours >= 72 else hours, code) for s, hours, code in STAYS]
    # Eight hours later: 1 dies at 80, 2 and 7 leave the ICU at 80; 3, 4, 8 left by 72; 5 is readmitted,
    # and its second stay leaves at 88, before 30 + 72; 6 has no outcome.
    in_icu = build_labels(make_dataset(late, PREDICATES), TASKS / "in_icu_death_48h.yaml")
    two_days = at(48)
    assert pairs(in_icu) == {(1, two_days): True, (2, two_days): False, (7, two_days): False}
    in_hospital = build_labels(make_dataset(late, PREDICATES), TASKS / "in_hospital_death_48h.yaml")
    assert pairs(in_hospital) == {
        (1, two_days): True, (2, two_days): False, (3, two_days): False, (5, at(78)): False,
        (7, two_days): True, (8, two_days): False,
    }  # fmt: skip


def test_a_death_stamped_after_the_discharge_it_caused_is_a_death_in_hospital(make_dataset: Any) -> None:
    rows = [
        (1, 0, "ICU_ADMISSION"), (1, 90, "HOSPITAL_DISCHARGE//DIED"), (1, 90.2, "MEDS_DEATH"),
        (3, 0, "ICU_ADMISSION"), (3, 90, "HOSPITAL_DISCHARGE//HOME"), (3, 90.2, "MEDS_DEATH"),
        (3, 50, "ICU_DISCHARGE"), (1, 50, "ICU_DISCHARGE"),
    ]  # fmt: skip
    labels = build_labels(make_dataset(rows, PREDICATES), TASKS / "in_hospital_death_24h.yaml")
    assert pairs(labels) == {(1, at(24)): True, (3, at(24)): False}
    assert labels.discordance is not None
    assert labels.discordance["in_hospital_deaths"] == 1
    assert labels.discordance["in_icu_differs_from_in_hospital"] == 1


def test_discordance_counts_the_death_on_the_ward(stays: Dataset) -> None:
    discordance = build_labels(stays, TASKS / "in_icu_death_24h.yaml").discordance
    assert discordance == {
        "labelled_pairs": 5,
        "in_icu_deaths": 1,  # subject 1
        "in_hospital_deaths": 2,  # subjects 1 and 7
        "in_icu_differs_from_in_hospital": 1,
        "in_hospital_deaths_stamped_after_icu_discharge": 1,  # subject 7
        "deaths_date_only": 1,  # subject 1 dies at hour 72, which is midnight
        "in_hospital_deaths_without_time": 0,
    }


def test_discordance_needs_both_discharges(make_dataset: Any) -> None:
    rows = [row for row in STAYS if not row[2].startswith("ICU_DISCHARGE")]
    task = TASKS / "in_hospital_death_24h.yaml"
    assert build_labels(make_dataset(rows, PREDICATES), task).discordance is None
    fewer = {name: value for name, value in PREDICATES.items() if name != "icu_discharge"}
    assert build_labels(make_dataset(rows, fewer), task).discordance is None


def test_a_folder_is_written_whole_and_read_back(stays: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    labels = build_labels(stays, TASKS / "in_icu_death_24h.yaml", out)
    assert sorted(path.name for path in out.iterdir()) == ["attrition.json", "labels.parquet", "task.yaml"]
    stored = pl.read_parquet(out / "labels.parquet")
    LabelSchema.validate(stored.to_arrow())
    assert LabelSchema.align(stored.to_arrow()).num_rows == 5
    summary = json.loads((out / "attrition.json").read_text())
    for before, after in itertools.pairwise(summary["rules"]):
        assert before["remaining"] - after["removed"] == after["remaining"]
    again = read_labels(out, stays)
    assert again.frame.equals(labels.frame)
    assert (again.attrition, again.counts, again.discordance) == (
        labels.attrition,
        labels.counts,
        labels.discordance,
    )
    assert again.task is not None
    assert again.task.name == "in_icu_death_24h"
    # The written task needs nothing of the dataset's predicates.yaml any more.
    assert None not in read_task(out / "task.yaml").predicates.values()
    with pytest.raises(OutputExistsError):
        build_labels(stays, TASKS / "in_icu_death_24h.yaml", out)


def test_nobody_left_says_which_rule_removed_how_many(make_dataset: Any, tmp_path: Path) -> None:
    rows = [(1, 0, "ICU_ADMISSION//A"), (1, 20, "MEDS_DEATH"), (3, 0, "ICU_ADMISSION//A"), (3, 60, "HR")]
    message = (
        r"in_icu_death_24h: no subject is left of 2 icu_admission events in .*: "
        r"'gap: no discharge_or_death in \(trigger, trigger \+ 48h\]' removed 1; "
        r"'target: a discharge_or_death after gap.end .*' removed 1. Loosen 'gap' in .*in_icu_death_24h.yaml"
    )
    with pytest.raises(CohortError, match=message):
        build_labels(make_dataset(rows, PREDICATES), TASKS / "in_icu_death_24h.yaml", tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
    with pytest.raises(CohortError, match=r"has no icu_admission event.*caretrace inspect"):
        build_labels(make_dataset([(1, 0, "HR")], PREDICATES), TASKS / "in_icu_death_24h.yaml")


def test_the_default_task_is_the_first_that_the_dataset_can_answer(make_dataset: Any, stays: Dataset) -> None:
    tasks = [read_task(TASKS / f"{name}.yaml") for name in ("in_icu_death_24h", "physionet_2012_48h")]
    assert default_task(tasks, stays).name == "in_icu_death_24h"
    rows = [row for row in STAYS if not row[2].startswith("ICU_DISCHARGE")]
    assert default_task(tasks, make_dataset(rows, PREDICATES)).name == "physionet_2012_48h"
    fewer = {name: value for name, value in PREDICATES.items() if name != "icu_discharge"}
    assert default_task(tasks, make_dataset(STAYS, fewer)).name == "physionet_2012_48h"
    with pytest.raises(
        CohortError, match=r"in_icu_death_24h lacks death, icu_admission, icu_discharge; physionet"
    ):
        default_task(tasks, make_dataset(STAYS))


def clashing_task(index: str) -> Task:
    window = {"start_inclusive": True, "end_inclusive": True}
    windows = {
        "seen": {"start": "trigger", "end": "start -> out", "index_timestamp": "end", **window},
        "asked": {"start": index, "end": "start + 24h", "label": "x", **window},
    }
    predicates = {"in": {"code": "IN"}, "out": {"code": "OUT"}, "x": {"code": "X"}}
    return parse_task({"predicates": predicates, "trigger": "in", "windows": windows}, "t", "t.yaml")


def test_two_triggers_at_one_prediction_time_give_one_label_or_an_error(make_dataset: Any) -> None:
    dataset = make_dataset([(1, 0, "IN"), (1, 48, "IN"), (1, 60, "X"), (1, 96, "OUT")])
    labels = build_labels(dataset, clashing_task("seen.end"))
    assert labels.frame.height == 1
    assert labels.attrition[-1].rule == "one label per prediction time (an earlier in has it)"
    assert labels.attrition[-1].removed == 1
    with pytest.raises(
        CohortError, match="subject 1 give opposite labels at the same prediction time 2020-01-05"
    ):
        build_labels(dataset, clashing_task("trigger"))


def test_any_meds_label_file_is_read_and_checked(stays: Dataset, tmp_path: Path) -> None:
    good = pl.DataFrame(
        {"subject_id": [2, 1], "prediction_time": [at(1), at(2)], "boolean_value": [True, False]}
    )
    path = tmp_path / "theirs.parquet"

    def write(frame: pl.DataFrame) -> Path:
        frame.write_parquet(path)
        return path

    # ACES writes the other value columns too, all empty.
    labels = read_labels(write(good.with_columns(pl.lit(None, pl.Int64).alias("integer_value"))), stays)
    assert labels.frame["subject_id"].to_list() == [1, 2]
    assert labels.task is None
    shards = tmp_path / "shards" / "train"
    shards.mkdir(parents=True)
    good.write_parquet(shards / "0.parquet")
    assert read_labels(tmp_path / "shards").frame.height == 2
    with pytest.raises(CohortError, match=r"subject 77 is not in .* \(1 such subjects\)"):
        read_labels(write(good.with_columns(pl.Series("subject_id", [2, 77]))), stays)
    with pytest.raises(CohortError, match=r"subject 2 at .* stands there more than once \(2 such rows\)"):
        read_labels(write(pl.concat([good, good[:1]])))
    with pytest.raises(CohortError, match=r"boolean_value is empty in 1 of 2 rows.*not negatives"):
        read_labels(write(good.with_columns(pl.Series("boolean_value", [True, None]))))
    with pytest.raises(CohortError, match=r"not MEDS labels"):
        read_labels(write(good.drop("boolean_value")))
    with pytest.raises(CohortError, match=r"no such labels"):
        read_labels(tmp_path / "nowhere")
    path.write_bytes(b"not parquet")
    with pytest.raises(CohortError, match=r"not MEDS labels"):
        read_labels(path)
