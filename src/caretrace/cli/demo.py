"""`caretrace demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.apps import APPS
from caretrace.cli.console import AsJson, Console, Quiet

# In the order of the index page.
ORDER = ("mortality", "vitals", "safety", "synth")


def command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder to make; everything the demo writes is in it.")
    ] = Path("demo"),
    subjects: Annotated[
        int, typer.Option(min=200, help="Simulated people with ICU stays, for mortality.")
    ] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.")] = 0,
    app: Annotated[
        list[str] | None,
        typer.Option("--app", help=f"Only this application: {', '.join(APPS)}. May be given more than once."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go the whole way on simulated patients, with every application: tables → dataset → model → figures → pages.

    Example: `caretrace demo`, then open demo/report.html, or see it live: `caretrace serve demo`

    One of them: `caretrace demo --app vitals --out ward`. It needs no data and no network.

    Every step is a command of its own, printed as it runs: the same commands work on real data.
    """
    from caretrace.cli import tour
    from caretrace.files import refuse_existing, write_json
    from caretrace.report.demo_page import render_demo_page
    from caretrace.serve.settings import DEMO_FILE

    console = Console(as_json, quiet)
    chosen = _chosen(app)
    refuse_existing(out)
    out.mkdir(parents=True, exist_ok=True)
    answers = _walk(console, tour.steps(out, chosen, subjects, seed))
    described = tour.describe(chosen, out)
    write_json(out / DEMO_FILE, described)
    page = render_demo_page(out, described, answers)
    console.say(
        f"Open {page} in a browser. Simulated patients: the figures say that the method works, no more."
    )
    console.say(f"Live, with a replayed ward: caretrace serve {out}, then open http://127.0.0.1:8000/")
    console.result({"out": str(out), "report": str(page), **described, "evaluation": answers})


def _chosen(app: list[str] | None) -> list[str]:
    from caretrace.errors import ConfigError, unknown_name

    for name in app or ():
        if name not in ORDER:
            raise ConfigError(unknown_name("application", name, ORDER))
    return [name for name in ORDER if not app or name in app]


def _walk(console: Console, steps: list[Any]) -> dict[str, Any]:
    """Run every step; returns what `evaluate` said, by application."""
    from caretrace.cli import tour

    answers = {}
    with console.progress("starting", total=len(steps)) as bar:
        for number, step in enumerate(steps, 1):
            console.say(f"[{number}/{len(steps)}] {step}")
            bar(0, f"{step.application}: {step.words[0]}")
            answer = tour.perform(step)
            bar(1)
            if step.words[0] == "evaluate":
                answers[step.application] = answer
    return answers
