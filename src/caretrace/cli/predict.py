"""`caretrace predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caretrace import schema
from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.cli.options import RunFolder

if TYPE_CHECKING:
    from caretrace.application.run import Run
    from caretrace.dataset import Dataset


def command(
    run: RunFolder,
    dataset: Annotated[Path, typer.Argument(help="MEDS dataset to predict on.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="When to predict: labels of `caretrace cohort`; default: the run's own task."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, tuning, held_out or all.")] = schema.HELD_OUT,
    trajectory: Annotated[
        Path | None,
        typer.Option(help="Also write risk trajectories with a band to this Parquet file; see --every."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            help="With --trajectory: predict every so many hours of the stay; default: at the labels."
        ),
    ] = None,
    subject: Annotated[
        int | None, typer.Option(help="With --trajectory or --attention: one subject only.")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(
            help="With --subject: also write all attention weights to this npz file. Not importance."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write calibrated risks as a MEDS prediction file, which `meds-evaluation` scores unchanged.

    What an application without labels writes, its page says.

    Example: `caretrace predict runs/p12 data/p12 --out predictions.parquet`

    A risk trajectory: `caretrace predict runs/p12 data/p12 --out risks.parquet --trajectory course.parquet --every 4`
    """
    if (every is not None or subject is not None) and trajectory is None and attention is None:
        raise typer.BadParameter("--every and --subject go with --trajectory or --attention")
    if attention is not None and subject is None:
        raise typer.BadParameter("--attention needs --subject: whose attention?")
    from caretrace.application.run import Run
    from caretrace.application.verbs import predict, supervised
    from caretrace.apps import load_application
    from caretrace.dataset import Dataset

    console = Console(as_json, quiet)
    opened = Run(run)
    application = load_application(opened.read()["application"], "predict")
    if trajectory is not None or attention is not None:
        supervised(application)  # others have neither
    with console.progress("starting") as bar:
        counts = predict(
            application,
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
    if counts.get("unknown_codes"):
        console.say(
            f"{counts['unknown_codes']:,} of {counts['measurements']:,} measurements have a code the model does not "
            "know; it reads them as 'something unknown was measured'"
        )
    course = (subject, every, None if split == "all" else split)
    console.result({**counts, **_along(console, opened, Dataset(dataset), course, trajectory, attention)})


def _along(
    console: Console,
    run: Run,
    dataset: Dataset,
    whose: tuple[int | None, float | None, str | None],
    trajectory: Path | None,
    attention: Path | None,
) -> dict[str, Any]:
    """What was asked for beside the predictions."""
    from caretrace.application.verbs import supervised
    from caretrace.apps import load_application

    found: dict[str, Any] = {}
    if trajectory is None and attention is None:
        return found
    application = supervised(load_application(run.read()["application"]))
    if trajectory is not None:
        from caretrace.application.trajectory import Course
        from caretrace.application.trajectory import trajectory as write_trajectory

        rows = len(write_trajectory(application, run, dataset, trajectory, Course(*whose)))
        found |= {"trajectory": str(trajectory), "trajectory_rows": rows}
        console.say(f"{rows:,} risks along their stays in {trajectory}")
    if attention is not None and whose[0] is not None:
        from caretrace.application.attention import attention_of_subject

        found["attention"] = attention_of_subject(application, run, dataset, whose[0], attention)
        console.say(f"Attention in {attention}: what was looked at, not what mattered")
    return found
