"""`caretrace train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.apps import APPS
from caretrace.backbones import BACKBONES
from caretrace.cli.console import AsJson, Console, Quiet


def command(
    app: Annotated[
        str,
        typer.Argument(metavar="APP", help=f"{', '.join(APPS)}; `caretrace apps` says what each does."),
    ],
    dataset: Annotated[Path, typer.Argument(help="MEDS dataset that `caretrace ingest` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make (or to go on with, see --resume).")],
    task: Annotated[
        str | None,
        typer.Option(help="Task to label by; default: the application's first that fits the dataset."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels made before by `caretrace cohort`, or any MEDS label file.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"{', '.join(BACKBONES)}; short for --set backbone=…")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with settings, or a named configuration, which `caretrace apps` lists."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="One setting, e.g. --set training.members=3 --set d_model=32; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, bit for bit.")
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(help="Processes per host that a launcher starts, as a check; --set training.devices=…"),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Hosts, as a check; short for --set training.nodes=…")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How several processes share the model: ddp or fsdp; --set training.strategy=…"),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="32, bf16 or 16; short for --set training.precision=…")
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Compute each batch in so many portions; short for --set training.accumulate=…"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model and its comparators on a dataset and write a run folder with its bundle.

    Example: `caretrace train mortality data/p12 --out runs/p12 --backbone gru`

    Training subjects fit everything, tuning subjects stop the training (and calibrate a risk), held-out
    subjects are not read. An interrupted run goes on with `--resume`.

    Several processes or hosts: `torchrun --nproc-per-node=2 -m caretrace.cli train …`, or SLURM; see docs/cluster.md.
    """
    from caretrace.application.configs import find_config
    from caretrace.application.verbs import train
    from caretrace.apps import load_application
    from caretrace.config import load
    from caretrace.dataset import Dataset
    from caretrace.errors import CaretraceError

    main = _is_main()
    console = Console(as_json and main, quiet or not main)
    application = load_application(app)
    short: dict[str, Any] = {"devices": devices, "nodes": nodes, "strategy": strategy, "precision": precision}
    short = {f"training.{name}": value for name, value in {**short, "accumulate": accumulate}.items()}
    short["backbone"] = backbone
    chosen = [f"{name}={value}" for name, value in short.items() if value is not None]
    filled = load(application.config_class, find_config(application, config), [*(settings or []), *chosen])
    try:
        with console.progress("starting") as bar:
            run = train(
                application,
                Dataset(dataset),
                filled,
                out,
                task=task,
                labels=labels,
                resume=resume,
                progress=bar.to,
            )
    except KeyboardInterrupt:
        raise CaretraceError(
            f"interrupted; if {out} is there, the same command with --resume goes on from the last epoch"
        ) from None
    if not main:
        return
    _tell(console, out, run)


def _tell(console: Console, out: Path, run: dict[str, Any]) -> None:
    tuning = run["tuning"]
    if run["task"] is None:
        rows = [[name.replace("_", " "), value] for name, value in tuning.items()]
        console.table(f"{run['title']}, on {run['source']}", ["tuning subjects", "figure"], rows)
    else:
        console.table(
            f"{run['title']}: {run['task']} on {run['source']}",
            ["split", "labels", "AUROC", "AUPRC", "Brier", "ECE"],
            [
                [
                    tuning["split"],
                    tuning["n"],
                    tuning["auroc"],
                    tuning["auprc"],
                    tuning["brier"],
                    tuning["ece"],
                ]
            ],
        )
    console.say("Tuning figures flatter: these subjects stopped the training.")
    console.say(f"Next: caretrace evaluate {out}")
    console.result({"run": str(out), **run})


def _is_main() -> bool:
    """Whether this process speaks: of those that a launcher starts, only the first does."""
    from caretrace.training.processes import started

    return started().main
