"""`caretrace inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from caretrace.cli.console import AsJson, Console, Quiet


def command(
    dataset: Annotated[Path, typer.Argument(help="MEDS dataset that `caretrace ingest` wrote.")],
    codes: Annotated[
        int, typer.Option("--codes", min=1, help="How many of the most frequent codes to list.")
    ] = 25,
    html: Annotated[Path | None, typer.Option("--html", help="Also write this HTML page.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in a dataset: counts, code table, time range, what was quarantined and flagged.

    Example: `caretrace inspect data/p12 --codes 40 --html p12.html`

    Look here first: a unit that is off or a code that hardly anybody has shows in the code table.
    """
    from caretrace.dataset import Dataset
    from caretrace.report.dataset_page import render_dataset_page
    from caretrace.report.summary import summarise_dataset

    console = Console(as_json, quiet)
    opened = Dataset(dataset)
    with console.progress("reading", total=2 * len(opened.files())) as advance:
        summary = summarise_dataset(opened, codes, advance)
    _show(console, summary)
    _show_quality(console, summary)
    if html is not None:
        console.say(f"Wrote {render_dataset_page(opened, html, summary)}")
    console.say(
        f"Next: caretrace train mortality {dataset} --out RUN "
        f"(or first: caretrace cohort TASK {dataset} --out LABELS)"
    )
    console.result(summary)


def _show(console: Console, summary: Mapping[str, Any]) -> None:
    from caretrace.report.wording import compact, count, share

    time, days = summary["time"], summary["record_days"]
    rows = [
        ["subjects", count(summary["subjects"])],
        *([f"  {split}", count(row["subjects"])] for split, row in summary["splits"].items()),
        ["measurements", count(summary["measurements"])],
        *([f"  {kind}", count(rows)] for kind, rows in summary["event_types"].items()),
        ["codes", count(summary["codes"])],
        ["first time", time["first"]],
        ["last time", time["last"]],
        ["record length, median days", compact(days["median"]) if days else None],
    ]
    console.table(f"Dataset {summary['name']}", ["what", "value"], rows)
    console.table(
        f"The {len(summary['top_codes'])} most frequent of {count(summary['codes'])} codes",
        ["code", "count", "subjects", "with value", "median (1-99 %)"],
        [
            [
                f"{row['description']}\n  {row['code']}" if row["description"] else row["code"],
                row["count"],
                row["subjects"],
                share(row["share_with_value"], 1),
                _values(row),
            ]
            for row in summary["top_codes"]
        ],
    )  # fmt: skip


def _show_quality(console: Console, summary: Mapping[str, Any]) -> None:
    from caretrace.report.quality import read_quality

    quality = read_quality(summary["quality"])
    if quality is None:
        console.say("No quality report: another tool made this dataset.")
        return
    console.table(
        "Raw tables",
        ["table", "rows read", "loaded", "quarantined", "measurements"],
        [
            [t.table + (" (view)" if t.view else ""), t.read, t.loaded, t.quarantined, t.events]
            for t in quality.tables
        ],
    )
    if quality.remarks:
        console.table(
            "Quarantined and flagged",
            ["table", "what", "then", "rows"],
            [[r.table, r.what, "flagged" if r.kept else "quarantined", r.rows] for r in quality.remarks],
        )
    if quality.not_read:
        console.table("Not read", ["file", "why"], [list(row) for row in quality.not_read])


def _values(row: Mapping[str, Any]) -> str | None:
    """Median and 98 % range of a code's values with their unit."""
    from caretrace.report.wording import compact

    if row["median"] is None:
        return None
    told = f"{compact(row['median'])} ({compact(row['p01'])} to {compact(row['p99'])})"
    return f"{told} {row['unit']}" if row["unit"] else told
