"""What every row of `apps.APPS` must do; and, where it learns from labels, train, bundle, reload, judge, predict.

Applications that train in a way of their own are held to `test_own_applications.py`, too.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from meds_evaluation.evaluate import evaluate_binary_classification

from caretrace import schema
from caretrace.application import Own, Supervised
from caretrace.application.evaluate import MODEL, evaluate, labels_for
from caretrace.application.predict import predict
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.application.train import train
from caretrace.application.verbs import VERBS, offers, verbs_of
from caretrace.apps import APPS, load_application
from caretrace.backbones import BACKBONES
from caretrace.comparators import COMPARATORS
from caretrace.config import from_dict, load, to_dict
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, CohortError, ConfigError, DatasetError, OutputExistsError
from caretrace.evaluation import auroc

from ..tiny import QUICK, write_tiny_dataset

every = pytest.mark.parametrize("name", sorted(APPS))
WITH_LABELS = [name for name in sorted(APPS) if isinstance(load_application(name), Supervised)]
labelled = pytest.mark.parametrize("name", WITH_LABELS)


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of every application; that of mortality is shared with other tests."""
    found = {"mortality": Run(tiny_run)}
    for name in set(WITH_LABELS) - set(found):
        application = load_application(name)
        found[name] = Run(tmp_path_factory.mktemp(name) / "run")
        train(
            application, Dataset(tiny_dataset), load(application.config_class, None, QUICK), found[name].path
        )
        evaluate(application, found[name], replicates=100)
    return found


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other subjects, and a code that nobody had in training."""
    path = write_tiny_dataset(tmp_path_factory.mktemp("meds") / "other", 120, seed=1)
    for file in (path / schema.DATA_DIR).rglob("*.parquet"):
        frame = pl.read_parquet(file)
        frame.with_columns(pl.col("code").replace({"DRUG//b": "DRUG//new"})).write_parquet(file)
    return path


def collect(application, run, split):
    dataset = run.dataset()
    return application.collect(dataset, labels_for(run, dataset).frame, split, lambda done, total: None)


# --- the table -----------------------------------------------------------------------------------


@every
def test_an_application_describes_itself(name):
    application = load_application(name)
    assert application.name == name
    assert application.title
    assert application.summary.endswith(".")
    assert application.limits("hospital")
    assert all(limit.endswith(".") for limit in application.limits("any source"))


@every
def test_settings_go_to_json_and_back(name):
    config = load_application(name).config_class()
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


@every
def test_it_keeps_the_contract_in_one_of_the_two_ways(name):
    application = load_application(name)
    assert isinstance(application, Supervised) != isinstance(application, Own)
    assert {"train", "evaluate", "report"} <= set(verbs_of(application)) <= set(VERBS)
    assert offers(application, "cohort") == isinstance(application, Supervised)


@labelled
def test_its_tasks_are_files(name):
    application = load_application(name)
    for task in application.task_order:
        assert (application.tasks / f"{task}.yaml").is_file()


@every
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_it_lacks_is_answered_with_those_that_have_it(name, verb):
    application = load_application(name)
    if offers(application, verb):
        assert load_application(name, verb) is application
        return
    with pytest.raises(ConfigError, match=f"{name} cannot {verb}; ") as told:
        load_application(name, verb)
    for other in APPS:
        assert (other in str(told.value).split("; ")[1]) == offers(load_application(other), verb)


def test_an_unknown_application_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown application 'mortalty': did you mean 'mortality'"):
        load_application("mortalty")


# --- train, bundle, reload -----------------------------------------------------------------------


@labelled
def test_the_bundle_gives_the_risks_that_were_judged(name, runs):
    """Written by one process and read by another, it predicts the same to the last bit."""
    application, run = load_application(name), runs[name]
    inputs = collect(application, run, schema.HELD_OUT)
    risks = Predictor.from_pretrained(application, run.bundle).risks(inputs)
    judged = pl.read_parquet(run.evaluation / "predictions.parquet")
    np.testing.assert_array_equal(risks.astype(np.float32), judged[schema.PREDICTED_PROBABILITY].to_numpy())
    assert ((risks > 0) & (risks < 1)).all()
    assert len(np.unique(risks)) > len(risks) / 2


@labelled
def test_the_same_seed_gives_the_same_bundle(name, runs, tiny_dataset, tmp_path):
    application = load_application(name)
    train(application, Dataset(tiny_dataset), load(application.config_class, None, QUICK), tmp_path / "run")
    for part in ("model.safetensors", "preprocessor.json", "calibration.json", "metrics.json"):
        assert (tmp_path / "run" / "bundle" / part).read_bytes() == (runs[name].bundle / part).read_bytes()


class Interruption(Exception):
    """Stands for whatever stops a process."""


@labelled
@pytest.mark.parametrize("what", ["training member 1", "training member 2", "comparators"])
def test_interrupted_and_resumed_the_bundle_is_the_same(name, runs, tiny_dataset, tmp_path, what):
    application = load_application(name)
    config = load(application.config_class, None, QUICK)

    def interrupt(doing, done, total):
        if doing.startswith(what) and done == 2:
            raise Interruption

    with pytest.raises(Interruption):
        train(application, Dataset(tiny_dataset), config, tmp_path / "run", progress=interrupt)
    assert not (tmp_path / "run" / "bundle").exists()
    train(application, Dataset(tiny_dataset), config, tmp_path / "run", resume=True)
    for file in runs[name].bundle.rglob("*"):
        if file.is_file() and file.name not in ("README.md", "manifest.json"):  # these carry the date
            other = tmp_path / "run" / "bundle" / file.relative_to(runs[name].bundle)
            assert other.read_bytes() == file.read_bytes(), file.name
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (runs[name].path / "metrics.jsonl").read_text()


@labelled
def test_resuming_a_finished_run_changes_nothing(name, runs, tiny_dataset, tmp_path):
    application, copy = load_application(name), tmp_path / "run"
    shutil.copytree(runs[name].path, copy)
    config = load(application.config_class, None, QUICK)
    again = train(application, Dataset(tiny_dataset), config, copy, resume=True)
    assert again["tuning"] == runs[name].read()["tuning"]
    for file in runs[name].bundle.rglob("*"):
        if file.is_file():
            assert (copy / "bundle" / file.relative_to(runs[name].bundle)).read_bytes() == file.read_bytes()


@labelled
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
@pytest.mark.parametrize("step_hours", [0, 6])
def test_every_backbone_trains_on_steps_and_on_single_measurements(
    name, backbone, step_hours, tiny_dataset, tmp_path
):
    application = load_application(name)
    chosen = [
        *QUICK,
        "training.members=1",
        "training.max_steps=4",
        f"backbone={backbone}",
        f"step_hours={step_hours}",
    ]
    config = load(application.config_class, None, chosen)
    run = train(application, Dataset(tiny_dataset), config, tmp_path / "run")
    assert run["backbone"] == backbone
    figures = evaluate(application, Run(tmp_path / "run"), replicates=100)
    assert 0 <= figures["metrics"]["auroc"]["value"] <= 1


# --- judge ---------------------------------------------------------------------------------------

METRICS = {"auroc", "auprc", "brier", "ece"}


@labelled
def test_the_figures_have_the_shape_that_others_read(name, runs):
    """Fixed: a reader of `evaluate --json` may rely on every key and on no other."""
    figures = json.loads((runs[name].evaluation / "evaluation.json").read_text())
    assert {"application", "split", "n_subjects", "n", "metrics", "comparators", "paired", "gates"} <= set(
        figures
    )
    assert set(figures["metrics"]) == METRICS
    assert set(figures["comparators"]) == set(figures["paired"]) == set(COMPARATORS)
    models = [figures["metrics"], *figures["comparators"].values()]
    for value in [value for model in models for value in model.values()]:
        assert set(value) == {"value", "low", "high"}
        assert value["low"] <= value["high"]
    for differences in figures["paired"].values():
        assert set(differences) == METRICS
        assert all(set(value) == {"difference", "low", "high"} for value in differences.values())
    for gate in figures["gates"].values():
        assert set(gate) == {"passed", "value", "bound"}
    assert figures["application"] == name
    assert figures["split"] == schema.HELD_OUT
    assert figures["recommended"]["name"] in {MODEL, *COMPARATORS}


@labelled
def test_figures_are_of_the_held_out_subjects_alone(name, runs):
    run = runs[name]
    figures = json.loads((run.evaluation / "evaluation.json").read_text())
    judged = pl.read_parquet(run.evaluation / "predictions.parquet")
    splits = dict(run.dataset().splits.iter_rows())
    assert {splits[subject] for subject in judged[schema.SUBJECT_ID]} == {schema.HELD_OUT}
    assert figures["n"] == len(judged)
    assert figures["n_subjects"] == judged[schema.SUBJECT_ID].n_unique()
    assert figures["positives"] == judged[schema.BOOLEAN_VALUE].sum()


@labelled
def test_judged_twice_the_figures_are_the_same(name, runs, tmp_path):
    shutil.copytree(runs[name].path, tmp_path / "run")
    again = evaluate(load_application(name), Run(tmp_path / "run"), replicates=100)
    assert again == json.loads((runs[name].evaluation / "evaluation.json").read_text())


@labelled
def test_another_dataset_is_judged_by_the_same_task(name, runs, other_dataset, tmp_path):
    shutil.copytree(runs[name].path, tmp_path / "run")
    told = []
    figures = evaluate(
        load_application(name),
        Run(tmp_path / "run"),
        Dataset(other_dataset),
        split=None,
        replicates=100,
        progress=lambda *what: told.append(what),
    )
    assert figures["split"] == "all"
    assert figures["n_subjects"] == 120
    assert figures["dataset"]["path"] == str(other_dataset)
    assert figures["dataset"]["fingerprint"] != runs[name].read()["fingerprint"]
    assert told[-1][1] == told[-1][2]


@labelled
def test_a_dataset_that_changed_since_the_training_is_not_judged_by_mistake(
    name, runs, tiny_dataset, tmp_path
):
    shutil.copytree(runs[name].path, tmp_path / "run")
    shutil.copytree(tiny_dataset, tmp_path / "data")
    run = Run(tmp_path / "run")
    run.update(dataset=str(tmp_path / "data"))
    assert evaluate(load_application(name), run, replicates=100)["n"] == 60
    splits = tmp_path / "data" / schema.SPLITS_FILE
    frame = pl.read_parquet(splits)
    frame.with_columns(frame[schema.SPLIT].reverse()).write_parquet(splits)
    with pytest.raises(DatasetError, match=r"is not what .*run was trained on.*train again"):
        evaluate(load_application(name), run, replicates=100)


@labelled
def test_one_class_among_the_judged_is_refused(name, runs, tmp_path):
    shutil.copytree(runs[name].path, tmp_path / "run")
    run = Run(tmp_path / "run")
    frame = pl.read_parquet(run.labels / schema.LABELS_FILE)
    frame.with_columns(pl.lit(False).alias(schema.BOOLEAN_VALUE)).write_parquet(
        run.labels / schema.LABELS_FILE
    )
    with pytest.raises(CohortError, match=r"class|outcome|positive"):
        evaluate(load_application(name), run, replicates=100)


# --- predict -------------------------------------------------------------------------------------


@labelled
def test_meds_evaluation_scores_the_predictions_unchanged(name, runs, tiny_dataset, tmp_path):
    out = tmp_path / "predictions.parquet"
    counts = predict(load_application(name), runs[name], Dataset(tiny_dataset), out)
    frame = pl.read_parquet(out)
    assert frame.columns == [*schema.LABEL_COLUMNS, schema.PREDICTED_VALUE, schema.PREDICTED_PROBABILITY]
    theirs = evaluate_binary_classification(frame)["samples_equally_weighted"]["roc_auc_score"]
    ours = auroc(frame[schema.BOOLEAN_VALUE].to_numpy(), frame[schema.PREDICTED_PROBABILITY].to_numpy())
    assert theirs == pytest.approx(ours)
    figures = json.loads((runs[name].evaluation / "evaluation.json").read_text())
    assert theirs == pytest.approx(figures["metrics"]["auroc"]["value"], abs=1e-6)
    assert counts["predictions"] == counts["subjects"] == len(frame) == 60
    assert counts["mean_risk"] == pytest.approx(frame[schema.PREDICTED_PROBABILITY].mean(), abs=1e-6)


@labelled
def test_codes_the_model_does_not_know_are_counted_and_survived(name, runs, other_dataset, tmp_path):
    counts = predict(
        load_application(name), runs[name], Dataset(other_dataset), tmp_path / "out.parquet", split=None
    )
    assert 0 < counts["unknown_codes"] < counts["measurements"]
    assert pl.read_parquet(tmp_path / "out.parquet")[schema.PREDICTED_PROBABILITY].is_finite().all()


@labelled
def test_labels_say_when_to_predict(name, runs, tiny_dataset, tmp_path):
    labels = pl.read_parquet(runs[name].labels / schema.LABELS_FILE)
    labels.tail(3).write_parquet(tmp_path / "labels.parquet")
    counts = predict(
        load_application(name),
        runs[name],
        Dataset(tiny_dataset),
        tmp_path / "out.parquet",
        labels=tmp_path / "labels.parquet",
        split=None,
    )
    assert counts["predictions"] == 3


@labelled
def test_predictions_never_overwrite(name, runs, tiny_dataset, tmp_path):
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(OutputExistsError, match="choose another output path"):
        predict(load_application(name), runs[name], Dataset(tiny_dataset), tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "mine"


@labelled
def test_nobody_to_predict_for_is_told(name, runs, tiny_dataset, tmp_path):
    labels = pl.read_parquet(runs[name].labels / schema.LABELS_FILE)
    labels.filter(pl.col(schema.SUBJECT_ID) == 1).write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(
        CohortError, match=re.escape("no label belongs to a subject of split 'held_out' (1 labels")
    ):
        predict(
            load_application(name),
            runs[name],
            Dataset(tiny_dataset),
            tmp_path / "out.parquet",
            labels=tmp_path / "labels.parquet",
        )


# --- bundles that do not fit ---------------------------------------------------------------------


@labelled
def test_a_bundle_of_another_application_is_refused(name, runs, tmp_path):
    shutil.copytree(runs[name].bundle, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps({**manifest, "application": "vitals"}))
    with pytest.raises(BundleError, match=f"is a bundle of 'vitals', not of '{name}'"):
        Predictor.from_pretrained(load_application(name), tmp_path / "bundle")


def forge(bundle: Path, part: str, value) -> None:
    """Change a part and make the manifest agree, as somebody who mixes bundles would."""
    import hashlib

    (bundle / part).write_text(json.dumps(value))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["sha256"][part] = hashlib.sha256((bundle / part).read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@labelled
@pytest.mark.parametrize("part", ["config", "preprocessor", "calibration"])
def test_parts_that_do_not_belong_together_are_refused(name, runs, tmp_path, part):
    shutil.copytree(runs[name].bundle, tmp_path / "bundle")
    value = json.loads((tmp_path / "bundle" / f"{part}.json").read_text())
    if part == "config":
        value["d_model"] = 32
    elif part == "preprocessor":
        value["vocabulary"]["codes"].append("LAB//of another vocabulary")
    else:
        del value["slope"]
    forge(tmp_path / "bundle", f"{part}.json", value)
    with pytest.raises(BundleError, match=r"do not belong together|calibration"):
        Predictor.from_pretrained(load_application(name), tmp_path / "bundle")


@labelled
def test_the_card_names_task_figures_and_limits(name, runs):
    application, run = load_application(name), runs[name].read()
    card = (runs[name].bundle / "README.md").read_text()
    assert "Research use only" in card
    assert run["task"] in card
    assert run["fingerprint"][:16] in card
    assert f"{run['tuning']['auroc']:.3f}" in card
    assert all(limit in card for limit in application.limits(run["source"]))
