"""The `caretrace` command: one file per verb.

Verb files import nothing heavy at the top, so that `caretrace --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from caretrace.cli.console import Console
from caretrace.errors import CaretraceError

# Verb → its module; the order is the order of the flow, and of `--help`.
VERBS = {
    "demo": "caretrace.cli.demo",
    "simulate": "caretrace.cli.simulate",
    "sources": "caretrace.cli.sources",
    "ingest": "caretrace.cli.ingest",
    "inspect": "caretrace.cli.inspect",
    "apps": "caretrace.cli.apps",
    "cohort": "caretrace.cli.cohort",
    "train": "caretrace.cli.train",
    "evaluate": "caretrace.cli.evaluate",
    "predict": "caretrace.cli.predict",
    "explain": "caretrace.cli.explain",
    "generate": "caretrace.cli.generate",
    "report": "caretrace.cli.report",
    "serve": "caretrace.cli.serve",
    "token": "caretrace.cli.token",
    "bench": "caretrace.cli.bench",
}


_INTERRUPTED = "Query interrupted"  # what DuckDB makes of Ctrl-C where it sees the signal before Python does


def build_app() -> typer.Typer:
    """The Typer application with every verb of `VERBS`; each module offers a function `command`."""
    app = typer.Typer(
        name="caretrace",
        help="Learn from clinical time: raw tables → MEDS dataset → labels → model → figures → report.\n\n"
        "Start with `caretrace demo`; it needs no data. Research use only, never a bedside device.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for verb, module in VERBS.items():
        app.command(verb)(importlib.import_module(module).command)
    return app


def main() -> None:
    """Entry point: what the user can mend becomes one message on standard error and an exit code."""
    # Spinning OpenMP threads slow small models down tenfold on busy cores; waiting politely does not.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app = build_app()
    try:
        app(standalone_mode=True)
    except CaretraceError as error:
        Console().error(str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written, a file where a folder should be
        place = f"{error.filename}: " if error.filename else ""
        Console().error(
            f"{place}{error.strerror or error}; check the path, its permissions and the space left"
        )
        sys.exit(1)
    except RuntimeError as error:
        if str(error) != _INTERRUPTED:
            raise
        sys.exit(130)  # as after Ctrl-C anywhere else


def _print_version(asked: bool) -> None:
    if asked:
        from caretrace import __version__

        sys.stdout.write(f"caretrace {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    del version  # answered by its callback, also when no verb is given
