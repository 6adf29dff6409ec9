"""The page of an application that is judged by figures of its own: a summary, tables, and how the run was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from caretrace.report import page
from caretrace.report.provenance import facts, frame
from caretrace.report.record import Json, mapping, read_run
from caretrace.report.wording import decimal, interval

REPORT_FILE = "report.html"
_LAST = (("training", "Training"), ("quality", "Data"), ("limits", "Limits"), ("making", "How it was made"))


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value, and below it what qualifies it."""

    text: str
    sub: str = ""

    @classmethod
    def of(cls, figure: Json) -> Cell:
        """A figure with its interval; a dash where there is none."""
        return cls(decimal(figure.get("value")), interval(figure)) if figure else cls("–")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a name per row.

    Args:
        head: Names of the columns, that of the rows' names first.
        rows: Name and cells of each.
        caption: What it shows.
    """

    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    """A section of the page.

    Args:
        anchor: Where links lead.
        heading: Of the section.
        lines: Sentences before the tables.
        tables: The tables; without any that have rows, the page says how to get them.
        notes: Small print after the tables.
    """

    anchor: str
    heading: str
    lines: Sequence[str] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Words:
    """What an application says about itself on its page.

    Args:
        title: Of a run that has none.
        loss: What the losses of training and tuning are.
        note: Small print of the summary.
        series: Key of the log → name and colour of its line.
    """

    title: str
    loss: str
    note: str
    series: dict[str, tuple[str, int]] | None = None


def render_figures_page(
    run: Path, limits: list[str], words: Words, parts: Callable[[Json], list[Part]], out: Path | None
) -> Path:
    """Write the HTML report of a run from what lies in its folder.

    Args:
        run: Run folder with at least `run.json`.
        limits: What it must not be used for.
        words: The application's own words.
        parts: From `evaluation.json`, empty before the run is judged, to sections; the first is the summary.
        out: HTML file to write; `RUN/report.html` when None. An older report is replaced.

    Returns:
        The file written.

    Raises:
        BundleError: `run` is not a run folder, or a part of it is not readable.
    """
    record = read_run(run)
    told, evaluation = record.run, record.evaluation or {}
    own = parts(evaluation)
    sections = [*((part.anchor, part.heading) for part in own), *_LAST]
    values = {
        **frame(record, sections, limits, loss=words.loss, title=words.title, series=words.series),
        "facts": facts(told, f"backbone {told['backbone']}" if told.get("backbone") else ""),
        "evaluated": bool(evaluation),
        "simulated": str(told.get("source") or "").startswith("hospital"),
        "parts": own,
        "note": words.note,
    }
    return page.write(page.render("figures.html.j2", values), out or run / REPORT_FILE)


def gates_table(evaluation: Json, names: dict[str, str]) -> Table:
    """Every bound, what was found, and whether it was kept."""
    rows = [
        (
            names.get(name) or name.replace("_", " "),
            [
                Cell(decimal(gate.get("value"))),
                Cell(decimal(gate.get("bound"))),
                Cell("kept" if gate.get("passed") else "✗ missed"),
            ],
        )
        for name, gate in mapping(evaluation, "gates").items()
    ]
    return Table(("Bound", "found", "bound", ""), rows)


def kept(evaluation: Json, names: dict[str, str]) -> list[str]:
    """One sentence on the bounds; none before the run is judged."""
    gates = mapping(evaluation, "gates")
    missed = [
        names.get(name) or name.replace("_", " ") for name, gate in gates.items() if not gate.get("passed")
    ]
    if not gates:
        return []
    return [
        f"{len(gates) - len(missed)} of {len(gates)} bounds kept."
        + (f" Missed: {'; '.join(missed)}." if missed else "")
    ]
