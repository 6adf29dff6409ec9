"""Each known fault of explanations, put back on purpose, turns a named gate red; without it the gate is green."""

import dataclasses

import numpy as np
import pytest
import torch

from caretrace.explain.faithfulness import Case, completeness, gate, judge, padding, recovery
from caretrace.explain.gradients import integrated_gradients
from caretrace.explain.methods import METHODS, Method
from caretrace.explain.shuffling import shuffled

from .toy import Seen, cases, make, planted, present, trained


@pytest.fixture(scope="module")
def others():
    return [shuffled(trained(), seed) for seed in range(3)]


@pytest.mark.parametrize("name", ["removal", "integrated_gradients"])
def test_without_a_fault_every_gate_is_green(name: str, others) -> None:
    gates = judge(METHODS[name], trained(), cases(), shuffled=others)
    expected = {
        "recovery",
        "padding",
        "randomisation",
        "deletion",
        "insertion",
        "comprehensiveness",
        "sufficiency",
    }
    expected |= {"definition"} if name == "removal" else {"completeness"}
    assert set(gates) == expected
    assert [each for each, found in gates.items() if not found.passed] == []


def test_integrated_gradients_sold_as_ablation() -> None:
    """Gate `definition`: what calls itself a difference must be that difference."""
    sold = dataclasses.replace(METHODS["ablation"], run=integrated_gradients)
    assert not judge(sold, trained(), cases(6))["definition"].passed
    assert judge(METHODS["ablation"], trained(), cases(6))["definition"].passed


def test_gradients_through_the_sigmoid() -> None:
    """Gate `completeness`: the credits must sum to a difference of logits."""
    right = [integrated_gradients(trained(), case.sample) for case in cases()]
    wrong = [integrated_gradients(Seen(trained(), torch.sigmoid), case.sample) for case in cases()]
    assert completeness(right).passed
    assert not completeness(wrong).passed
    assert completeness(wrong).value > 0.3


def test_too_few_steps() -> None:
    """Gate `completeness` again: quadrature that did not converge."""
    rough = [integrated_gradients(trained(), case.sample, steps=1) for case in cases()]
    assert not completeness(rough).passed


@pytest.mark.parametrize("name", ["removal", "integrated_gradients"])
def test_pooling_without_a_mask(name: str) -> None:
    """Gate `padding`: what stands in padded slots reaches the score."""
    assert padding(METHODS[name], trained(), cases(4)) == 0.0
    assert not gate("padding", padding(METHODS[name], trained(masked=False), cases(4))).passed


def test_attention_sold_as_importance() -> None:
    """Gate `recovery`: a model that is right may look elsewhere; its weights recover nothing."""
    model = trained(looks=False)
    batch, died = planted(200, 3)
    assert ((model(batch) > 0).float() == died).float().mean() > 0.97
    sold = dataclasses.replace(METHODS["pooling"], kind="gradient")
    red = judge(sold, model, cases())
    assert not red["recovery"].passed
    assert not red["deletion"].passed
    assert judge(METHODS["removal"], model, cases())["recovery"].passed
    assert judge(METHODS["integrated_gradients"], model, cases())["recovery"].passed


def test_time_of_death_among_the_inputs() -> None:
    """Gate `recovery`: a model that reads the outcome from a leak does not credit what caused it."""
    clean = judge(METHODS["removal"], trained(), cases())["recovery"]
    leaking = judge(METHODS["removal"], trained(leak=True), cases(leak=True))["recovery"]
    assert clean.passed
    assert not leaking.passed
    credit = [METHODS["removal"].run(trained(leak=True), case.sample).credit for case in cases(leak=True)]
    assert np.mean([np.argmax(each) == len(each) - 1 for each in credit]) > 0.9, "the leak stands on top"


def test_an_explanation_that_does_not_look_at_the_model() -> None:
    """Gate `randomisation`: credits that stay the same when the weights are shuffled."""

    def by_code(score, sample):
        found = METHODS["removal"].run(score, sample)
        return dataclasses.replace(found, credit=-sample.code[0].numpy().astype(np.float64))

    blind = Method("removal", "by code number", "removal", by_code, METHODS["removal"].by_group)
    others = [shuffled(trained(), seed) for seed in range(2)]
    gates = judge(blind, trained(), cases(6), shuffled=others)
    assert gates["recovery"].passed, "it finds the planted event without looking"
    assert not gates["randomisation"].passed


def test_single_removal_of_redundant_events() -> None:
    """Gate `recovery` on single events is red where either of two suffices, green on groups."""

    def either(batch):
        return 3.0 * torch.maximum(present(batch, 4), present(batch, 5))

    sample = make([[4, 6, 7, 8, 9, 10, 5, 11]])
    pair = np.isin(sample.code[0].numpy(), (4, 5))
    nothing = np.zeros(len(pair), dtype=bool)
    case = Case(sample, pair, nothing, nothing)
    alone = recovery(case, METHODS["removal"].run(either, sample).credit)
    assert not gate("recovery", alone).passed
    together = judge(METHODS["removal"], either, [case, case], together=True)["recovery"]
    assert together.passed
