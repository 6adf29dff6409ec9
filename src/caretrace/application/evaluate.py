"""`caretrace evaluate`: held-out figures with intervals, beside the comparators, on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.predictor import Predictor, member_logits
from caretrace.application.run import Run
from caretrace.application.train import comparator_input
from caretrace.application.tripod import tripod_items
from caretrace.application.trust import write_trust
from caretrace.cohort import Labels, build_labels, read_labels, read_task
from caretrace.comparators import FittedComparators
from caretrace.data.inputs import Inputs
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, CohortError
from caretrace.evaluation import curves
from caretrace.evaluation import evaluate as judge
from caretrace.files import read_json, whole_file, write_json

MODEL = "caretrace"


def evaluate(
    application: Supervised,
    run: Run,
    dataset: Dataset | None = None,
    *,
    split: str | None = schema.HELD_OUT,
    replicates: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge a run on subjects it has never seen and write `evaluation/` into the run folder.

    Args:
        application: The run's application.
        run: The run.
        dataset: Another dataset to judge on; by default the one it was trained on.
        split: Which subjects; None for all of them (only sensible for another dataset).
        replicates: Bootstrap replicates behind every interval.
        seed: Seed of the bootstrap.
        progress: Told about each piece of work.

    Returns:
        The figures, in the shape `evaluate --json` prints.

    Raises:
        CohortError: No labels in that split, or only one outcome among them.
    """
    target = dataset or run.dataset()
    labels = labels_for(run, target)
    predictor = Predictor.from_pretrained(application, run.bundle)
    comparators = FittedComparators.load(run.bundle / "comparators")
    inputs = inputs_for(application, target, labels, split, progress)
    progress("scoring", 0, 3)
    logits = member_logits(predictor.members, predictor.preprocessor.transform(inputs))
    scores = {MODEL: predictor.calibration.apply(logits.mean(0))}
    scores.update(comparators.predict_all(comparator_input(predictor.preprocessor, inputs)))
    progress(f"intervals from {replicates:,} bootstrap replicates", 1, 3)
    outcomes, subjects = inputs.outcomes, inputs.subject_ids
    figures = judge(
        outcomes,
        scores,
        subjects,
        MODEL,
        application=application.name,
        split=split or "all",
        replicates=replicates,
        seed=seed,
    )
    figures["positives"] = int(outcomes.sum())
    figures["dataset"] = {"path": str(target.path), "fingerprint": target.fingerprint}
    progress("curves", 2, 3)
    drawn = curves(outcomes, scores, subjects, seed=seed)
    progress("done", 3, 3)
    write_json(run.evaluation / "evaluation.json", figures)
    write_json(run.evaluation / "curves.json", drawn)
    write_json(run.evaluation / "comparators.json", comparators.describe())
    write_json(run.evaluation / "tripod_ai.json", _tripod(application, run, figures))
    write_predictions(inputs, scores[MODEL], run.evaluation / "predictions.parquet")
    write_trust(run, predictor, inputs, logits, replicates=replicates, seed=seed)
    return figures


def _tripod(application: Supervised, run: Run, figures: dict[str, Any]) -> list[dict[str, str]]:
    attrition = run.labels / schema.ATTRITION_FILE
    return tripod_items(
        run.read(), application, read_json(attrition) if attrition.is_file() else None, figures
    )


def inputs_for(
    application: Supervised, dataset: Dataset, labels: Labels, split: str | None, progress: Progress
) -> Inputs:
    """What the model may see before each label of a split.

    Raises:
        CohortError: No label belongs to a subject of that split.
    """
    inputs = application.collect(
        dataset, labels.frame, split, lambda done, total: progress("reading measurements", done, total)
    )
    if not len(inputs):
        raise CohortError(
            f"{dataset.path}: no label belongs to a subject of split {split!r} ({len(labels.frame)} labels in all); "
            "name another split with --split, or --split all for a dataset the model has not seen"
        )
    return inputs


def labels_for(run: Run, dataset: Dataset) -> Labels:
    """The run's own labels for its own dataset, else the run's task asked of another dataset.

    Raises:
        BundleError: The run was trained on labels without a task file, so nothing can be asked elsewhere.
    """
    if dataset.fingerprint == run.read()["fingerprint"] and run.labels.exists():
        return read_labels(run.labels, dataset)
    task = run.labels / "task.yaml"
    if not task.exists():
        raise BundleError(
            f"{run.path} was trained on labels without a task file: give labels for {dataset.path} with --labels"
        )
    return build_labels(dataset, read_task(task))


def write_predictions(inputs: Inputs, risks: np.ndarray, out: Any) -> None:
    """Predictions as meds-evaluation reads them: label columns, decision at 0.5, probability."""
    frame = inputs.labels.with_columns(
        pl.Series(schema.PREDICTED_VALUE, risks >= 0.5),
        pl.Series(schema.PREDICTED_PROBABILITY, risks, dtype=pl.Float32),
    )
    with whole_file(out) as partial:
        frame.write_parquet(partial)
