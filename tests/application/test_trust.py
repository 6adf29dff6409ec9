"""What `evaluate` writes for those who must decide whether to trust a run."""

import json

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.evaluate import inputs_for, labels_for
from caretrace.application.run import Run
from caretrace.application.tripod import AUTHORS, tripod_items
from caretrace.application.trust import age_band, groups_of
from caretrace.apps import load_application

APPLICATION = load_application("mortality")


def read(path):
    return json.loads(path.read_text())


def test_groups_are_those_of_the_record(tiny_run):
    run = Run(tiny_run)
    dataset = run.dataset()
    inputs = inputs_for(APPLICATION, dataset, labels_for(run, dataset), schema.HELD_OUT, lambda *_: None)
    groups = groups_of(inputs)
    assert set(groups) == {"sex", "age", "care unit"}  # race and insurance are not recorded here
    sexes = dataset.scan().filter(pl.col(schema.CODE).str.starts_with("GENDER")).collect()
    sex = dict(zip(sexes[schema.SUBJECT_ID], sexes[schema.CODE].str.strip_prefix("GENDER//"), strict=True))
    assert groups["sex"] == [sex[subject] for subject in inputs.subject_ids.tolist()]
    assert set(groups["care unit"]) == {"Medical"}


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (44.9, "under 45"),
        (45.0, "45 to 64"),
        (79.99, "65 to 79"),
        (80.0, "80 and over"),
        (np.nan, "not known"),
    ],
)
def test_age_bands(age, band):
    assert age_band(age) == band


def test_the_subgroup_table_adds_up(tiny_run):
    table = read(tiny_run / "subgroups.json")
    figures = read(tiny_run / "evaluation" / "evaluation.json")
    for grouping in ("sex", "age", "care unit"):
        rows = [row for row in table["groups"] if row["grouping"] == grouping]
        assert sum(row["n"] for row in rows) == figures["n"]
        assert sum(row["positives"] for row in rows) == figures["positives"]
    (unit,) = [row for row in table["groups"] if row["grouping"] == "care unit"]
    assert unit["auroc"]["value"] == pytest.approx(figures["metrics"]["auroc"]["value"])


def test_uncertainty_and_abstention(tiny_run):
    frame = pl.read_parquet(tiny_run / "evaluation" / "uncertainty.parquet")
    predictions = pl.read_parquet(tiny_run / "evaluation" / "predictions.parquet")
    np.testing.assert_allclose(frame["risk"], predictions[schema.PREDICTED_PROBABILITY], atol=1e-6)
    assert (frame["spread"] > 0).all()
    assert (frame["low"] < frame["high"]).all()
    curve = read(tiny_run / "evaluation" / "abstention.json")
    assert curve["members"] == 2
    assert curve["curve"][0]["n"] == len(frame)
    assert curve["curve"][-1]["n"] < 0.2 * len(frame)


def test_tripod_items_come_from_the_run(tiny_run):
    items = read(tiny_run / "evaluation" / "tripod_ai.json")
    assert [item["item"] for item in items] == [str(number) for number in range(1, 28)]
    by_topic = {item["topic"]: item["text"] for item in items}
    figures = read(tiny_run / "evaluation" / "evaluation.json")
    assert f"auroc {figures['metrics']['auroc']['value']:.3f}" in by_topic["model performance"]
    assert "120 training and 60 tuning labels" in by_topic["sample size"]
    assert "train 120" in by_topic["participants, in numbers"]
    assert by_topic["ethical approval"] == AUTHORS
    card = (tiny_run / "bundle" / "README.md").read_text()
    assert "## TRIPOD+AI" in card
    assert "not judged yet: `caretrace evaluate`" in card  # the bundle is written before anybody is judged
    assert "train 120" in card


def test_a_run_on_labels_of_another_tool_still_has_its_items(tiny_run):
    by_topic = {item["topic"]: item["text"] for item in tripod_items(Run(tiny_run).read(), APPLICATION)}
    assert by_topic["participants"] == "labels of another tool, without attrition"


def test_the_report_shows_the_groups(tiny_run):
    from caretrace.report.run_page import render_run_report

    page = render_run_report(tiny_run, tiny_run.parent / "report.html").read_text()
    assert "Does it work equally well for everyone?" in page
    assert "age: 45 to 64" in page


def test_the_report_draws_the_abstention_curve(tiny_run):
    from caretrace.report.run_page import render_run_report

    page = render_run_report(tiny_run, tiny_run.parent / "report-2.html").read_text()
    assert "Does it know when it does not know?" in page
    assert "Observed / expected" in page
