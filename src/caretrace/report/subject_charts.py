"""The figures of a subject page; None when there is nothing to draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from caretrace import schema
from caretrace.report.svg import SERIES, Axis, Entry, Plot, nice_ticks
from caretrace.report.wording import decimal, plural, readable

WIDTH, FULL = 700.0, 1000.0
_ROW, _PIN_STEP = 52.0, 19.0
_MOST_COLUMNS = 60
_MOST_HEADS = 24
Row = Mapping[str, Any]
# Raises the risk, lowers it, is looked at.
SERIES_OF = {"up": "s1", "down": "s0", "looked": "s2"}


class Clock:
    """The time axis of a page: hours since admission where it is known, else before the prediction.

    Args:
        since: Hours from admission to the prediction; None where unknown.
    """

    def __init__(self, since: float | None) -> None:
        self.since = since
        self.label = "Hours before the prediction" if since is None else "Hours since ICU admission"

    def at(self, hours_before: float) -> float:
        """Position of a moment on the axis."""
        return -hours_before if self.since is None else self.since - hours_before

    def words(self, hours_before: float) -> str:
        """A moment in words: `3.5 h after admission`, `2 d before admission`."""
        if self.since is None:
            return f"{span(hours_before)} before"
        at = self.at(hours_before)
        if abs(at) < 1 / 60:
            return "at admission"
        return f"{span(abs(at))} {'after' if at >= 0 else 'before'} admission"


def span(hours: float) -> str:
    """A stretch of time: `45 min`, `3.5 h`, `12 d`, `3 years`."""
    if hours < 1:
        return f"{60 * hours:.0f} min"
    if hours < 100:
        return f"{hours:.1f}".removesuffix(".0") + " h"
    return f"{hours / 24:.0f} d" if hours < 24 * 730 else f"{hours / 24 / 365.25:.0f} years"


def signed(value: float) -> str:
    """A credit as it is written everywhere: `+0.31`, `−1.20`."""
    return decimal(value, 2, signed=True)


def tone(value: float) -> str:
    """Class of a credit: `up` raises the risk, `down` lowers it."""
    return "up" if value > 0 else "down"


def series(value: float) -> str:
    """The same as a series."""
    return SERIES_OF[tone(value)]


def trajectory(rows: Sequence[Row], average: float | None) -> Markup | None:
    """Risk along the stay with the ensemble's band; dashed: what the average subject has at the prediction."""
    rows = [row for row in rows if row["hours_since_admission"] is not None]
    if len(rows) < 2:
        return None
    xs, ys = [float(row["hours_since_admission"]) for row in rows], [float(row["risk"]) for row in rows]
    banded = all(row["high"] is not None for row in rows)
    top = max([*ys, average or 0.0, *(float(row["high"]) for row in rows if banded)])
    plot = Plot(
        "Risk along the stay",
        f"From {_percent(ys[0])} at {xs[0]:g} h to {_percent(ys[-1])} at {xs[-1]:g} h after ICU admission; lowest "
        f"{_percent(min(ys))}, highest {_percent(max(ys))}.",
        Axis("Hours since ICU admission", min(0.0, xs[0]), xs[-1]),
        Axis("Risk", 0.0, min(1.0, 1.35 * top) or 1.0, percent=True),
        width=WIDTH, height=280, right=24,
    )  # fmt: skip
    if banded:
        plot.band(xs, [float(row["low"]) for row in rows], [float(row["high"]) for row in rows], "s0")
    entries = [Entry("this subject" + (", with the band of the ensemble" if banded else ""), 0)]
    if average is not None:
        plot.line([plot.x.low, plot.x.high], [average, average], "chance")
        entries.append(Entry("dashed: mean of the subjects it was judged on", -1))
    plot.line(xs, ys, "s0")
    for x, y in zip(xs, ys, strict=True):
        plot.dot(x, y, "s0", 2.6)
    plot.dot(xs[-1], ys[-1], "s0", 5)
    plot.key(entries)
    return plot.svg()


def timeline(rows: Sequence[Row], tops: Sequence[Row], clock: Clock, first: float) -> Markup | None:
    """Every measurement on the row of its type; those of the table below carry its numbers.

    Args:
        rows: Measurements.
        tops: Those that carry a number, in its order, with their `tone` (a key of `SERIES_OF`).
        clock: The time axis.
        first: Hours before the prediction from which on it is drawn to scale; what is older stands at the left.
    """
    kinds = _kinds(rows)
    if not kinds:
        return None
    places = {kind: len(kinds) - index for index, kind in enumerate(kinds)}
    low, high = clock.at(first), clock.at(0.0)
    high = high if high > low else low + 1
    older = sum(row["hours_before"] > first for row in rows)
    gutter = low - 0.05 * (high - low)
    plot = Plot(
        "Timeline",
        "; ".join(f"{readable(kind)}: {plural(_count(rows, kind), 'measurement')}" for kind in kinds)
        + f". The {len(tops)} with the largest credits carry the numbers of the table.",
        Axis(clock.label, gutter - 0.02 * (high - low) if older else low, high, ticks=nice_ticks(low, high, 9)),
        Axis("", 0.25, len(kinds) + 1.05, ticks=tuple(float(place) for place in places.values()),
             names=tuple(f"{readable(kind)} ({_count(rows, kind):,})" for kind in kinds)),
        width=FULL, height=76 + _ROW * len(kinds), left=150, right=16,
    )  # fmt: skip
    if older:
        plot.line([low, low], [plot.y.low, plot.y.high], "chance")
        plot.write(plot.px(gutter), plot.height - plot.bottom + 17, "earlier", "tick", "middle")
    if clock.since is not None and low < 0 < high:
        plot.line([0, 0], [plot.y.low, plot.y.high], "chance")
        plot.write(plot.px(0) + 4, plot.top + 11, "ICU admission", "halo tick")

    def at(row: Row) -> float:
        return clock.at(row["hours_before"]) if row["hours_before"] <= first else gutter

    for kind, place in places.items():
        plot.ticks([at(row) for row in rows if row[schema.EVENT_TYPE] == kind], place, "s-muted")
        own = [
            (n, at(row), SERIES_OF[row["tone"]])
            for n, row in enumerate(tops, 1)
            if row[schema.EVENT_TYPE] == kind
        ]
        _pins(plot, place, own)
    return plot.svg()


def _pins(plot: Plot, place: float, own: Sequence[tuple[int, float, str]]) -> None:
    """Numbers over their strokes, on two levels; what would cover another one moves aside."""
    taken: list[tuple[float, int, str, str]] = []
    foot = plot.py(place) - 6
    steps = [(side * shift * _PIN_STEP, level) for shift in range(12) for side in (-1, 1) for level in (0, 1)]
    steps.sort(key=lambda step: abs(step[0]) + 6 * step[1])
    for number, value, kind in sorted(own, key=lambda each: each[1]):
        at = plot.px(value)
        free = [
            (at + shift, level)
            for shift, level in steps
            if plot.left < at + shift < plot.inner_right + 8
            and all(abs(at + shift - x) >= _PIN_STEP or level != other for x, other, _, _ in taken)
        ]
        taken.append((*(free[0] if free else (at, 0)), str(number), kind))
    plot.pins([(x, foot - 9 - 19 * level, text, kind) for x, level, text, kind in taken], foot)


def over_time(
    blocks: Sequence[Row], windows: Sequence[Row], clock: Clock, width: float, count: int
) -> Markup | None:
    """Credit of each event type in each window, and of all types together; bars up raise the risk.

    Args:
        blocks: `event_type`, `window` (0 = the latest; `count` = everything older), `credit`.
        windows: `window`, `credit` of all types together.
        clock: The time axis.
        width: Length of a window, hours.
        count: Windows of that length.
    """
    kinds = _kinds(blocks)
    most = max([abs(row["credit"]) for row in [*blocks, *windows]], default=0.0)
    if not kinds or not most:
        return None
    older = any(row["window"] == count for row in windows)
    low, high = clock.at(width * (count + older)), clock.at(0.0)
    rows = [
        ("all together", windows),
        *((readable(k), [r for r in blocks if r[schema.EVENT_TYPE] == k]) for k in kinds),
    ]
    base = {name: float(len(rows) - index) for index, (name, _) in enumerate(rows)}
    ticks = [clock.at(width * n) for n in range(0, count + 1, 2)]
    plot = Plot(
        "Event types over time",
        f"Largest credit {signed(max((r['credit'] for r in [*blocks, *windows]), key=abs))} of the logit.",
        Axis(clock.label, low, high, ticks=tuple(ticks), names=tuple(f"{tick:g}".replace("-", "−") for tick in ticks)),
        Axis("", 0.4, len(rows) + 0.6, ticks=tuple(base.values()), names=tuple(base)),
        width=FULL, height=60 + 46 * len(rows), left=126, right=16,
    )  # fmt: skip
    if older:
        plot.write(plot.px(low + width / 2), plot.height - plot.bottom + 17, "older", "tick", "middle")
    for name, own in rows:
        for row in own:
            value, end = row["credit"], clock.at(width * row["window"])
            foot, tall = base[name], 0.46 * row["credit"] / most
            plot.bar(end - width, end, foot + tall, series(value), foot)
            if abs(value) >= 0.35 * most:
                plot.write(plot.px(end - width / 2), plot.py(foot) + (-3 if value < 0 else 12), signed(value),
                           "tick halo", "middle")  # fmt: skip
    return plot.svg()


def evolution(found: Mapping[str, Any], clock: Clock, names: Sequence[str]) -> Markup | None:
    """Credit of codes over landmarks, by what was known at each.

    Args:
        found: `hours_earlier`, and `codes` with their `credit`, at most `SERIES` of them.
        clock: The time axis.
        names: What the codes are called.
    """
    xs = [clock.at(hours) for hours in found["hours_earlier"]]
    lines = list(zip(names, found["codes"], strict=True))[:SERIES]
    values = [value for _, row in lines for value in row["credit"]]
    if len(xs) < 2 or not any(values):
        return None
    pad = 0.08 * (max(values) - min(values))
    plot = Plot(
        "Features over the stay",
        "Credits at the prediction: " + "; ".join(f"{name} {signed(row['credit'][-1])}" for name, row in lines),
        Axis(clock.label, xs[0], xs[-1]),
        Axis("Credit (logit)", min([0.0, *values]) - pad, max([0.0, *values]) + pad),
        width=WIDTH, height=300, right=196,
    )  # fmt: skip
    plot.line([xs[0], xs[-1]], [0, 0], "base")
    for index, (_, row) in enumerate(lines):
        plot.line(xs, row["credit"], f"s{index}")
    plot.end_labels(
        [(row["credit"][-1], shortened(name, 27), f"s{i}") for i, (name, row) in enumerate(lines)]
    )
    return plot.svg()


def pooling(looks: Sequence[Row], clock: Clock) -> Markup | None:
    """Weight of every step per pooling head, beside an even look; steps in order, not to scale."""
    rows = [
        (f"model {member + 1}, head {head + 1}", weights)
        for member, each in enumerate(looks)
        for head, weights in enumerate(each["pooling"])
    ][:_MOST_HEADS]
    if not rows:
        return None
    hours = looks[0]["hours"]
    edges = _edges(len(hours))
    relative = {name: [len(hours) * sum(weights[a:b]) / (b - a) for a, b in edges] for name, weights in rows}
    most = max(2.0, *(max(values) for values in relative.values()))
    marks = range(0, len(edges), max(1, math.ceil(len(edges) / 7)))
    plot = Plot(
        "Pooling weights",
        f"The darkest step is looked at {most:.1f} times as much as if all {len(hours)} steps were looked at alike.",
        Axis(f"{clock.label}, at the steps of the model", 0, len(edges), ticks=tuple(mark + 0.5 for mark in marks),
             names=tuple(f"{clock.at(hours[edges[mark][0]]):.0f}".replace("-", "−") for mark in marks)),
        Axis("", 0, len(rows), ticks=tuple(len(rows) - i - 0.5 for i in range(len(rows))),
             names=tuple(name for name, _ in rows)),
        width=FULL, height=66 + 22 * len(rows), left=126, right=16,
    )  # fmt: skip
    plot.tile(0, len(edges), 0, len(rows), "s-blank", 1)
    for index, (name, _) in enumerate(rows):
        for column, value in enumerate(relative[name]):
            floor = len(rows) - index - 1
            plot.tile(column, column + 1, floor + 0.06, floor + 0.94, "s2", value / most)
    return plot.svg()


def shortened(text: str, most: int) -> str:
    """A text cut at a word, with an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip(" ,;") + "…"


def _edges(steps: int) -> list[tuple[int, int]]:
    """Steps in at most so many columns."""
    columns = min(steps, _MOST_COLUMNS)
    at = [round(column * steps / columns) for column in range(columns + 1)]
    return list(itertools.pairwise(at))


def _kinds(rows: Sequence[Row]) -> list[str]:
    """Event types that occur, in the order of the schema."""
    there = {row[schema.EVENT_TYPE] for row in rows}
    return [kind.value for kind in schema.EventType if kind.value in there]


def _count(rows: Sequence[Row], kind: str) -> int:
    return sum(row[schema.EVENT_TYPE] == kind for row in rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
