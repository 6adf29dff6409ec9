"""The verdict on synthetic subjects: every figure against held-out subjects, beside fresh real ones, and the gates.

A bound is the issue's number or what a fresh real sample of this size stays within 999 times in 1,000, whichever is
laxer: a gate that real subjects fail says nothing. `goals` keeps the bare numbers apart, so that nobody mistakes a
bound that small numbers widened for the goal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caretrace import schema
from caretrace.errors import CohortError, ConfigError, unknown_name
from caretrace.evaluation import (
    fidelity,
    neighbours,
    privacy,
    prototype,
    two_sample,
    utility,
    validity,
    views,
)
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints
from caretrace.evaluation.summary import gate

# The numbers of the issue.
EXCESS = {
    "codes": 1.05, "pairs": 1.05, "next_pairs": 1.10, "rare_codes": 1.10, "codes_per_visit": 1.10,
    "visits_per_subject": 1.10, "carried_over": 1.10, "age_and_sex": 1.10,
}  # fmt: skip
EXCESS_CELL = 1.10
SUBJECTS_LEAST = 100
CELL_LEAST = 500  # held-out subjects of a cell
TWO_SAMPLE = 0.55
UTILITY = 0.99
MEMBERSHIP = 0.52
# Ours: smaller differences than these are of no consequence, however surely they are measured.
NNAA = 0.03
CONDITIONING = 0.02
ATTRIBUTE_GAIN = 0.02
TPR = 0.02

NEIGHBOUR_DRAWS, NEIGHBOUR_SUBJECTS = 8, 2000
UTILITY_DRAWS = 6
LONG_HISTORY = 8  # codes; shorter histories coincide by chance
SPREADS = fidelity.SPREADS


@dataclasses.dataclass(frozen=True, eq=False)
class Limits:
    """Who may have a code, axis `[code]` of the histories; see `icd9.limits` and `limits_of`."""

    age_first: Ints
    age_last: Ints
    sexes: Bools


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihoods:
    """Log-likelihoods of training and held-out subjects, nats, for the membership attack.

    Args:
        train: `[training subject]`, under the generator.
        train_reference: Under a model that never saw them.
        held_out: `[held-out subject]`, under the generator.
        held_out_reference: Under the reference.
    """

    train: Floats
    train_reference: Floats
    held_out: Floats
    held_out_reference: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Canaries:
    """Planted inventions, and controls of the same make that were not planted (`privacy.plant_canaries`)."""

    planted: Histories
    controls: Histories


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What is known beside the subjects.

    Args:
        limits: Age and sex edits; without them validity counts duplicates only.
        likelihoods: For the membership attack; without them it has distances only.
        canaries: What was planted into training.
        nnaa_subjects: Most subjects of each kind for NNAA; 0 takes all.
        seed: Of every draw.
        split: Name for the answer.
    """

    limits: Limits | None = None
    likelihoods: Likelihoods | None = None
    canaries: Canaries | None = None
    nnaa_subjects: int = 8000
    seed: int = 0
    split: str = schema.HELD_OUT


class Verdict:
    """Figures, floors and gates as they come in."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}
        self.floors: dict[str, dict[str, float]] = {}
        self.gates: dict[str, dict[str, Any]] = {}
        self.goals: dict[str, dict[str, Any]] = {}

    def figure(self, name: str, value: float, low: float | None = None, high: float | None = None) -> None:
        """A figure of the synthetic subjects; without an interval it is its own."""
        self.metrics[name] = _interval(value, low, high)

    def floor(self, name: str, value: float, low: float | None = None, high: float | None = None) -> None:
        """The same figure of fresh real subjects."""
        self.floors[name] = _interval(value, low, high)

    def most(self, name: str, value: float, bound: float, goal: float | None = None) -> None:
        """A gate from above."""
        self.gates[name] = gate(value, at_most=bound if goal is None else max(bound, goal))
        if goal is not None:
            self.goals[name] = {"value": float(value), "goal": goal, "reached": bool(value <= goal)}

    def least(self, name: str, value: float, bound: float, goal: float | None = None) -> None:
        """A gate from below."""
        self.gates[name] = gate(value, at_least=bound if goal is None else min(bound, goal))
        if goal is not None:
            self.goals[name] = {"value": float(value), "goal": goal, "reached": bool(value >= goal)}


def judge(
    train: Histories,
    held_out: Histories,
    synthetic: Histories,
    evidence: Evidence | None = None,
    progress: Callable[[str], None] = lambda _: None,
    parts: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge synthetic subjects.

    Args:
        train: Subjects the generator learnt from; at least twice as many as `held_out`.
        held_out: Subjects nobody learnt from.
        synthetic: What the generator made; best as many as `held_out` or several times as many, with their ages and
            sexes drawn like those of the held-out subjects.
        evidence: What is known beside.
        progress: Told what is being measured.
        parts: Names in `PARTS`; none takes all.

    Returns:
        The shape of `caretrace evaluate --json`: `metrics` of the synthetic subjects, `comparators` with the same
        figures of fresh real subjects (`fresh_real`), no `paired`, the `gates`; and `goals`, the issue's bare numbers.

    Raises:
        CohortError: Too few subjects, or histories of different vocabularies.
        ConfigError: No such part.
    """
    known = evidence or Evidence()
    _check(train, held_out, synthetic)
    verdict = Verdict()
    draws = fidelity.plan(len(train), len(held_out), len(synthetic), known.seed)
    for name in parts or PARTS:
        if name not in PARTS:
            raise ConfigError(unknown_name("part", name, PARTS))
        progress(name)
        PARTS[name](verdict, (train, held_out, synthetic), draws, known)
    return {
        "application": "synth",
        "split": known.split,
        "n_subjects": draws.n,
        "n": len(synthetic),
        "metrics": verdict.metrics,
        "comparators": {"fresh_real": verdict.floors},
        "paired": {},
        "gates": verdict.gates,
        "goals": verdict.goals,
    }


Sets = tuple[Histories, Histories, Histories]


def judge_fidelity(verdict: Verdict, sets: Sets, draws: fidelity.Plan, _: Evidence) -> None:
    """Excess divergence of every view, prevalences, number of different codes."""
    train, held_out, synthetic = sets
    rare = views.rare_codes(train)
    ways: dict[str, Callable[[Histories], views.Events]] = {
        "codes": views.code_events,
        "pairs": views.pair_events,
        "next_pairs": views.next_events,
        "carried_over": views.carried_events,
        "rare_codes": lambda h: views.code_events(h, rare),
        "codes_per_visit": views.size_events,
        "visits_per_subject": views.visit_events,
        "age_and_sex": views.cell_events,
        "structure": views.shape_events,
    }
    for name, events in ways.items():
        found = _counts(sets, events).excess(draws)
        if found is None:
            continue
        _excess(verdict, f"excess_{name}", found, EXCESS.get(name))
        if (
            name == "structure"
        ):  # nearer than real subjects ever are: sizes were copied from the held-out ones
            verdict.least("structure_not_copied", found.value, found.fresh_least)
    for name, figure in (
        ("prevalence_r2", fidelity.prevalence_r2(train, held_out, synthetic, draws)),
        ("distinct_codes", fidelity.distinct_codes(train, synthetic, draws)),
    ):
        verdict.figure(name, figure.value, figure.low, figure.high)
        verdict.floor(name, figure.real)
        verdict.least(name, figure.value, figure.fresh_least)


def judge_cells(verdict: Verdict, sets: Sets, draws: fidelity.Plan, _: Evidence) -> None:
    """Excess divergence of codes within each age × sex cell with enough held-out subjects."""
    cells = [views.cells(one) for one in sets]
    for cell in np.unique(cells[1]):
        masks = [one == cell for one in cells]
        if masks[1].sum() < CELL_LEAST or masks[0].sum() < 2:
            continue
        name = f"excess_cell_{views.cell_name(int(cell))}"
        parts: Sets = tuple(one.take(mask) for one, mask in zip(sets, masks, strict=True))  # type: ignore[assignment]
        if not len(parts[2]):
            verdict.least(name, 0, 1)  # subjects: a cell must not be left empty
            continue
        within = fidelity.plan(len(parts[0]), len(parts[1]), len(parts[2]), draws.seed)
        found = _counts(parts, views.code_events).excess(within)
        if found is not None:
            _excess(verdict, name, found, EXCESS_CELL)


def judge_two_sample(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Classifiers that tell synthetic from real; what codes say about sex and age."""
    train, held_out, synthetic = sets
    test = held_out.take(draws.test)
    ours = two_sample.two_sample_auroc(test, synthetic.take(draws.synthetic[0]), known.seed)
    real = two_sample.two_sample_auroc(test, train.take(draws.train[0]), known.seed)
    for name, found in ours.items():
        verdict.figure(f"two_sample_auroc_{name}", found.value, found.low, found.high)
        verdict.floor(f"two_sample_auroc_{name}", real[name].value, real[name].low, real[name].high)
    worst = max(ours.values(), key=lambda found: found.value)
    verdict.most("two_sample_auroc", worst.value, 0.5 + SPREADS * worst.error, TWO_SAMPLE)
    told = two_sample.conditioning(train, held_out, synthetic)
    verdict.figure(
        "sex_from_codes", told.sex_synthetic.value, told.sex_synthetic.low, told.sex_synthetic.high
    )
    verdict.floor("sex_from_codes", told.sex_real.value, told.sex_real.low, told.sex_real.high)
    verdict.figure("age_from_codes", told.age_synthetic)
    verdict.floor("age_from_codes", told.age_real)
    error = float(np.hypot(told.sex_real.error, told.sex_synthetic.error))
    difference = abs(told.sex_synthetic.value - told.sex_real.value)
    verdict.most("conditioning_sex", difference, max(SPREADS * error, CONDITIONING))
    difference = abs(told.age_synthetic - told.age_real)
    verdict.most("conditioning_age", difference, max(SPREADS * told.age_error, CONDITIONING))


def judge_neighbours(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Density and coverage, NNAA, exact copies."""
    train, held_out, synthetic = sets
    n = min(draws.n, NEIGHBOUR_SUBJECTS)
    test = held_out.take(draws.test[:n])
    ours = neighbours.density_coverage(test, synthetic.take(draws.synthetic[0][:n]))
    real = np.array(
        [neighbours.density_coverage(test, train.take(d[:n])) for d in draws.train[:NEIGHBOUR_DRAWS]]
    )
    for place, name in enumerate(("density", "coverage")):
        figure = fidelity.beside(np.array([ours[place]]), real[:, place], draws.widen)
        verdict.figure(name, figure.value, figure.low, figure.high)
        verdict.floor(name, figure.real)
        if name == "coverage":
            verdict.least(name, figure.value, figure.fresh_least)
    n = min(draws.n, known.nnaa_subjects or draws.n)
    found = neighbours.adversarial_accuracy(
        train.take(draws.train[0][:n]), held_out.take(draws.test[:n]), synthetic.take(draws.synthetic[0][:n])
    )
    half = fidelity.Z_95 * found.error
    verdict.figure("nnaa", found.nnaa, found.nnaa - half, found.nnaa + half)
    verdict.figure("aa_held_out", found.held_out)
    verdict.figure("aa_train", found.train)
    verdict.most("nnaa", found.nnaa, max(SPREADS * found.error, NNAA))
    for name, longest in (("exact_copies", None), ("exact_copies_long", LONG_HISTORY)):
        (rate, n_synthetic), (usual, n_real) = (
            neighbours.copy_rate(train, one, longest) for one in (synthetic, held_out)
        )
        if not n_synthetic or not n_real:
            continue
        pooled = (rate * n_synthetic + usual * n_real + 1) / (n_synthetic + n_real + 2)
        error = float(np.sqrt(pooled * (1 - pooled) * (1 / n_synthetic + 1 / n_real)))
        verdict.figure(name, rate)
        verdict.floor(name, usual)
        verdict.most(name, rate, usual + SPREADS * error)


def judge_utility(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Models learnt from synthetic subjects, asked about held-out ones, beside models learnt from real ones."""
    train, held_out, synthetic = sets
    chosen = train.take(draws.train[0])
    found = utility.utility(chosen, held_out, synthetic.take(draws.synthetic[0]), known.seed)
    fresh = [
        utility.utility(
            chosen, held_out, train.take(_others(train, draws.train[0], number)), known.seed, resamples=2
        )
        for number in range(UTILITY_DRAWS)
    ]
    for name, one in found.items():
        again = np.array([other[name].ratio for other in fresh if name in other])
        figure = fidelity.beside(np.array([one.ratio]), again, draws.widen)
        verdict.figure(f"utility_{name}", one.ratio, one.low, one.high)
        verdict.figure(f"utility_{name}_auroc", one.synthetic)
        verdict.floor(f"utility_{name}", figure.real)
        verdict.floor(f"utility_{name}_auroc", one.real)
        verdict.figure(f"utility_{name}_labels", one.labels)
        verdict.least(f"utility_{name}", one.ratio, figure.fresh_least, UTILITY)


def judge_validity(verdict: Verdict, sets: Sets, _draws: fidelity.Plan, known: Evidence) -> None:
    """Violations of age and sex edits and duplicates, at most as many as held-out subjects have."""
    _, held_out, synthetic = sets
    limits = known.limits or _no_limits(held_out.n_codes)
    ours, real = (
        validity.violations(one, limits.age_first, limits.age_last, limits.sexes)
        for one in (synthetic, held_out)
    )
    for name, rate, usual, spread, n in (
        (
            "sex_violations",
            ours.sex_rate,
            real.sex_rate,
            real.sex_error,
            (ours.limited_sex, real.limited_sex),
        ),
        (
            "age_violations",
            ours.age_rate,
            real.age_rate,
            real.age_error,
            (ours.limited_age, real.limited_age),
        ),
        ("duplicates", ours.duplicate_rate, real.duplicate_rate, 0.0, (ours.tokens, real.tokens)),
    ):
        if not n[0] or not n[1]:
            continue
        error = spread * float(np.sqrt(1 + n[1] / n[0]))  # none is allowed where real subjects have none
        verdict.figure(name, rate)
        verdict.floor(name, usual)
        verdict.most(name, rate, usual + SPREADS * error)


def judge_privacy(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Membership, attribute inference, canaries."""
    train, held_out, synthetic = sets
    if known.likelihoods is not None:
        given = known.likelihoods
        attack = privacy.membership(
            privacy.likelihood_ratio(given.train, given.train_reference),
            privacy.likelihood_ratio(given.held_out, given.held_out_reference),
            known.seed,
        )
        name = "membership"
    else:
        half = len(draws.test) // 2
        reference = held_out.take(draws.test[:half])
        source = synthetic.take(draws.synthetic[0][:half])
        attack = privacy.membership(
            privacy.distance_scores(train.take(draws.train[0][:half]), source, reference),
            privacy.distance_scores(held_out.take(draws.test[half : 2 * half]), source, reference),
            known.seed,
        )
        name = "distance_membership"
    verdict.figure(f"{name}_auroc", attack.auroc.value, attack.auroc.low, attack.auroc.high)
    verdict.figure(f"{name}_tpr", attack.tpr)
    verdict.most(f"{name}_auroc", attack.auroc.value, 0.5 + SPREADS * attack.auroc.error, MEMBERSHIP)
    verdict.most(f"{name}_tpr", attack.tpr, max(privacy.FPR + SPREADS * attack.tpr_error, TPR))
    inference = privacy.attribute_inference(
        train, held_out.take(draws.test), synthetic.take(draws.synthetic[0]), known.seed
    )
    half_width = fidelity.Z_95 * inference.error
    gain = inference.gain
    verdict.figure("attribute_inference_gain", gain, gain - half_width, gain + half_width)
    verdict.figure("attribute_inference_f1", inference.synthetic)
    verdict.floor("attribute_inference_f1", inference.held_out)
    verdict.most("attribute_inference_gain", gain, max(SPREADS * inference.error, ATTRIBUTE_GAIN))
    if known.canaries is not None:
        planted, controls = (
            float((privacy.canary_hits(synthetic, one) > 0).mean())
            for one in (known.canaries.planted, known.canaries.controls)
        )
        verdict.figure("canaries", planted)
        verdict.floor("canaries", controls)
        verdict.most("canaries", planted, controls)


def judge_prototype(verdict: Verdict, sets: Sets, draws: fidelity.Plan, _: Evidence) -> None:
    """The prototype's own figures beside those of real subjects; no gate, they cannot carry one."""
    train, held_out, synthetic = sets
    test = held_out.take(draws.test)
    for name, value in prototype.figures(synthetic.take(draws.synthetic[0]), test).items():
        verdict.figure(f"prototype_{name}", value)
    for name, value in prototype.figures(train.take(draws.train[0]), test).items():
        verdict.floor(f"prototype_{name}", value)


PARTS = {
    "fidelity": judge_fidelity,
    "cells": judge_cells,
    "two-sample": judge_two_sample,
    "neighbours": judge_neighbours,
    "utility": judge_utility,
    "validity": judge_validity,
    "privacy": judge_privacy,
    "prototype": judge_prototype,
}


def _check(train: Histories, held_out: Histories, synthetic: Histories) -> None:
    for name, one in (("training", train), ("held-out", held_out), ("synthetic", synthetic)):
        if len(one) < SUBJECTS_LEAST:
            raise CohortError(f"judge: {len(one)} {name} subjects; give at least {SUBJECTS_LEAST}")
        if one.n_codes != held_out.n_codes:
            raise CohortError(
                f"judge: {name} subjects of {one.n_codes} codes, held-out ones of {held_out.n_codes}; "
                "read all with one vocabulary"
            )


def passed(verdict: dict[str, Any]) -> bool:
    """Whether every gate of `judge` was passed."""
    return all(one["passed"] for one in verdict["gates"].values())


def failed(verdict: dict[str, Any]) -> list[str]:
    """Names of the gates that were not passed."""
    return [name for name, one in verdict["gates"].items() if not one["passed"]]


def _excess(verdict: Verdict, name: str, found: fidelity.Excess, goal: float | None) -> None:
    verdict.figure(name, found.value, found.low, found.high)
    verdict.floor(name, 1.0, found.fresh_least, found.fresh_most)
    if goal is not None:
        verdict.most(name, found.value, found.fresh_most, goal)


def _counts(sets: Sets, events: Callable[[Histories], views.Events]) -> fidelity.Counts:
    train, held_out, synthetic = sets
    return fidelity.Counts(
        events(train), events(held_out), events(synthetic), (len(train), len(held_out), len(synthetic))
    )


def _others(train: Histories, chosen: Ints, number: int) -> Ints:
    """As many training subjects that were not chosen, another draw for every number."""
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    return np.random.default_rng([number, len(chosen)]).permutation(rest)[: len(chosen)]


def _interval(value: float, low: float | None, high: float | None) -> dict[str, float]:
    return {
        "value": float(value),
        "low": float(value if low is None else low),
        "high": float(value if high is None else high),
    }


def _no_limits(n_codes: int) -> Limits:
    return Limits(np.zeros(n_codes, np.int64), np.full(n_codes, 124), np.ones((n_codes, 2), bool))
