"""What a run report says in words: what was done, which model to use, what not to use it for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caretrace.report.record import FEWEST_POSITIVES, Json, RunRecord, mapping
from caretrace.report.wording import count, decimal, finite, interval, metric, plural, readable, share

SIMULATED_SOURCES = (
    "hospital",
    "hospital-histories",
    "hospital-operations",
    "hospital-vitals",
    "virtual-hospital",
)

# Split names as a reader who does not know MEDS would say them.
SPLIT_WORDS = {
    "held_out": " kept aside until the end",
    "tuning": " of the tuning split, which also chose the settings: expect lower figures elsewhere",
    "all": ", its whole cohort",
    "train": ", the very ones it was fitted to: these figures say nothing about others",
}


@dataclass(frozen=True)
class Verdict:
    """Which model to use.

    Args:
        tone: `good`, `warn` or `bad`; chooses the colour, the words carry the meaning.
        heading: The answer in a few words.
        sentence: The answer with its reason.
        reason: The rule's own words as `caretrace evaluate` stored them, or empty.
    """

    tone: str
    heading: str
    sentence: str
    reason: str = ""


def is_simulated(source: Any) -> bool:
    """Whether a source is our virtual hospital, so that no real patient stands behind its figures."""
    return source in SIMULATED_SOURCES


def model_names(record: RunRecord) -> dict[str, str]:
    """Model names as people read them; ours is "This model"."""
    return {record.model: "This model"} | {name: readable(name) for name in record.comparators}


def task_words(record: RunRecord) -> str:
    """The question a run answers, in a phrase: the first sentence of its task file, else the task's name."""
    if record.task_description:
        return re.split(r"(?<=[a-z)])\.\s", record.task_description)[0].removesuffix(".")
    task = record.run.get("task")
    return str(task).replace("_", " ") if task else "the outcome of its task"


def title(run: Json) -> str:
    """The page's title."""
    return str(run.get("title") or f"{readable(str(run.get('application') or 'caretrace'))} run")


def lead(record: RunRecord) -> str:
    """One plain paragraph: what was predicted, on whom, how often it happened."""
    run, evaluation = record.run, record.evaluation
    task = task_words(record)
    text = f"{task[:1].upper()}{task[1:]}. "
    text += f"The model that estimates this risk learned from dataset {_folder_name(run)}"
    if is_simulated(run.get("source")):
        text += ", which a simulator wrote: no real patient stands behind any number on this page"
    if evaluation is None:
        return text + ". It has not been judged on held-out subjects yet."
    split = str(evaluation.get("split") or "unknown split")
    subjects, rows = finite(evaluation.get("n_subjects")), finite(evaluation.get("n"))
    people = plural(subjects, "subject") if subjects is not None else "an unknown number of subjects"
    if rows is not None and rows != subjects:
        people += f" ({plural(rows, 'prediction')})"
    elsewhere = mapping(evaluation, "dataset")
    if elsewhere.get("fingerprint") not in (None, run.get("fingerprint")):
        people += f" of another dataset, {_folder_name({'dataset': elsewhere.get('path')})},"
    text += f". It was judged on {people}{SPLIT_WORDS.get(split, f' of the split {split}')}."
    if record.positives is not None:
        occurred = f"{count(record.positives)} of {count(rows)} ({share(record.positives, rows)})"
        text += f" The outcome occurred in {occurred}."
    return text


def verdict(record: RunRecord) -> Verdict | None:
    """Which model to use, in plain words; None before the run was evaluated."""
    if record.evaluation is None:
        return None
    recommended = mapping(record.evaluation, "recommended")
    reason = str(recommended.get("sentence") or recommended.get("reason") or "")
    names, paired = model_names(record), mapping(record.evaluation, "paired")
    winner = str(recommended.get("name") or _furthest_ahead(paired) or record.model)
    difference = mapping(paired.get(winner), "auroc")
    beaten = winner in record.comparators and _below_zero(difference)
    if winner in record.comparators:
        how = compare(names[winner], "auroc", difference)
        answer = Verdict("warn", f"Prefer {names[winner]}", f"{how} {_COMPARATOR_AHEAD}", reason)
        if beaten:
            answer = Verdict(
                "bad", f"Use {names[winner]}, not this model", f"{how} {_COMPARATOR_WINS}", reason
            )
    else:
        answer = _model_wins(record, reason)
    if record.too_few:
        few = _PLUMBING
        if beaten:
            few = f"Even so, {names[winner]} ranked better here: do not use this model."
        return Verdict("warn", "Too small to judge", f"{too_few_sentence(record)} {few}", reason)
    return answer


_COMPARATOR_WINS = (
    "The simpler model is cheaper, easier to check and ranks better here; nothing speaks for the larger one."
)
_COMPARATOR_AHEAD = (
    "The simpler model is no worse on these subjects, cheaper and easier to check: take it unless you need what "
    "only this model offers."
)


_PLUMBING = "The figures below show that every step ran, not which model is better."


def _model_wins(record: RunRecord, reason: str) -> Verdict:
    names, paired = model_names(record), mapping(record.evaluation, "paired")
    if not record.comparators:
        return Verdict("warn", "No comparator stood beside it", _ALONE, reason)
    unclear = [name for name in record.comparators if not _above_zero(mapping(paired.get(name), "auroc"))]
    if not unclear:
        nearest = min(paired, key=lambda name: mapping(paired[name], "auroc").get("difference", 0.0))
        how = compare(names.get(nearest, nearest), "auroc", mapping(paired[nearest], "auroc"))
        sentence = f"It ranks better than every comparator. {how}"
        return Verdict("good", "Use this model (for research)", sentence, reason)
    listed = " and ".join(names[name] for name in unclear)
    sentence = f"The interval of its AUROC difference to {listed} includes 0: {_UNCLEAR}"
    return Verdict("warn", f"Not shown to beat {listed}", sentence, reason)


_ALONE = "Without a simple model beside it, nobody can tell whether this model was worth its effort."
_UNCLEAR = (
    "these subjects are too few to tell the models apart. Prefer the simpler one unless you need what only "
    "this model offers."
)


def compare(other: str, name: str, difference: Json) -> str:
    """One paired difference (this model minus a comparator) in words."""
    value = finite(difference.get("difference"))
    if value is None:
        return f"No paired difference to {other} was computed."
    kind = metric(name)
    ahead = (value > 0) == kind.higher_is_better
    words = (
        f"{kind.label} of this model minus {other}: {decimal(value, signed=True)} "
        f"({interval(difference, signed=True)}). "
    )
    if _above_zero(difference) or _below_zero(difference):
        return (
            words + ("This model is better" if ahead else f"{other} is better") + "; the interval excludes 0."
        )
    return words + "The interval includes 0: no difference shown."


def short_difference(name: str, difference: Json) -> tuple[str, str]:
    """Outcome of a paired difference for a table cell: (words, tone)."""
    if finite(difference.get("difference")) is None:
        return "not compared", "none"
    if not (_above_zero(difference) or _below_zero(difference)):
        return "no difference shown (interval includes 0)", "none"
    better = _above_zero(difference) == metric(name).higher_is_better
    return ("this model better" if better else "comparator better") + " (interval excludes 0)", (
        "good" if better else "bad"
    )


def too_few_sentence(record: RunRecord) -> str:
    """Why so few positives carry no claim."""
    return (
        f"Only {plural(record.positives, 'positive')} stood in the "
        f"{plural(_rows(record), 'judged prediction')}; under {FEWEST_POSITIVES}, "
        "intervals are too wide for any claim about performance."
    )


def limits(record: RunRecord) -> list[str]:
    """What the model must not be used for, specific to this run."""
    run, rows = record.run, []
    if is_simulated(run.get("source")):
        rows.append(_SIMULATED)
    if record.too_few:
        rows.append(f"Any claim about performance. {too_few_sentence(record)}")
    if record.evaluation is None:
        rows.append("Anything at all before it is evaluated on held-out subjects.")
    elif record.evaluation.get("split") != "held_out":
        rows.append("Quoting these figures: they were not computed on held-out subjects.")
    rows += [
        _failed(name, gate) for name, gate in mapping(record.evaluation, "gates").items() if _is_red(gate)
    ]
    return [*rows, *_ALWAYS]


_SIMULATED = (
    "Conclusions about real patients: the data are simulated. Figures show that the method finds what was "
    "planted, not that it would work in a hospital."
)
_ALWAYS = (
    "Care at the bedside: this is research software, not a medical device; nobody has certified it, and it "
    "must not start, stop or delay any treatment.",
    "Other hospitals, years or patient groups: it was made retrospectively from one source of data; other "
    "places code, measure and treat differently.",
    "Explaining why: it finds patterns that go along with the outcome, not causes. Treatment already given "
    "is part of what it sees, so a low risk may be low because the patient was treated.",
)


def _is_red(gate: Any) -> bool:
    return isinstance(gate, Mapping) and gate.get("passed") is False


def _failed(name: str, gate: Json) -> str:
    use = (
        "Reading its scores as risks" if name == "calibration" else f"What the gate “{readable(name)}” guards"
    )
    measured = f"measured {decimal(gate.get('value'))}, bound {decimal(gate.get('bound'))}"
    return f"{use}: the gate “{readable(name)}” failed ({measured})."


def _folder_name(run: Json) -> str:
    return str(run.get("dataset") or run.get("source") or "without a name").rstrip("/").rsplit("/", 1)[-1]


def _furthest_ahead(paired: Json) -> str | None:
    """The comparator that clearly ranks better than the model by most, if any."""
    beaten = {name: mapping(paired[name], "auroc") for name in paired}
    beaten = {name: difference for name, difference in beaten.items() if _below_zero(difference)}
    return min(beaten, key=lambda name: beaten[name]["high"]) if beaten else None


def _rows(record: RunRecord) -> Any:
    return (record.evaluation or {}).get("n")


def _above_zero(difference: Json) -> bool:
    low = finite(difference.get("low"))
    return low is not None and low > 0


def _below_zero(difference: Json) -> bool:
    high = finite(difference.get("high"))
    return high is not None and high < 0
