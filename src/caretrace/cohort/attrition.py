"""Attrition: how many candidates each rule of a task removed, in the fixed order of the file.

Rules are applied one after another, so the numbers add up: what remained before a rule is what it removed
plus what remains after it. An outcome that cannot be read (its window has no end event) is such a rule, never
a negative label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import polars as pl

from caretrace.cohort.task import Task
from caretrace.cohort.windows import Boundary, Constraint, Side, Window, column, count


@dataclasses.dataclass(frozen=True)
class Step:
    """One line of an attrition table.

    Args:
        rule: The rule in words.
        removed: Candidates that failed it.
        remaining: Candidates left after it.
    """

    rule: str
    removed: int
    remaining: int


def apply_rules(
    task: Task, placed: pl.DataFrame, events: Mapping[str, pl.DataFrame]
) -> tuple[pl.DataFrame, list[Step]]:
    """Keep the candidates that satisfy every window, window by window in the order of the file.

    Args:
        task: The task, without landmarks.
        placed: One row per trigger with the times of every window, as `windows.place` returns it.
        events: Events of each predicate.

    Returns:
        The rows that are left, and one step per rule.
    """
    steps: list[Step] = []
    for window in task.windows:
        for side in _event_sides(window):
            kept = placed.filter(pl.col(column(window.name, side)).is_not_null())
            steps.append(Step(_readable(window, side, task), placed.height - kept.height, kept.height))
            placed = kept
        for constraint in window.has:
            counts = count(placed, window, events[constraint.predicate])
            kept = placed.filter(_satisfied(counts, constraint))
            steps.append(Step(_in_words(window, constraint), placed.height - kept.height, kept.height))
            placed = kept
    # A bound can only be missing if a bound it is told from is, and each of those had its rule above.
    return placed.drop_nulls(), steps


def add_up(tables: Sequence[Sequence[Step]], landmarks: Sequence[str]) -> list[Step]:
    """One table for all landmarks: the rules are the same, the numbers add.

    Args:
        tables: One list of steps per landmark, all of the same length.
        landmarks: The landmarks as written.
    """
    return [
        Step(
            _same_words([step.rule for step in steps], landmarks),
            sum(step.removed for step in steps),
            sum(step.remaining for step in steps),
        )
        for steps in zip(*tables, strict=True)
    ]


def _same_words(rules: Sequence[str], landmarks: Sequence[str]) -> str:
    if len(set(rules)) == 1:
        return rules[0]
    return rules[0].replace(f"+ {landmarks[0]}", "+ landmark")


def _event_sides(window: Window) -> list[Side]:
    sides: list[Side] = ["end", "start"] if window.root == "end" else ["start", "end"]
    return [side for side in sides if getattr(window, side).event]


def _satisfied(counts: pl.Series, constraint: Constraint) -> pl.Series:
    low = counts >= (constraint.minimum or 0)
    return low if constraint.maximum is None else low & (counts <= constraint.maximum)


def _readable(window: Window, side: Side, task: Task) -> str:
    boundary: Boundary = getattr(window, side)
    base = _base_in_words(window, boundary)
    direction = "before" if boundary.before else "after"
    unread = "; outcome unreadable" if window is task.label_window and side != window.root else ""
    if boundary.text is None:
        edge = "starts" if boundary.before else "ends"
        return f"{window.name}: the record {edge} {direction} {base}"
    return f"{window.name}: a {boundary.event} {direction} {base} (none recorded{unread})"


def _in_words(window: Window, constraint: Constraint) -> str:
    opening = "[" if window.start_inclusive else "("
    closing = "]" if window.end_inclusive else ")"
    start, end = _bound_in_words(window, "start"), _bound_in_words(window, "end")
    return f"{window.name}: {_how_many(constraint)} in {opening}{start}, {end}{closing}"


def _how_many(constraint: Constraint) -> str:
    low, high, name = constraint.minimum or 0, constraint.maximum, constraint.predicate
    if high == 0:
        return f"no {name}"
    if high is None:
        return f"at least {low} {name}"
    if low == 0:
        return f"at most {high} {name}"
    return f"exactly {low} {name}" if low == high else f"{low} to {high} {name}"


def _bound_in_words(window: Window, side: Side) -> str:
    boundary: Boundary = getattr(window, side)
    if boundary.text is None:
        return "record start" if boundary.before else "record end"
    base = _base_in_words(window, boundary)
    if boundary.event:
        return (
            f"last {boundary.event} before {base}"
            if boundary.before
            else f"first {boundary.event} after {base}"
        )
    rest = boundary.text.strip().removeprefix(boundary.reference).strip()
    return f"{base} {rest}".strip()


def _base_in_words(window: Window, boundary: Boundary) -> str:
    if boundary.reference == "start":
        return _bound_in_words(window, "start")
    if boundary.reference == "end":
        return _bound_in_words(window, "end")
    return boundary.reference
