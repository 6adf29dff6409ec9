"""The report of one run: `RUN/report.html`, self-contained."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from caretrace import schema
from caretrace.report import charts, page, story, wording
from caretrace.report.provenance import leaves, making
from caretrace.report.quality import read_quality
from caretrace.report.record import EXPLANATIONS, FEWEST_POSITIVES, Json, RunRecord, mapping, read_run
from caretrace.report.wording import decimal, finite, interval, metric, readable

REPORT_FILE = "report.html"

_SECTIONS = (
    ("summary", "In short"),
    ("cohort", "Who was studied"),
    ("discrimination", "Discrimination"),
    ("calibration", "Calibration"),
    ("decision", "Decision curve"),
    ("comparators", "Simpler models"),
    ("subgroups", "Groups"),
    ("abstention", "Uncertainty"),
    ("explained", "Explained subjects"),
    ("training", "Training"),
    ("quality", "Data"),
    ("limits", "Limits"),
    ("making", "How it was made"),
)


def render_run_report(run: Path, out: Path | None = None) -> Path:
    """Write the HTML report of a run from what lies in its folder; parts not there are named as missing.

    Args:
        run: Run folder with at least `run.json`.
        out: HTML file to write; `RUN/report.html` when None. An older report is replaced.

    Returns:
        The file written.

    Raises:
        BundleError: `run` is not a run folder, or a part of it is not readable.
    """
    record, out = read_run(run), out or run / REPORT_FILE
    explained = _explained(run, out)
    page.write(page.render("run.html.j2", _values(record, explained)), out)
    _explain_again(run)  # they say where the report is, and what the certificate says by now
    return out


def _explained(run: Path, out: Path) -> list[dict[str, str]]:
    """A line per explanation in the run, with a link from the report to its page."""
    if not (run / EXPLANATIONS).is_dir():  # reading explanations takes seconds of imports
        return []
    from caretrace.report.subject_page import explained, explanation_folders

    return [explained(folder, out.parent) for folder in explanation_folders(run)]


def _explain_again(run: Path) -> None:
    if (run / EXPLANATIONS).is_dir():
        from caretrace.report.subject_page import explanation_folders, render_subject_page

        for folder in explanation_folders(run):
            render_subject_page(folder)


def _values(record: RunRecord, explained: list[dict[str, str]]) -> dict[str, Any]:
    run, evaluation = record.run, record.evaluation or {}
    subgroups = _subgroups(record)
    drawings = _drawings(record, subgroups)
    optional = {"subgroups": bool(subgroups), "explained": bool(explained)}
    optional["abstention"] = drawings["abstention"] is not None
    members = len({row.get("member", 0) for row in record.epochs})
    return {
        "title": story.title(run),
        "facts": [
            readable(str(run.get("application") or "")),
            f"source {run['source']}" if run.get("source") else "",
            str(run.get("backbone") or ""),
            f"trained {str(run['created_at'])[:10]}" if run.get("created_at") else "",
        ],
        "sections": [row for row in _SECTIONS if optional.get(row[0], True)],
        "path": shlex.quote(str(record.path)),
        "application": str(run.get("application") or "APP"),
        "lead": story.lead(record),
        "verdict": story.verdict(record),
        "cards": _cards(record),
        "bootstrap": mapping(evaluation, "bootstrap").get("replicates"),
        "attrition": _attrition(record.attrition),
        "question": record.task_description,
        "calibrations": _calibrations(record),
        "models": _models(record),
        "metrics": list(mapping(evaluation, "metrics")),
        "n": evaluation.get("n"),
        "paired": list(_paired(record)),
        "gates": list(_gates(evaluation)),
        "subgroups": subgroups,
        "explained": explained,
        "fewest": FEWEST_POSITIVES,
        "members": f" One line per member of the ensemble ({members})." if members > 1 else "",
        "quality": read_quality(record.quality),
        "limits": story.limits(record),
        "making": making(run),
        "config": list(leaves(mapping(run, "config"))),
        "commands": _commands(record),
        "drawings": drawings,
    }


def _drawings(record: RunRecord, subgroups: list[dict[str, Any]]) -> dict[str, Markup | None]:
    figures, names, curves = record.figures, story.model_names(record), record.curves or {}
    models = _ordered(mapping(curves, "models"), record.model)
    prevalence = finite(curves.get("prevalence"))

    def beside(name: str) -> Markup | None:
        rows = [
            (names[model], mapping(values, name), index)
            for index, (model, values) in enumerate(figures.items())
        ]
        return charts.intervals(rows, metric(name).label)

    overall = finite(mapping(mapping(record.evaluation, "metrics"), "auroc").get("value"))
    return {
        "auroc": beside("auroc"),
        "auprc": beside("auprc"),
        "roc": charts.roc(models, figures, names),
        "pr": charts.precision_recall(models, figures, names, prevalence),
        "decision": charts.decision({**curves, "models": models}, names),
        "subgroups": charts.intervals(
            [(row["group"], row["auroc"], 0) for row in subgroups],
            "AUROC",
            what="group",
            reference=overall,
            width=520,
        ),
        "abstention": charts.abstention((record.abstention or {}).get("curve") or []),
        "loss": charts.training(
            record.epochs, {"train_loss": ("training", 1), "tuning_loss": ("tuning", 0)}, "Loss"
        ),
        "tuning": charts.training(record.epochs, {"tuning_auroc": ("tuning", 0)}, "Tuning AUROC"),
    }  # fmt: skip


def _ordered(models: Json, ours: str) -> dict[str, Any]:
    """Our model first, so that it has the first colour everywhere."""
    return {name: models[name] for name in sorted(models, key=lambda name: name != ours)}


def _cards(record: RunRecord) -> list[dict[str, str]]:
    return [
        {
            "label": metric(name).label,
            "value": decimal(value.get("value")),
            "interval": interval(value),
            "meaning": metric(name).meaning,
        }
        for name, value in mapping(record.evaluation, "metrics").items()
        if isinstance(value, Mapping)
    ]


def _attrition(attrition: Json | None) -> dict[str, Any] | None:
    if attrition is None:
        return None
    steps = [
        {"rule": str(row.get("rule", "?")), "removed": row.get("removed"), "remaining": row.get("remaining")}
        for row in attrition.get("rules") or attrition.get("attrition") or []
        if isinstance(row, Mapping)
    ]
    counted = mapping(mapping(attrition, "counts"), "splits") or mapping(attrition, "splits")
    splits = {name: row for name, row in counted.items() if isinstance(row, Mapping)}
    columns = list(
        dict.fromkeys(key for row in splits.values() for key in row if finite(row[key]) is not None)
    )
    whole = next((name for name in ("labels", "rows", "n", "subjects") if name in columns), None)
    rate = whole if "positives" in columns else None
    return {
        "steps": steps,
        "flow": steps[:1] + [step for step in steps[1:] if step["removed"]],
        "columns": columns,
        "rate": rate is not None,
        "splits": [
            {
                "name": readable(name),
                "cells": [row.get(column) for column in columns],
                "rate": wording.share(row.get("positives"), row.get(rate)) if rate else "",
            }
            for name, row in sorted(splits.items(), key=lambda item: _split_order(item[0]))
        ],
        "notes": list(_notes(attrition)),
    }


def _split_order(name: str) -> int:
    return schema.SPLITS.index(name) if name in schema.SPLITS else len(schema.SPLITS)


def _notes(attrition: Json) -> Iterator[tuple[str, str]]:
    """What else the cohort's writer stored beside the table, as sentences."""
    value = attrition.get("discordance")
    if isinstance(value, str) and value:
        yield "Discordance", value
    elif isinstance(value, Mapping) and value:
        told = (f"{str(key).replace('_', ' ')} {wording.count(entry)}" for key, entry in value.items())
        yield "Two definitions of the outcome, counted side by side", "; ".join(told) + "."
    elif finite(value) is not None:
        yield "Discordance", f"{wording.count(value)} labels differ between two definitions of the outcome."


def _calibrations(record: RunRecord) -> list[dict[str, Any]]:
    names, items = story.model_names(record), []
    for index, (name, model) in enumerate(_ordered(mapping(record.curves, "models"), record.model).items()):
        shown = names.get(name, name)
        ece = mapping(record.figures.get(name), "ece").get("value")
        curve = charts.calibration(model, shown, index, ece)
        if curve is None:
            continue
        keys = ("predicted", "observed", "low", "high", "count")
        rows = [dict(zip(keys, row, strict=True)) for row in
                zip(*charts.columns(model.get("calibration"), *keys), strict=True)]  # fmt: skip
        histogram = charts.risk_histogram(model, shown, index)
        items.append(
            {"name": shown, "ece": decimal(ece), "curve": curve, "histogram": histogram, "rows": rows}
        )
    return items


def _models(record: RunRecord) -> list[dict[str, Any]]:
    names, columns = story.model_names(record), list(mapping(record.evaluation, "metrics"))
    return [
        {"name": names[model], "cells": [_cell(mapping(values, name)) for name in columns]}
        for model, values in record.figures.items()
    ]


def _cell(value: Json) -> dict[str, Any]:
    return {key: value.get(key) for key in ("value", "low", "high")}


def _paired(record: RunRecord) -> Iterator[dict[str, str]]:
    names = story.model_names(record)
    for comparator, differences in mapping(record.evaluation, "paired").items():
        for name, difference in differences.items():
            text, tone = story.short_difference(name, difference)
            yield {
                "comparator": names.get(comparator, comparator),
                "metric": metric(name).label,
                "difference": decimal(difference.get("difference"), signed=True),
                "interval": interval(difference, signed=True),
                "text": text,
                "tone": tone,
            }


def _gates(evaluation: Json) -> Iterator[dict[str, Any]]:
    for name, gate in mapping(evaluation, "gates").items():
        if isinstance(gate, Mapping):
            yield {"name": readable(name), "passed": bool(gate.get("passed"))} | {
                key: decimal(gate.get(key)) for key in ("value", "bound")
            }


def _subgroups(record: RunRecord) -> list[dict[str, Any]]:
    rows = (record.subgroups or {}).get("groups") or []
    return [
        {
            "group": str(row.get("group", "?")),
            "n": row.get("n"),
            "positives": row.get("positives"),
            "auroc": _cell(mapping(row, "auroc")),
            "calibration": _cell(mapping(row, "calibration")),
            "note": "too small to judge" if (finite(row.get("positives")) or 0) < FEWEST_POSITIVES else "",
        }
        for row in rows
        if isinstance(row, Mapping)
    ]


def _commands(record: RunRecord) -> str:
    """Commands that make the run again, with every setting spelled out."""
    run, path = record.run, shlex.quote(str(record.path))
    train = (
        f"caretrace train {_word(run, 'application', 'APP')} {_word(run, 'dataset', 'DATASET')} --out {path}"
    )
    options = [f"--task {_word(run, 'task', '')}"] if run.get("task") else []
    for name, value in leaves(mapping(run, "config")):
        if value not in ("", "null"):
            options.append(f"--set {shlex.quote(f'{name}={value}')}")
    train = " \\\n    ".join([train, *options])
    return "\n".join([train, f"caretrace evaluate {path}", f"caretrace report {path}"])


def _word(run: Json, key: str, placeholder: str) -> str:
    return shlex.quote(str(run[key])) if run.get(key) else placeholder
