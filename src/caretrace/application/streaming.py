"""Training samples that stay on disk: a bounded sample in memory, all of them in a store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress, Supervised
from caretrace.data.samples import Preprocessor, Samples
from caretrace.data.store import SampleStore, write_store
from caretrace.dataset import Dataset, scan_file


def sample_of(dataset: Dataset, labels: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Labels of randomly chosen training subjects, about `most` of them, and of all other subjects.

    Args:
        dataset: Whose splits count.
        labels: `subject_id`, `prediction_time`, `boolean_value`.
        most: Labels of training subjects wanted; where there are no more, all stay.
        seed: Of the choice.
    """
    train = dataset.splits.filter(pl.col(schema.SPLIT) == schema.TRAIN).select(schema.SUBJECT_ID)
    counts = (
        labels.join(train, on=schema.SUBJECT_ID, how="semi")
        .group_by(schema.SUBJECT_ID)
        .len()
        .sort(schema.SUBJECT_ID)
    )
    order = counts[np.random.default_rng([seed, 3]).permutation(len(counts))]
    left_out = order.filter(pl.col("len").cum_sum() - pl.col("len") >= most)
    return labels.join(left_out, on=schema.SUBJECT_ID, how="anti")


def stored(
    application: Supervised,
    dataset: Dataset,
    labels: pl.DataFrame,
    preprocessor: Preprocessor,
    folder: Path,
    lanes: int,
    progress: Progress,
) -> SampleStore:
    """The training samples, in a folder that is written once, one data file of the dataset at a time.

    Raises:
        BundleError: The folder is there and damaged.
        ResourceError: It cannot be written.
    """
    if not folder.exists():
        parts = _parts(application, dataset, labels, preprocessor, progress)
        return write_store(folder, parts, lanes=lanes)
    return SampleStore.open(folder)


def _parts(
    application: Supervised,
    dataset: Dataset,
    labels: pl.DataFrame,
    preprocessor: Preprocessor,
    progress: Progress,
) -> Iterator[Samples]:
    files = dataset.files(schema.TRAIN) or dataset.files()
    for number, file in enumerate(files, start=1):
        subjects = scan_file(file).select(schema.SUBJECT_ID).unique().collect()
        here = labels.join(subjects, on=schema.SUBJECT_ID, how="semi")
        if len(here):
            part = dataclasses.replace(dataset, only=file)
            inputs = application.collect(part, here, schema.TRAIN, _quiet)
            yield preprocessor.transform(inputs)
        progress("writing samples", number, len(files))


def _quiet(done: int, total: int) -> None:
    """One file is read at a time: progress counts the files."""
