"""`caretrace report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caretrace.cli.console import AsJson, Console, Quiet
from caretrace.cli.options import RunFolder


def command(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write; default: report.html in the run folder.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page about a run: figures, curves, cohort, data quality, limits.

    Example: `caretrace report runs/p12`, then open `runs/p12/report.html` in a browser.

    The page is made from what lies in the run folder; parts that are not there yet are named, with the
    command that makes them. It loads nothing from the network and can be mailed or printed. Pages of explained
    subjects are made again, too, and linked.
    """
    from caretrace.application.run import Run
    from caretrace.application.verbs import report
    from caretrace.apps import load_application
    from caretrace.report.record import EVALUATION_FILE

    console = Console(as_json, quiet)
    opened = Run(run)
    written = report(load_application(opened.read()["application"], "report"), opened, out)
    evaluated = (run / EVALUATION_FILE).is_file()
    console.say(f"Wrote {written}")
    console.say(
        "Next: open it in a browser." if evaluated else f"Not evaluated yet; next: caretrace evaluate {run}"
    )
    console.result({"report": str(written), "bytes": written.stat().st_size, "evaluated": evaluated})
