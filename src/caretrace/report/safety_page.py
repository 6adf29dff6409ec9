"""The report of a safety run: `RUN/report.html`, for somebody who leads a ward or a shift, from JSON on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caretrace.report import page
from caretrace.report.provenance import facts, frame
from caretrace.report.record import Json, mapping, read_run
from caretrace.report.wording import decimal, interval

REPORT_FILE = "report.html"

_SECTIONS = (
    ("summary", "In short"),
    ("forecasts", "Forecasts"),
    ("warnings", "Warnings"),
    ("training", "Training"),
    ("quality", "Data"),
    ("limits", "Limits"),
    ("making", "How it was made"),
)
# Figure → what it means, in the order of the page.
_WORDS = {
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
}
_NAMES = {
    "boosted_trees": "boosted trees",
    "linear": "linear model",
    "nedocs": "NEDOCS alone",
    "season": "season and hour",
    "caretrace": "this model",
}


def render_safety_report(run: Path, limits: list[str], out: Path | None = None) -> Path:
    """Write the HTML report of a safety run from what lies in its folder.

    Args:
        run: Run folder with at least `run.json`.
        limits: What it must not be used for.
        out: HTML file to write; `RUN/report.html` when None. An older report is replaced.

    Returns:
        The file written.

    Raises:
        BundleError: `run` is not a run folder, or a part of it is not readable.
    """
    record = read_run(run)
    told, evaluation = record.run, record.evaluation or {}
    others = list(mapping(evaluation, "comparators"))
    values = {
        **frame(
            record,
            _SECTIONS,
            limits,
            loss="Weighted loss, and tuning loss against the best constant",
            title="Safety",
        ),
        "facts": facts(told, f"backbone {told['backbone']}" if told.get("backbone") else ""),
        "evaluated": bool(evaluation),
        "simulated": str(told.get("source") or "").startswith("hospital"),
        "lines": list(_lines(evaluation)),
        "others": [_NAMES.get(name, name) for name in others],
        "rows": list(_rows(evaluation, others)),
        "warnings": list(_warnings(evaluation)),
        "too_few": mapping(evaluation, "too_few"),
    }
    return page.write(page.render("safety.html.j2", values), out or run / REPORT_FILE)


def _lines(evaluation: Json) -> Iterator[str]:
    """The whole in a few sentences."""
    warned = mapping(mapping(mapping(evaluation, "warnings"), "caretrace"), "crisis_8_h")
    if warned:
        lead = warned.get("lead_hours")
        yield (
            f"Eight hours ahead, warnings that reach {100 * float(warned['recall']):.0f} of 100 hours of crisis are "
            f"false {decimal(warned.get('false_per_week'))} times a week and hospital"
            + (
                f"; the first comes {float(lead):.0f} hours before the crisis, in the median."
                if lead
                else "."
            )
        )
    better = mapping(evaluation, "recommended")
    ahead = sorted({_NAMES.get(str(name), str(name)) for name in better.values() if name != "caretrace"})
    mine = [figure for figure, name in better.items() if name == "caretrace"]
    if better:
        yield f"This model is ahead in {len(mine)} of {len(better)} figures" + (
            f"; for the others, take what the table names: {', '.join(ahead)}." if ahead else "."
        )
    gates = mapping(evaluation, "gates")
    missed = [
        _WORDS.get(name) or name.replace("_", " ") for name, gate in gates.items() if not gate.get("passed")
    ]
    if gates:
        yield (
            f"{len(gates) - len(missed)} of {len(gates)} bounds kept."
            + (f" Missed: {'; '.join(missed)}." if missed else "")
        )


def _rows(evaluation: Json, others: list[str]) -> Iterator[dict[str, Any]]:
    """A row per figure: ours with its interval, the others, and which one to use."""
    ours, better = mapping(evaluation, "metrics"), mapping(evaluation, "recommended")
    for name, words in _WORDS.items():
        figure = mapping(ours, name)
        if not figure:
            continue
        each = [mapping(mapping(mapping(evaluation, "comparators"), other), name) for other in others]
        yield {
            "name": name,
            "label": words,
            "value": decimal(figure.get("value")),
            "interval": interval(figure),
            "others": [
                {"value": decimal(o.get("value")) if o else "–", "interval": interval(o) if o else ""}
                for o in each
            ],
            "use": _NAMES.get(str(better[name]), str(better[name])) if name in better else "",
        }


def _warnings(evaluation: Json) -> Iterator[dict[str, str]]:
    """A row per model and horizon."""
    for model, each in mapping(evaluation, "warnings").items():
        for target, found in each.items():
            yield {
                "model": _NAMES.get(model, model),
                "horizon": target.split("_")[1],
                "recall": decimal(found.get("recall")),
                "false": decimal(found.get("false_per_week")),
                "precision": decimal(found.get("precision")),
                "lead": decimal(found.get("lead_hours")),
            }
