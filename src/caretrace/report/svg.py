"""Plots as inline SVG, drawn by hand so that colours follow the page (light, dark, print).

Every shape takes its colour from a CSS class of `style.css`: `s0` … `s5` for series (colour and
dash), `ink`, `muted`, `grid`. Text is escaped here and nowhere else. Sizes are in viewBox units, which
are CSS pixels at full width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Numbers = Sequence[float]

# Advance width of the 12.5 px sans-serif text, averaged over letters and digits.
CHARACTER_WIDTH = 6.6
LINE_HEIGHT = 18.0
SERIES = 6

_names = itertools.count(1)


@dataclass(frozen=True)
class Axis:
    """One axis: its range, label and ticks.

    Args:
        label: What is measured, with unit.
        low: Value at the origin's end.
        high: Value at the far end.
        percent: Write ticks as per cent of 1.
        ticks: Tick positions; nice ones are chosen when None.
        names: Tick texts; the numbers when None.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    percent: bool = False
    ticks: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None

    def marks(self) -> list[tuple[float, str]]:
        """Tick positions with their texts."""
        at = self.ticks if self.ticks is not None else nice_ticks(self.low, self.high)
        if self.names is not None:
            return list(zip(at, self.names, strict=True))
        shown = [100 * value if self.percent else value for value in at]
        digits = next((d for d in range(6) if all(abs(value - round(value, d)) < 1e-9 for value in shown)), 6)
        unit = " %" if self.percent else ""
        return [
            (value, f"{x:,.{digits}f}{unit}".replace("-", "−")) for value, x in zip(at, shown, strict=True)
        ]


def nice_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """At most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) within `low` … `high`."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return (low,)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


@dataclass(frozen=True)
class Entry:
    """A line of the key inside a plot: text beside a stroke of its series (none for `series` < 0)."""

    text: str
    series: int


@dataclass
class Plot:
    """One plot area with axes; draw back to front, then ask for `svg()`.

    Args:
        title: Short name, read first by screen readers.
        description: What the plot shows, in a sentence with its main numbers.
        x: Horizontal axis.
        y: Vertical axis.
        width: Width of the drawing.
        height: Height of the drawing.
        left: Margin for the labels of the vertical axis.
        right: Margin for labels at the end of lines.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    width: float = 460.0
    height: float = 380.0
    left: float = 64.0
    right: float = 14.0
    top: float = 14.0
    bottom: float = 48.0
    shapes: list[Markup] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Horizontal position of a value."""
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.inner_right - self.left)

    def py(self, value: float) -> float:
        """Vertical position of a value."""
        floor = self.height - self.bottom
        return floor - (value - self.y.low) / (self.y.high - self.y.low) * (floor - self.top)

    @property
    def inner_right(self) -> float:
        """Right edge of the plot area."""
        return self.width - self.right

    def line(self, xs: Numbers, ys: Numbers, kind: str) -> None:
        """A line through the points; `kind` is a series class such as `s0`, or `chance`."""
        points = [(self.px(x), self.py(y)) for x, y in zip(xs, ys, strict=True)]
        self._keep_clear(points)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add('<polyline class="line {}" points="{}"/>', kind, path)

    def band(self, xs: Numbers, low: Numbers, high: Numbers, kind: str) -> None:
        """The area between two lines over the same positions."""
        there = [f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, high, strict=True)]
        back = [f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, low, strict=True)]
        self._add('<polygon class="band {}" points="{}"/>', kind, " ".join(there + back[::-1]))

    def whisker(self, at: float, low: float, high: float, kind: str, across: bool = False) -> None:
        """An interval at one position of the other axis: upright, or lying when `across`."""
        if across:
            ends = self.px(low), self.py(at), self.px(high), self.py(at)
        else:
            ends = self.px(at), self.py(low), self.px(at), self.py(high)
        self._keep_clear([(ends[0], ends[1]), (ends[2], ends[3])])
        self._add(
            '<line class="whisker {}" x1="{}" y1="{}" x2="{}" y2="{}"/>', kind, *(f"{e:.1f}" for e in ends)
        )

    def dot(self, x: float, y: float, kind: str, radius: float = 4.5) -> None:
        """A filled point."""
        self._keep_clear([(self.px(x), self.py(y))])
        self._add(
            '<circle class="dot {}" cx="{}" cy="{}" r="{}"/>',
            kind, f"{self.px(x):.1f}", f"{self.py(y):.1f}", f"{radius:.1f}",
        )  # fmt: skip

    def bar(self, start: float, end: float, height: float, kind: str, foot: float = 0.0) -> None:
        """An upright bar between two horizontal values, from `foot` to `height`."""
        left, right = self.px(start), self.px(end)
        top, floor = sorted((self.py(height), self.py(foot)))
        if floor - top < 0.2:
            return
        self._keep_clear([(left, top), (right, top)])
        shape = '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>'
        numbers = (left + 0.5, top, max(right - left - 1, 0.8), floor - top)
        self._add(shape, kind, *(f"{number:.1f}" for number in numbers))

    def write(self, x: float, y: float, text: str, kind: str = "ink", anchor: str = "start") -> None:
        """Text at a position in viewBox units."""
        self._add(
            '<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>',
            kind,
            f"{x:.1f}",
            f"{y:.1f}",
            anchor,
            text,
        )

    def tile(self, start: float, end: float, low: float, high: float, kind: str, strength: float) -> None:
        """A filled rectangle between values of both axes; `strength` from 0 (see-through) to 1."""
        (left, right), (top, floor) = (self.px(start), self.px(end)), (self.py(high), self.py(low))
        shape = '<rect class="bar {}" fill-opacity="{}" x="{}" y="{}" width="{}" height="{}"/>'
        numbers = (left, top, right - left, floor - top)
        self._add(
            shape, kind, f"{min(max(strength, 0.0), 1.0):.3f}", *(f"{number:.1f}" for number in numbers)
        )

    def ticks(self, xs: Numbers, y: float, kind: str, half: float = 5.0) -> None:
        """Short upright strokes on one row, one shape for all; those that would cover each other are drawn once."""
        at, middle = sorted({round(2 * self.px(x)) / 2 for x in xs}), self.py(y)
        path = "".join(f"M{x:g} {middle - half:.1f}v{2 * half:.1f}" for x in at)
        self._add('<path class="ticks {}" d="{}"/>', kind, path)

    def pins(self, marks: Sequence[tuple[float, float, str, str]], foot: float) -> None:
        """Numbered marks at positions in viewBox units, with stems down to `foot`: (x, y, text, kind)."""
        for x, y, _, _ in marks:
            numbers = (f"{number:.1f}" for number in (x, y, x, foot))
            self._add('<line class="stem" x1="{}" y1="{}" x2="{}" y2="{}"/>', *numbers)
        for x, y, text, kind in marks:
            self._add('<circle class="dot {}" cx="{}" cy="{}" r="9"/>', kind, f"{x:.1f}", f"{y:.1f}")
            self.write(x, y + 3.8, text, "pin", "middle")

    def end_labels(self, labels: Sequence[tuple[float, str, str]]) -> None:
        """Names at the right end of lines, pushed apart: (value of the line's end, text, kind)."""
        placed = -math.inf
        for value, text, kind in sorted(labels, key=lambda label: -label[0]):
            placed = max(self.py(value) + 4.5, placed + LINE_HEIGHT - 2)
            self.write(self.inner_right + 6, placed, text, f"name {kind}")

    def key(self, entries: Sequence[Entry]) -> None:
        """Names of the series with their strokes, in the corner where the fewest lines pass."""
        width = 34 + CHARACTER_WIDTH * max(len(entry.text) for entry in entries)
        height = LINE_HEIGHT * len(entries)
        right, floor = self.inner_right - width - 6, self.height - self.bottom - height - 10
        corners = [
            (right, floor),
            (right, self.top + 6),
            (self.left + 10, floor),
            (self.left + 10, self.top + 6),
        ]
        x, y = min(corners, key=lambda corner: self._crowd(corner, width, height))
        for index, entry in enumerate(entries):
            middle = y + LINE_HEIGHT * (index + 0.5)
            if entry.series >= 0:
                ends = f"{x:.1f},{middle:.1f} {x + 24:.1f},{middle:.1f}"
                self._add('<polyline class="line s{}" points="{}"/>', entry.series % SERIES, ends)
            self.write(x + (30 if entry.series >= 0 else 0), middle + 4.5, entry.text, "halo")

    def svg(self) -> Markup:
        """The drawing, with its title and description for screen readers."""
        name = f"plot{next(_names)}"
        return Markup(
            '<svg class="plot" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-labelledby="{}-t {}-d">'
            '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}{}</svg>'
        ).format(
            self.width, self.height, name, name, name, self.title, name, self.description,
            self._axes(), Markup("").join(self.shapes),
        )  # fmt: skip

    def _axes(self) -> Markup:
        left, right, floor = f"{self.left:.1f}", f"{self.inner_right:.1f}", self.height - self.bottom
        rule = '<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        tick = '<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>'
        name = '<text class="axis" transform="translate({} {}) rotate({})" text-anchor="middle">{}</text>'
        parts = []
        for value, text in self.x.marks():
            at = f"{self.px(value):.1f}"
            parts += [_fill(rule, at, self.top, at, floor), _fill(tick, at, floor + 17, "middle", text)]
        for value, text in self.y.marks():
            at, foot = f"{self.py(value):.1f}", f"{self.py(value) + 4:.1f}"
            parts += [_fill(rule, left, at, right, at), _fill(tick, self.left - 7, foot, "end", text)]
        parts.append(_fill(name, (self.left + self.inner_right) / 2, self.height - 8, 0, self.x.label))
        if self.y.label:
            parts.append(_fill(name, 14, (self.top + floor) / 2, -90, self.y.label))
        return Markup("").join(parts)

    def _add(self, template: str, *values: object) -> None:
        self.shapes.append(_fill(template, *values))

    def _keep_clear(self, points: Sequence[tuple[float, float]]) -> None:
        """Remember where lines run, densely enough for `key` to find a free corner."""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = 1 + int(max(abs(x1 - x0), abs(y1 - y0)) // 6)
            self.busy.extend((x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(steps))
        self.busy.extend(points[-1:])

    def _crowd(self, corner: tuple[float, float], width: float, height: float) -> int:
        x, y = corner
        return sum(x - 6 <= bx <= x + width and y - 6 <= by <= y + height + 6 for bx, by in self.busy)


def _fill(template: str, *values: object) -> Markup:
    """Markup with every value escaped."""
    return Markup(template).format(*(escape(value) for value in values))  # noqa: S704 - literals of this file
