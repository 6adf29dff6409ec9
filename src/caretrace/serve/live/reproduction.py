"""An alarm computed again from its inputs: the steps of its recording up to the moment it was raised."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.alarms import AlarmMachine, AlarmSettings
from caretrace.serve.clock import iso
from caretrace.serve.live.follower import SCORES
from caretrace.serve.live.model import LiveModel
from caretrace.serve.live.recent import Course
from caretrace.serve.store.records import Alarm
from caretrace.serve.store.store import Store, read_scored

_SHOWN = 60  # steps that are shown with an alarm
_DIGITS = 3


def stored_course(store: Store, model: LiveModel, subject: int, since: float, until: float) -> Course:
    """Steps of a subject from the store, in order.

    Args:
        store: Where they are.
        model: What watches.
        subject: Whose.
        since: Epoch seconds.
        until: Epoch seconds.
    """
    parts = []
    for row in store.read(lambda connection: read_scored(connection, since, until)):
        mine = (row["subject"] == subject) & (row["values"].shape[1] == len(model.channels))
        times = row["step"] * model.step_seconds
        mine &= (times >= since) & (times <= until)
        if mine.any():
            parts.append(Course(row["step"][mine], row["values"][mine], row["scores"][mine]))
    if not parts:
        return nothing(model)
    return Course(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def nothing(model: LiveModel) -> Course:
    """The course of somebody of whom nothing is known."""
    empty = np.zeros((0, len(model.channels)), np.float32)
    return Course(np.zeros(0, np.int64), empty, np.zeros((0, len(SCORES)), np.float32))


def reproduce(store: Store, model: LiveModel, alarm: Alarm) -> dict[str, Any]:
    """What an alarm rests on, and whether it comes out of it again.

    Args:
        store: Where the steps are.
        model: What watches now.
        alarm: Which.

    Returns:
        `bundle`, `policy`, `since` and `raised` of the recording, `samples` (the last steps before the alarm),
        `reproduced` (None where another model is served by now, or a sensor raised it) and the `score` found.
    """
    policy = json.loads(alarm.policy)
    since = alarm.raised - _SHOWN * model.step_seconds if alarm.since is None else alarm.since
    course = stored_course(store, model, alarm.subject_id, since - 2 * model.step_seconds, alarm.raised)
    found: dict[str, Any] = {
        "bundle": alarm.bundle,
        "policy": policy,
        "since": iso(since),
        "raised": iso(alarm.raised),
        "steps": len(course.step),
        "samples": _shown(model, course),
        "command": None,
        "reproduced": None,
        "score": None,
    }
    if alarm.since is not None and model.scorer is not None and alarm.bundle == model.bundle:
        score = _again(model, course, alarm, AlarmSettings(**policy))
        found |= {"reproduced": score is not None, "score": None if score is None else round(score, _DIGITS)}
    return found


def _again(model: LiveModel, course: Course, alarm: Alarm, policy: AlarmSettings) -> float | None:
    """The score at which the alarm is raised again, at the same moment; None where it is not."""
    assert model.scorer is not None
    assert alarm.since is not None
    times = course.step * model.step_seconds + model.known_after
    kept = times >= alarm.since - 1e-6
    if not kept.any():
        return None
    [scored] = model.scorer.score([np.ascontiguousarray(course.values[kept].T)])
    changes = AlarmMachine(policy).advance(times[kept], np.asarray(scored.scores[alarm.reason], np.float64))
    same = [each.score for each in changes if each.state == "active" and abs(each.time - alarm.raised) < 1e-6]
    return float(same[0]) if same else None


def _shown(model: LiveModel, course: Course) -> list[dict[str, Any]]:
    last = slice(max(0, len(course.step) - _SHOWN), None)
    rows = zip(course.step[last].tolist(), course.values[last], strict=True)
    return [{"time": iso(step * model.step_seconds), **_known(model, values)} for step, values in rows]


def _known(model: LiveModel, values: npt.NDArray[np.float32]) -> dict[str, float | None]:
    pairs = zip(model.names, values.tolist(), strict=True)
    return {name: None if np.isnan(value) else round(value, _DIGITS) for name, value in pairs}
