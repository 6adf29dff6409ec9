"""What a comparator is, and the plain table of numbers it learns from.

A comparator is the five-minute model every application must stand beside: same split, same inputs,
same moment of prediction. If it wins, the report says so and recommends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from caretrace.data.inputs import HOURS_BEFORE, SAMPLE
from caretrace.errors import BundleError, CohortError, InputError
from caretrace.evaluation.checks import require_both_classes
from caretrace.files import read_json
from caretrace.schema import CODE, NUMERIC_VALUE

EVENT_COLUMNS = (SAMPLE, CODE, NUMERIC_VALUE, HOURS_BEFORE)
SETTINGS_FILE = "comparator.json"

FloatMatrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ComparatorInput:
    """What the data layer hands over: measurements before each label, and static features.

    Attributes:
        events: One row per measurement: `sample` (row of the label table), `code`, `numeric_value`
            (null where there is none), `hours_before` (hours from the measurement to the prediction
            time, at least 0; null for static measurements).
        static: [samples, static features], NaN where missing.
        static_names: Name of each static feature.
        labels: [samples], 0 or 1; not needed to predict.
    """

    events: pl.DataFrame
    static: FloatMatrix
    static_names: tuple[str, ...]
    labels: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        missing = [name for name in EVENT_COLUMNS if name not in self.events.columns]
        if missing:
            raise InputError(
                f"comparators: events lack {', '.join(missing)}; the columns are {', '.join(EVENT_COLUMNS)}"
            )
        if self.static.ndim != 2 or self.static.shape[1] != len(self.static_names):
            raise InputError(
                f"comparators: static features have shape {self.static.shape} but "
                f"{len(self.static_names)} names; give [samples, features] and one name per feature"
            )
        if self.labels is not None and self.labels.shape != (self.static.shape[0],):
            raise InputError(
                f"comparators: {self.static.shape[0]} samples but labels of shape {self.labels.shape}; "
                "give one label per sample"
            )

    @property
    def n_samples(self) -> int:
        """Number of rows of the label table."""
        return int(self.static.shape[0])


@dataclass(frozen=True)
class Table:
    """Samples as rows of numbers.

    Attributes:
        values: [samples, features], NaN where missing.
        names: Name of each feature.
        labels: [samples] booleans, or None when only predicting.
    """

    values: FloatMatrix
    names: tuple[str, ...]
    labels: npt.NDArray[np.bool_] | None = None

    def both_classes(self, what: str) -> npt.NDArray[np.bool_]:
        """The labels, once it is sure that there is something to learn from them.

        Raises:
            CohortError: No labels, or labels of one class only.
        """
        if self.labels is None:
            raise CohortError(f"{what}: no labels; a comparator learns from labelled samples")
        require_both_classes(self.labels, what)
        return self.labels

    def same_features(self, names: Sequence[str], what: str) -> FloatMatrix:
        """The values, once it is sure that they are the features the comparator was fitted on.

        Raises:
            InputError: Other features, or another order.
        """
        if tuple(names) != self.names:
            raise InputError(
                f"{what}: got {len(self.names)} features, was fitted on {len(names)} (or in another order); "
                "tabularise with the features that were saved beside it"
            )
        return self.values


class Comparator(Protocol):
    """Fits in minutes, predicts risks, is stored without pickle, and repeats itself bit for bit."""

    @classmethod
    def fit(cls, train: Table, tuning: Table, *, seed: int = 0, threads: int = 1) -> Self:
        """Learn from `train`; choose settings or stop by `tuning`."""
        ...

    def predict_proba(self, table: Table) -> npt.NDArray[np.float64]:
        """Risk of each sample, [samples] within [0, 1]."""
        ...

    def save(self, folder: Path) -> None:
        """Write into a new folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...

    def describe(self) -> str:
        """One plain sentence for the report."""
        ...


def read_settings(folder: Path, kind: str) -> dict[str, Any]:
    """The settings that `save` wrote for this kind of comparator.

    Raises:
        BundleError: The file is missing, unreadable or belongs to another kind.
    """
    path = folder / SETTINGS_FILE
    try:
        settings = read_json(path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not readable ({error}); train again to write it anew") from None
    if not isinstance(settings, dict) or settings.get("kind") != kind:
        raise BundleError(
            f"{path}: does not hold a comparator of kind {kind!r}; train again to write it anew"
        )
    return settings
