"""The rule as a score, the truth beside the slots, and one certification from simulation to verdict."""

from itertools import product

import numpy as np
import pytest
import torch

from caretrace.application.certify import Plan, certify
from caretrace.application.rule_score import RuleScore
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.data.batch import EventBatch, gaps
from caretrace.errors import CohortError, ConfigError
from caretrace.explain.certificate import Finding
from caretrace.explain.faithfulness import gate
from caretrace.explain.gradients import integrated_gradients
from caretrace.hospital.config import RULES
from caretrace.hospital.rules import Roles, holds

A, B = 2, 3
QUICK = ("training.members=1", "training.max_steps=120", "d_model=16", "n_bins=4")


def record(codes: list[int], times: list[float]) -> EventBatch:
    code, time = torch.tensor([codes]), torch.tensor([times])
    padding = torch.zeros(code.shape, dtype=torch.bool)
    return EventBatch(
        code=code,
        numeric_value=torch.zeros(code.shape),
        numeric_mask=padding,
        text_id=torch.full_like(code, -1),
        event_type=torch.zeros_like(code),
        time_hours=time,
        time_delta_hours=gaps(time, padding),
        static=torch.zeros(1, 1),
        padding_mask=padding,
    )


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_as_a_score_is_the_rule_of_the_hospital(rule: str) -> None:
    for a, b, a_first in product((False, True), repeat=3):
        codes = [5, *([A] if a else []), *([B] if b else []), 5]
        if not a_first:
            codes = codes[::-1]
        sample = record(codes, [float(i - len(codes)) for i in range(len(codes))])
        roles = Roles(np.array([[a, b]]), np.array([a_first]))
        expected = 5.0 if holds(rule, roles)[0] else -5.0
        score = RuleScore(rule, [A] if rule == "single" else [A, B], 24.0)
        assert float(score(sample)) == expected
        ends = torch.ones(1, len(codes)), torch.zeros(1, 1)
        assert float(score.path(sample)(*ends)) == expected
        assert float(score.path(sample)(0 * ends[0], ends[1])) == -5.0


def test_events_of_an_older_stay_do_not_count() -> None:
    score = RuleScore("single", [A], 24.0)
    assert float(score(record([A, 5], [-30.0, -1.0]))) == -5.0


def test_integrated_gradients_of_a_rule_sum_up() -> None:
    sample = record([A, 5, B, A, B], [-5.0, -4.0, -3.0, -2.0, -1.0])
    for rule in RULES:
        found = integrated_gradients(RuleScore(rule, [A] if rule == "single" else [A, B], 24.0), sample)
        assert found.completeness_error < 1e-5, rule
        assert found.credit[1] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rules": ("singel",)}, "did you mean 'single'"), ({"methods": ("lime",)}, "unknown method")],
)
def test_impossible_plans_are_refused(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**change)


def test_a_certification_that_was_interrupted_goes_on(tmp_path, monkeypatch) -> None:
    sought = []

    def find(application, config, plan, which, folder, progress) -> Finding:
        sought.append(which)
        return Finding(*which, 0.9, 24, {"removal": {"recovery": gate("recovery", 1.0)}})

    monkeypatch.setattr("caretrace.application.certify._find", find)
    application = load_application("mortality")
    config = load(application.config_class, None, QUICK)
    plan = Plan(rules=("single", "decoy"), seeds=(0, 1))
    one = certify(application, config, Plan(rules=("decoy",), seeds=(1,)), findings=tmp_path)
    assert sought == [("decoy", 1)]
    (tmp_path / "single-0.json").write_text("{half a fi")
    everything = certify(application, config, plan, findings=tmp_path)
    assert sought == [("decoy", 1), ("single", 0), ("decoy", 0), ("single", 1)]
    assert everything.findings[-1] == one.findings[0]
    certify(application, config, plan, findings=tmp_path)
    assert len(sought) == 4, "all of it was known"
    other = load(application.config_class, None, [*QUICK, "screen=0.25"])
    certify(application, other, plan, findings=tmp_path)
    assert len(sought) == 8, "another configuration is another question"


@pytest.mark.slow
def test_a_certification_from_simulation_to_verdict(tmp_path) -> None:
    application = load_application("mortality")
    config = load(application.config_class, None, QUICK)
    plan = Plan(rules=("decoy",), subjects=500, records=6, methods=("removal", "pooling"))
    told = []
    found = certify(application, config, plan, tmp_path / "work", lambda what, done, total: told.append(what))
    (finding,) = found.findings
    assert (finding.rule, finding.seed) == ("decoy", 0)
    assert set(finding.gates) == {"removal", "pooling"}
    removal = finding.gates["removal"]
    assert removal["rule_recovery"].value == 1.0
    assert removal["rule_decoy"].value == pytest.approx(0.5)
    assert removal["padding"].value == 0.0
    assert removal["definition"].passed
    assert removal["recovery"].value > 0.9
    assert "rule_recovery" not in finding.gates["pooling"]
    assert not found.certified("removal"), "one rule of five is not enough"
    assert found.missing == ["single", "conjunctive", "ordered", "redundant"]
    assert any("judging removal" in what for what in told)


@pytest.mark.slow
def test_too_few_people(tmp_path) -> None:
    application = load_application("mortality")
    config = load(application.config_class, None, ("training.members=1", "training.max_steps=2", "d_model=8"))
    with pytest.raises(
        CohortError, match="held-out records of 200 subjects died by the rule conjunctive; simulate more"
    ):
        certify(application, config, Plan(rules=("conjunctive",), subjects=200), tmp_path / "work")
