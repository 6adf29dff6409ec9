"""What a certificate says, and that it cannot say more than its findings."""

import dataclasses
import json
from pathlib import Path

import pytest

from caretrace.errors import BundleError
from caretrace.explain.certificate import Certificate, Finding, empty, read_certificate
from caretrace.explain.faithfulness import BOUNDS, MEANING, gate, worst

RULES = ("single", "decoy")
GREEN = {"recovery": 0.999, "padding": 0.0, "randomisation": 0.1, "deletion": 2.0}
DECOY = {"decoy": 0.5, "rule_recovery": 1.0, "rule_decoy": 0.5}


def certificate(method: str = "removal", **change: float) -> Certificate:
    findings = []
    for seed in (0, 1):
        for rule in RULES:
            values = {**GREEN, **(DECOY if rule == "decoy" else {})}
            values |= {name: value for name, value in change.items() if name in values and seed == 1}
            gates = {method: {name: gate(name, value) for name, value in values.items()}}
            findings.append(Finding(rule, seed, 0.98, 24, gates))
    return Certificate("mortality", {"d_model": 8}, {"subjects": 100}, RULES, tuple(findings))


def test_all_green_is_certified() -> None:
    found = certificate()
    assert found.certified("removal")
    assert (
        found.heading("removal")
        == "What the risk would be without the measurement (certified on planted truth)"
    )


@pytest.mark.parametrize(
    ("name", "value"), [("recovery", 0.98), ("padding", 1e-9), ("randomisation", 0.21), ("deletion", 0.0)]
)
def test_one_red_gate_in_one_run_is_enough(name: str, value: float) -> None:
    found = certificate(**{name: value})
    assert not found.certified("removal")
    assert not found.faithful("removal")
    assert found.failed("removal") == [name]
    assert found.heading("removal").endswith(f"(not importance: failed {name})")


def test_a_model_that_leans_on_the_decoy_is_told_from_a_method_that_does() -> None:
    model = certificate(decoy=0.9)
    assert model.faithful("removal")
    assert not model.certified("removal")
    assert "faithful to the model; not importance" in model.heading("removal")
    method = certificate(decoy=0.9, rule_decoy=0.9)
    assert not method.faithful("removal")
    assert method.heading("removal").endswith("(not importance: failed decoy, rule_decoy)")


def test_attention_is_never_importance_whatever_it_passes() -> None:
    found = certificate("pooling")
    assert found.failed("pooling") == []
    assert not found.certified("pooling")
    assert found.heading("pooling").endswith("(not importance: what a model looks at is not what moves it)")


def test_a_rule_that_was_left_out_and_a_method_nobody_judged() -> None:
    part = certificate()
    part = Certificate(part.application, part.config, part.planted, (*RULES, "ordered"), part.findings)
    assert not part.certified("removal")
    assert part.heading("removal").endswith("(not importance: not judged on the rules ordered)")
    assert part.heading("ablation").endswith("(not importance: never judged on planted truth)")
    assert (
        empty("mortality", RULES)
        .heading("removal")
        .endswith("(not importance: never judged on planted truth)")
    )


def test_it_survives_the_disk_and_is_judged_afresh(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    found = certificate(recovery=0.5)
    found.save(path)
    again = read_certificate(path)
    assert again == found
    stored = json.loads(path.read_text())
    assert stored["methods"]["removal"]["gates"]["recovery"] == {"passed": False, "value": 0.5, "bound": 0.99}
    stored["methods"]["removal"]["certified"] = True
    stored["runs"][2]["gates"]["removal"]["recovery"]["passed"] = True
    path.write_text(json.dumps(stored))
    assert not read_certificate(path).certified("removal"), "words in the file decide nothing, values do"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 99, "caretrace": "9"}'])
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(text)
    with pytest.raises(BundleError, match="certificate"):
        read_certificate(path)


def test_every_gate_is_explained_and_the_worst_is_the_worst() -> None:
    assert set(BOUNDS) == set(MEANING)
    assert worst("recovery", [gate("recovery", 1.0), gate("recovery", 0.7)]).value == 0.7
    assert worst("decoy", [gate("decoy", 0.1), gate("decoy", 0.7)]).value == 0.7


def test_it_says_on_what_it_was_judged() -> None:
    found = dataclasses.replace(certificate(), config={"training": {"members": 1}})
    said = found.judged_on("removal")
    assert said == (
        "judged on 96 records of simulated people who died by 2 planted rules (100 people a rule, 2 seeds), in models "
        "of 1 member"
    )
    assert certificate().judged_on("ablation") is None
    assert empty("mortality", RULES).judged_on("removal") is None
