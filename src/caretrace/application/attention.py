"""Attention of a model on demand, of any subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.evaluate import labels_for
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.application.watching import ShowsAttention
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError
from caretrace.files import refuse_existing


def attention_of_subject(
    application: Supervised,
    run: Run,
    dataset: Dataset,
    subject_id: int,
    out: Path,
    *,
    member: int = 0,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write the attention of one member over one subject's record, at the last of their labels.

    Args:
        application: The run's application.
        run: The run.
        dataset: Where the subject is.
        subject_id: Whose.
        out: An npz file to make.
        member: Which model of the ensemble.
        progress: Told about each piece of work.

    Returns:
        Samples and steps in the file, and the first step that was kept.

    Raises:
        CohortError: The subject has no label.
        ConfigError: The application's models do not attend, or there is no such member.
        OutputExistsError: `out` is taken.
    """
    refuse_existing(out)
    if not isinstance(application, ShowsAttention):
        raise ConfigError(f"{application.name} has no attention to save; `mortality` has")
    predictor = Predictor.from_pretrained(application, run.bundle)
    if not 0 <= member < len(predictor.members):
        raise ConfigError(f"member {member}: the run has {len(predictor.members)}, counted from 0")
    labels = labels_for(run, dataset)
    own = labels.frame.filter(pl.col(schema.SUBJECT_ID) == subject_id)
    if own.is_empty():
        raise CohortError(
            f"subject {subject_id} has no label in {dataset.path}, so there is no prediction to look at; "
            f"{labels.frame[schema.SUBJECT_ID].n_unique()} subjects have, such as {labels.frame[schema.SUBJECT_ID][0]}"
        )
    inputs = application.collect(
        dataset, own.tail(1), None, lambda done, total: progress("reading measurements", done, total)
    )
    batch = predictor.preprocessor.transform(inputs).batch(np.array([0]))
    return application.save_attention(predictor.members[member], predictor.config, batch, out)
