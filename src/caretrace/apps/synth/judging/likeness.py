"""Do the same things come as often: excess divergence of every view, of every age and sex; prevalences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caretrace.apps.synth.judging.verdict import Evidence, Sets, Verdict, counts
from caretrace.evaluation import fidelity, views
from caretrace.evaluation.histories import Histories

# The numbers of the issue.
EXCESS = {
    "codes": 1.05, "pairs": 1.05, "next_pairs": 1.10, "rare_codes": 1.10, "codes_per_visit": 1.10,
    "visits_per_subject": 1.10, "carried_over": 1.10, "age_and_sex": 1.10,
}  # fmt: skip
EXCESS_CELL = 1.10
CELL_LEAST = 500  # held-out subjects of a cell


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
        found = counts(sets, events).excess(draws)
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
        found = counts(parts, views.code_events).excess(within)
        if found is not None:
            _excess(verdict, name, found, EXCESS_CELL)


def _excess(verdict: Verdict, name: str, found: fidelity.Excess, goal: float | None) -> None:
    verdict.figure(name, found.value, found.low, found.high)
    verdict.floor(name, 1.0, found.fresh_least, found.fresh_most)
    if goal is not None:
        verdict.most(name, found.value, found.fresh_most, goal)
