"""What every metric checks before it counts: equal lengths, finite scores, labels of 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from caretrace.errors import CohortError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def checked_labels(labels: npt.ArrayLike) -> BoolArray:
    """Labels as booleans.

    Args:
        labels: [n], booleans or numbers that are exactly 0 or 1.

    Raises:
        CohortError: No labels, more than one axis, or a value that is neither 0 nor 1.
    """
    array: npt.NDArray[Any] = np.asarray(labels)
    if array.ndim != 1 or not array.size:
        raise CohortError(
            f"labels: got an array of shape {array.shape}; give one label per row, and at least one row"
        )
    if array.dtype == np.bool_:
        return array
    wrong = np.flatnonzero(~((array == 0) | (array == 1)))
    if wrong.size:
        raise CohortError(
            f"labels: row {wrong[0]} holds {array[wrong[0]]} ({wrong.size} of {array.size} rows are not "
            "0 or 1); drop rows without an outcome before scoring them"
        )
    return array.astype(np.bool_)


def checked_scores(scores: npt.ArrayLike, n: int, name: str = "scores") -> FloatArray:
    """Scores as float64.

    Args:
        scores: [n], any finite numbers.
        n: Number of labels they belong to.
        name: What to call them in a message.

    Raises:
        CohortError: Another length than the labels, or a NaN or infinite score.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (n,):
        raise CohortError(f"{name}: got shape {array.shape} for {n} labels; give exactly one score per label")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise CohortError(
            f"{name}: row {wrong[0]} holds {array[wrong[0]]} ({wrong.size} of {n} scores are not finite); "
            "look for a diverged training or for missing inputs that reached the model"
        )
    return array


def checked_probabilities(scores: npt.ArrayLike, n: int, name: str = "scores") -> FloatArray:
    """Scores as float64, all within [0, 1].

    Raises:
        CohortError: As `checked_scores`, or a score outside [0, 1].
    """
    array = checked_scores(scores, n, name)
    wrong = np.flatnonzero((array < 0) | (array > 1))
    if wrong.size:
        raise CohortError(
            f"{name}: row {wrong[0]} holds {array[wrong[0]]:g}, which is no probability ({wrong.size} of {n} "
            "rows lie outside 0 to 1); pass risks, not logits"
        )
    return array


def checked_subjects(subject_ids: npt.ArrayLike, n: int) -> tuple[npt.NDArray[np.int64], int]:
    """Position of each row's subject among the distinct subjects, and how many there are.

    Args:
        subject_ids: [n], whole numbers or strings.
        n: Number of labels they belong to.

    Raises:
        CohortError: Another length than the labels.
    """
    array: npt.NDArray[Any] = np.asarray(subject_ids)
    if array.shape != (n,):
        raise CohortError(f"subject_ids: got shape {array.shape} for {n} labels; give one subject per label")
    distinct, position = np.unique(array, return_inverse=True)
    return position.astype(np.int64), int(distinct.size)


def require_both_classes(labels: BoolArray, what: str) -> None:
    """Stop where a metric is undefined because every label is the same.

    Args:
        labels: [n] booleans.
        what: The metric or fit that needs both classes.

    Raises:
        CohortError: All labels are negative or all are positive; the message has the counts.
    """
    positive = int(labels.sum())
    if positive in (0, labels.size):
        raise CohortError(
            f"{what}: {positive} of {labels.size} labels are positive, but it needs both classes; "
            "use a larger cohort or another split"
        )
