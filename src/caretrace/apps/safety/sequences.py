"""Sequences of steps: what is known at each step, and what is to be foreseen from it.

Three kinds share one form: a hospital (a step per hour), a patient's pathway (a step per stage) and a member of
staff (a step per duty). A target at a step is predicted from this step and those before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace.errors import CohortError

HOSPITAL, PATHWAY, STAFF = "hospital", "pathway", "staff"
KINDS = (HOSPITAL, PATHWAY, STAFF)
# Only in open data (`real`): a hospital trust month by month, and arrivals hour by hour.
TRUST, ARRIVALS = "trust", "arrivals"
SEQUENCE, HOUR = "sequence", "hour"
RESAMPLED = "resampled"  # which rows an interval resamples together, where it is neither week nor person


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of one kind, back to back.

    Args:
        kind: One of `KINDS`.
        steps: One row per step, in order: `sequence` (number), `hour` (since the start of the dataset), the
            columns named below, and whatever figures are told apart by (`site`, `group`).
        numeric: Columns that are numbers; null or NaN where unknown.
        categorical: Columns that are names; null where unknown.
        targets: Columns to be foreseen; null or NaN where there is nothing to learn or judge.
    """

    kind: str
    steps: pl.DataFrame
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        missing = {SEQUENCE, HOUR, *self.numeric, *self.categorical, *self.targets} - set(self.steps.columns)
        if missing:
            raise CohortError(f"sequences of {self.kind}: no column {min(missing)!r}")

    def __len__(self) -> int:
        return len(self.begins) - 1

    @property
    def begins(self) -> NDArray[np.int64]:
        """`[sequence + 1]`, where each sequence begins, and the end of the last."""
        return _begins(self.steps[SEQUENCE].to_numpy())

    def where(self, keep: pl.Expr) -> Sequences:
        """Only the steps for which `keep` holds; sequences that lose all their steps are gone."""
        return dataclasses.replace(self, steps=self.steps.filter(keep))

    def sample(self, count: int, seed: int) -> Sequences:
        """At most `count` sequences, drawn at random, in order."""
        numbers = self.steps[SEQUENCE].unique(maintain_order=True)
        if len(numbers) <= count:
            return self
        drawn = numbers.sample(count, seed=seed)
        return self.where(pl.col(SEQUENCE).is_in(drawn.implode()))


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Sequences as numbers a model takes.

    Args:
        kind: As in `Sequences`.
        values: `[step, channel]`, scaled; NaN where unknown.
        names: `[step, column]`, number of each name; 0 where unknown or not seen in training.
        targets: `[step, target]`; NaN where there is none.
        begins: `[sequence + 1]`.
    """

    kind: str
    values: NDArray[np.float32]
    names: NDArray[np.int64]
    targets: NDArray[np.float32]
    begins: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.begins) - 1


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How steps of one kind become numbers; fitted on training steps alone.

    Args:
        numeric: Column → mean and standard deviation.
        categorical: Column → its names in training; the first has number 1.
        targets: Columns to be foreseen.
    """

    numeric: dict[str, tuple[float, float]]
    categorical: dict[str, tuple[str, ...]]
    targets: tuple[str, ...]

    @classmethod
    def fit(cls, train: Sequences) -> Scaling:
        """Means, spreads and names of these steps."""
        numeric = {}
        for name in train.numeric:
            column = train.steps[name].cast(pl.Float64).fill_nan(None)
            mean, spread = column.mean(), column.std()
            mean = float(mean) if isinstance(mean, float) else 0.0
            numeric[name] = mean, float(spread) if isinstance(spread, float) and spread > 1e-6 else 1.0
        names = {name: tuple(sorted(train.steps[name].drop_nulls().unique())) for name in train.categorical}
        return cls(numeric, names, train.targets)

    def apply(self, sequences: Sequences) -> Arrays:
        """Scaled values and numbers of names."""
        steps = sequences.steps
        values = [
            ((steps[name].cast(pl.Float64) - mean) / spread).to_numpy()
            for name, (mean, spread) in self.numeric.items()
        ]
        names = [
            steps[name].replace_strict(
                {known: number for number, known in enumerate(seen, start=1)},
                default=0,
                return_dtype=pl.Int64,
            )
            for name, seen in self.categorical.items()
        ]
        # Far outside what training had, a value says "far", not how far.
        clipped = np.clip(_columns(values, len(steps)), -8.0, 8.0)
        return Arrays(
            sequences.kind,
            clipped,
            np.stack([column.fill_null(0).to_numpy() for column in names], -1)
            if names
            else np.zeros((len(steps), 0), np.int64),
            _columns([steps[name].cast(pl.Float64).to_numpy() for name in self.targets], len(steps)),
            sequences.begins,
        )

    def to_dict(self) -> dict[str, object]:
        """As JSON takes it."""
        return {
            "numeric": {name: list(pair) for name, pair in self.numeric.items()},
            "categorical": {name: list(seen) for name, seen in self.categorical.items()},
            "targets": list(self.targets),
        }

    @classmethod
    def from_dict(cls, value: dict[str, dict[str, list[str]]]) -> Scaling:
        """What `to_dict` made."""
        return cls(
            {name: (float(pair[0]), float(pair[1])) for name, pair in value["numeric"].items()},
            {name: tuple(seen) for name, seen in value["categorical"].items()},
            tuple(value["targets"]),
        )


def _columns(columns: Sequence[NDArray[np.float64]], length: int) -> NDArray[np.float32]:
    if not columns:
        return np.zeros((length, 0), np.float32)
    return np.stack(columns, -1).astype(np.float32)


def _begins(sequence: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(sequence):
        return np.zeros(1, np.int64)
    return np.concatenate([[0], np.flatnonzero(np.diff(sequence)) + 1, [len(sequence)]])
