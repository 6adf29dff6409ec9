"""`caretrace cohort`: MEDS dataset → labels and attrition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet

if TYPE_CHECKING:
    from caretrace.cohort import Labels, Task
    from caretrace.dataset import Dataset


def command(
    task: Annotated[
        str,
        typer.Argument(
            metavar="APP|TASK.yaml",
            help="An application, whose tasks are built in, or a task file; ACES and MEDS-DEV files work.",
        ),
    ],
    dataset: Annotated[
        Path, typer.Argument(help="Folder that `caretrace ingest` wrote, or any MEDS dataset.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="New folder for labels.parquet, attrition.json and task.yaml.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--task", help="Which task of the application; default: the first the dataset can answer."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say who is predicted when, and what is asked: one label per subject and prediction time.

    Every rule that leaves somebody out is listed with its count. An outcome that cannot be read is left out,
    never called negative.

    Example: `caretrace cohort mortality DATASET --out labels --task in_icu_death_24h`
    """
    from caretrace.cohort import build_labels
    from caretrace.dataset import Dataset
    from caretrace.files import refuse_existing

    console = Console(as_json, quiet)
    refuse_existing(out)
    opened = Dataset(dataset)
    chosen = _choose(task, name, opened)
    console.say(f"task {chosen.name}: {chosen.file}")
    with console.progress(f"labelling {dataset}"):
        labels = build_labels(opened, chosen, out)
    app = task if not _is_file(task) else "APP"
    _show(console, labels, out)
    if labels.counts["positives"] in (0, labels.counts["labels"]):
        console.say(
            "All labels are the same: no model can learn from them. Another --task may fit this dataset."
        )
    console.result({**labels.summary(), "out": str(out)})
    console.say(f"Wrote {out}. Next: caretrace train {app} {dataset} --labels {out} --out RUN")


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml")) or Path(task).is_file()


def _choose(task: str, name: str | None, dataset: Dataset) -> Task:
    from caretrace.application.tasks import find_task
    from caretrace.application.verbs import supervised
    from caretrace.apps import load_application
    from caretrace.cohort import read_task
    from caretrace.errors import ConfigError

    if not _is_file(task):
        return find_task(supervised(load_application(task, "cohort")), dataset, name)
    if name is not None:
        raise ConfigError(
            f"--task {name!r} chooses a task of an application, but {task} is a task file; drop it"
        )
    return read_task(Path(task))


def _show(console: Console, labels: Labels, out: Path) -> None:
    console.table(
        f"attrition of {out}",
        ["rule", "removed", "remaining"],
        [[step.rule, step.removed, step.remaining] for step in labels.attrition],
    )
    counts: dict[str, Any] = {"all": labels.counts, **labels.counts["splits"]}
    console.table(
        "labels",
        ["split", "subjects", "labels", "positives", "% positive"],
        [
            [split, n["subjects"], n["labels"], n["positives"], 100 * n["positives"] / max(n["labels"], 1)]
            for split, n in counts.items()
        ],
    )
    if labels.discordance is not None:
        rows = [[name.replace("_", " "), value] for name, value in labels.discordance.items()]
        console.table("in-ICU against in-hospital death, over the labelled pairs", ["what", "pairs"], rows)
