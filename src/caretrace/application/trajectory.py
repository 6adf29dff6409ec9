"""Risk trajectories: the risk of a stay at several hours of it, with a band of how far the ensemble disagrees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from caretrace import schema
from caretrace.application import Progress, Supervised, silent
from caretrace.application.evaluate import inputs_for, labels_for
from caretrace.application.predictor import Predictor, band, member_logits
from caretrace.application.run import Run
from caretrace.cohort import Labels
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError
from caretrace.files import refuse_existing, whole_file

HOURS = "hours_since_admission"


@dataclasses.dataclass(frozen=True)
class Course:
    """Whose trajectories, and at which hours.

    Args:
        subject_id: One subject; None for all of the split.
        every_hours: Predict every so many hours from ICU admission to the last label of the stay; None predicts at
            the labels of the run's task, which has several per stay if it names landmarks.
        split: Which subjects; None for all.
    """

    subject_id: int | None = None
    every_hours: float | None = None
    split: str | None = schema.HELD_OUT

    def __post_init__(self) -> None:
        if self.every_hours is not None and not self.every_hours > 0:
            raise ConfigError(f"--every {self.every_hours}: hours between predictions must be above 0")


def trajectory(
    application: Supervised,
    run: Run,
    dataset: Dataset,
    out: Path,
    course: Course | None = None,
    *,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Write one row per subject and hour: `risk`, and `low` and `high` of the band.

    The band is the calibrated mean logit ± 2 standard deviations of the members' logits: how far they disagree, not
    how far they may all be wrong; null for a single member. Each row sees what was measured up to its own time.

    Args:
        application: The run's application.
        run: The run.
        dataset: Where the subjects are.
        out: Parquet file to write, whole or not at all.
        course: Whose, and when.
        progress: Told about each piece of work.

    Returns:
        What was written: subject_id, prediction_time, hours_since_admission, risk, low, high.

    Raises:
        CohortError: Nobody to predict for.
        OutputExistsError: `out` is taken.
    """
    refuse_existing(out)
    predictor = Predictor.from_pretrained(application, run.bundle)
    frame = risks_along(predictor, run, dataset, course or Course(), progress)
    with whole_file(out) as partial:
        frame.write_parquet(partial)
    return frame


def risks_along(
    predictor: Predictor, run: Run, dataset: Dataset, course: Course, progress: Progress = silent
) -> pl.DataFrame:
    """What `trajectory` writes.

    Args:
        predictor: The run's ensemble.
        run: The run.
        dataset: Where the subjects are.
        course: Whose, and when.
        progress: Told about each piece of work.

    Raises:
        CohortError: Nobody to predict for.
    """
    labels = labels_for(run, dataset).frame
    if course.subject_id is not None:
        labels = labels.filter(pl.col(schema.SUBJECT_ID) == course.subject_id)
        if labels.is_empty():
            raise CohortError(f"subject {course.subject_id} has no label in {dataset.path}")
    if course.every_hours is not None:
        labels = _every(dataset, labels, course.every_hours)
    split = course.split if course.subject_id is None else None
    inputs = inputs_for(predictor.application, dataset, Labels(labels), split, progress)
    samples = predictor.preprocessor.transform(inputs)
    return inputs.labels.select(schema.SUBJECT_ID, schema.PREDICTION_TIME).with_columns(
        pl.Series(HOURS, samples.hours_since_admission).fill_nan(None),
        *(
            pl.Series(name, value, dtype=pl.Float64)
            for name, value in band(predictor, member_logits(predictor.members, samples)).items()
        ),
    )


def _every(dataset: Dataset, labels: pl.DataFrame, hours: float) -> pl.DataFrame:
    """Prediction times every so many hours of the stays that have labels, the last label's time among them."""
    code = pl.col(schema.CODE)
    admission = (code == schema.ICU_ADMISSION) | code.str.starts_with(
        schema.ICU_ADMISSION + schema.CODE_SEPARATOR
    )
    admissions = (
        dataset.scan()
        .filter(admission & pl.col(schema.TIME).is_not_null())
        .select(schema.SUBJECT_ID, pl.col(schema.TIME).alias("_in"))
        .unique()
        .sort("_in")
        .collect()
    )
    stays = (
        labels.sort(schema.PREDICTION_TIME)
        .join_asof(
            admissions,
            left_on=schema.PREDICTION_TIME,
            right_on="_in",
            by=schema.SUBJECT_ID,
            check_sortedness=False,
        )
        .drop_nulls("_in")
        .group_by(schema.SUBJECT_ID, "_in")
        .agg(pl.col(schema.PREDICTION_TIME).max().alias("_end"))
    )
    step = pl.duration(microseconds=round(hours * 3_600_000_000))
    between = pl.datetime_ranges(pl.col("_in") + step, pl.col("_end"), interval=f"{round(hours * 3600)}s")
    times = pl.concat_list(between, pl.col("_end")).list.unique()
    return (
        stays.with_columns(times.alias(schema.PREDICTION_TIME))
        .explode(schema.PREDICTION_TIME, empty_as_null=False)
        .select(
            schema.SUBJECT_ID,
            pl.col(schema.PREDICTION_TIME).cast(pl.Datetime("us")),
            pl.lit(False).alias(
                schema.BOOLEAN_VALUE
            ),  # asked for by the reader of inputs, not known, not written
        )
        .unique()
    )
