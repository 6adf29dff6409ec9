"""`caretrace demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet

# Settings that keep the demo within minutes on two cores; a model that matters takes the defaults.
QUICK = ("training.members=2", "training.max_steps=800")


def command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder to make; everything the demo writes is in it.")
    ] = Path("demo"),
    subjects: Annotated[int, typer.Option(min=200, help="Simulated people.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go the whole way on simulated patients: tables → dataset → labels → model → figures → report.

    Example: `caretrace demo`, then open demo/report.html. It needs no data and no network.

    Every step is a command of its own, printed as it runs: the same commands work on real data.
    """
    from caretrace.files import refuse_existing

    console = Console(as_json, quiet)
    refuse_existing(out)
    raw, dataset, run = out / "raw", out / "dataset", out / "run"
    with console.progress("starting", total=None) as bar:

        def step(number: int, text: str) -> None:
            console.say(f"[{number}/6] caretrace {text}")
            bar.to(text.split(maxsplit=1)[0], 0, None)

        step(1, f"simulate {raw} --part stays --subjects {subjects} --seed {seed}")
        _simulate(raw, subjects, seed, bar)
        step(2, f"ingest hospital {raw} {dataset}")
        _ingest(raw, dataset, bar)
        step(3, f"cohort mortality {dataset} --task in_icu_death_24h --out {out / 'labels'}")
        counts = _cohort(dataset, out / "labels")
        settings = [f"training.seed={seed}", *QUICK]
        chosen = " ".join(f"--set {setting}" for setting in settings)
        step(4, f"train mortality {dataset} --labels {out / 'labels'} --out {run} {chosen}")
        _train(dataset, out / "labels", run, settings, bar)
        step(5, f"evaluate {run}")
        figures = _evaluate(run, bar)
        step(6, f"report {run} --out {out / 'report.html'}")
        page = _report(run, out / "report.html")
    if not as_json:
        from caretrace.cli.evaluate import show

        show(console, figures)
    console.say(
        f"Open {page} in a browser. Simulated patients: the figures say that the method works, no more."
    )
    console.result({"out": str(out), "report": str(page), "labels": counts, "evaluation": figures})


def _simulate(raw: Path, subjects: int, seed: int, bar: Any) -> None:
    from caretrace.hospital import HospitalConfig, simulate

    simulate(
        raw, HospitalConfig(subjects=subjects, seed=seed), progress=lambda part: bar.to("simulate", part, 1)
    )


def _ingest(raw: Path, dataset: Path, bar: Any) -> None:
    from caretrace.ingest import ingest

    ingest("hospital", raw, dataset)
    bar.to("ingest", 1, 1)


def _cohort(dataset: Path, out: Path) -> dict[str, Any]:
    from caretrace.application.tasks import find_task
    from caretrace.application.verbs import supervised
    from caretrace.apps import load_application
    from caretrace.cohort import build_labels
    from caretrace.dataset import Dataset

    opened = Dataset(dataset)
    task = find_task(supervised(load_application("mortality")), opened, "in_icu_death_24h")
    return dict(build_labels(opened, task, out).counts)


def _train(dataset: Path, labels: Path, run: Path, settings: list[str], bar: Any) -> None:
    from caretrace.application.verbs import train
    from caretrace.apps import load_application
    from caretrace.config import load
    from caretrace.dataset import Dataset

    application = load_application("mortality")
    config = load(application.config_class, None, settings)
    train(application, Dataset(dataset), config, run, labels=labels, progress=bar.to)


def _evaluate(run: Path, bar: Any) -> dict[str, Any]:
    from caretrace.application.run import Run
    from caretrace.application.verbs import evaluate
    from caretrace.apps import load_application

    return evaluate(load_application("mortality"), Run(run), progress=bar.to)


def _report(run: Path, page: Path) -> Path:
    from caretrace.report import render_run_report

    return render_run_report(run, page)
