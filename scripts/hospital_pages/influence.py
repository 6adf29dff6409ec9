"""Which assumed coefficients matter: each moved by a fifth."""

from __future__ import annotations

import sys
from pathlib import Path

from caretrace.hospital.operations import Effect, parameters, sensitivity
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import Section, figure, panel, picture, table

BANDS = (
    "ambulance on scene within 8 min, %", "stay in the emergency department, mean min",
    "longer stay of admitted patients, min", "admitted, %", "nurses burnt out, %", "nurses who intend to leave, %",
)  # fmt: skip
SHOWN = 6


def make(_: Path) -> Section:
    """As `sensitivity()` with its defaults: a small city, 10 days, 3 seeds."""
    effects = sensitivity(progress=lambda _: print(".", end="", file=sys.stderr, flush=True))
    assumed = sum(row.assumed for row in parameters())
    return Section({"sensitivity": _picture(effects)}, {"sensitivity": _table(effects, assumed)})


def _size(effect: Effect) -> float:
    return max(abs(effect.low), abs(effect.high))


def _picture(effects: list[Effect]) -> str:
    plots = []
    for band in BANDS:
        own = sorted((e for e in effects if e.band == band), key=_size, reverse=True)[:SHOWN]
        widest = 1.1 * max(_size(own[0]), own[0].half_width)
        names = tuple(e.parameter.replace("_", " ").split(".")[1] for e in own)
        plot = Plot("", "", Axis("change", -widest, widest),
                    Axis("", 0, SHOWN, ticks=tuple(SHOWN - i - 0.5 for i in range(SHOWN)), names=names),
                    446, 210, left=130)  # fmt: skip
        panel(band, f"Change of {band} with the most influential coefficients.", plot)
        half = own[0].half_width
        plot.band([-half, half], [0, 0], [SHOWN, SHOWN], "s2")
        plot.line([0, 0], [0, SHOWN], "chance")
        for row, effect in enumerate(own):
            at = SHOWN - row - 0.5
            plot.whisker(
                at, min(effect.low, effect.high), max(effect.low, effect.high), "s-muted", across=True
            )
            plot.dot(effect.low, at, "s1")
            plot.dot(effect.high, at, "s0")
        plots.append(plot)
    legend = (("raised by a fifth", "s0"), ("lowered by a fifth", "s1"))
    return picture("sensitivity", plots, 2, legend, "simulated; shaded: half-width of the band")


def _table(effects: list[Effect], assumed: int) -> str:
    """One row per coefficient that matters: the band that it moves most, in units of the band's half-width."""
    found: dict[str, list[Effect]] = {}
    for effect in sorted((e for e in effects if e.matters), key=lambda e: -_size(e) / e.half_width):
        found.setdefault(effect.parameter, []).append(effect)
    rows = [
        [f"`{name}`", own[0].band, figure(own[0].low), figure(own[0].high), figure(own[0].half_width),
         figure(own[0].noise), str(len(own) - 1)]
        for name, own in found.items()
    ]  # fmt: skip
    head = f"{len(found)} of {assumed} assumed coefficients could carry a value out of its band:\n\n"
    header = ("coefficient", "moves most", "lowered", "raised", "half-width", "noise", "other bands")
    return head + table(header, rows, right=2)
