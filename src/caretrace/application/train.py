"""`caretrace train`: labels → inputs → tensors → ensemble → calibration → comparators → bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caretrace import config as configs
from caretrace import schema
from caretrace.application import Application, Progress
from caretrace.application.card import model_card
from caretrace.application.predictor import member_logits
from caretrace.application.run import Run, describe
from caretrace.cohort import Labels, Task, build_labels, default_task, read_labels, read_task
from caretrace.comparators import ComparatorInput, FittedComparators, fit_all
from caretrace.data.inputs import Inputs
from caretrace.data.samples import Preprocessor
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, unknown_name
from caretrace.evaluation import PlattScaling, auprc, auroc, brier, ece
from caretrace.files import read_json, whole_folder, write_json
from caretrace.training.bundle import write_bundle
from caretrace.training.run import fit


def find_task(application: Application, dataset: Dataset, name: str | None) -> Task:
    """The task called `name`, or the first of the application that the dataset can answer.

    Raises:
        CohortError: No such task, or none fits.
    """
    names = application.task_order
    if name is not None and name not in names:
        raise CohortError(unknown_name("task", name, names))
    tasks = [read_task(application.tasks / f"{each}.yaml") for each in ([name] if name else names)]
    return tasks[0] if name else default_task(tasks, dataset)


def train(
    application: Application,
    dataset: Dataset,
    config: Any,
    path: Path,
    *,
    task: str | None = None,
    labels: Path | None = None,
    resume: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Train an ensemble and its comparators, and write the bundle.

    Args:
        application: Which application.
        dataset: MEDS dataset with training and tuning subjects.
        config: Settings, an instance of `application.config_class`.
        path: The run folder to make, or to go on with.
        task: Name of one of the application's tasks; by default the first that fits the dataset.
        labels: Labels made before; by default they are made from the task.
        resume: Go on with a run that was interrupted; it ends bit for bit as if it had not been (on CPU).
        progress: Told about each piece of work.

    Returns:
        Figures on the tuning split, and counts.

    Raises:
        CaretraceError: Anything the user can mend; the message says how.
    """
    started = time.perf_counter()
    run = Run(path)
    chosen = None if labels else find_task(application, dataset, task)
    name = chosen.name if chosen else str(labels)
    asked = describe(application.name, application.title, dataset, name, configs.to_dict(config))
    if resume:
        run.require_same(asked)
    else:
        run.start(asked, dataset)
    found = _labels(run, dataset, chosen, labels)
    inputs = {
        split: application.collect(
            dataset, found.frame, split, lambda done, total: progress("reading measurements", done, total)
        )
        for split in (schema.TRAIN, schema.TUNING)
    }
    for split, part in inputs.items():
        _require_both_classes(split, part)
    preprocessor = _preprocessor(run, application, inputs[schema.TRAIN], config)
    samples = {split: preprocessor.transform(part) for split, part in inputs.items()}
    members = fit(
        lambda: application.model(preprocessor, config),
        samples[schema.TRAIN],
        samples[schema.TUNING],
        config.training,
        run.path,
        lambda record: progress(
            f"training member {record['member'] + 1} of {config.training.members}, "
            f"tuning loss {record['tuning_loss']:.3f}",
            record["epoch"] + 1,
            config.training.max_epochs,
        ),
    )
    fitted_at = time.perf_counter()
    outcomes = samples[schema.TUNING].outcomes
    logits = member_logits(members, samples[schema.TUNING]).mean(0)
    calibration = PlattScaling.fit(logits, outcomes)
    comparators = _comparators(preprocessor, inputs, config, progress)
    compared_at = time.perf_counter()
    risks = calibration.apply(logits)
    metrics = {
        "split": schema.TUNING,
        "n": len(outcomes),
        "positives": int(outcomes.sum()),
        "unknown_codes": samples[schema.TUNING].unknown_codes,
        **{metric.__name__: metric(outcomes, risks) for metric in (auroc, auprc, brier, ece)},
    }
    run.update(
        n_parameters=sum(p.numel() for p in members[0].parameters()),
        n_train=len(samples[schema.TRAIN]),
        n_tuning=len(samples[schema.TUNING]),
        n_codes=len(preprocessor.vocabulary),
        tuning=metrics,
        seconds={"fit": round(fitted_at - started, 1), "comparators": round(compared_at - fitted_at, 1)},
    )
    with whole_folder(run.bundle) as folder:
        comparators.save(folder / "comparators")
        task_text = found.task.to_yaml() if found.task else ""
        write_bundle(
            folder,
            application.name,
            {
                "config": configs.to_dict(config),
                "preprocessor": preprocessor.to_dict(),
                "calibration": calibration.to_dict(),
                "metrics": metrics,
            },
            [member.state_dict() for member in members],
            {"README.md": model_card(run.read(), application), "task.yaml": task_text},
        )
    return run.read()


def comparator_input(preprocessor: Preprocessor, inputs: Inputs) -> ComparatorInput:
    """The same measurements and static features, for the comparators."""
    return ComparatorInput(
        events=inputs.measurements,
        static=preprocessor.static.transform(inputs.measurements, len(inputs)),
        static_names=tuple(preprocessor.static.names),
        labels=inputs.outcomes > 0.5,
    )


def _labels(run: Run, dataset: Dataset, task: Task | None, given: Path | None) -> Labels:
    if run.labels.exists():
        return read_labels(run.labels, dataset)
    if task is not None:
        return build_labels(dataset, task, run.labels)
    assert given is not None
    labels = read_labels(given, dataset)
    with whole_folder(run.labels) as folder:
        labels.frame.write_parquet(folder / schema.LABELS_FILE)
        write_json(folder / schema.ATTRITION_FILE, labels.summary())
        if labels.task is not None:
            (folder / "task.yaml").write_text(labels.task.to_yaml(), encoding="utf-8")
    return labels


def _preprocessor(run: Run, application: Application, train: Inputs, config: Any) -> Preprocessor:
    if not run.preprocessor.exists():
        write_json(run.preprocessor, application.preprocess(train, config).to_dict())
    return Preprocessor.from_dict(read_json(run.preprocessor))


def _comparators(
    preprocessor: Preprocessor, inputs: dict[str, Inputs], config: Any, progress: Progress
) -> FittedComparators:
    train, tuning = (comparator_input(preprocessor, inputs[split]) for split in (schema.TRAIN, schema.TUNING))
    return fit_all(
        train,
        tuning,
        seed=config.training.seed,
        threads=torch.get_num_threads(),
        progress=lambda done, total, what: progress(f"comparators: {what or 'done'}", done, total),
    )


def _require_both_classes(split: str, inputs: Inputs) -> None:
    positives = int(np.sum(inputs.outcomes))
    if positives in (0, len(inputs)):
        raise CohortError(
            f"the {split} split has {len(inputs)} labels and {positives} of them are positive: a model needs both "
            "outcomes; take a larger dataset, another task, or other splits"
        )
