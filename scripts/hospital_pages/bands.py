"""The bands that are calibrated: published beside simulated."""

from __future__ import annotations

import sys
from pathlib import Path

from caretrace.hospital.operations import Band, check
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import Section, figure, panel, picture, table

SEEDS = 30


def make(_: Path) -> Section:
    """As `caretrace simulate --check`."""
    bands = check(range(SEEDS), progress=lambda _: print(".", end="", file=sys.stderr, flush=True))
    return Section({"bands": _picture(bands)}, {"bands": _table(bands)})


def _picture(bands: list[Band]) -> str:
    n = len(bands)
    plot = Plot("", "", Axis("distance from the published number, in half-widths of the band", -1.5, 1.5,
                             ticks=(-1.0, 0.0, 1.0), names=("lowest allowed", "published", "highest allowed")),
                Axis("", 0, n, ticks=tuple(n - i - 0.5 for i in range(n)), names=tuple(b.name for b in bands)),
                900, 60 + 21 * n, left=390)  # fmt: skip
    panel("", f"{sum(band.inside for band in bands)} of {n} bands hold.", plot)
    plot.band([-1, 1], [0, 0], [n, n], "s2")
    for place, band in enumerate(bands):
        half, at = (band.high - band.low) / 2, n - place - 0.5
        low, value, high = (
            (x - band.target) / half for x in (band.interval[0], band.value, band.interval[1])
        )
        plot.whisker(at, max(low, -1.5), min(high, 1.5), "s0", across=True)
        plot.dot(value, at, "s0")
    note = f"{SEEDS} replications of 28 days, 95 % intervals; shaded: allowed"
    return picture("bands", [plot], 1, (("simulated", "s0"),), note)


def _table(bands: list[Band]) -> str:
    rows = [
        [
            band.name, band.source, figure(band.target), _allowed(band),
            f"{figure(band.value)} ({figure(band.interval[0])} to {figure(band.interval[1])})",
            "yes" if band.inside else "**no**",
        ]
        for band in bands
    ]  # fmt: skip
    return table(
        ("what", "who published it", "published", "allowed", "simulated (95 %)", "inside"), rows, right=2
    )


def _allowed(band: Band) -> str:
    # Distances cannot be negative.
    return f"{figure(band.low)} to {figure(band.high)}" if band.target else f"up to {figure(band.high)}"
