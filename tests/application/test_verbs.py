"""An application without labels, as small as one can be, goes through every verb."""

import json
import sys
import types
from pathlib import Path

import pytest

from caretrace.application import Own, Supervised
from caretrace.application.run import Run
from caretrace.application.verbs import Draw, evaluate, generate, predict, supervised, train, verbs_of
from caretrace.apps import APPS, load_application
from caretrace.cli import build_app
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError

from .counting_app import Counting


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """In the table for the time of a test."""
    application = Counting()
    module = types.ModuleType("counting_app_of_a_test")
    module.APPLICATION = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(APPS, "counting", module.__name__)
    return application


def test_the_two_ways_are_told_apart(counting: Counting) -> None:
    assert isinstance(counting, Own)
    assert not isinstance(counting, Supervised)
    assert verbs_of(counting) == ("train", "evaluate", "explain", "report")
    assert "generate" not in verbs_of(load_application("mortality"))
    assert not isinstance(load_application("mortality"), Own)


def test_what_it_lacks_is_told_with_those_that_have_it(counting: Counting, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="counting cannot predict; those that can: mortality"):
        load_application("counting", "predict")
    with pytest.raises(ConfigError, match="counting cannot fly; no application can"):
        load_application("counting", "fly")
    with pytest.raises(ConfigError, match="counting has no predict; it has train, evaluate, explain, report"):
        predict(counting, Run(tmp_path), Dataset.__new__(Dataset), tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match="counting has no generate"):
        generate(counting, Run(tmp_path), tmp_path / "out", Draw(3))
    with pytest.raises(ConfigError, match="counting learns without labels"):
        supervised(counting)


def test_labels_are_refused_before_anything_is_read(
    counting: Counting, tiny_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--task any: counting learns without labels; leave it out"):
        train(counting, Dataset(tiny_dataset), counting.config_class(), tmp_path / "run", task="any")
    with pytest.raises(ConfigError, match="--labels"):
        train(counting, Dataset(tiny_dataset), counting.config_class(), tmp_path / "run", labels=tmp_path)
    assert not (tmp_path / "run").exists()


def test_it_is_trained_and_judged_like_any_other(
    counting: Counting, tiny_dataset: Path, tmp_path: Path
) -> None:
    found = train(counting, Dataset(tiny_dataset), counting.config_class(), tmp_path / "run")
    assert found == Run(tmp_path / "run").read()
    figures = evaluate(counting, Run(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text()) == figures


def test_from_the_command_line(counting: Counting, tiny_dataset: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    def ask(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(build_app(), [str(each) for each in arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code
        return done.stdout

    run = tmp_path / "run"
    listed = json.loads(ask("apps", "--json"))["applications"]
    assert [each["name"] for each in listed] == list(APPS)
    assert listed[-1]["verbs"] == ["train", "evaluate", "explain", "report"]
    trained = json.loads(ask("train", "counting", tiny_dataset, "--out", run, "--set", "seed=3", "--json"))
    assert trained["seed"] == 3
    shown = ask("train", "counting", tiny_dataset, "--out", tmp_path / "again")
    assert "Measurements, counted" in shown
    assert json.loads(ask("evaluate", run, "--json"))["gates"]["per_subject"]["passed"] is False
    shown = ask("evaluate", run)
    assert "per_subject" in shown
    assert "no" in shown.split("Gates")[1]
    assert json.loads(ask("explain", run, "--subject", 7, "--json"))["rows"] == [[7, "many"]]
    assert "many" in ask("explain", run)
    page = Path(json.loads(ask("report", run, "--json"))["report"])
    assert "per subject" in page.read_text().lower()
    with pytest.raises(ConfigError, match="counting cannot predict; those that can: mortality"):
        ask("predict", run, tiny_dataset, "--out", tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match="counting cannot cohort"):
        ask("cohort", "counting", tiny_dataset, "--out", tmp_path / "labels")
