"""The report of a safety run, for somebody who leads a ward or a shift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from caretrace.files import read_json
from caretrace.report.figures_page import Cell, Part, Table, Words, gates_table, kept, render_figures_page
from caretrace.report.record import Json, mapping
from caretrace.report.safety_outlook import helped_part, outlook_part, parts_part, staff_part
from caretrace.report.wording import decimal

EVALUATION, WHAT_IF_FILE = "evaluation", "what_if.json"  # what `caretrace bench safety_what_if` writes
_WORDS = Words(
    title="Safety of emergency care",
    loss="Weighted loss, and tuning loss against the best constant",
    note="It speaks of organisations and of groups; nobody is ranked. What would help is a question for the simulator, "
    "not for this model.",
)
# Figure → what it means, in the order of the page.
_FIGURES = {
    "crisis_0_h_auroc": "Crisis now: how well hours are ranked (AUROC)",
    "crisis_1_h_auroc": "Crisis in 1 hour: ranking (AUROC)",
    "crisis_8_h_auroc": "Crisis in 8 hours: ranking (AUROC)",
    "crisis_24_h_auroc": "Crisis in 24 hours: ranking (AUROC)",
    "crisis_1_h_ece": "Crisis in 1 hour: error of the stated chance",
    "crisis_8_h_ece": "Crisis in 8 hours: error of the stated chance",
    "crisis_24_h_ece": "Crisis in 24 hours: error of the stated chance",
    "delay_pinball": "Minutes until an ambulance is there: error of the quantiles",
    "delay_coverage": "Minutes until an ambulance is there: share within the 80 % range",
    "handoff_r2": "Rating of the handoff: share of its variation foreseen (R²)",
    "documentation_r2": "Completeness of the record: share foreseen (R²)",
    "adverse_auroc": "Reported adverse event: ranking (AUROC)",
    "fatigue_r2": "Sleepiness at the end of a duty: share foreseen (R²)",
    "burnout_r2": "Exhaustion: share foreseen (R²)",
    "retention_auroc": "Thinking of leaving: ranking (AUROC)",
    "crisis_8_h_false_per_week": "False warnings a week and hospital, 8 hours ahead",
    "delay_coverage_low": "Share within the 80 % range, at least",
    "delay_coverage_high": "Share within the 80 % range, at most",
}
_MODELS = {
    "boosted_trees": "boosted trees",
    "linear": "linear model",
    "nedocs": "NEDOCS alone",
    "season": "season and hour",
    "holt_winters": "Holt-Winters",
    "week_ago": "same hour a week ago",
    "network": "network without trees",
    "caretrace": "this model",
}


def render_safety_report(run: Path, limits: list[str], out: Path | None = None) -> Path:
    """Write the HTML report of a safety run from what lies in its folder; arguments as in `render_figures_page`."""
    asked = run / EVALUATION / WHAT_IF_FILE
    what_if = read_json(asked) if asked.is_file() else {}
    return render_figures_page(run, limits, _WORDS, lambda evaluation: _parts(evaluation, what_if), out)


def _parts(evaluation: Json, what_if: Json) -> list[Part]:
    others = list(mapping(evaluation, "comparators"))
    few = [
        f"{name.replace('_', ' ').capitalize()} could not be judged: {why}."
        for name, why in mapping(evaluation, "too_few").items()
    ]
    held_out = (
        "Held-out time, which nothing was learned from. Below each figure is its 95 % interval, over weeks, or days "
        "where there are fewer than four weeks (for staff, over people). Simpler models saw the same."
    )
    cost = (
        "Each model warns from the threshold at which it reaches four of five hours of crisis. Hours of one false "
        "warning in a row count once."
    )
    return [
        Part("summary", "In short", list(_lines(evaluation))),
        *outlook_part(evaluation),
        *helped_part(what_if),
        *staff_part(evaluation),
        Part("forecasts", "What is foreseen, and how well", [held_out], [_figures(evaluation, others)], few),
        Part("warnings", "What warnings would cost", [cost], [_warnings(evaluation)]),
        *parts_part(evaluation),
        Part("bounds", "Bounds", [], [gates_table(evaluation, _FIGURES)]),
    ]


def _lines(evaluation: Json) -> Iterator[str]:
    """The whole in a few sentences."""
    warned = mapping(mapping(mapping(evaluation, "warnings"), "caretrace"), "crisis_8_h")
    if warned:
        lead = warned.get("lead_hours")
        first = f"; the first comes {float(lead):.0f} hours before the crisis, in the median" if lead else ""
        yield (
            f"Eight hours ahead, warnings that reach {100 * float(warned['recall']):.0f} of 100 hours of crisis are "
            f"false {decimal(warned.get('false_per_week'))} times a week and hospital{first}."
        )
    better = mapping(evaluation, "recommended")
    ahead = sorted({_MODELS.get(str(name), str(name)) for name in better.values() if name != "caretrace"})
    mine = [figure for figure, name in better.items() if name == "caretrace"]
    if better:
        rest = f"; for the others, take what the table names: {', '.join(ahead)}" if ahead else ""
        yield f"This model is ahead in {len(mine)} of {len(better)} figures{rest}."
    yield from kept(evaluation, _FIGURES)


def _figures(evaluation: Json, others: list[str]) -> Table:
    """A row per figure: ours with its interval, the others, and which one to use."""
    ours, better = mapping(evaluation, "metrics"), mapping(evaluation, "recommended")
    theirs = [mapping(mapping(evaluation, "comparators"), other) for other in others]
    rows = [
        (
            words,
            [
                Cell.of(mapping(ours, name)),
                *(Cell.of(mapping(each, name)) for each in theirs),
                Cell(_MODELS.get(str(better[name]), str(better[name])) if name in better else ""),
            ],
        )
        for name, words in _FIGURES.items()
        if mapping(ours, name)
    ]
    return Table(("Figure", "this model", *(_MODELS.get(name, name) for name in others), "use"), rows)


def _warnings(evaluation: Json) -> Table:
    """A row per model and horizon."""
    rows = [
        (
            _MODELS.get(model, model),
            [
                Cell(target.split("_")[1]),
                *(
                    Cell(decimal(found.get(name)))
                    for name in ("recall", "false_per_week", "precision", "lead_hours")
                ),
            ],
        )
        for model, each in mapping(evaluation, "warnings").items()
        for target, found in each.items()
    ]
    head = (
        "Model", "hours ahead", "crises reached", "false warnings a week and hospital", "warned hours that were right",
        "hours from first warning to crisis",
    )  # fmt: skip
    return Table(head, rows)
