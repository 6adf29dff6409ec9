"""`caretrace train`: labels → inputs → tensors → ensemble → calibration → comparators → bundle."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from caretrace import config as configs
from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.card import model_card
from caretrace.application.predictor import member_logits
from caretrace.application.run import Run, describe
from caretrace.application.streaming import sample_of, stored
from caretrace.application.tasks import find_task
from caretrace.application.texts import ENCODER, keep_encoder, kept_reader, saved_reader
from caretrace.application.watching import FOLDER as ATTENTION
from caretrace.application.watching import ShowsAttention
from caretrace.cohort import Labels, Task, build_labels, read_labels
from caretrace.comparators import ComparatorInput, FittedComparators, fit_all
from caretrace.data.inputs import Inputs
from caretrace.data.samples import Preprocessor, Samples
from caretrace.data.store import SampleStore
from caretrace.data.text import save_encoder
from caretrace.dataset import Dataset
from caretrace.errors import CohortError
from caretrace.evaluation import PlattScaling, auprc, auroc, brier, ece, shift_to_base_rate
from caretrace.files import read_json, refuse_existing, whole_folder
from caretrace.training.bundle import write_bundle
from caretrace.training.config import TrainingConfig
from caretrace.training.folds import Folds
from caretrace.training.processes import joined, restarted, started
from caretrace.training.requeue import Requeue
from caretrace.training.run import fit


def train(
    application: Supervised,
    dataset: Dataset,
    config: Any,
    path: Path,
    *,
    task: str | None = None,
    labels: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
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
    began = time.perf_counter()
    run = Run(path)
    with Requeue(started()).listening():
        with joined(config.training) as processes:
            with processes.first():
                # What the first process has begun, and what was begun before a requeue, is gone on with.
                begun = not processes.main or (restarted() and (path / "run.json").exists())
                given = _Given(application, dataset, config, task, labels, progress)
                ready = _prepare(given, run, resume=resume or begun)
            members = _members(given, ready, run)
        if not processes.main:
            return run.read()
        return _finish(given, ready, run, members, began)


@dataclasses.dataclass(frozen=True)
class _Given:
    """What was asked for."""

    application: Supervised
    dataset: Dataset
    config: Any
    task: str | None
    labels: Path | None
    progress: Progress


@dataclasses.dataclass(frozen=True)
class _Ready:
    """What training begins with; `inputs` and `samples` of the training split are a part of it if it streams.

    `folds` is there if the members are cross-fitted.
    """

    labels: Labels
    inputs: dict[str, Inputs]
    preprocessor: Preprocessor
    samples: dict[str, Samples]
    train: Samples | SampleStore
    folds: Folds | None = None


def _prepare(given: _Given, run: Run, *, resume: bool) -> _Ready:
    """Read the data, and begin the run or check that it is the one to go on with."""
    application, dataset, config, progress = given.application, given.dataset, given.config, given.progress
    if not resume:
        refuse_existing(run.path)
    what = read_labels(given.labels, dataset) if given.labels else find_task(application, dataset, given.task)
    asked = _asked(application, dataset, config, what, given.labels)
    if resume:
        run.require_same(asked)
    found = _labels(run, dataset, what)
    inputs = _inputs(given, found)
    preprocessor = _preprocessor(run, given, inputs[schema.TRAIN])
    # Nothing is written before it is clear that the labels can be learned from and the model be built.
    application.model(preprocessor, config)
    if not resume:
        run.start(asked, dataset)
    keep_encoder(preprocessor.texts, run.path)
    run.keep(found, preprocessor)
    samples = {split: preprocessor.transform(part) for split, part in inputs.items()}
    train: Samples | SampleStore = samples[schema.TRAIN]
    if config.training.stream:
        train = stored(
            application, dataset, found.frame, preprocessor, run.samples, config.training.lanes, progress
        )
    folds = draw_folds(inputs, samples, config.training) if config.training.cross_fit else None
    return _Ready(found, inputs, preprocessor, samples, train, folds)


def _finish(given: _Given, ready: _Ready, run: Run, members: list[nn.Module], began: float) -> dict[str, Any]:
    """Comparators, calibration and the bundle: the work of one process."""
    fitted_at = time.perf_counter()
    samples, preprocessor, config = ready.samples, ready.preprocessor, given.config
    comparators = _comparators(preprocessor, ready.inputs, config, given.progress)
    compared_at = time.perf_counter()
    if ready.folds is None:
        calibration, metrics = _calibrate(members, samples[schema.TRAIN], samples[schema.TUNING])
    else:
        calibration, metrics = _cross_calibrate(members, ready.folds)
    run.update(
        n_parameters=sum(p.numel() for p in members[0].parameters()),
        n_train=len(ready.train),
        n_tuning=len(samples[schema.TUNING]),
        n_codes=len(preprocessor.vocabulary),
        tuning=metrics,
        seconds={"fit": round(fitted_at - began, 1), "comparators": round(compared_at - fitted_at, 1)},
    )
    parts = {
        "config": configs.to_dict(config),
        "preprocessor": preprocessor.to_dict(),
        "calibration": calibration.to_dict(),
        "metrics": metrics,
    }
    _write_bundle(run, given.application, ready, parts, members, comparators)
    return run.read()


def _members(given: _Given, ready: _Ready, run: Run) -> list[nn.Module]:
    """The ensemble, trained or gone on with."""
    settings = given.config.training

    def tell(record: dict[str, Any]) -> None:
        what = f"member {record['member'] + 1} of {settings.members}, tuning loss {record['tuning_loss']:.3f}"
        given.progress(f"training {what}", record["epoch"] + 1, settings.epochs(settings.max_steps, n_train))

    n_train = len(ready.train)
    members = itertools.count()

    def build() -> nn.Module:
        model = given.application.model(ready.preprocessor, given.config)
        if isinstance(given.application, ShowsAttention):
            folder = run.path / ATTENTION / f"member-{next(members)}"
            given.application.watch(model, given.config, folder)
        return model

    return fit(
        build,
        ready.train,
        ready.samples[schema.TUNING],
        settings,
        run.path,
        tell,
        prepare_on=ready.samples[schema.TRAIN],
        folds=ready.folds,
    )


def draw_folds(inputs: dict[str, Inputs], samples: dict[str, Samples], settings: TrainingConfig) -> Folds:
    """The subjects of the training and tuning splits, divided among the members."""
    splits = (schema.TRAIN, schema.TUNING)
    return Folds.draw(
        Samples.concat([samples[split] for split in splits]),
        np.concatenate([inputs[split].subject_ids for split in splits]),
        members=settings.members,
        seed=settings.seed,
    )


def _calibrate(
    members: list[nn.Module], train: Samples, tuning: Samples
) -> tuple[PlattScaling, dict[str, Any]]:
    """Recalibration, and the figures on the tuning split.

    Which epoch is best does not depend on its mean risk (`RiskHead.tuning_loss`), so that is set right first,
    on training subjects, of whom there are enough. What the tuning split then corrects is little: it is of
    the same population, and with 70 deaths it knows its own base rate only to 12 %. Hence the tight prior,
    which a large tuning split overrules.
    """
    center = shift_to_base_rate(member_logits(members, train).mean(0), train.outcomes)
    logits = member_logits(members, tuning).mean(0)
    calibration = PlattScaling.fit(
        logits, tuning.outcomes, slope_spread=0.1, intercept_spread=0.1, intercept_center=center
    )
    return calibration, _figures(schema.TUNING, tuning, calibration.apply(logits))


def _cross_calibrate(members: list[nn.Module], folds: Folds) -> tuple[PlattScaling, dict[str, Any]]:
    """The same on all subjects, each by the member that left it out.

    Logits of one member scatter more than those of the ensemble, so the slope is, if anything, too flat; the tight
    prior holds it near 1.
    """
    samples = folds.samples
    logits = folds.unseen(member_logits(members, samples))
    calibration = PlattScaling.fit(
        logits,
        samples.outcomes,
        slope_spread=0.1,
        intercept_spread=0.1,
        intercept_center=shift_to_base_rate(logits, samples.outcomes),
    )
    return calibration, _figures("cross_fitted", samples, calibration.apply(logits))


def _figures(split: str, samples: Samples, risks: np.ndarray) -> dict[str, Any]:
    figures = {metric.__name__: metric(samples.outcomes, risks) for metric in (auroc, auprc, brier, ece)}
    counts = {
        "n": len(samples),
        "positives": int(samples.outcomes.sum()),
        "unknown_codes": samples.unknown_codes,
    }
    return {"split": split, **counts, **figures}


def _write_bundle(
    run: Run,
    application: Supervised,
    ready: _Ready,
    parts: dict[str, Any],
    members: list[nn.Module],
    comparators: FittedComparators,
) -> None:
    if run.bundle.exists():  # a run that was killed after its last step is whole already
        return
    texts = {
        "README.md": model_card(run.read(), application, ready.labels.summary()),
        "task.yaml": ready.labels.task.to_yaml() if ready.labels.task else "",
    }
    with whole_folder(run.bundle) as folder:
        if ready.preprocessor.texts is not None:
            save_encoder(ready.preprocessor.texts.encoder, folder / ENCODER)
        comparators.save(folder / "comparators")
        write_bundle(folder, application.name, parts, [member.state_dict() for member in members], texts)


def comparator_input(preprocessor: Preprocessor, inputs: Inputs) -> ComparatorInput:
    """The same measurements and static features, for the comparators."""
    return ComparatorInput(
        events=inputs.measurements,
        static=preprocessor.static.transform(inputs.measurements, len(inputs)),
        static_names=tuple(preprocessor.static.names),
        labels=inputs.outcomes > 0.5,
    )


def _asked(
    application: Supervised, dataset: Dataset, config: Any, given: Labels | Task, path: Path | None
) -> dict[str, Any]:
    """What `run.json` starts with; labels of another tool go by their path, for they have no task."""
    task = given if isinstance(given, Task) else given.task
    name = task.name if task else str(path)
    seed = config.training.seed
    return describe(application.name, application.title, dataset, name, configs.to_dict(config), seed)


def _labels(run: Run, dataset: Dataset, given: Labels | Task) -> Labels:
    if run.labels.exists():
        return read_labels(run.labels, dataset)
    return given if isinstance(given, Labels) else build_labels(dataset, given)


def _inputs(given: _Given, labels: Labels) -> dict[str, Inputs]:
    frame, settings = labels.frame, given.config.training
    if settings.stream:
        frame = sample_of(given.dataset, frame, settings.stream_sample, settings.seed)

    def tell(done: int, total: int) -> None:
        given.progress("reading measurements", done, total)

    inputs = {}
    for split in (schema.TRAIN, schema.TUNING):
        inputs[split] = given.application.collect(given.dataset, frame, split, tell)
        _require_both_classes(split, inputs[split])
    return inputs


def _preprocessor(run: Run, given: _Given, train: Inputs) -> Preprocessor:
    def tell(done: int, total: int) -> None:
        given.progress("embedding texts", done, total)

    if run.preprocessor.exists():
        fitted = Preprocessor.from_dict(read_json(run.preprocessor))
        return dataclasses.replace(fitted, texts=saved_reader(run.path, given.config, tell))
    fitted = given.application.preprocess(train, given.config)
    return dataclasses.replace(fitted, texts=kept_reader(fitted.texts, run.path, given.config, tell))


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
