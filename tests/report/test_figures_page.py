"""Pages of applications with figures of their own: what was found, what was missed, and nothing that is markup."""

import json
from pathlib import Path

import pytest

from caretrace.errors import BundleError
from caretrace.report.safety_page import render_safety_report
from caretrace.report.vitals_page import render_vitals_report

PAGES = {"safety": render_safety_report, "vitals": render_vitals_report}


def write_run(folder: Path, evaluation: dict | None = None) -> Path:
    folder.mkdir()
    run = {"title": "A run", "source": "hospital-<b>", "backbone": "gru", "created_at": "2026-11-21T00:00:00"}
    (folder / "run.json").write_text(json.dumps(run))
    if evaluation:
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


@pytest.mark.parametrize("name", PAGES)
def test_a_run_that_was_not_judged_says_how_to(name, tmp_path):
    text = PAGES[name](write_run(tmp_path / "run"), ["Never at a bedside."]).read_text(encoding="utf-8")
    assert "caretrace evaluate" in text
    assert "Never at a bedside." in text
    assert "Every figure on this page is simulated." in text
    assert "hospital-<b>" not in text


@pytest.mark.parametrize("name", PAGES)
def test_no_run_no_page(name, tmp_path):
    with pytest.raises(BundleError, match="not a run"):
        PAGES[name](tmp_path, [])


def test_safety_names_what_to_use_and_what_could_not_be_judged(tmp_path):
    warned = {"recall": 0.8, "false_per_week": 2.5, "precision": 0.4, "lead_hours": None}
    evaluation = {
        "metrics": {"crisis_8_h_auroc": figure(0.9)},
        "comparators": {"boosted_trees": {"crisis_8_h_auroc": figure(0.93)}},
        "gates": {"crisis_8_h_auroc": {"passed": True, "value": 0.9, "bound": 0.88}},
        "recommended": {"crisis_8_h_auroc": "boosted_trees"},
        "warnings": {"caretrace": {"crisis_8_h": warned}},
        "too_few": {"adverse": "nobody <b>reported</b>"},
    }  # fmt: skip
    text = render_safety_report(write_run(tmp_path / "run", evaluation), []).read_text(encoding="utf-8")
    assert "take what the table names: boosted trees" in text
    assert "1 of 1 bounds kept." in text
    assert "0.800 to 1.000" in text
    assert "false 2.500 times a week" in text
    assert "nobody &lt;b&gt;reported" in text


def test_vitals_speaks_of_alarms_and_never_of_risks(tmp_path):
    evaluation = {
        "n_subjects": 7, "n": 4, "patient_days": 2.5,
        "metrics": {"event_recall": figure(0.6), "false_alarms_per_patient_day": figure(0.4), "vus_pr": figure(0.5)},
        "comparators": {"news2": {"event_recall": figure(0.7), "false_alarms_per_patient_day": figure(30.0)}},
        "gates": {"event_recall": {"passed": False, "value": 0.6, "bound": 0.8}},
        "document_table": {"separation_ratio": 0.2},
    }  # fmt: skip
    text = render_vitals_report(write_run(tmp_path / "run", evaluation), []).read_text(encoding="utf-8")
    assert "0.600 of the events are caught, with 0.400 false alarms a patient-day, on 7 people" in text
    assert "Missed: events caught." in text
    assert "NEWS2" in text
    assert "separation ratio" in text
    assert "29.9 to 30.1" in text, "as many decimals as its size deserves"
    del evaluation["document_table"]
    less = render_vitals_report(write_run(tmp_path / "less", evaluation), []).read_text(encoding="utf-8")
    assert "own table" not in less, "no heading without a table"
    assert "risk" not in text.split("<main")[-1].lower().replace("at risk", "")
