"""Landmarks: one label per stay and landmark, for those still at risk there.

A landmark is a prediction time fixed relative to the trigger (hour 24, hour 48). A task that lists
`landmarks: [24h, 48h]` and says `trigger + landmark` in its windows is that many ordinary tasks, one per
landmark; the risk set is whatever the task's windows ask at the landmark (van Houwelingen 2007, dynamic
prediction by landmarking). ACES has no such key: `at_landmark` gives the ordinary task it would read.
"""

from __future__ import annotations

import dataclasses
import re

from caretrace.cohort.task import Task
from caretrace.cohort.windows import LANDMARK, Boundary, Window, parse_duration


def split_by_landmark(task: Task) -> dict[str, Task]:
    """The ordinary tasks inside a task: one per landmark, or the task itself under the key "".

    Args:
        task: Any task.

    Returns:
        Tasks without landmarks, by landmark as written, in the order of the file.
    """
    if not task.landmarks:
        return {"": task}
    return {landmark: at_landmark(task, landmark) for landmark in task.landmarks}


def at_landmark(task: Task, landmark: str) -> Task:
    """The ordinary task at one landmark: the word replaced by the duration, the prediction time marked.

    Args:
        task: A task with landmarks.
        landmark: One of them, as written.
    """
    windows = [
        dataclasses.replace(
            window,
            start=_with_offset(window.start, landmark, task.file),
            end=_with_offset(window.end, landmark, task.file),
        )
        for window in task.windows
    ]
    if task.index_window is None:
        windows.append(
            Window(
                name="_landmark",
                start=Boundary("trigger", text="trigger"),
                end=_with_offset(
                    Boundary("start", landmark=True, text=f"start + {LANDMARK}"), landmark, task.file
                ),
                start_inclusive=True,
                end_inclusive=True,
                index_timestamp="end",
            )
        )
    name = f"{task.name}_{re.sub(r'[^0-9A-Za-z]+', '_', landmark)}"
    return dataclasses.replace(task, name=name, windows=tuple(windows), landmarks=())


def _with_offset(boundary: Boundary, landmark: str, file: str) -> Boundary:
    if not boundary.landmark:
        return boundary
    text = re.sub(rf"\b{LANDMARK}\b", landmark, boundary.text or "")
    return dataclasses.replace(
        boundary, offset=parse_duration(landmark, f"{file}: landmarks"), landmark=False, text=text
    )
