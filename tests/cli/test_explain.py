"""`caretrace explain` as a person and as a machine meet it."""

import json
import shutil
from pathlib import Path

import pytest

from caretrace.application.explain import put_into_bundle
from caretrace.cli.console import Console
from caretrace.cli.explain import show_certificate
from caretrace.explain.certificate import Certificate, Finding
from caretrace.explain.faithfulness import gate
from caretrace.hospital.config import RULES


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def certificate(recovery: float) -> Certificate:
    gates = {
        "removal": {"recovery": gate("recovery", recovery), "padding": gate("padding", 0.0)},
        "pooling": {"recovery": gate("recovery", 0.5)},
    }
    findings = tuple(Finding(rule, 0, 0.99, 20, gates) for rule in RULES)
    return Certificate("mortality", {}, {}, tuple(RULES), findings)


def test_a_subject(caretrace, run):
    answer = caretrace("explain", run, "--subject", 8, "--top", 3)
    assert answer.code == 0
    assert "Subject 8 at" in answer.out
    assert "not importance: never judged on planted truth" in " ".join(answer.out.split())
    assert "caretrace explain" in answer.err
    assert "Research use only" in answer.err
    assert "explanation.html" in answer.err


def test_a_machine_gets_one_object(caretrace, run):
    found = caretrace("explain", run, "--subject", 8, "--top", 3, "--json").json
    assert found["subject_id"] == 8
    assert len(found["measurements"]) == 3
    assert found["n_measurements"] > 3
    assert found["certified"] is False
    assert Path(found["page"]).read_text().startswith("<!doctype html>")
    assert {"time", "code", "credit", "risk_without"} <= set(found["measurements"][0])


def test_what_went_wrong_is_said(caretrace, run):
    assert "has no label" in caretrace("explain", run, "--subject", 12345).err
    assert "did you mean 'removal'" in caretrace("explain", run, "--method", "removl").err
    assert caretrace("explain").code == 2
    assert "unknown rule 'singel'" in caretrace("explain", "--certify", "--rules", "singel").err


def test_a_certificate_is_shown_with_its_misses(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    show_certificate(Console(), certificate(0.97))
    shown = capsys.readouterr()
    assert "0.97 ✗" in shown.out
    assert "0.5 ✗" in shown.out
    assert (
        "removal: What the risk would be without the measurement (not importance: failed recovery)"
        in shown.err
    )
    show_certificate(Console(), certificate(1.0))
    assert "(certified on planted truth)" in capsys.readouterr().err


def test_the_heading_follows_the_certificate(caretrace, run):
    stored = json.loads((run / "run.json").read_text())["config"]
    found = certificate(1.0)
    put_into_bundle(Certificate("mortality", stored, {}, found.rules, found.findings), run / "bundle")
    answer = caretrace("explain", run, "--subject", 8)
    assert "certified on planted truth" in " ".join(answer.out.split())
    assert "To have the methods judged" not in answer.err
