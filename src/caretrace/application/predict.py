"""`caretrace predict`: risks for a dataset, as a MEDS prediction file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.evaluate import inputs_for, labels_for, write_predictions
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.cohort import read_labels
from caretrace.dataset import Dataset
from caretrace.files import refuse_existing


def predict(
    application: Supervised,
    run: Run,
    dataset: Dataset,
    out: Path,
    *,
    labels: Path | None = None,
    split: str | None = schema.HELD_OUT,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write one row per label: label columns, predicted value and probability.

    Args:
        application: The run's application.
        run: The run.
        dataset: The dataset to predict on.
        out: Parquet file to write; it appears whole or not at all.
        labels: When to predict; by default the run's task decides.
        split: Which subjects; None for all.
        progress: Told about each piece of work.

    Returns:
        Counts, and how many measurements had a code the model does not know.

    Raises:
        CohortError: Nobody to predict for.
        OutputExistsError: `out` is taken.
    """
    refuse_existing(out)
    found = read_labels(labels, dataset) if labels else labels_for(run, dataset)
    predictor = Predictor.from_pretrained(application, run.bundle)
    inputs = inputs_for(application, dataset, found, split, progress)
    samples = predictor.preprocessor.transform(inputs)
    risks = predictor.risks_of(samples)
    write_predictions(inputs, risks, out)
    return {
        "predictions": len(inputs),
        "subjects": int(inputs.labels[schema.SUBJECT_ID].n_unique()),
        "mean_risk": float(risks.mean()),
        "measurements": len(samples.code),
        "unknown_codes": samples.unknown_codes,
        "out": str(out),
    }
