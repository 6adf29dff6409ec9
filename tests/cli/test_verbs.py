"""The verbs from a dataset to a report, as a machine and as a person would use them."""

import json
import re

import polars as pl
import pytest

from caretrace import schema

from ..tiny import QUICK

SETTINGS = [part for setting in QUICK for part in ("--set", setting)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the verbs of this file hand each other their results, in the order of the tests."""
    return tmp_path_factory.mktemp("flow")


def test_sources(caretrace):
    found = caretrace("sources", "--json").json["sources"]
    assert {"mimic-iv", "hospital", "physionet-2012"} <= {source["name"] for source in found}
    assert "mimic-iv" in caretrace("sources").out


def test_inspect(caretrace, tiny_dataset, tmp_path):
    found = caretrace("inspect", tiny_dataset, "--html", tmp_path / "page.html", "--json").json
    assert found["subjects"] == 240
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    answer = caretrace("inspect", tiny_dataset)
    assert "LAB//lactate" in answer.out
    assert "Next: caretrace train" in answer.err


def test_cohort(caretrace, tiny_dataset, place):
    found = caretrace("cohort", "mortality", tiny_dataset, "--out", place / "labels", "--json").json
    assert found["counts"]["labels"] == 240
    assert len(pl.read_parquet(place / "labels" / schema.LABELS_FILE)) == 240


def test_train(caretrace, tiny_dataset, place):
    arguments = ["--labels", place / "labels", "--backbone", "lstm", "--out", place / "run"]
    found = caretrace("train", "mortality", tiny_dataset, *arguments, *SETTINGS, "--json").json
    assert found["run"] == str(place / "run")
    assert found["backbone"] == "lstm"
    assert 0 <= found["tuning"]["auroc"] <= 1


def test_train_from_a_config_file_gives_the_same(caretrace, tiny_dataset, tiny_run, tmp_path):
    (tmp_path / "settings.yaml").write_text(
        json.dumps(json.loads((tiny_run / "run.json").read_text())["config"])
    )
    answer = caretrace(
        "train", "mortality", tiny_dataset, "--out", tmp_path / "run", "--config", tmp_path / "settings.yaml"
    )
    assert answer.code == 0
    assert f"Next: caretrace evaluate {tmp_path / 'run'}" in answer.err
    assert "AUROC" in answer.out
    weights = "bundle/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tiny_run / weights).read_bytes()


def test_evaluate(caretrace, place):
    found = caretrace("evaluate", place / "run", "--replicates", 100, "--json").json
    assert found == json.loads((place / "run" / "evaluation" / "evaluation.json").read_text())
    answer = caretrace("evaluate", place / "run", "--replicates", 100)
    assert "caretrace minus comparator" in answer.out
    assert "Next: caretrace report" in answer.err


def test_evaluate_all_of_another_dataset(caretrace, place, tiny_dataset):
    found = caretrace(
        "evaluate", place / "run", tiny_dataset, "--split", "all", "--replicates", 100, "--json"
    ).json
    assert found["n"] == 240


def test_predict(caretrace, tiny_dataset, place):
    out = place / "predictions.parquet"
    found = caretrace("predict", place / "run", tiny_dataset, "--out", out, "--json").json
    assert found["predictions"] == len(pl.read_parquet(out)) == 60
    assert found["unknown_codes"] == 0


def test_report(caretrace, place):
    found = caretrace("report", place / "run", "--json").json
    page = place / "run" / "report.html"
    assert found["report"] == str(page)
    assert found["evaluated"]
    assert found["bytes"] == page.stat().st_size


def test_quiet_is_quiet(caretrace, tiny_dataset, place, tmp_path):
    for arguments in (
        ["inspect", tiny_dataset],
        ["predict", place / "run", tiny_dataset, "--out", tmp_path / "p.parquet"],
        ["evaluate", place / "run", "--replicates", 100],
    ):
        answer = caretrace(*arguments, "--quiet")
        assert answer.code == 0
        assert answer.err == ""
        assert answer.out != ""


@pytest.fixture
def quick_demo(monkeypatch, certify_little):
    from caretrace.cli import tour

    monkeypatch.setitem(
        tour.QUICK, "mortality", ("training.members=1", "training.max_steps=20", "d_model=16")
    )


@pytest.mark.slow
def test_demo_goes_the_whole_way_by_commands_that_anybody_can_repeat(caretrace, quick_demo, tmp_path):
    demo, again = tmp_path / "demo", tmp_path / "again"
    answer = caretrace("demo", "--app", "mortality", "--subjects", 300, "--out", demo, "--json")
    assert answer.json["report"] == str(demo / "report.html")
    assert "AUROC" in (demo / "report.html").read_text()
    assert "AUROC" in (demo / "mortality.html").read_text()
    printed = re.findall(r"^\[\d/7\] caretrace (.*)$", answer.err, re.MULTILINE)
    assert [command.split()[0] for command in printed] == [
        "simulate", "ingest", "cohort", "train", "evaluate", "explain", "report",
    ]  # fmt: skip
    for command in printed:
        repeated = caretrace(*command.replace(str(demo), str(again)).split(), "--json")
        assert repeated.code == 0, repeated.err
    weights = "runs/mortality/bundle/model.safetensors"
    assert (again / weights).read_bytes() == (demo / weights).read_bytes()
    figures = json.loads((again / "runs" / "mortality" / "evaluation" / "evaluation.json").read_text())
    assert figures["metrics"] == answer.json["evaluation"]["mortality"]["metrics"]
