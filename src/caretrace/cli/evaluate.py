"""`caretrace evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace import schema
from caretrace.cli.console import AsJson, Console, Quiet


def command(
    run: Annotated[Path, typer.Argument(help="Run folder that `caretrace train` wrote.")],
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

    Intervals resample subjects; the paired differences use the same resamples for model and comparator.
    """
    from caretrace.application.evaluate import MODEL, evaluate
    from caretrace.application.run import Run
    from caretrace.apps import load_application
    from caretrace.dataset import Dataset

    console = Console(as_json, quiet)
    opened = Run(run)
    application = load_application(opened.read()["application"])
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
    show(console, figures, MODEL)
    console.say(f"Next: caretrace report {run}")
    console.result(figures)


def show(console: Console, figures: dict[str, Any], model: str) -> None:
    """The figures as two tables and a sentence."""
    from caretrace.report.record import FEWEST_POSITIVES

    models = {model: figures["metrics"], **figures["comparators"]}
    console.table(
        f"{figures['application']}, {figures['split']}: {figures['n']:,} labels of {figures['n_subjects']:,} "
        f"subjects, {figures['positives']:,} positive",
        ["model", "AUROC ↑", "AUPRC ↑", "Brier ↓", "ECE ↓"],
        [[name, *(_interval(values[m], "value") for m in _METRICS)] for name, values in models.items()],
    )
    console.table(
        f"{model} minus comparator, same resamples",
        ["comparator", "AUROC", "AUPRC", "Brier", "ECE"],
        [[name, *(_interval(d[m], "difference") for m in _METRICS)] for name, d in figures["paired"].items()],
    )
    console.say(f"Use {figures['recommended']['name']}: {figures['recommended']['reason']}")
    if figures["positives"] < FEWEST_POSITIVES:
        console.say(
            f"But {figures['positives']} positives are too few to judge by; that takes {FEWEST_POSITIVES}."
        )


_METRICS = ("auroc", "auprc", "brier", "ece")


def _interval(value: dict[str, float], key: str) -> str:
    sign = "+" if key == "difference" else ""
    return f"{value[key]:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"
