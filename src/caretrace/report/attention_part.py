"""The part of a subject page about attention: what the model looks at, under a heading that says what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caretrace.report import subject_charts
from caretrace.report.subject_charts import Clock, shortened
from caretrace.report.wording import decimal, plural, readable

_SURE = 0.05
# A head that spreads its weight over this share of the steps looks at all alike; what it follows is dust.
_EVEN = 0.98
_WEAK = 0.1
_TIME, _TYPE = "time", "event type"


def attention_values(
    looks: Sequence[Mapping[str, Any]], heads: Mapping[str, Any] | None, clock: Clock
) -> dict[str, Any]:
    """What the template draws.

    Args:
        looks: Pooling weights of this record, per member.
        heads: `explain/heads.json` of the run; None if there is none.
        clock: The time axis.
    """
    own = heads or {}
    rows = [_head(row) for row in own.get("heads", [])]
    return {
        "pooling": subject_charts.pooling(looks, clock),
        "steps": len(looks[0]["hours"]),
        "heads": rows,
        "records": plural(own.get("records", 0), "record"),
        "draws": own.get("draws"),
        "summary": _summary(own.get("heads", [])),
        "layers": _layers(own.get("layers", [])),
    }


def _name(row: Mapping[str, Any]) -> str:
    return f"model {row['member'] + 1}, head {row['head'] + 1}"


def _even(row: Mapping[str, Any]) -> bool:
    return bool(row["effective_steps"] >= _EVEN * row["steps"])


def _sure(found: Mapping[str, Any]) -> bool:
    return bool(found["p"] < _SURE and abs(found["correlation"]) >= _WEAK)


def _head(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _name(row),
        "spread": f"{row['effective_steps']:.1f} of {row['steps']:.0f} steps",
        "even": _even(row),
        "follows": [
            {
                "text": _followed(each),
                "sure": _sure(each),
                "p": _p(each["p"]),
                "agreeing": f"{each['agreeing']:.0%}",
            }
            for each in row["follows"]
        ],
        "points_at": [_pointed(each) for each in row["points_at"]],
    }


def _pointed(each: Mapping[str, Any]) -> dict[str, Any]:
    cosine = decimal(each["cosine"], 2, signed=True)
    text = f"{shortened(readable(each['name']), 44)} {cosine}"
    return {"text": text, "p": _p(each["p"]), "sure": each["p"] < _SURE}


def _followed(each: Mapping[str, Any]) -> str:
    value = decimal(each["correlation"], 2, signed=True)
    return f"{each['which']} {value}" if each["what"] == _TYPE else value


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which heads follow what, in a sentence."""
    if not rows:
        return ""
    even = sum(_even(row) for row in rows)
    told = []
    for what in dict.fromkeys(each["what"] for row in rows for each in row["follows"]):
        sure = sum(any(each["what"] == what and _sure(each) for each in row["follows"]) for row in rows)
        told.append(f"{sure or 'none'} {_SAID.get(what, what)}")
    text = f"Of {plural(len(rows), 'pooling head')}, {', '.join(told[:-1])} and {told[-1]}."
    if even == len(rows):
        text += " But all of them look at all steps almost alike: what they follow is a matter of their last decimals."
    elif even:
        text += f" {even} of them look at all steps almost alike: what those follow is a matter of their last decimals."
    return text


_SAID = {
    _TIME: "followed time",
    _TYPE: "an event type at equal times",
    "severity": "extreme values at equal times",
}


def _layers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One line per member and layer; the range is over its heads."""
    found = []
    for member, layer in dict.fromkeys((row["member"], row["layer"]) for row in rows):
        own = [row for row in rows if (row["member"], row["layer"]) == (member, layer)]
        nearer = sum(row["nearer"] > 0.9 for row in own)
        farther = sum(row["nearer"] < 0.1 for row in own)
        told = []
        if nearer:
            told.append(f"{nearer} of {len(own)} heads look nearer")
        if farther:
            told.append(f"{farther} of {len(own)} heads look farther")
        found.append(
            {
                "name": f"model {member + 1}, layer {layer + 1}",
                "hours": _range([row["hours"] for row in own]),
                "even_hours": f"{own[0]['even_hours']:.1f}",
                "near": _range([100 * row["near"] for row in own], 0),
                "even_near": f"{100 * own[0]['even_near']:.0f}",
                "told": ", ".join(told) + " than an even look"
                if told
                else "neither nearer nor farther than an even look",
            }
        )
    return found


def _range(values: Sequence[float], digits: int = 1) -> str:
    mean, low, high = sum(values) / len(values), min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
