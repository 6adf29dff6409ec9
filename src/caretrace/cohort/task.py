"""A task file: which subjects, which prediction time, which label.

The vocabulary is that of ACES 0.7 and MEDS-DEV, whose files work as they are:

    predicates:                      # named tests; `???` is filled from metadata/predicates.yaml
      icu_admission: ???
      death: {code: MEDS_DEATH}
    trigger: icu_admission           # every such event is a candidate
    windows:                         # what must (not) happen, when to predict, where the label is
      input:
        start: null
        end: trigger + 24h
        start_inclusive: True
        end_inclusive: True
        index_timestamp: end

One key is ours: `landmarks: [24h, 48h]`, used as `trigger + landmark` (see `caretrace.cohort.landmarks`).
A predicate defined both in the task and in the dataset is the task's: what a file says means the same
everywhere, and only its gaps are the dataset's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from caretrace import schema
from caretrace.cohort.predicates import (
    SPECIAL,
    DerivedPredicate,
    PlainPredicate,
    Predicate,
    evaluate,
    parse_predicate,
)
from caretrace.cohort.windows import TRIGGER, Window, in_order, parse_duration, parse_window
from caretrace.config import read_yaml
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError, unknown_name

_KEYS = ("metadata", "description", "predicates", "patient_demographics", "trigger", "windows", "landmarks")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task as its file says it.

    Args:
        name: The file's name without `.yaml`.
        description: What the task is for.
        predicates: Predicates by name; None where the dataset must fill in.
        trigger: Predicate whose events are the candidates.
        windows: Windows in the order of the file.
        landmarks: Durations after the trigger, as written; empty for an ordinary task.
        file: Where it was read, for messages.
    """

    name: str
    description: str
    predicates: Mapping[str, Predicate | None]
    trigger: str
    windows: tuple[Window, ...]
    landmarks: tuple[str, ...] = ()
    file: str = "(task)"

    @property
    def label_window(self) -> Window:
        """The window that carries the label."""
        return next(window for window in self.windows if window.label)

    @property
    def index_window(self) -> Window | None:
        """The window that fixes the prediction time; None when the landmark is the prediction time."""
        return next((window for window in self.windows if window.index_timestamp), None)

    @property
    def referenced(self) -> list[str]:
        """Names the trigger and the windows speak of, each once, special ones included."""
        names = [self.trigger, *(name for window in self.windows for name in window.predicates)]
        return list(dict.fromkeys(names))

    def missing(self, dataset: Dataset) -> list[str]:
        """Predicates that the task needs and neither it nor the dataset defines."""
        return sorted(name for name, p in _resolved(self, dataset).items() if p is None)

    def resolve(self, dataset: Dataset) -> Task:
        """The same task with every needed predicate defined and the others left out.

        Raises:
            CohortError: The dataset lacks a predicate; the message says what to add where.
        """
        predicates = _resolved(self, dataset)
        for name, predicate in predicates.items():
            if predicate is None:
                place = dataset.path / schema.PREDICATES_FILE
                near = unknown_name("predicate", name, dataset.predicates) if dataset.predicates else ""
                near = dataset.cannot_say.get(name, near)
                raise CohortError(
                    f"{self.file}: the task needs predicate {name!r}, which {place} does not define "
                    f"({near or 'it defines none'}); add to that file, under `predicates:`, "
                    f"`{name}: {{code: ...}}` with the code that means it in this dataset"
                )
        _check_static(self, predicates)
        return dataclasses.replace(self, predicates=predicates)

    def to_dict(self) -> dict[str, Any]:
        """The task in the vocabulary of task files; `parse_task` reads it back."""
        value: dict[str, Any] = {"description": self.description} if self.description else {}
        value["predicates"] = {name: p.to_dict() if p else "???" for name, p in self.predicates.items()}
        value["trigger"] = self.trigger
        if self.landmarks:
            value["landmarks"] = list(self.landmarks)
        value["windows"] = {window.name: _window_dict(window) for window in self.windows}
        return value

    def to_yaml(self) -> str:
        """The task as a task file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def read_task(path: Path) -> Task:
    """Read a task file.

    Raises:
        CohortError: The file is missing or is not a task; the message names the file and the key.
    """
    try:
        value = read_yaml(path)
    except ConfigError as error:
        raise CohortError(f"task file {error}") from None
    return parse_task(value, path.stem, str(path))


def parse_task(value: Mapping[str, Any], name: str, file: str) -> Task:
    """Build a task from the mapping in a task file.

    Args:
        value: The mapping.
        name: Name of the task.
        file: Where it was read, for messages.

    Raises:
        CohortError: Unknown key or name, or something that does not make a task.
    """
    for key in value:
        if key not in _KEYS:
            raise CohortError(f"{file}: " + unknown_name("key", str(key), _KEYS))
    trigger = value.get("trigger")
    if not isinstance(trigger, str):
        raise CohortError(
            f"{file}: trigger: got {trigger!r}; write the name of the predicate that starts a stay"
        )
    landmarks = _parse_landmarks(value.get("landmarks"), f"{file}: landmarks")
    task = Task(
        name=name,
        description=_description(value),
        predicates=_parse_predicates(value, file),
        trigger=trigger,
        windows=_parse_windows(value.get("windows"), file),
        landmarks=landmarks,
        file=file,
    )
    _check_windows(task)
    return task


def default_task(tasks: Sequence[Task], dataset: Dataset) -> Task:
    """The first task whose predicates the dataset defines and records at least once.

    A source may define `icu_discharge` and never write one; a task that ends there would keep
    the dead alone. If no task has all its predicates recorded, the first that has them defined is taken.

    Raises:
        CohortError: No task fits; the message says what each one lacks.
    """
    lacks = {task.name: task.missing(dataset) for task in tasks}
    defined = [task for task in tasks if not lacks[task.name]]
    for task in defined:
        needed = {name: p for name, p in task.resolve(dataset).predicates.items() if p is not None}
        timed = [name for name, p in needed.items() if not (isinstance(p, PlainPredicate) and p.static)]
        if not any(events.is_empty() for events in evaluate(dataset, needed, timed).values()):
            return task
    if defined:
        return defined[0]
    listing = "; ".join(f"{name} lacks {', '.join(missing)}" for name, missing in lacks.items())
    raise CohortError(
        f"{dataset.path} defines the predicates of no task ({listing}); "
        f"add the missing ones to {dataset.path / schema.PREDICATES_FILE}"
    )


def _resolved(task: Task, dataset: Dataset) -> dict[str, Predicate | None]:
    """Every predicate the task needs, inputs of derived ones included; None where it is nowhere defined."""
    found: dict[str, Predicate | None] = {
        name: p for name, p in task.predicates.items() if isinstance(p, PlainPredicate) and p.static
    }
    waiting = [name for name in task.referenced if name not in SPECIAL]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        predicate = task.predicates.get(name)
        if predicate is None:
            place = f"{dataset.path / schema.PREDICATES_FILE}: predicates.{name}"
            predicate = parse_predicate((dataset.predicates or {}).get(name), place)
        found[name] = predicate
        if isinstance(predicate, DerivedPredicate):
            waiting += predicate.inputs
    return found


def _parse_predicates(value: Mapping[str, Any], file: str) -> dict[str, Predicate | None]:
    predicates: dict[str, Predicate | None] = {}
    for section in ("predicates", "patient_demographics"):
        entries = value.get(section) or {}
        if not isinstance(entries, Mapping):
            raise CohortError(f"{file}: {section}: got {entries!r}; write one `name: ...` line per predicate")
        for name, entry in entries.items():
            where = f"{file}: {section}.{name}"
            if not re.fullmatch(r"\w+", str(name)) or name in (*SPECIAL, *schema.DATA_COLUMNS):
                raise CohortError(
                    f"{where}: a predicate's name has letters, digits and _ only, and is no MEDS column"
                )
            predicate = parse_predicate(entry, where)
            if section == "patient_demographics":
                if not isinstance(predicate, PlainPredicate):
                    raise CohortError(f"{where}: a demographic needs a code of its own")
                predicate = dataclasses.replace(predicate, static=True)
            predicates[str(name)] = predicate
    for name, predicate in predicates.items():
        for source in predicate.inputs if isinstance(predicate, DerivedPredicate) else ():
            if source in SPECIAL:
                raise CohortError(
                    f"{file}: predicates.{name}.expr: {source} can stand in `has` or in a bound only"
                )
    return predicates


def _parse_windows(value: Any, file: str) -> tuple[Window, ...]:
    if not isinstance(value, Mapping) or not value:
        raise CohortError(
            f"{file}: windows: got {value!r}; a task needs a window with index_timestamp and one with label"
        )
    windows = []
    for name, entry in value.items():
        where = f"{file}: windows.{name}"
        if not re.fullmatch(r"\w+", str(name)) or name in (TRIGGER, "start", "end"):
            raise CohortError(
                f"{where}: a window's name has letters, digits and _ only, and is not trigger, start or end"
            )
        windows.append(parse_window(str(name), entry, where))
    return tuple(windows)


def _parse_landmarks(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise CohortError(f"{where}: got {value!r}; write a list of durations such as [24h, 48h]")
    durations = [parse_duration(item, where) for item in value]
    if len(set(durations)) < len(durations) or not all(durations):
        raise CohortError(f"{where}: got {value!r}; landmarks lie after the trigger, each stands there once")
    return tuple(value)


def _description(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    text = value.get("description") or (
        metadata.get("description") if isinstance(metadata, Mapping) else None
    )
    return str(text or "").strip()


def _check_windows(task: Task) -> None:
    """Order, label, prediction time and landmarks of a parsed task."""
    in_order(task.windows, task.file)
    for key in ("label", "index_timestamp"):
        marked = [window.name for window in task.windows if getattr(window, key)]
        if len(marked) > 1:
            raise CohortError(f"{task.file}: windows {', '.join(marked)} all have {key}; keep one")
        if not marked and not (key == "index_timestamp" and task.landmarks):
            raise CohortError(f"{task.file}: no window has {key}; add `{key}: ...` to one window")
    if task.label_window.label in SPECIAL:
        raise CohortError(
            f"{task.file}: label {task.label_window.label} is no predicate of its own; name one"
        )
    uses = [w for w in task.windows if w.start.landmark or w.end.landmark]
    if bool(uses) != bool(task.landmarks):
        raise CohortError(
            f"{task.file}: `landmarks: [24h, 48h]` and a bound such as `trigger + landmark` go together"
        )
    index = task.index_window
    if task.landmarks and index is not None:
        bound = index.start if index.index_timestamp == "start" else index.end
        if not (bound.landmark and bound.reference == TRIGGER):
            raise CohortError(
                f"{task.file}: windows.{index.name}: in a task with landmarks the prediction time is "
                "the landmark; put index_timestamp on a bound that says `trigger + landmark`, or leave it out"
            )


def _check_static(task: Task, predicates: Mapping[str, Predicate | None]) -> None:
    for name in task.referenced:
        predicate = predicates.get(name)
        if isinstance(predicate, PlainPredicate) and predicate.static:
            raise CohortError(
                f"{task.file}: {name} is static (it has no time), so it cannot trigger, bound, label "
                "or be counted; it only chooses subjects"
            )


def _window_dict(window: Window) -> dict[str, Any]:
    value: dict[str, Any] = {
        "start": window.start.text,
        "end": window.end.text,
        "start_inclusive": window.start_inclusive,
        "end_inclusive": window.end_inclusive,
    }
    if window.has:
        value["has"] = {c.predicate: f"({c.minimum}, {c.maximum})" for c in window.has}
    if window.label:
        value["label"] = window.label
    if window.index_timestamp:
        value["index_timestamp"] = window.index_timestamp
    return value
