"""The tasks that ship with the mortality application."""

from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from caretrace.cohort import build_labels, read_task
from caretrace.cohort.predicates import DerivedPredicate
from caretrace.dataset import Dataset

TASKS = Path(str(files("caretrace.apps").joinpath("mortality", "tasks")))
FILES = sorted(TASKS.glob("*.yaml"))


def test_seven_tasks_ship() -> None:
    assert [path.stem for path in FILES] == [
        "in_hospital_death_24h", "in_hospital_death_48h", "in_icu_death_24h", "in_icu_death_48h",
        "in_icu_death_trajectory", "physionet_2012_48h", "physionet_2012_trajectory",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_says_what_it_is_for_and_predicts_at_the_hour_of_its_name(path: Path) -> None:
    task = read_task(path)
    assert len(task.description) > 100
    assert task.trigger == "icu_admission"
    assert task.index_window is not None
    if path.stem.endswith("_trajectory"):
        assert len(task.landmarks) > 3
        assert task.index_window.end.landmark
        return
    assert task.index_window.end.offset.total_seconds() / 3600 == float(
        path.stem.split("_")[-1].removesuffix("h")
    )


def test_the_first_task_means_what_meds_dev_means() -> None:
    """MEDS-DEV tasks/mortality/in_icu/first_24h.yaml; `death` alone is left to the dataset here."""
    task = read_task(TASKS / "in_icu_death_24h.yaml").to_dict()
    both = {"start_inclusive": True, "end_inclusive": True}
    half = {"start_inclusive": False, "end_inclusive": True}
    assert task["windows"] == {
        "input": {"start": None, "end": "trigger + 24h", **both, "index_timestamp": "end"},
        "gap": {
            "start": "trigger",
            "end": "start + 48h",
            **half,
            "has": {"icu_admission": "(None, 0)", "discharge_or_death": "(None, 0)"},
        },
        "target": {"start": "gap.end", "end": "start -> discharge_or_death", **half, "label": "death"},
    }
    derived = read_task(TASKS / "in_icu_death_24h.yaml").predicates["discharge_or_death"]
    assert derived == DerivedPredicate("or", ("icu_discharge", "death"))


@pytest.mark.data
@pytest.mark.slow
def test_physionet_2012_gives_the_official_outcome_of_every_record(
    caretrace_data: Path, tmp_path: Path
) -> None:
    from caretrace.ingest import ingest

    raw = caretrace_data / "physionet2012"
    ingest("physionet-2012", raw, tmp_path / "meds")
    labels = build_labels(Dataset(tmp_path / "meds"), TASKS / "physionet_2012_48h.yaml").frame
    official = pl.concat(
        pl.read_csv(raw / f"outcomes-{part}.csv").select(
            subject_id=pl.col("RecordID").cast(pl.Int64), official=pl.col("In-hospital_death") == 1
        )
        for part in "ab"
    )
    assert official.height == 8000
    joined = labels.join(official, on="subject_id", how="full")
    assert joined.height == 8000
    assert joined.filter(pl.col("boolean_value").ne_missing(pl.col("official"))).is_empty()
    assert int(labels["boolean_value"].sum()) == int(official["official"].sum())
