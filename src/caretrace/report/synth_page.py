"""The report of a generator: `RUN/report.html`, self-contained, from JSON on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caretrace.errors import BundleError
from caretrace.files import read_json
from caretrace.report import page, synth_charts, wording
from caretrace.report.provenance import facts, frame
from caretrace.report.record import Json, RunRecord, mapping, read_run
from caretrace.report.synth_words import GROUPS, words_of
from caretrace.report.wording import decimal, finite, interval

REPORT_FILE = "report.html"
DRAWINGS_FILE = "evaluation/drawings.json"
FRESH = "fresh_real"

_SECTIONS = (
    ("summary", "In short"),
    ("verdict", "Verdict"),
    ("codes", "Codes"),
    ("pairs", "Together"),
    ("cells", "Age and sex"),
    ("people", "Sample subjects"),
    ("training", "Training"),
    ("quality", "Data"),
    ("limits", "Limits"),
    ("making", "How it was made"),
)


def render_synth_report(run: Path, limits: list[str], out: Path | None = None) -> Path:
    """Write the HTML report of a generator's run from what lies in its folder.

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
    return page.write(page.render("synth.html.j2", _values(record, limits)), out or run / REPORT_FILE)


def _values(record: RunRecord, limits: list[str]) -> dict[str, Any]:
    run, evaluation = record.run, record.evaluation or {}
    drawn = _drawings(record)
    others = [name for name in mapping(evaluation, "comparators") if name != FRESH]
    names = [str(evaluation.get("model") or run.get("model") or "model"), *others]
    rows = list(_rows(evaluation, others))
    return {
        **frame(record, _SECTIONS, limits, loss="Loss, nats per subject", title="Synthetic subjects"),
        "facts": facts(
            run,
            str(run.get("model") or ""),
            f"{wording.count(run.get('n_train'))} training subjects" if run.get("n_train") else "",
        ),
        "lead": _lead(evaluation),
        "verdict": _verdict(evaluation),
        "groups": [
            (name, meaning, [row for row in rows if row["group"] == name]) for name, meaning in GROUPS
        ],
        "names": names,
        "others": others,
        "likelihood": _likelihood(evaluation, names),
        **_drawn(drawn),
        "attrition": mapping(run, "attrition"),
    }


def _drawn(drawn: Json) -> dict[str, Any]:
    """What was drawn when the run was judged."""
    prevalence, pairs = mapping(drawn, "prevalence"), mapping(drawn, "pairs")
    return {
        "prevalence": [
            {"name": name, "drawing": synth_charts.prevalence(prevalence, name, index)}
            for index, name in enumerate(mapping(prevalence, "made"))
        ],
        "maps": synth_charts.maps(pairs),
        "map_names": list(enumerate(pairs.get("categories") or (), start=1)),
        "cells": synth_charts.cells(mapping(drawn, "cells")),
        "people": drawn.get("people") or [],
    }


def _drawings(record: RunRecord) -> Json:
    path = record.path / DRAWINGS_FILE
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error}); evaluate again") from None
    return found if isinstance(found, dict) else {}


def _rows(evaluation: Json, others: list[str]) -> Iterator[dict[str, Any]]:
    """A row per gate: what was found, of fresh real subjects, of comparators, and what was asked."""
    metrics, fresh = mapping(evaluation, "metrics"), mapping(mapping(evaluation, "comparators"), FRESH)
    theirs = mapping(evaluation, "gates_of_comparators")
    for name, gate in mapping(evaluation, "gates").items():
        told = words_of(name)
        metric = told.metric if told.metric is not None else name
        goal = mapping(mapping(evaluation, "goals"), name)
        yield {
            "name": name,
            "group": told.group,
            "label": told.label,
            "value": decimal(gate.get("value")),
            "interval": interval(mapping(metrics, metric)) if metric == name else "",
            "fresh": decimal(mapping(fresh, metric).get("value")),
            "others": [_other(mapping(mapping(theirs, other), name)) for other in others],
            "sign": "≥" if told.at_least else "≤",
            "bound": decimal(gate.get("bound")),
            "goal": decimal(goal.get("goal")) if finite(goal.get("goal")) is not None else "",
            "reached": goal.get("reached"),
            "passed": bool(gate.get("passed")),
        }


def _other(gate: Json) -> dict[str, Any]:
    return {"value": decimal(gate.get("value")), "passed": gate.get("passed")}


def _lead(evaluation: Json) -> str:
    if not evaluation:
        return "A generator of histories of diagnoses. It has not been judged yet."
    n, of = wording.count(evaluation.get("n")), wording.count(evaluation.get("n_subjects"))
    return (
        f"{n} synthetic subjects were drawn and compared with {of} real ones whom nothing was learned from, and with "
        "fresh real subjects, who say what a perfect generator would score at this size."
    )


def _verdict(evaluation: Json) -> dict[str, str] | None:
    gates = mapping(evaluation, "gates")
    if not gates:
        return None
    missed = [words_of(name).label for name, gate in gates.items() if not gate.get("passed")]
    goals = mapping(evaluation, "goals")
    short = sum(not goal.get("reached") for goal in goals.values())
    rest = (
        f" {short} of {len(goals)} bare goals are not reached; chance allows for some of it." if short else ""
    )
    if not missed:
        return {"tone": "good", "heading": f"All {len(gates)} gates passed", "sentence": f"Nothing here tells these "
                f"subjects from fresh real ones.{rest}"}  # fmt: skip
    tone = "warn" if len(missed) <= len(gates) / 4 else "bad"
    return {
        "tone": tone,
        "heading": f"{len(missed)} of {len(gates)} gates missed",
        "sentence": f"Missed: {'; '.join(missed)}.{rest}",
    }


def _likelihood(evaluation: Json, names: list[str]) -> Any:
    ours, others = mapping(evaluation, "metrics"), mapping(evaluation, "comparators")
    values = [ours, *(mapping(others, name) for name in names[1:])]
    rows = [
        (name, mapping(value, "nats_per_subject"), index)
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    return synth_charts.bars(rows, "Held-out likelihood, nats per subject; less is better")
