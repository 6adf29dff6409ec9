"""The page of a generator: what lies in the run folder, said plainly; nothing loaded, nothing hidden."""

import json
from pathlib import Path
from typing import Any

import pytest

from caretrace.errors import BundleError
from caretrace.report.synth_page import DRAWINGS_FILE, render_synth_report
from caretrace.report.synth_words import GROUPS, words_of

from .pages import Page


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def evaluation(**gates: tuple[bool, float, float]) -> dict[str, Any]:
    given = {
        name: {"passed": passed, "value": value, "bound": bound}
        for name, (passed, value, bound) in gates.items()
    }
    metrics = {name: figure(gate["value"]) for name, gate in given.items()} | {
        "nats_per_subject": figure(17.2)
    }
    return {
        "application": "synth", "split": "held_out", "n_subjects": 700, "n": 2800, "model": "latent",
        "metrics": metrics,
        "comparators": {"fresh_real": {"excess_codes": figure(1.0)}, "marginals": {"nats_per_subject": figure(19.5)}},
        "paired": {}, "gates": given,
        "goals": {"excess_codes": {"value": 1.2, "goal": 1.05, "reached": False}},
        "gates_of_comparators": {"marginals": {"excess_codes": {"passed": False, "value": 9.9, "bound": 1.1}}},
    }  # fmt: skip


DRAWN = {
    "prevalence": {
        "codes": ["4019 HTN", "<b>25000</b>"],
        "real": [0.4, 0.1],
        "made": {"latent": [0.41, 0.0], "marginals": [0.39, 0.1]},
    },
    "pairs": {"categories": ["250 a", "401 b", "428 c"], "real": [[1, 0.2, 0], [0.2, 1, -0.1], [0, -0.1, 1]],
              "made": [[1, 0.1, 0], [0.1, 1, -0.1], [0, -0.1, 1]]},
    "cells": {"groups": ["HTN"], "bands": ["50-59", "60-69"], "n": [[40, 50], [41, 52]],
              "real": [[[0.3], [0.4]], [[0.2], [0.3]]], "made": [[[0.31], [0.39]], [[0.2], [0.33]]]},
    "people": [{"age": 70, "sex": "F", "visits": [{"codes": ["4019 <i>HTN</i>"], "more": 3}]},
               {"age": 5, "sex": "M", "visits": []}],
}  # fmt: skip


def write(path: Path, judged: dict[str, Any] | None = None, drawn: Any = None) -> Path:
    (path / "evaluation").mkdir(parents=True)
    run = {"application": "synth", "title": "Synthetic histories", "source": "hospital-histories", "model": "latent",
           "n_train": 2100, "config": {"model": "latent"}, "attrition": {"kept": 2100}}  # fmt: skip
    (path / "run.json").write_text(json.dumps(run))
    if judged is not None:
        (path / "evaluation" / "evaluation.json").write_text(json.dumps(judged))
    if drawn is not None:
        (path / DRAWINGS_FILE).write_text(drawn if isinstance(drawn, str) else json.dumps(drawn))
    return path


def test_a_run_that_is_not_judged_says_how_to(tmp_path: Path) -> None:
    page = Page(render_synth_report(write(tmp_path / "run"), ["Nobody exists."]))
    page.check()
    assert "It has not been judged yet" in page.text
    assert "caretrace evaluate" in page.text
    assert "Nobody exists." in page.text


def test_every_gate_stands_with_its_bound_its_goal_and_the_comparator(tmp_path: Path) -> None:
    judged = evaluation(
        excess_codes=(True, 1.2, 1.3), utility_next=(False, 0.9, 0.96), two_sample_auroc=(True, 0.5, 0.55)
    )
    page = Page(render_synth_report(write(tmp_path / "run", judged, DRAWN), []))
    page.check()
    for text in (
        "1 of 3 gates missed",
        "Missed: a code of the next visit",
        "≤ 1.300",
        "≥ 0.960",
        "9.900 ✗",
        "✗ missed",
    ):
        assert text in page.text, text
    assert "1 of 1 bare goals are not reached" in page.text


def test_all_passed_is_said(tmp_path: Path) -> None:
    page = Page(
        render_synth_report(write(tmp_path / "run", evaluation(excess_codes=(True, 1.0, 1.3)), DRAWN), [])
    )
    assert "All 1 gates passed" in page.text


def test_names_from_the_data_are_never_markup(tmp_path: Path) -> None:
    out = render_synth_report(write(tmp_path / "run", evaluation(excess_codes=(True, 1.0, 1.3)), DRAWN), [])
    html = out.read_text()
    assert "<i>HTN" not in html
    assert "4019 &lt;i&gt;HTN" in html
    assert "and 3 more" in html


def test_drawings_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"drawings\.json is damaged"):
        render_synth_report(write(tmp_path / "run", evaluation(), "{"), [])


def test_every_gate_of_the_verdict_has_words() -> None:
    from caretrace.report.synth_words import _WORDS

    groups = {name for name, _ in GROUPS}
    assert {words.group for words in _WORDS.values()} | {words_of("excess_cell_60-69 F").group} == groups
    assert words_of("excess_cell_60-69 F").label == "60-69 F"
    assert words_of("of_tomorrow").label == "of tomorrow"
