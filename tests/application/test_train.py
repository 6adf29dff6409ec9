"""What `train` refuses, and that a refusal leaves nothing behind."""

import json
import shutil

import polars as pl
import pytest

from caretrace import schema
from caretrace.application.run import Run
from caretrace.application.tasks import find_task
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, CohortError, ConfigError, OutputExistsError

from ..tiny import QUICK, write_tiny_dataset

APPLICATION = load_application("mortality")


def config(*settings):
    return load(APPLICATION.config_class, None, [*QUICK, *settings])


@pytest.fixture
def dataset(tiny_dataset):
    return Dataset(tiny_dataset)


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A finished run that may be changed."""
    shutil.copytree(tiny_run, tmp_path / "run")
    return Run(tmp_path / "run")


# --- refused before anything is written ----------------------------------------------------------


def one_class(dataset, path, split):
    """Labels in which nobody of one split dies."""
    frame = build_labels(dataset, find_task(APPLICATION, dataset, None)).frame.join(
        dataset.splits, on=schema.SUBJECT_ID
    )
    survives = pl.col(schema.SPLIT) == split
    label = pl.col(schema.BOOLEAN_VALUE) & ~survives
    frame.with_columns(label).select(schema.LABEL_COLUMNS).write_parquet(path)
    return path


@pytest.mark.parametrize(("split", "n"), [("train", 120), ("tuning", 60)])
def test_one_class_is_refused(dataset, tmp_path, split, n):
    labels = one_class(dataset, tmp_path / "labels.parquet", split)
    told = rf"the {split} split has {n} labels and 0 of them are positive: a model needs both outcomes; take a larger"
    with pytest.raises(CohortError, match=told):
        train(APPLICATION, dataset, config(), tmp_path / "run", labels=labels)
    assert not (tmp_path / "run").exists()


def test_no_labels_at_all_are_refused(dataset, tmp_path):
    labels = tmp_path / "labels.parquet"
    one_class(dataset, labels, "train")
    pl.read_parquet(labels).head(0).write_parquet(labels)
    with pytest.raises(CohortError, match="the train split has 0 labels"):
        train(APPLICATION, dataset, config(), tmp_path / "run", labels=labels)
    assert not (tmp_path / "run").exists()


def test_zero_subjects_are_refused(tmp_path):
    empty = Dataset(write_tiny_dataset(tmp_path / "empty", 0))
    with pytest.raises(CohortError, match="has no icu_admission event, so there is nothing to label"):
        train(APPLICATION, empty, config(), tmp_path / "run", task="in_icu_death_24h")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["backbone=transfomer"], "unknown backbone 'transfomer': did you mean 'transformer'"),
        (["backbone=transformer", "d_model=12"], "d_model 12 must be a multiple of 2 x n_heads"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(dataset, tmp_path, settings, told):
    with pytest.raises(ConfigError, match=told):
        train(APPLICATION, dataset, config(*settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_task_is_answered_with_the_nearest(dataset, tmp_path):
    with pytest.raises(CohortError, match="'in_icu_deth_24h': did you mean 'in_icu_death_24h'"):
        train(APPLICATION, dataset, config(), tmp_path / "run", task="in_icu_deth_24h")
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten(dataset, copy):
    before = {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    with pytest.raises(OutputExistsError, match="already exists: choose another output path"):
        train(APPLICATION, dataset, config(), copy.path)
    assert {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()} == before


# --- labels --------------------------------------------------------------------------------------


def test_labels_made_before_give_the_same_run(dataset, tiny_run, tmp_path):
    build_labels(dataset, find_task(APPLICATION, dataset, None), tmp_path / "labels")
    run = train(APPLICATION, dataset, config(), tmp_path / "run", labels=tmp_path / "labels")
    assert run["task"] == "in_icu_death_24h"
    for part in (
        "bundle/model.safetensors",
        "bundle/task.yaml",
        "labels/labels.parquet",
        "labels/attrition.json",
    ):
        assert (tmp_path / "run" / part).read_bytes() == (tiny_run / part).read_bytes(), part


def test_labels_of_another_tool_have_no_task(dataset, tiny_run, tmp_path):
    shutil.copyfile(tiny_run / "labels" / "labels.parquet", tmp_path / "labels.parquet")
    run = train(APPLICATION, dataset, config(), tmp_path / "run", labels=tmp_path / "labels.parquet")
    assert run["task"] == str(tmp_path / "labels.parquet")
    assert not (tmp_path / "run" / "labels" / "task.yaml").exists()


# --- the run folder ------------------------------------------------------------------------------


def test_a_run_says_what_was_asked(tiny_run, tiny_dataset):
    run = json.loads((tiny_run / "run.json").read_text())
    assert run["application"] == "mortality"
    assert run["dataset"] == str(tiny_dataset.resolve())
    assert run["fingerprint"] == Dataset(tiny_dataset).fingerprint
    assert run["config"]["training"]["members"] == 2
    assert (run["n_train"], run["n_tuning"]) == (120, 60)
    assert run["tuning"]["split"] == "tuning"
    assert set(run["versions"]) >= {"caretrace", "python", "torch"}


def test_a_folder_without_run_json_is_no_run(dataset, copy, tmp_path):
    (copy.path / "run.json").unlink()
    for path in (copy.path, tmp_path / "nowhere"):
        with pytest.raises(
            BundleError, match=r"is not a run: run\.json is missing; make one with `caretrace train`"
        ):
            Run(path).read()
        with pytest.raises(BundleError, match=r"run\.json is missing"):
            train(APPLICATION, dataset, config(), path, resume=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "12"])
def test_a_damaged_run_json_is_told(copy, text):
    (copy.path / "run.json").write_text(text)
    with pytest.raises(BundleError, match=r"run\.json is damaged"):
        copy.read()


# --- resuming something else ---------------------------------------------------------------------


def refused(match, dataset, copy, *settings, **arguments):
    with pytest.raises(BundleError, match=match):
        train(APPLICATION, dataset, config(*settings), copy.path, resume=True, **arguments)


def test_resumed_with_another_setting(dataset, copy):
    refused(
        r"another config \(training: seed: then 0, now 1\); give the same one",
        dataset,
        copy,
        "training.seed=1",
    )
    refused(r"another config \(backbone: then 'gru', now 'lstm'\)", dataset, copy, "backbone=lstm")
    refused(r"another config \(static: then \[.*\], now \[\]\)", dataset, copy, "static=[]")


def test_resumed_with_another_dataset(copy, tmp_path):
    other = Dataset(write_tiny_dataset(tmp_path / "other", seed=5))
    refused(r"another fingerprint \(then '[0-9a-f]{64}', now '[0-9a-f]{64}'\)", other, copy)


def test_resumed_with_another_task(dataset, copy):
    told = r"another task \(then 'in_icu_death_24h', now 'in_hospital_death_24h'\)"
    refused(told, dataset, copy, task="in_hospital_death_24h")


def test_resumed_with_another_version(dataset, copy):
    versions = copy.read()["versions"]
    copy.update(versions={**versions, "caretrace": "0.0.7"})
    refused(r"begun with caretrace 0\.0\.7, this is .*install caretrace 0\.0\.7 to go on", dataset, copy)


def test_a_refused_resume_changes_nothing(dataset, copy):
    before = {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    refused("another config", dataset, copy, "training.seed=1")
    assert {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()} == before
