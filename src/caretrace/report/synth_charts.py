"""Drawings of a generator's report: prevalences, co-occurrence, age and sex, likelihoods."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from caretrace.report.charts import series_kind
from caretrace.report.record import Json
from caretrace.report.svg import Axis, Entry, Plot
from caretrace.report.wording import decimal, finite

_DECADES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_STEPS = 6  # strengths of a tile
_SEXES = ("Women", "Men")


def prevalence(values: Json, name: str, index: int) -> Markup | None:
    """Share of subjects who ever have each code: held-out across, synthetic up, both on a logarithmic scale."""
    real, made = values.get("real") or [], (values.get("made") or {}).get(name) or []
    points = [(a, b) for a, b in zip(real, made, strict=False) if a > 0]
    if not points:
        return None
    low = min(a for a, _ in points) / 1.5
    floor, top = math.log10(low), math.log10(min(1.0, 1.3 * max(max(a, b) for a, b in points)))
    ticks = [tick for tick in _DECADES if floor <= math.log10(tick) <= top]
    at, texts = tuple(math.log10(tick) for tick in ticks), tuple(f"{100 * tick:g} %" for tick in ticks)
    plot = Plot(
        f"Prevalence of codes, {name}",
        f"{len(points)} codes; the further from the diagonal, the more {name} is off.",
        Axis("held-out subjects who have it", floor, top, ticks=at, names=texts),
        Axis("synthetic subjects who have it", floor, top, ticks=at, names=texts),
        width=360, height=330,
    )  # fmt: skip
    plot.line([floor, top], [floor, top], "chance")
    for a, b in points:
        plot.dot(math.log10(a), math.log10(max(b, low)), series_kind(index), 2.6)
    return plot.svg()


def maps(values: Json) -> list[tuple[str, str, Markup]]:
    """Correlations of categories within a visit: real, synthetic, difference; rows and columns are numbered."""
    real, made = values.get("real"), values.get("made")
    if not real or not made:
        return []
    n = len(real)
    difference = [[b - a for a, b in zip(*rows, strict=True)] for rows in zip(real, made, strict=True)]
    most = max((abs(row[k]) for i, row in enumerate(real) for k in range(n) if k != i), default=0.0) or 1.0
    worst = max((abs(row[k]) for i, row in enumerate(difference) for k in range(n) if k != i), default=0.0)
    return [
        ("Held-out subjects", f"Strongest {most:.2f}.", _map("Held-out subjects", real, most)),
        ("Synthetic subjects", "Same colours.", _map("Synthetic subjects", made, most)),
        (
            "Difference",
            f"Synthetic less real, same colours; largest {worst:.2f}.",
            _map("Difference", difference, most),
        ),
    ]


def _map(title: str, values: Sequence[Sequence[float]], most: float) -> Markup:
    n = len(values)
    at = tuple(k + 0.5 for k in range(n) if n <= 12 or (k + 1) % 4 == 0 or k == 0)
    names = tuple(str(int(k + 0.5)) for k in at)
    plot = Plot(
        title, f"Correlations of {n} categories of codes within a visit, from -{most:.2f} to {most:.2f}.",
        Axis("", 0, n, ticks=at, names=names), Axis("", 0, n, ticks=tuple(n - k for k in at), names=names),
        width=300, height=300, left=30, bottom=30, right=6, top=6,
    )  # fmt: skip
    for i, row in enumerate(values):
        for k, value in enumerate(row):
            strength = round(_STEPS * min(1.0, math.sqrt(abs(value) / most))) / _STEPS
            if i != k and strength:
                plot.tile(k, k + 1, n - i - 1, n - i, "s1" if value > 0 else "s0", strength)
    return plot.svg()


def cells(values: Json) -> list[tuple[str, Markup]]:
    """For each group of codes a panel: share of women and of men by age, real as lines, synthetic as dots."""
    groups, bands = values.get("groups") or [], values.get("bands") or []
    if len(bands) < 2:
        return []
    out = []
    for number, group in enumerate(groups):
        shares = {kind: [[band[number] for band in sex] for sex in values[kind]] for kind in ("real", "made")}
        top = max(max(sex) for kind in shares.values() for sex in kind) * 1.12 or 1.0
        plot = Plot(
            group, f"Share of subjects with {group} by age: "
            + "; ".join(f"{sex.lower()} held-out {decimal(shares['real'][s][-1])}, synthetic "
                        f"{decimal(shares['made'][s][-1])} at {bands[-1]}" for s, sex in enumerate(_SEXES)),
            Axis("age at the first visit", -0.4, len(bands) - 0.6, ticks=tuple(range(len(bands))), names=tuple(bands)),
            Axis("", 0, top, percent=True), width=340, height=240, left=48,
        )  # fmt: skip
        for sex in range(len(_SEXES)):
            kind = series_kind(sex + 1)
            plot.line(list(range(len(bands))), shares["real"][sex], f"{kind} solid")
            for band, value in enumerate(shares["made"][sex]):
                plot.dot(band + (sex - 0.5) * 0.12, value, kind, 4.5)
        if number == 0:
            plot.key([Entry(name, sex + 1) for sex, name in enumerate(_SEXES)])
        out.append((group, plot.svg()))
    return out


def bars(rows: Sequence[tuple[str, Json, int]], label: str) -> Markup | None:
    """One bar per model, from 0."""
    kept = [
        (name, float(v["value"]), series) for name, v, series in rows if finite(v.get("value")) is not None
    ]
    if not kept or max(value for _, value, _ in kept) <= 0:
        return None
    n = len(kept)
    longest = max(len(name) for name, _, _ in kept)
    plot = Plot(
        label, "; ".join(f"{name} {decimal(value)}" for name, value, _ in kept),
        Axis(label, 0, max(value for _, value, _ in kept) * 1.05),
        Axis("", 0, n, ticks=tuple(n - 0.5 - k for k in range(n)), names=tuple(name for name, _, _ in kept)),
        height=70 + 34 * n, left=min(24 + 6.9 * longest, 210), right=66,
    )  # fmt: skip
    for k, (_, value, series) in enumerate(kept):
        at = n - 0.5 - k
        plot.tile(0, value, at - 0.28, at + 0.28, series_kind(series), 1.0)
        plot.write(plot.px(value) + 8, plot.py(at) + 4.5, decimal(value), "ink strong")
    return plot.svg()
