"""Numbers and names as people read them: metric names, intervals, counts, durations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RESEARCH_USE = "Research use only — never a bedside device"
MISSING = "–"


@dataclass(frozen=True)
class Metric:
    """How a metric is called and read.

    Args:
        label: Name shown to people.
        meaning: What the number says, in one plain sentence.
        higher_is_better: Direction in which a difference is an improvement.
    """

    label: str
    meaning: str
    higher_is_better: bool = True


METRICS = {
    "auroc": Metric(
        "AUROC",
        "Chance that a case is ranked above a non-case. 0.5 is a coin toss, 1 is perfect.",
    ),
    "auprc": Metric(
        "AUPRC",
        "Average share of true alerts over all alert thresholds. A coin toss scores the share of cases.",
    ),
    "brier": Metric("Brier score", "Mean squared error of the risk. 0 is perfect.", higher_is_better=False),
    "ece": Metric(
        "Calibration error",
        "Mean gap between the risk stated and the share of cases seen (ECE). 0 is perfect.",
        higher_is_better=False,
    ),
}


def metric(name: str) -> Metric:
    """The metric called `name` in JSON; an unknown one keeps its own name and counts as higher is better."""
    return METRICS.get(name, Metric(readable(name), ""))


def readable(name: str) -> str:
    """A machine name as words: `boosted_trees` → `Boosted trees`."""
    words = name.replace("_", " ").replace("//", " / ").strip()
    return words[:1].upper() + words[1:]


def finite(value: Any) -> float | None:
    """`value` as a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimal(value: Any, digits: int | None = None, signed: bool = False) -> str:
    """A number with a true minus sign; a dash when there is none.

    Without `digits` it has as many decimals as its size deserves: three below 10, one below 100, else none.
    """
    number = finite(value)
    if number is None:
        return MISSING
    if digits is None:
        digits = 3 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    text = f"{number:+,.{digits}f}" if signed else f"{number:,.{digits}f}"
    return text.replace("-", "−")


def interval(value: Any, digits: int | None = None, signed: bool = False) -> str:
    """The bounds of a `{"low", "high"}` mapping as `0.82 to 0.88`; empty when there are none."""
    if not isinstance(value, Mapping):
        return ""
    low, high = finite(value.get("low")), finite(value.get("high"))
    if low is None or high is None:
        return ""
    return f"{decimal(low, digits, signed)} to {decimal(high, digits, signed)}"


def count(value: Any) -> str:
    """A whole number with thousands separated; a dash when there is none."""
    number = finite(value)
    return MISSING if number is None else f"{number:,.0f}"


def share(part: Any, whole: Any) -> str:
    """`part` of `whole` in per cent with one decimal; a dash when either is unknown or `whole` is 0."""
    top, bottom = finite(part), finite(whole)
    if top is None or not bottom:
        return MISSING
    return "<0.1 %" if 0 < top / bottom < 0.001 else f"{100 * top / bottom:.1f} %"


def compact(value: Any) -> str:
    """A measured value with four significant digits and no exponent unless it needs one."""
    number = finite(value)
    if number is None:
        return MISSING
    if number and not 1e-3 <= abs(number) < 1e6:
        return f"{number:.3g}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(number)))) if number else 0
    text = f"{number:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def duration(seconds: Any) -> str:
    """Seconds as people say them: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    number = finite(seconds)
    if number is None:
        return MISSING
    if number < 60:
        return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(number: Any, one: str, many: str | None = None) -> str:
    """`1 stay`, `2 stays`: a count with its noun."""
    return f"{count(number)} {one if finite(number) == 1 else many or one + 's'}"
