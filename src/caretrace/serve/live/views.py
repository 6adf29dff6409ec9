"""The ward as the page and the routes show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.serve.clock import iso
from caretrace.serve.live.follower import SCORES
from caretrace.serve.live.lifecycle import PHYSIOLOGICAL, STALE
from caretrace.serve.live.model import LiveModel
from caretrace.serve.live.recent import Course
from caretrace.serve.live.samples import CHANNELS, UNITS
from caretrace.serve.live.ward import Ward
from caretrace.serve.store.records import Alarm, Bed, Change

UNASSIGNED = "unassigned"
# What scores no points in NEWS2 (Royal College of Physicians 2017); it has no diastolic and mean pressure: assumed.
NORMAL: Mapping[str, tuple[float, float]] = {
    "hr": (51, 90),
    "spo2": (96, 100),
    "resp": (12, 20),
    "sbp": (111, 219),
    "dbp": (60, 90),
    "map": (65, 110),
    "temp": (36.1, 38.0),
}
_DIGITS = 3


def alarm_view(alarm: Alarm, bed: Bed | None) -> dict[str, Any]:
    """An alarm."""
    return {
        "id": alarm.id,
        "subject_id": alarm.subject_id,
        "bed": None if bed is None else bed.bed,
        "ward": UNASSIGNED if bed is None else bed.ward,
        "reason": alarm.reason,
        "kind": alarm.kind,
        "state": alarm.state,
        "raised": iso(alarm.raised),
        "changed": iso(alarm.changed),
        "score": _number(alarm.score),
        "threshold": _number(alarm.threshold),
        "words": alarm.words,
        "by": alarm.by,
        "why": alarm.why,
        "snoozed_until": iso(alarm.snoozed_until),
    }


def change_view(change: Change) -> dict[str, Any]:
    """What happened to an alarm."""
    return {
        "time": iso(change.time),
        "state": change.state,
        "score": _number(change.score),
        "who": change.by,
        "why": change.why,
    }


def bed_state(ward: Ward, subject: int, alarms: list[Alarm]) -> str:
    """One word for the overview: what a nurse should know of first comes first."""
    states = {(alarm.kind, alarm.state) for alarm in alarms}
    if (PHYSIOLOGICAL, "active") in states:
        return "active"
    if ward.lifecycle.awake(subject, STALE):
        return "stale"
    technical = {state for kind, state in states if kind != PHYSIOLOGICAL}
    if "active" in technical:
        return "technical"
    if (PHYSIOLOGICAL, "acknowledged") in states:
        return "acknowledged"
    if ward.lifecycle.pending(subject):
        return "pending"
    if "acknowledged" in technical:
        return "technical"
    return "cleared" if (PHYSIOLOGICAL, "cleared") in states else "quiet"


def values_view(ward: Ward, slot: int) -> dict[str, float]:
    """Last value of each channel."""
    shown = zip(CHANNELS, ward.recent.value[slot].tolist(), strict=True)
    return {name: round(value, _DIGITS) for name, value in shown if not math.isnan(value)}


def scores_view(ward: Ward, row: npt.NDArray[np.float32]) -> dict[str, float]:
    """Scores of the reasons that can raise an alarm."""
    found = zip(SCORES, row.tolist(), strict=True)
    return {
        name: round(value, _DIGITS)
        for name, value in found
        if name in ward.model.alarms and not math.isnan(value)
    }


def thresholds_view(model: LiveModel) -> dict[str, float]:
    """From which score each reason is an alarm."""
    return {name: round(each.raise_at, _DIGITS) for name, each in model.alarms.items()}


def overview(ward: Ward, subject: int, bed: Bed | None, now: float) -> dict[str, Any]:
    """One bed of the overview; `risk` is for the routes to fill in (`serve.risks`)."""
    slot = ward.slot_of.get(subject)
    alarms = ward.lifecycle.of_subject(subject)
    last = -math.inf if slot is None else float(ward.recent.newest[slot])
    values = {} if slot is None else values_view(ward, slot)
    scores = None if slot is None else ward.recent.last(slot)
    return {
        "subject_id": subject,
        "bed": None if bed is None else bed.bed,
        "ward": UNASSIGNED if bed is None else bed.ward,
        "state": bed_state(ward, subject, alarms) if slot is not None else "stale",
        "risk": None,
        "last_sample": iso(last),
        "age_seconds": round(max(0.0, now - last), 1) if math.isfinite(last) else None,
        "values": values,
        "units": {name: UNITS[name] for name in values},
        "scores": {} if scores is None else scores_view(ward, scores),
        "alarms": [alarm_view(alarm, bed) for alarm in alarms],
    }


def strips(ward: Ward, course: Course) -> dict[str, Any]:
    """The course of a subject to be drawn: gaps stay gaps."""
    model = ward.model
    step, values, scores = _without_holes(course)
    seconds = step * model.step_seconds
    return {
        "channels": [
            {"name": name, "unit": UNITS[name], "normal": list(NORMAL[name])} for name in model.names
        ],
        "times": seconds.astype(np.float64),
        "values": {name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(model.names)},
        "scores": {name: np.ascontiguousarray(scores[:, SCORES.index(name)]) for name in model.alarms},
        "thresholds": thresholds_view(model),
        "anomalies": [
            span
            for name, each in model.alarms.items()
            for span in _spans(
                name, seconds, scores[:, SCORES.index(name)], each.raise_at, model.step_seconds
            )
        ],
    }


def _spans(
    reason: str, times: npt.NDArray[Any], scores: npt.NDArray[Any], limit: float, step: float
) -> list[dict[str, Any]]:
    """When a score was at its threshold or above."""
    above = np.concatenate([[False], scores >= limit, [False]])
    edges = np.flatnonzero(np.diff(above))
    return [
        {"start": float(times[low]), "end": float(times[high - 1] + step), "reason": reason}
        for low, high in zip(edges[::2], edges[1::2], strict=True)
    ]


def _without_holes(course: Course) -> Course:
    """Steps one after the other; NaN where there was none."""
    if not len(course.step):
        return course
    place = course.step - course.step.min()
    length = int(place.max()) + 1
    values = np.full((length, course.values.shape[1]), np.nan, np.float32)
    scores = np.full((length, course.scores.shape[1]), np.nan, np.float32)
    values[place], scores[place] = course.values, course.scores
    return Course(course.step.min() + np.arange(length), values, scores)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DIGITS)
