"""`caretrace evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace import schema
from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.cli.options import RunFolder


def command(
    run: RunFolder,
    dataset: Annotated[
        Path | None,
        typer.Argument(help="Another MEDS dataset to judge on; default: the one it was trained on."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="train, tuning, held_out, or all (for a dataset the model has not seen).")
    ] = schema.HELD_OUT,
    replicates: Annotated[
        int, typer.Option(min=100, help="Bootstrap replicates behind every interval.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge a run on held-out subjects: figures with 95 % intervals, beside the comparators.

    Example: `caretrace evaluate runs/p12`, or on another hospital: `caretrace evaluate runs/p12 data/other`

    Intervals of a risk resample subjects; paired differences use the same resamples for model and comparator. Other
    applications say beside each figure what it is compared with, and which gates it must pass.
    """
    from caretrace.application.run import Run
    from caretrace.application.verbs import evaluate
    from caretrace.apps import load_application
    from caretrace.dataset import Dataset

    console = Console(as_json, quiet)
    opened = Run(run)
    application = load_application(opened.read()["application"], "evaluate")
    with console.progress("starting") as bar:
        figures = evaluate(
            application,
            opened,
            Dataset(dataset) if dataset else None,
            split=None if split == "all" else split,
            replicates=replicates,
            seed=seed,
            progress=bar.to,
        )
    show(console, figures)
    console.say(f"Next: caretrace report {run}")
    console.result(figures)


def show(console: Console, figures: dict[str, Any]) -> None:
    """The figures of a risk as two tables and a sentence; those of anything else as figures and gates."""
    if "positives" in figures:
        _show_risk(console, figures)
    else:
        _show_figures(console, figures)
        _show_gates(console, figures["gates"])


def _show_risk(console: Console, figures: dict[str, Any]) -> None:
    from caretrace.application.evaluate import MODEL
    from caretrace.report.record import FEWEST_POSITIVES

    models = {MODEL: figures["metrics"], **figures["comparators"]}
    console.table(
        f"{figures['application']}, {figures['split']}: {figures['n']:,} labels of {figures['n_subjects']:,} "
        f"subjects, {figures['positives']:,} positive",
        ["model", "AUROC ↑", "AUPRC ↑", "Brier ↓", "ECE ↓"],
        [[name, *(_interval(values[m], "value") for m in _METRICS)] for name, values in models.items()],
    )
    console.table(
        f"{MODEL} minus comparator, same resamples",
        ["comparator", "AUROC", "AUPRC", "Brier", "ECE"],
        [[name, *(_interval(d[m], "difference") for m in _METRICS)] for name, d in figures["paired"].items()],
    )
    console.say(f"Use {figures['recommended']['name']}: {figures['recommended']['reason']}")
    if figures["positives"] < FEWEST_POSITIVES:
        console.say(
            f"But {figures['positives']} positives are too few to judge by; that takes {FEWEST_POSITIVES}."
        )


def _show_figures(console: Console, figures: dict[str, Any]) -> None:
    """A row per figure, a column per comparator."""
    comparators = figures["comparators"]
    console.table(
        f"{figures['application']}, {figures['split']}: {figures['n_subjects']:,} subjects",
        ["figure", "value", *comparators],
        [
            [name, _interval(value, "value"), *(_cell(each.get(name)) for each in comparators.values())]
            for name, value in figures["metrics"].items()
        ],
    )


def _show_gates(console: Console, gates: dict[str, Any]) -> None:
    if not gates:
        return
    console.table(
        "Gates",
        ["gate", "value", "bound", "passed"],
        [
            [name, f"{gate['value']:.3f}", f"{gate['bound']:.3f}", bool(gate["passed"])]
            for name, gate in gates.items()
        ],
    )
    failed = [name for name, gate in gates.items() if not gate["passed"]]
    console.say(f"Missed: {', '.join(failed)}" if failed else f"All {len(gates)} gates passed.")


_METRICS = ("auroc", "auprc", "brier", "ece")


def _interval(value: dict[str, float], key: str) -> str:
    if value["low"] == value["high"]:
        return f"{value[key]:.3f}"
    sign = "+" if key == "difference" else ""
    return f"{value[key]:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def _cell(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['value']:.3f}"
