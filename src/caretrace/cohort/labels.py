"""From a MEDS dataset and a task to labels on disk, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from caretrace import schema
from caretrace.cohort.attrition import Step, add_up, apply_rules
from caretrace.cohort.discordance import count_discordance
from caretrace.cohort.landmarks import split_by_landmark
from caretrace.cohort.predicates import evaluate
from caretrace.cohort.task import Task, read_task
from caretrace.cohort.windows import TRIGGER, column, count, in_order, place
from caretrace.dataset import Dataset
from caretrace.errors import CohortError
from caretrace.files import read_json, refuse_existing, whole_folder, write_json

TASK_FILE = "task.yaml"
_PAIR = [schema.SUBJECT_ID, schema.PREDICTION_TIME]
_DTYPES = pl.Schema(
    {
        schema.SUBJECT_ID: pl.Int64(),
        schema.PREDICTION_TIME: pl.Datetime("us"),
        schema.BOOLEAN_VALUE: pl.Boolean(),
    }
)


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of one task on one dataset.

    Args:
        frame: One row per `(subject_id, prediction_time)` with `boolean_value`, as MEDS has it, sorted. Data
            up to and including `prediction_time` may be used to predict.
        attrition: What each rule removed, from all trigger events to the rows of `frame`; empty for labels
            that another tool made.
        counts: Subjects, labels and positives, in all and per split.
        discordance: In-ICU against in-hospital death, or None where the dataset cannot tell.
        task: The task with every predicate resolved, or None for labels that another tool made.
    """

    frame: pl.DataFrame
    attrition: tuple[Step, ...] = ()
    counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    discordance: Mapping[str, int] | None = None
    task: Task | None = None

    def summary(self) -> dict[str, Any]:
        """What `attrition.json` holds."""
        return {
            "task": self.task.name if self.task else None,
            "rules": [dataclasses.asdict(step) for step in self.attrition],
            "counts": dict(self.counts),
            "discordance": dict(self.discordance) if self.discordance is not None else None,
        }

    def save(self, out: Path) -> None:
        """Write `labels.parquet`, `attrition.json` and, where there is one, `task.yaml`.

        Raises:
            OutputExistsError: `out` is taken.
        """
        with whole_folder(out) as folder:
            self.frame.write_parquet(folder / schema.LABELS_FILE)
            write_json(folder / schema.ATTRITION_FILE, self.summary())
            if self.task is not None:
                (folder / TASK_FILE).write_text(self.task.to_yaml(), encoding="utf-8")


def build_labels(dataset: Dataset, task: Path | Task, out: Path | None = None) -> Labels:
    """Label every trigger event that satisfies the task's windows.

    Args:
        dataset: The dataset to label.
        task: A task or its file.
        out: Folder to write (`labels.parquet`, `attrition.json`, `task.yaml`), whole or not at all;
            None to write nothing.

    Returns:
        The labels with their attrition.

    Raises:
        CohortError: The task cannot be read, a predicate is not defined, or no subject is left.
        OutputExistsError: `out` is taken.
    """
    if out is not None:
        refuse_existing(out)
    resolved = (read_task(task) if isinstance(task, Path) else task).resolve(dataset)
    predicates = {name: p for name, p in resolved.predicates.items() if p is not None}
    events = evaluate(dataset, predicates, resolved.referenced)
    labelled, steps = label_triggers(resolved, events)
    if labelled.is_empty():
        raise CohortError(_nobody_left(dataset, resolved, steps))
    frame = labelled.select(*_DTYPES)
    labels = Labels(
        frame=frame,
        attrition=tuple(steps),
        counts=_counts(frame, dataset),
        discordance=count_discordance(dataset, resolved, labelled),
        task=resolved,
    )
    if out is not None:
        labels.save(out)
    return labels


def read_labels(path: Path, dataset: Dataset | None = None) -> Labels:
    """Read labels and check them.

    Args:
        path: A folder that `build_labels` wrote, any MEDS label Parquet file, or a folder of such files.
        dataset: If given, every subject must be in it.

    Returns:
        The labels; attrition and task only where the folder has them.

    Raises:
        CohortError: Not MEDS labels, a row that is empty or stands there twice, or an unknown subject.
    """
    frame = _read_frame(path)
    _check_rows(frame, path)
    if dataset is not None:
        unknown = frame.join(dataset.splits, on=schema.SUBJECT_ID, how="anti")
        if not unknown.is_empty():
            raise CohortError(
                f"{path}: subject {unknown[schema.SUBJECT_ID][0]} is not in {dataset.path} "
                f"({unknown[schema.SUBJECT_ID].n_unique()} such subjects); "
                "make labels for this dataset with `caretrace cohort`"
            )
    summary: dict[str, Any] = {}
    if (path / schema.ATTRITION_FILE).is_file():
        summary = read_json(path / schema.ATTRITION_FILE)
    return Labels(
        frame=frame.sort(_PAIR),
        attrition=tuple(Step(**step) for step in summary.get("rules", [])),
        counts=_counts(frame, dataset),
        discordance=summary.get("discordance"),
        task=_read_resolved(path / TASK_FILE, summary.get("task")),
    )


def label_triggers(task: Task, events: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, list[Step]]:
    """Label the triggers among events that are already found.

    Args:
        task: A resolved task.
        events: Events of every name in `task.referenced`, as `predicates.evaluate` returns them.

    Returns:
        One row per labelled pair, possibly none: `subject_id, trigger, prediction_time, boolean_value`;
        and the attrition.

    Raises:
        CohortError: Two triggers give opposite labels at the same prediction time.
    """
    triggers = events[task.trigger].select(schema.SUBJECT_ID, pl.col(schema.TIME).alias(TRIGGER))
    parts, tables = [], []
    ordinary = split_by_landmark(task)
    for single in ordinary.values():
        placed = place(in_order(single.windows, task.file), triggers, events)
        kept, steps = apply_rules(single, placed, events)
        window, index = single.label_window, single.index_window
        assert window.label is not None
        assert index is not None
        assert index.index_timestamp is not None
        parts.append(
            kept.select(
                schema.SUBJECT_ID,
                TRIGGER,
                pl.col(column(index.name, index.index_timestamp)).alias(schema.PREDICTION_TIME),
                (count(kept, window, events[window.label]) > 0).alias(schema.BOOLEAN_VALUE),
            )
        )
        tables.append(steps)
    first = f"trigger: every {task.trigger}" + (
        f", at each of {len(ordinary)} landmarks" if task.landmarks else ""
    )
    steps = [Step(first, 0, triggers.height * len(ordinary)), *add_up(tables, task.landmarks)]
    return _one_per_pair(pl.concat(parts).sort(*_PAIR, TRIGGER), task, steps)


def _one_per_pair(labelled: pl.DataFrame, task: Task, steps: list[Step]) -> tuple[pl.DataFrame, list[Step]]:
    """MEDS wants one row per (subject, prediction time); two triggers can share one."""
    unique = labelled.unique(_PAIR, keep="first", maintain_order=True)
    if labelled.select(*_PAIR, schema.BOOLEAN_VALUE).n_unique() > unique.height:
        clash = labelled.group_by(_PAIR, maintain_order=True).agg(pl.col(schema.BOOLEAN_VALUE).n_unique() > 1)
        subject, when, _ = clash.filter(schema.BOOLEAN_VALUE).row(0)
        raise CohortError(
            f"{task.file}: two {task.trigger} events of subject {subject} give opposite labels "
            f"at the same prediction time {when}; tell the label window from the window with index_timestamp"
        )
    removed = labelled.height - unique.height
    if removed:
        steps = [
            *steps,
            Step(f"one label per prediction time (an earlier {task.trigger} has it)", removed, unique.height),
        ]
    return unique, steps


def _nobody_left(dataset: Dataset, task: Task, steps: list[Step]) -> str:
    if steps[0].remaining == 0:
        return (
            f"{task.name}: {dataset.path} has no {task.trigger} event, so there is nothing to label; "
            f"check its code in {dataset.path / schema.PREDICATES_FILE} against "
            "the codes that `caretrace inspect` lists"
        )
    worst = max(steps[1:], key=lambda step: step.removed)
    told = "; ".join(f"{step.rule!r} removed {step.removed}" for step in steps[1:] if step.removed)
    return (
        f"{task.name}: no subject is left of {steps[0].remaining} {task.trigger} events "
        f"in {dataset.path}: {told}. Loosen {worst.rule.partition(':')[0]!r} in {task.file} "
        "or use a task that fits the dataset"
    )


def _counts(frame: pl.DataFrame, dataset: Dataset | None) -> dict[str, Any]:
    counts = _count_rows(frame)
    if dataset is not None:
        joined = frame.join(dataset.splits, on=schema.SUBJECT_ID, how="left")
        counts["splits"] = {
            split: _count_rows(joined.filter(pl.col(schema.SPLIT) == split)) for split in schema.SPLITS
        }
    return counts


def _count_rows(frame: pl.DataFrame) -> dict[str, Any]:
    return {
        "subjects": frame[schema.SUBJECT_ID].n_unique(),
        "labels": frame.height,
        "positives": int(frame[schema.BOOLEAN_VALUE].sum()),
    }


def _read_frame(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise CohortError(
            f"{path}: no such labels; make them with `caretrace cohort TASK DATASET --out {path}`"
        )
    if path.is_dir():
        own = path / schema.LABELS_FILE
        files = [own] if own.is_file() else sorted(path.rglob("*.parquet"))
    else:
        files = [path]
    if not files:
        raise CohortError(f"{path}: holds no Parquet file; point at the folder that `caretrace cohort` wrote")
    try:
        return pl.concat([pl.read_parquet(file, columns=list(_DTYPES)).cast(_DTYPES) for file in files])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CohortError(
            f"{path}: not MEDS labels with {', '.join(schema.LABEL_COLUMNS)}: {str(error).splitlines()[0]}; "
            "make labels with `caretrace cohort`"
        ) from None


def _check_rows(frame: pl.DataFrame, path: Path) -> None:
    for name in _DTYPES:
        empty = frame[name].null_count()
        if empty:
            raise CohortError(
                f"{path}: {name} is empty in {empty} of {frame.height} rows; "
                "remove rows without a readable label, they are not negatives"
            )
    twice = frame.filter(pl.struct(_PAIR).is_duplicated())
    if not twice.is_empty():
        subject, when, _ = twice.row(0)
        raise CohortError(
            f"{path}: subject {subject} at {when} stands there more than once ({twice.height} such rows); "
            "keep one row per subject_id and prediction_time"
        )


def _read_resolved(file: Path, name: str | None) -> Task | None:
    return dataclasses.replace(read_task(file), name=name or file.stem) if file.is_file() else None
