"""The figures of a run report, each from the JSON of one part; None when there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from caretrace.report.record import Json, mapping
from caretrace.report.svg import SERIES, Axis, Entry, Plot
from caretrace.report.wording import decimal, finite, interval, metric, plural

# More lines than this cannot be told apart; the rest stay in the table.
MOST_LINES = SERIES


def series_kind(index: int) -> str:
    """CSS class of the model at this position; ours is 0."""
    return f"s{index % SERIES}"


def columns(curve: Any, *keys: str) -> list[list[float]]:
    """The named lists of a curve, cut to the points where all are finite numbers."""
    lists = [curve.get(key) if isinstance(curve, Mapping) else None for key in keys]
    if any(not isinstance(values, Sequence) for values in lists):
        return [[] for _ in keys]
    rows = [row for row in zip(*lists, strict=False) if all(finite(value) is not None for value in row)]
    return [[float(row[index]) for row in rows] for index in range(len(keys))]


def roc(models: Json, figures: Mapping[str, Json], names: Mapping[str, str]) -> Markup | None:
    """ROC curves with 95 % bands."""
    plot = Plot(
        "ROC curves",
        "Sensitivity against false alarms at every threshold. " + _told(figures, "auroc", names),
        Axis("False positive rate (share of non-cases flagged)", percent=True),
        Axis("Sensitivity (share of cases flagged)", percent=True),
    )
    plot.line([0, 1], [0, 1], "chance")
    if not _lines_with_bands(plot, models, "roc", ("fpr", "tpr")):
        return None
    plot.key(_entries(models, figures, "auroc", names))
    return plot.svg()


def precision_recall(
    models: Json, figures: Mapping[str, Json], names: Mapping[str, str], prevalence: float | None
) -> Markup | None:
    """Precision-recall curves with 95 % bands; the dashed line is the share of cases."""
    plot = Plot(
        "Precision-recall curves",
        "Share of alerts that are true against the share of cases found. " + _told(figures, "auprc", names),
        Axis("Recall (share of cases flagged)", percent=True),
        Axis("Precision (share of alerts that are true)", percent=True),
    )
    if prevalence is not None:
        plot.line([0, 1], [prevalence, prevalence], "chance")
    if not _lines_with_bands(plot, models, "pr", ("recall", "precision")):
        return None
    plot.key(_entries(models, figures, "auprc", names))
    return plot.svg()


def calibration(model: Json, name: str, index: int, ece: Any) -> Markup | None:
    """Observed share against predicted risk of one model, with intervals per bin."""
    xs, ys, low, high = columns(model.get("calibration"), "predicted", "observed", "low", "high")
    if not xs:
        return None
    top = _round_up(max(*xs, *high))
    plot = Plot(
        f"Calibration of {name}",
        f"Observed share of cases against predicted risk in {plural(len(xs), 'group')} of equal size, from "
        f"{decimal(min(xs))} to {decimal(max(xs))}; calibration error {decimal(ece)}.",
        Axis("Predicted risk", high=top, percent=True),
        Axis("Observed share of cases", high=top, percent=True),
        width=400, height=340,
    )  # fmt: skip
    plot.line([0, top], [0, top], "chance")
    kind = series_kind(index)
    for x, lower, upper in zip(xs, low, high, strict=True):
        plot.whisker(x, min(lower, top), min(upper, top), kind)
    plot.line(xs, ys, kind + " thin solid")
    for x, y in zip(xs, ys, strict=True):
        plot.dot(x, y, kind)
    return plot.svg()


def risk_histogram(model: Json, name: str, index: int) -> Markup | None:
    """Predicted risks of cases (up) and non-cases (down), each as a share of its own group."""
    histogram = model.get("histogram")
    negative, positive = columns(histogram, "negative", "positive")
    edges = columns(histogram, "edges")[0]
    if len(edges) != len(negative) + 1 or not sum(negative) or not sum(positive):
        return None
    shares = [[value / sum(side) for value in side] for side in (positive, negative)]
    peak = _round_up(max(*shares[0], *shares[1]))
    plot = Plot(
        f"Risks given by {name}",
        f"Share of {plural(sum(positive), 'case')} (up) and of {plural(sum(negative), 'non-case')} (down) "
        "by predicted risk.",
        Axis("Predicted risk", low=edges[0], high=edges[-1], percent=True),
        Axis("Share of group", -peak, peak, ticks=(-peak, 0, peak),
             names=(f"{100 * peak:.0f} %", "0", f"{100 * peak:.0f} %")),
        width=400, height=220,
    )  # fmt: skip
    for start, end, up, down in zip(edges[:-1], edges[1:], *shares, strict=True):
        plot.bar(start, end, up, series_kind(index))
        plot.bar(start, end, -down, "s-muted")
    plot.line([edges[0], edges[-1]], [0, 0], "base")
    plot.write(plot.inner_right - 4, plot.top + 15, f"cases (n = {sum(positive):,.0f})", "halo", "end")
    plot.write(
        plot.inner_right - 4,
        plot.height - plot.bottom - 8,
        f"non-cases (n = {sum(negative):,.0f})",
        "halo",
        "end",
    )
    return plot.svg()


def decision(curves: Json, names: Mapping[str, str]) -> Markup | None:
    """Net benefit of acting on each model, beside acting on everybody and on nobody."""
    models = mapping(curves, "models")
    shown = {name: columns(mapping(models[name], "decision"), "threshold", "net_benefit") for name in models}
    shown = {name: points for name, points in list(shown.items())[:MOST_LINES] if points[0]}
    prevalence = finite(curves.get("prevalence"))
    if not shown or prevalence is None:
        return None
    # Beyond three times the share of cases hardly anybody would act, and benefits vanish.
    far = min(1.0, max(0.1, _round_up(3 * prevalence)))
    top = _round_up(1.1 * max(prevalence, *(y for _, ys in shown.values() for y in ys)))
    plot = Plot(
        "Decision curve",
        "Net benefit, in true alerts per 100 subjects after paying for false ones, against the risk at which "
        "one would act; higher is better.",
        Axis("Risk at which one would act", high=far, percent=True),
        Axis("Net benefit (per 100)", -0.25 * 100 * top, 100 * top),
        width=520, height=340,
    )  # fmt: skip
    floor = plot.y.low
    plot.line([0, far], [0, 0], "base")
    everybody = columns(mapping(curves, "decision"), "threshold", "treat_all")
    lines = [(everybody, "chance"), *((points, series_kind(i)) for i, points in enumerate(shown.values()))]
    for (xs, ys), kind in lines:
        kept = [(x, 100 * y) for x, y in zip(xs, ys, strict=True) if x <= far and 100 * y >= floor]
        if kept:
            plot.line([x for x, _ in kept], [y for _, y in kept], kind)
    entries = [Entry(names.get(name, name), index) for index, name in enumerate(shown)]
    plot.key([*entries, Entry("dashed: act on everybody", -1), Entry("zero line: act on nobody", -1)])
    return plot.svg()


def abstention(curve: Sequence[Any]) -> Markup | None:
    """AUROC and AUPRC among the predictions that are kept when the least certain are left to people."""
    rows = [row for row in curve if isinstance(row, Mapping)]
    shown = {
        label: [
            (100 * share, value)
            for row in rows
            if (share := finite(row.get("coverage"))) is not None
            and (value := finite(row.get(name))) is not None
        ]
        for name, label in (("auroc", "AUROC"), ("auprc", "AUPRC"))
    }
    if not all(len(points) > 1 for points in shown.values()):
        return None
    plot = Plot(
        "Answers kept",
        "Figures among the predictions the ensemble is surest of, against the share of all that is kept; a curve that "
        "rises to the left says that the ensemble knows when it does not know.",
        Axis("Predictions kept (%)", high=100),
        Axis("AUROC, AUPRC", high=1),
        width=520, height=300,
    )  # fmt: skip
    for index, points in enumerate(shown.values()):
        plot.line([x for x, _ in points], [y for _, y in points], series_kind(index))
    plot.key([Entry(label, index) for index, label in enumerate(shown)])
    return plot.svg()


def intervals(
    rows: Sequence[tuple[str, Json, int]],
    label: str,
    *,
    what: str = "model",
    reference: float | None = None,
    width: float = 460.0,
) -> Markup | None:
    """Values with their intervals, one row each: (name, {"value", "low", "high"}, series)."""
    kept = [(name, value, series) for name, value, series in rows if finite(value.get("value")) is not None]
    if not kept:
        return None
    ends = [
        float(value[key])
        for _, value, _ in kept
        for key in ("value", "low", "high")
        if finite(value.get(key))
    ]
    ends += [] if reference is None else [reference]
    pad = max(0.06 * (max(ends) - min(ends)), 0.005)
    longest = max(len(name) for name, _, _ in kept)
    plot = Plot(
        f"{label} by {what}",
        "; ".join(f"{name} {decimal(value['value'])} ({interval(value)})" for name, value, _ in kept),
        Axis(label + ", 95 % interval", min(ends) - pad, max(ends) + pad),
        Axis("", 0, len(kept), ticks=tuple(len(kept) - 0.5 - i for i in range(len(kept))),
             names=tuple(name for name, _, _ in kept)),
        width=width, height=70 + 34 * len(kept), left=min(24 + 6.9 * longest, 210), right=66,
    )  # fmt: skip
    if reference is not None:
        plot.line([reference, reference], [0, len(kept)], "chance")
    for index, (_, value, series) in enumerate(kept):
        at, kind = len(kept) - 0.5 - index, series_kind(series)
        if interval(value):
            plot.whisker(at, value["low"], value["high"], kind, across=True)
        plot.dot(value["value"], at, kind, 5)
        plot.write(plot.inner_right + 10, plot.py(at) + 4.5, decimal(value["value"]), "ink strong")
    return plot.svg()


def training(epochs: Sequence[Json], keys: Mapping[str, tuple[str, int]], label: str) -> Markup | None:
    """Values per epoch, one line per member of the ensemble: {key in the JSON: (name, series)}."""
    lines: list[tuple[str, int, list[float], list[float]]] = []
    members = sorted({row.get("member", 0) for row in epochs}, key=str)
    for key, (name, series) in keys.items():
        for member in members:
            rows = [row for row in epochs if row.get("member", 0) == member]
            xs, ys = columns(
                {"epoch": [row.get("epoch") for row in rows], key: [row.get(key) for row in rows]},
                "epoch",
                key,
            )
            if xs:
                lines.append((name, series, [x + 1 for x in xs], ys))
    if not lines:
        return None
    low, high = min(min(line[3]) for line in lines), max(max(line[3]) for line in lines)
    pad = max(0.08 * (high - low), 1e-3)
    last = max(2.0, *(line[2][-1] for line in lines))
    step = max(1, round(last / 8))
    plot = Plot(
        label,
        f"{label} over {plural(last, 'epoch')}, {plural(len(members), 'model')}: last values "
        + ", ".join(f"{name} {decimal(ys[-1])}" for name, _, _, ys in lines),
        Axis("Epoch", 1, last, ticks=tuple(float(e) for e in range(1, int(last) + 1, step))),
        Axis(label, low - pad, high + pad),
        right=70,
    )
    ends: dict[tuple[str, int], list[float]] = {}
    for name, series, xs, ys in lines:
        plot.line(xs, ys, series_kind(series) + (" thin" if len(members) > 1 else ""))
        if len(xs) == 1:
            plot.dot(xs[0], ys[0], series_kind(series), 3)
        ends.setdefault((name, series), []).append(ys[-1])
    plot.end_labels([(sum(v) / len(v), name, series_kind(series)) for (name, series), v in ends.items()])
    return plot.svg()


def record_lengths(edges: Sequence[float], counts: Sequence[int]) -> Markup | None:
    """Subjects by the length of their record, in days."""
    if not counts or not sum(counts):
        return None
    days = edges[-1] >= 3
    unit = 1.0 if days else 24.0
    plot = Plot(
        "Length of the subjects' records",
        f"{plural(sum(counts), 'subject')} by the time between first and last measurement.",
        Axis("First to last measurement (days)" if days else "First to last measurement (hours)",
             edges[0] * unit, edges[-1] * unit),
        Axis("Subjects", 0, 1.08 * max(counts)),
        width=520, height=260,
    )  # fmt: skip
    for start, end, value in zip(edges[:-1], edges[1:], counts, strict=True):
        plot.bar(start * unit, end * unit, value, "s0")
    return plot.svg()


def _lines_with_bands(plot: Plot, models: Json, part: str, axes: tuple[str, str]) -> bool:
    drawn = False
    shown = list(models.items())[:MOST_LINES]
    for index, (_, model) in reversed(list(enumerate(shown))):
        xs, low, high = columns(mapping(model, part), axes[0], "low", "high")
        if xs:
            plot.band(xs, low, high, series_kind(index))
    for index, (_, model) in reversed(list(enumerate(shown))):
        xs, ys = columns(mapping(model, part), *axes)
        if xs:
            plot.line(xs, ys, series_kind(index))
            drawn = True
    return drawn


def _entries(models: Json, figures: Mapping[str, Json], name: str, names: Mapping[str, str]) -> list[Entry]:
    return [
        Entry(f"{names.get(model, model)}  {decimal(mapping(figures.get(model), name).get('value'))}", index)
        for index, model in enumerate(list(models)[:MOST_LINES])
    ]


def _told(figures: Mapping[str, Json], name: str, names: Mapping[str, str]) -> str:
    told = [
        f"{names.get(model, model)} {decimal(mapping(values, name).get('value'))} "
        f"(95 % interval {interval(values.get(name)) or 'unknown'})"
        for model, values in figures.items()
        if mapping(values, name)
    ]
    return f"{metric(name).label}: " + "; ".join(told) + "." if told else ""


def _round_up(value: float) -> float:
    """The next of 5, 10, 20, 30 … 100 per cent; values over 1 stay 1."""
    for step in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        if value <= step + 1e-9:
            return step
    return 1.0
