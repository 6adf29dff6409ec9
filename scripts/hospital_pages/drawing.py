"""Plots of the reports, several to a picture, as SVG files that follow the reader's light or dark setting."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from importlib import resources

import numpy as np
from markupsafe import escape

from caretrace.report.svg import Plot

REAL, SIMULATED = "s1", "s0"
GAP, MARGIN, HEAD = 14.0, 14.0, 34.0
BOTH = (("simulated", SIMULATED), ("real", REAL))


@dataclasses.dataclass(frozen=True)
class Section:
    """What one part of the script makes.

    Args:
        figures: SVG by file name without suffix.
        tables: Markdown by the name of its place in the pages.
    """

    figures: dict[str, str]
    tables: dict[str, str]


def picture(
    name: str, plots: Sequence[Plot], columns: int, legend: Sequence[tuple[str, str]], note: str = ""
) -> str:
    """Several plots in rows, with one legend above them.

    Args:
        name: Of the file; its ids begin with it.
        plots: Equal in size.
        columns: Plots per row.
        legend: Text and CSS class of each series.
        note: Words at the right of the legend.
    """
    wide, high = plots[0].width, plots[0].height
    rows = -(-len(plots) // columns)
    width = 2 * MARGIN + columns * wide + (columns - 1) * GAP
    height = HEAD + MARGIN + rows * high + (rows - 1) * GAP
    parts = [
        _legend(legend),
        f'<text class="tick" x="{width - MARGIN:.0f}" y="23" text-anchor="end">{escape(note)}</text>',
    ]
    for place, plot in enumerate(plots):
        x, y = MARGIN + (place % columns) * (wide + GAP), HEAD + (place // columns) * (high + GAP)
        drawn = re.sub(r"plot\d+", f"{name}-{place}", str(plot.svg()))
        start = f'<svg class="plot" x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" '
        parts.append(drawn.replace('<svg class="plot" ', start, 1))
    label = escape("; ".join(plot.title for plot in plots))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{label}" class="plot">\n<style>{_style()}</style>\n'
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="10"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def panel(title: str, description: str, plot: Plot) -> Plot:
    """A plot with its title written above it."""
    plot.title, plot.description, plot.top = title, description, 30.0
    plot.write(plot.left, 18, title, "ink strong")
    return plot


def steps(edges: Sequence[float], heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """The outline of a histogram as a line."""
    xs = np.repeat(edges, 2)[1:-1].tolist()
    return xs, np.repeat(heights, 2).tolist()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> str:
    """A Markdown table; columns from number `right` on are set flush right."""
    rule = ["---" if place < right else "--:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def figure(value: float, digits: int = 3) -> str:
    """A number as the pages write it: no leading zero, a real minus sign, thousands apart."""
    if not np.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    places = 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else digits
    text = f"{value:.{places}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text).replace("-", "−")


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    x, parts = MARGIN + 4, []
    for text, kind in entries:
        parts.append(f'<polyline class="line {kind}" points="{x:.0f},19 {x + 26:.0f},19"/>')
        parts.append(f'<text class="ink" x="{x + 33:.0f}" y="23">{escape(text)}</text>')
        x += 60 + 7 * len(text)
    return "".join(parts)


def _style() -> str:
    """The colours and the rules for plots of the reports' own style sheet."""
    sheet = resources.files("caretrace.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    light = re.search(r"^:root \{.*?\n\}", sheet, re.MULTILINE | re.DOTALL)
    dark = re.search(r"^@media \(prefers-color-scheme: dark\) \{\n.*?\n\}", sheet, re.MULTILINE | re.DOTALL)
    if light is None or dark is None:
        raise LookupError("style.css has no colours for light and dark any more")
    rules = [line for line in sheet.splitlines() if line.startswith((".plot ", ".s0 ", ".s-muted "))]
    own = [
        "svg { font: 12.5px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; overflow: visible; }",
        ".paper { fill: var(--surface); }",
    ]
    return "\n".join([light[0], dark[0], *rules, *own])
