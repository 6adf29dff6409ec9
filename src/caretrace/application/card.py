"""The model card that travels in a bundle."""

from __future__ import annotations

from typing import Any

from caretrace.application import Application
from caretrace.application.tripod import tripod_items


def model_card(run: dict[str, Any], application: Application, cohort: dict[str, Any] | None = None) -> str:
    """Markdown: what the model is, what it was trained on, how it did on tuning subjects, its limits.

    Args:
        run: `run.json`.
        application: The application the model belongs to.
        cohort: `attrition.json` of its labels.
    """
    tuning = run["tuning"]
    limits = "\n".join(f"- {limit}" for limit in application.limits(run["source"]))
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return f"""# {application.title}

{application.summary} **Research use only, never a bedside device.**

| | |
|---|---|
| task | {run["task"]} |
| source | {run["source"]} |
| dataset fingerprint | `{run["fingerprint"][:16]}` |
| backbone | {run["backbone"]}, {run["config"]["training"]["members"]} members of {run["n_parameters"]:,} parameters |
| trained on | {_subjects(run)} |
| seed | {run["seed"]} |
| made | {run["created_at"]} with {versions} |

## Figures on tuning subjects

These were used to stop the training and to calibrate, so they flatter. Held-out figures, with intervals
and beside comparators, come from `caretrace evaluate`.

| AUROC | AUPRC | Brier | ECE |
|---|---|---|---|
| {tuning["auroc"]:.3f} | {tuning["auprc"]:.3f} | {tuning["brier"]:.3f} | {tuning["ece"]:.3f} |

## What it must not be used for

{limits}
{_tripod(tripod_items(run, application, cohort))}"""


def _subjects(run: dict[str, Any]) -> str:
    if run["config"]["training"].get("cross_fit"):
        return (
            f"{run['n_train'] + run['n_tuning']:,} labels of training and tuning subjects; each member left out, and "
            "was stopped by, another part of them; calibrated on what members say of those they left out"
        )
    return f"{run['n_train']:,} labels; stopped and calibrated on {run['n_tuning']:,} of other subjects"


def _tripod(items: list[dict[str, str]]) -> str:
    rows = "\n".join(f"| {each['item']} | {each['topic']} | {each['text']} |" for each in items)
    return f"""
## TRIPOD+AI

Filled from the run (Collins et al. 2024, BMJ 385:e078378); with held-out figures in the run's
`evaluation/tripod_ai.json`.

| item | topic | in this run |
|---|---|---|
{rows}
"""
