"""`caretrace predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caretrace import schema
from caretrace.cli.console import AsJson, Console, Quiet


def command(
    run: Annotated[Path, typer.Argument(help="Run folder that `caretrace train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="MEDS dataset to predict on.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="When to predict: labels of `caretrace cohort`; default: the run's own task."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, tuning, held_out or all.")] = schema.HELD_OUT,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write calibrated risks as a MEDS prediction file, which `meds-evaluation` scores unchanged.

    Example: `caretrace predict runs/p12 data/p12 --out predictions.parquet`
    """
    from caretrace.application.predict import predict
    from caretrace.application.run import Run
    from caretrace.apps import load_application
    from caretrace.dataset import Dataset

    console = Console(as_json, quiet)
    opened = Run(run)
    with console.progress("starting") as bar:
        counts = predict(
            load_application(opened.read()["application"]),
            opened,
            Dataset(dataset),
            out,
            labels=labels,
            split=None if split == "all" else split,
            progress=bar.to,
        )
    console.table(
        f"Predictions in {out}", ["what", "value"], [[k, v] for k, v in counts.items() if k != "out"]
    )
    if counts["unknown_codes"]:
        console.say(
            f"{counts['unknown_codes']:,} of {counts['measurements']:,} measurements have a code the model does not "
            "know; it reads them as 'something unknown was measured'"
        )
    console.result(counts)
