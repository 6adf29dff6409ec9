"""The verdict on synthetic subjects: every figure against held-out subjects, beside fresh real ones, and the gates.

A bound is the issue's number or what a fresh real sample of this size stays within 999 times in 1,000, whichever is
laxer: a gate that real subjects fail says nothing. `goals` keeps the bare numbers apart, so that nobody mistakes a
bound that small numbers widened for the goal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from caretrace.apps.synth.judging.likeness import judge_cells, judge_fidelity
from caretrace.apps.synth.judging.privacy import judge_privacy
from caretrace.apps.synth.judging.telling_apart import judge_neighbours, judge_two_sample
from caretrace.apps.synth.judging.usefulness import judge_prototype, judge_utility, judge_validity
from caretrace.apps.synth.judging.verdict import Canaries, Evidence, Likelihoods, Limits, Verdict
from caretrace.errors import CohortError, ConfigError, unknown_name
from caretrace.evaluation import fidelity
from caretrace.evaluation.histories import Histories

__all__ = ["PARTS", "Canaries", "Evidence", "Likelihoods", "Limits", "failed", "judge", "passed"]

SUBJECTS_LEAST = 100
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
        figures of fresh real subjects (`fresh_real`), no `paired`, the `gates`; and `goals`, the issue's bare numbers,
        and `not_judged`, parts that too few subjects leave out, and why.

    Raises:
        CohortError: Too few subjects, or histories of different vocabularies.
        ConfigError: No such part.
    """
    known = evidence or Evidence()
    _check(train, held_out, synthetic)
    verdict = Verdict()
    draws = fidelity.plan(len(train), len(held_out), len(synthetic), known.seed)
    not_judged: dict[str, str] = {}
    for name in parts or PARTS:
        if name not in PARTS:
            raise ConfigError(unknown_name("part", name, PARTS))
        progress(name)
        try:
            PARTS[name](verdict, (train, held_out, synthetic), draws, known)
        except CohortError as error:  # too few subjects for this part; the others stand
            not_judged[name] = str(error)
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
        "not_judged": not_judged,
    }


def passed(verdict: dict[str, Any]) -> bool:
    """Whether every gate of `judge` was passed."""
    return all(one["passed"] for one in verdict["gates"].values())


def failed(verdict: dict[str, Any]) -> list[str]:
    """Names of the gates that were not passed."""
    return [name for name, one in verdict["gates"].items() if not one["passed"]]


def _check(train: Histories, held_out: Histories, synthetic: Histories) -> None:
    for name, one in (("training", train), ("held-out", held_out), ("synthetic", synthetic)):
        if len(one) < SUBJECTS_LEAST:
            raise CohortError(f"judge: {len(one)} {name} subjects; give at least {SUBJECTS_LEAST}")
        if one.n_codes != held_out.n_codes:
            raise CohortError(
                f"judge: {name} subjects of {one.n_codes} codes, held-out ones of {held_out.n_codes}; "
                "read all with one vocabulary"
            )
