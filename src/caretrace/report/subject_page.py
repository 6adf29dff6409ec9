"""The page of one explained prediction: `explanation.html`, from the files beside it and those of its run.

No model is loaded, so a page can be made again; what its headings say follows the certificate as it is then.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from caretrace import schema
from caretrace.explain.bundled import bundled_certificate
from caretrace.explain.certificate import Certificate
from caretrace.explain.explanation import (
    CREDIT,
    CREDIT_SPREAD,
    FEATURE,
    HOURS_BEFORE,
    MAIN,
    RISK_WITHOUT,
    Explanation,
    read_explanation,
    words_of,
)
from caretrace.explain.methods import METHODS
from caretrace.explain.surroundings import HEADS, Surroundings, read_surroundings
from caretrace.files import read_json
from caretrace.report import page, subject_charts
from caretrace.report.attention_part import attention_values
from caretrace.report.record import EXPLANATIONS, RUN_FILE, RunRecord, mapping, read_run
from caretrace.report.standing import standing
from caretrace.report.story import is_simulated, task_words
from caretrace.report.subject_charts import Clock, shortened, signed, span, tone
from caretrace.report.wording import MISSING, count, plural, readable

PAGE = "explanation.html"
REPORT = "report.html"
_TOP, _MORE = 12, 48
_MOST_WORDS = 160
_PAIRS, _WINDOWS, _LINES = 8, 5, 6
# Pairs and features that weigh less, in units of the logit, are not worth a line.
_LEAST = 0.005
_BY_REMOVAL = "removal"

_SECTIONS = (
    ("who", "Who and when"),
    ("risk", "The risk"),
    ("timeline", "Timeline"),
    ("events", "Events"),
    ("groups", "Types and times"),
    ("static", "Static features"),
    ("pairs", "Pairs"),
    ("attention", "Attention"),
    ("reading", "How to read it"),
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What the page is made from.

    Args:
        explanation: The explanation.
        around: What is shown around it; None for a folder written without.
        heads: What the heads of the run's models look at; None where they have none.
        certificate: That of the run's bundle, for its configuration.
        run: The run; None for a folder outside one.
        path: The run folder.
    """

    explanation: Explanation
    around: Surroundings | None
    heads: Mapping[str, Any] | None
    certificate: Certificate
    run: RunRecord | None
    path: Path

    @property
    def clock(self) -> Clock:
        """The time axis."""
        return Clock(self.around.hours_since_admission if self.around else None)


def explanation_folders(run: Path) -> list[Path]:
    """The explanations in a run folder."""
    return sorted(
        path.parent for path in (run / EXPLANATIONS).glob(f"*/{MAIN}") if path.parent.name[0] != "."
    )


def read_subject(folder: Path) -> Subject:
    """An explanation with its run.

    Args:
        folder: `RUN/explain/NAME`.

    Raises:
        BundleError: A part is damaged.
    """
    explanation, path = read_explanation(folder), folder.parent.parent
    run = read_run(path) if (path / RUN_FILE).is_file() else None
    config = mapping(run.run, "config") if run else {}
    certificate = bundled_certificate(path / "bundle", explanation.application, config)
    heads = folder.parent / HEADS
    return Subject(
        explanation,
        read_surroundings(folder),
        read_json(heads) if heads.is_file() else None,
        certificate,
        run,
        path,
    )


def render_subject_page(folder: Path) -> Path:
    """Write `explanation.html` into the folder of an explanation; an older page is replaced.

    Raises:
        BundleError: The folder is no explanation, or a part of it is damaged.
    """
    return page.write(page.render("subject.html.j2", _values(read_subject(folder))), folder / PAGE)


def explained(folder: Path, beside: Path) -> dict[str, str]:
    """One line of a run report about an explanation, with a link that works from `beside`."""
    subject = read_subject(folder)
    found = subject.explanation
    return {
        "subject": str(found.subject_id),
        "time": _moment(found.prediction_time),
        "risk": _percent(found.risk),
        "method": readable(found.method),
        "heading": subject.certificate.heading(found.method),
        "link": quote(Path(os.path.relpath(folder / PAGE, beside)).as_posix()),
    }


def _values(subject: Subject) -> dict[str, Any]:
    explanation, around = subject.explanation, subject.around
    rows = explanation.measurements.to_dicts()
    attention = None
    if around and around.looks:
        attention = attention_values(around.looks, subject.heads, subject.clock)
    paired = bool(around and around.interactions)
    optional = {"pairs": paired, "attention": attention is not None}
    question = task_words(subject.run) if subject.run else ""
    return {
        "title": f"Subject {explanation.subject_id}",
        "facts": _facts(subject),
        "sections": [row for row in _SECTIONS if optional.get(row[0], True)],
        "subject": explanation,
        "simulated": subject.run is not None and is_simulated(subject.run.run.get("source")),
        "question": question,
        "who": [(_feature(row[FEATURE]), row["value"]) for row in explanation.static.to_dicts()],
        "lead": _lead(subject),
        "cards": _cards(subject),
        "standing": standing(subject.certificate, explanation.method),
        "by_removal": standing(subject.certificate, _BY_REMOVAL),
        "of_static": standing(subject.certificate, _of_static(explanation.method)),
        **_events(subject, rows),
        "static": _static(explanation),
        "groups": _groups(subject),
        "pairs": _pairs(subject, rows),
        "n_pairs": len(around.interactions) if around else 0,
        "paired": paired,
        "attention": attention,
        **_ways(subject),
    }


def _facts(subject: Subject) -> list[str]:
    explanation, since = subject.explanation, subject.clock.since
    return [
        f"predicted at {_moment(explanation.prediction_time)}",
        f"{span(since)} after ICU admission" if since is not None else "",
        plural(len(explanation.measurements), "measurement") + " read",
        f"outcome: {_OUTCOME[explanation.outcome]}",
    ]


def _events(subject: Subject, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The measurements with the largest credits, and all drawings, which carry their numbers."""
    tops = subject.explanation.top(_TOP + _MORE).to_dicts()
    largest = max((abs(row[CREDIT]) for row in tops), default=0.0)
    banded = subject.around is None or subject.around.members > 1
    looked = METHODS[subject.explanation.method].kind == "attention"
    numbered = [{**row, "tone": "looked" if looked else tone(row[CREDIT])} for row in tops]
    shown = [_event(row, largest, subject.clock, banded) for row in numbered]
    return {
        "tops": shown[:_TOP],
        "more": shown[_TOP:],
        "banded": banded,
        "left_out": max(0, len(rows) - len(shown)),
        "faint": bool(rows) and largest < _LEAST,
        "least": _LEAST,
        "drawings": _drawings(subject, rows, numbered[:_TOP]),
        "earlier": sum(row[HOURS_BEFORE] > _first(subject) for row in rows),
    }


def _ways(subject: Subject) -> dict[str, str]:
    """Where to go from here."""
    explanation, path = subject.explanation, shlex.quote(str(subject.path))
    method = "" if explanation.method == _BY_REMOVAL else f" --method {explanation.method}"
    return {
        "report": f"../../{REPORT}" if (subject.path / REPORT).is_file() else "",
        "command": f"caretrace explain {path} --subject {explanation.subject_id}{method}",
        "certify": f"caretrace explain {path} --certify",
    }


_BAND = "Calibrated. The band says how far the members of the ensemble disagree, not how far all of them may be wrong."
_OUTCOME = {None: "not known", True: "yes, in the record", False: "no, in the record"}


def _lead(subject: Subject) -> str:
    explanation, around = subject.explanation, subject.around
    text = f"The model gives subject {explanation.subject_id} a risk of {_percent(explanation.risk)}"
    if around is None:
        return text + "."
    if around.low is not None and around.high is not None:
        text += f" ({_percent(around.low)} to {_percent(around.high)} among its {around.members} members)"
    if around.compared:
        mean = around.compared["mean_risk"]
        text += f", where the average subject it was judged on has {_percent(mean)}"
    return text + "."


def _cards(subject: Subject) -> list[dict[str, str]]:
    explanation, around = subject.explanation, subject.around
    band = "one model: no band"
    if around and around.low is not None:
        band = f"{_percent(around.low)} to {_percent(around.high)}"
    cards = [
        {
            "label": "Risk now",
            "value": _percent(explanation.risk),
            "range": band,
            "what": _BAND if around and around.low is not None else "Calibrated.",
        }
    ]
    if around and around.compared:
        compared = around.compared
        cards.append(
            {
                "label": "Average subject",
                "value": _percent(compared["mean_risk"]),
                "range": f"outcome in {_percent(compared['outcome_share'])}",
                "what": f"Mean over {plural(compared['predictions'], 'prediction')} that the run was judged on.",
            }
        )
        cards.append(
            {
                "label": "Higher than",
                "value": _percent(compared["share_below"]),
                "range": "of those predictions",
                "what": "Share of them with a lower risk.",
            }
        )
    cards.append(
        {
            "label": "Logit",
            "value": signed(explanation.logit),
            "range": "the score before calibration",
            "what": "Credits are differences of it: +0.69 doubles the odds.",
        }
    )
    return cards


def _event(row: Mapping[str, Any], largest: float, clock: Clock, banded: bool) -> dict[str, Any]:
    words, value = words_of(row)
    return {
        "words": shortened(words, _MOST_WORDS),
        "code": row[schema.CODE],
        "type": readable(row[schema.EVENT_TYPE] or "other"),
        "value": value,
        "time": f"{row[schema.TIME]:%Y-%m-%d %H:%M}",
        "when": clock.words(row[HOURS_BEFORE]),
        "credit": signed(row[CREDIT]),
        "spread": f"± {row[CREDIT_SPREAD]:.2f}" if banded else "",
        "weak": banded and abs(row[CREDIT]) < row[CREDIT_SPREAD],
        "without": _percent(row[RISK_WITHOUT]),
        **_bar(row[CREDIT], largest),
        "tone": row["tone"],
    }


def _bar(credit: float, largest: float) -> dict[str, Any]:
    return {"tone": tone(credit), "share": f"{100 * abs(credit) / largest if largest else 0:.1f}"}


def _of_static(method: str) -> str:
    """The method behind the credits of static features: only gradients have some of their own."""
    return method if METHODS[method].kind == "gradient" else _BY_REMOVAL


def _static(explanation: Explanation) -> list[dict[str, Any]]:
    rows = explanation.static.sort(pl.col(CREDIT).abs(), descending=True, maintain_order=True).to_dicts()
    largest = max((abs(row[CREDIT]) for row in rows), default=0.0)
    return [
        {
            "name": _feature(row[FEATURE]),
            "value": row["value"],
            "credit": signed(row[CREDIT]),
            "without": _percent(row[RISK_WITHOUT]),
            **_bar(row[CREDIT], largest),
        }
        for row in rows
    ]


def _first(subject: Subject) -> float:
    """From how many hours before the prediction the timeline is drawn: a little before admission, or all of it."""
    hours = [row for row in subject.explanation.measurements[HOURS_BEFORE].to_list() if row is not None]
    since = subject.clock.since
    longest = max(hours, default=0.0)
    return longest if since is None or since <= 0 else min(longest, 1.5 * since)


def _drawings(
    subject: Subject, rows: Sequence[Mapping[str, Any]], tops: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    around, clock = subject.around, subject.clock
    drawn: dict[str, Any] = {"timeline": subject_charts.timeline(rows, tops, clock, _first(subject))}
    if around is None:
        return drawn | dict.fromkeys(("trajectory", "over_time", "evolution"))
    average = around.compared["mean_risk"] if around.compared else None
    codes = [row for row in around.evolution["codes"] if max(map(abs, row["credit"]), default=0.0) >= _LEAST]
    codes.sort(key=lambda row: -max(map(abs, row["credit"])))
    codes = codes[:_LINES]
    names = [row[schema.DESCRIPTION] or row[schema.CODE] for row in codes]
    return drawn | {
        "trajectory": subject_charts.trajectory(around.trajectory.to_dicts(), average),
        "over_time": subject_charts.over_time(
            around.types_over_time, around.windows, clock, around.window_hours, around.n_windows
        ),
        "evolution": subject_charts.evolution({**around.evolution, "codes": codes}, clock, names),
    }


def _groups(subject: Subject) -> list[dict[str, Any]]:
    """Event types and the weightiest windows, each removed as one."""
    around = subject.around
    if around is None:
        return []
    types = sorted(around.types, key=lambda row: -abs(row["credit"]))
    windows = sorted(around.windows, key=lambda row: -abs(row["credit"]))[:_WINDOWS]
    named = [(f"all of type {row[schema.EVENT_TYPE]}", row) for row in types]
    named += [(_window(subject.clock, around, row["window"]), row) for row in windows]
    largest = max((abs(row["credit"]) for _, row in named), default=0.0)
    return [
        {
            "name": name,
            "window": "window" in row,
            "measurements": count(row["measurements"]),
            "credit": signed(row["credit"]),
            "without": _percent(row["risk_without"]),
            **_bar(row["credit"], largest),
        }
        for name, row in named
    ]


def _window(clock: Clock, around: Surroundings, number: int) -> str:
    start, end = around.window_hours * (number + 1), around.window_hours * number
    if number == around.n_windows:
        return f"everything older than {span(end)}"
    if clock.since is None:
        return f"{start:g} to {end:g} h before the prediction"
    return f"{clock.at(start):g} to {clock.at(end):g} h after admission".replace("-", "−")


def _pairs(subject: Subject, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    around = subject.around
    if around is None:
        return []
    found = []
    for pair in around.interactions:
        one, other = (rows[pair[key]] for key in ("first", "second"))
        together, smaller = pair["together"], min(abs(pair["alone"]), abs(pair["other_alone"]))
        if abs(together) < max(_LEAST, 0.1 * smaller):
            continue
        same = together * (pair["alone"] + pair["other_alone"]) > 0
        found.append(
            {
                "first": _named(one),
                "second": _named(other),
                "alone": f"{signed(pair['alone'])} and {signed(pair['other_alone'])}",
                "together": signed(together),
                "told": "they strengthen each other" if same else "either does part of the other's work",
            }
        )
    return found[:_PAIRS]


def _named(row: Mapping[str, Any]) -> str:
    words, value = words_of(row)
    return f"{shortened(words, 60)}{', ' + value if value else ''} ({row[schema.TIME]:%m-%d %H:%M})"


def _feature(name: str) -> str:
    return readable(name.lower()).replace("Icu", "ICU")


def _moment(time: str) -> str:
    return time[:16].replace("T", " ")


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"
