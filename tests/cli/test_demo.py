"""What the demo runs: commands and settings that exist, and a page that leads to each application's."""

import json
from pathlib import Path

import polars as pl
import pytest

from caretrace.apps import APPS, load_application
from caretrace.cli import VERBS, tour
from caretrace.cli.demo import ORDER
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.hospital import HospitalConfig
from caretrace.report.demo_page import STORIES, render_demo_page


def settings(words):
    return [words[i + 1] for i, word in enumerate(words) if word == "--set"]


def test_every_application_is_in_the_demo():
    assert set(ORDER) == set(APPS) == set(tour.PARTS) == set(STORIES)


@pytest.mark.parametrize("name", ORDER)
def test_every_command_and_setting_of_the_demo_exists(name):
    steps = tour.steps(Path("demo"), [name], 4000, 0)
    verbs = [step.words[0] for step in steps]
    assert set(verbs) <= set(VERBS)
    assert [verb for verb in verbs if verb not in ("cohort", "explain")] == [
        "simulate",
        "ingest",
        "train",
        "evaluate",
        "report",
    ]
    simulate, train = (next(s.words for s in steps if s.words[0] == verb) for verb in ("simulate", "train"))
    load(HospitalConfig, None, settings(simulate))
    load(load_application(name).config_class, None, settings(train))


def test_the_demo_certifies_what_it_trained():
    """A certificate of other settings certifies nothing."""
    steps = tour.steps(Path("demo"), ["mortality"], 4000, 0)
    train, certify = (
        next(each.words for each in steps if each.words[0] == verb) for verb in ("train", "explain")
    )
    assert certify[1] == train[train.index("--out") + 1]
    assert train[train.index("--config") + 1] == tour.EXPLAINED
    assert all(setting.startswith("training.") for setting in settings(certify)), "all else is the run's"
    assert [each.words[0] for each in steps][-2:] == ["explain", "report"], "the report shows the certificate"


def test_the_seed_reaches_simulation_and_training():
    for name in ORDER:
        steps = {step.words[0]: step.words for step in tour.steps(Path("demo"), [name], 4000, 7)}
        assert steps["simulate"][-2:] == ("--seed", "7")
        assert f"{tour.SEEDS[name]}=7" in settings(steps["train"])


def test_a_step_that_fails_says_so(tmp_path):
    step = tour.Step("vitals", ("inspect", str(tmp_path / "nowhere")))
    with pytest.raises(Exception, match="nowhere"):
        tour.perform(step)


def test_the_index_leads_to_every_page_and_says_how_to_see_it_live(tmp_path):
    described = tour.describe(list(ORDER))
    figures = {"metrics": {"auroc": {"value": 0.87, "low": 0.8, "high": 0.9}}, "n_subjects": 12}
    gates = {"a": {"passed": True}, "b": {"passed": False}}
    page = render_demo_page(tmp_path, described, {"mortality": {**figures, "gates": gates}})
    html = page.read_text()
    for name in ORDER:
        assert f'href="{name}.html"' in html
    assert "0.870" in html
    assert "1 of 2 bounds" in html
    assert f"caretrace serve {tmp_path}" in html
    assert json.loads(json.dumps(described))["replay"]["split"] == "held_out"


def test_an_unknown_application_is_named(caretrace, tmp_path):
    answer = caretrace("demo", "--app", "mortalty", "--out", tmp_path / "d")
    assert answer.code == 1
    assert "did you mean 'mortality'" in answer.err
    assert not (tmp_path / "d").exists()


TINY = {
    "mortality": ((), ("training.members=1", "training.max_steps=20", "d_model=16")),
    "synth": (("--subjects", "1000"), ("latent.people=4", "latent.visits=4", "latent.iterations=3")),
    "vitals": (
        ("--days", "1", "--set", "monitors.people=40", "--set", "monitors.step_seconds=300"),
        ("grid.step_seconds=300", "grid.length=48", "detector.batches=20", "document.fitted=false"),
    ),
    "safety": (
        ("--days", "24", "--set", "operations.size=0.2"),
        ("block_days=3", "model.d_model=16", "batches=5", "descent.epochs=2", "most_pathways=1000"),
    ),
}


@pytest.mark.slow
def test_all_four_applications_in_one_command(caretrace, monkeypatch, certify_little, tmp_path):
    for name, (size, quick) in TINY.items():
        monkeypatch.setitem(tour.SIZES, name, size)
        monkeypatch.setitem(tour.QUICK, name, quick)
    demo = tmp_path / "demo"
    answer = caretrace("demo", "--subjects", 400, "--out", demo, "--json")
    assert set(answer.json["evaluation"]) == set(APPS)
    described = json.loads((demo / "demo.json").read_text())
    for name in APPS:
        assert (demo / described["pages"][name]).stat().st_size > 5000
        assert (demo / described["runs"][name] / "run.json").is_file()
        assert (demo / described["datasets"][name] / "metadata" / "dataset.json").is_file()
    assert (
        json.loads((demo / "runs/mortality/bundle/certificate.json").read_text())["planted"]["subjects"]
        == 400
    )
    beds = Dataset(demo / "dataset/vitals").splits.filter(pl.col("split") == "held_out")["subject_id"]
    assert set(described["risks"]["records"]) == set(map(str, beds)), "every replayed bed has a record"
    assert answer.err.count("\n[") + answer.err.startswith("[") == 22
    assert f"caretrace serve {demo}" in answer.err.replace("\n", "")
