"""Penalised logistic regression on tabularised measurements.

Values are standardised on training samples and held within five standard deviations; what is missing
gets the training median and an indicator of its own. The strength of the L2 penalty is chosen on
tuning samples. Prediction is one matrix product, so what is stored is numbers alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from caretrace.comparators.base import SETTINGS_FILE, FloatMatrix, Table, read_settings
from caretrace.errors import BundleError
from caretrace.files import whole_folder, write_json

KIND = "logistic_regression"
ARRAYS_FILE = "coefficients.safetensors"

# Inverse penalties from strong to weak; the first that is best on tuning wins.
INVERSE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)

# Beyond this many standard deviations a value is an artefact or at least not linear any more.
MOST_DEVIATIONS = 5.0

MAX_ITERATIONS = 1000

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogisticRegression:
    """Logistic regression with L2 penalty (sklearn), predicted in NumPy.

    Attributes:
        names: The features it was fitted on.
        median: [features], replaces what is missing.
        mean: [features], subtracted.
        scale: [features], divided by; infinite for features that never vary.
        indicated: Positions of the features that get an indicator of being missing.
        weights: [features + indicators].
        intercept: Log-odds at the training mean.
        inverse_penalty: sklearn's C, chosen on tuning.
    """

    names: tuple[str, ...]
    median: Vector
    mean: Vector
    scale: Vector
    indicated: npt.NDArray[np.int64]
    weights: Vector
    intercept: float
    inverse_penalty: float

    @classmethod
    def fit(cls, train: Table, tuning: Table, *, seed: int = 0, threads: int = 1) -> Self:
        """Fit on `train`, choose the penalty by log-loss on `tuning`.

        Args:
            train: Labelled samples.
            tuning: Labelled samples of other subjects.
            seed: Not needed, the fit has no chance in it.
            threads: Not needed, the fit takes seconds.

        Raises:
            CohortError: No labels, or labels of one class only.
            InputError: `tuning` has other features than `train`.
        """
        del seed, threads
        labels, tuning_labels = train.both_classes(f"{KIND} (train)"), tuning.both_classes(f"{KIND} (tuning)")
        tuning.same_features(train.names, KIND)
        median, mean, scale, indicated = _scaling(train.values)
        x = _design(train.values, median, mean, scale, indicated)
        x_tuning = _design(tuning.values, median, mean, scale, indicated)
        weights, intercept, inverse_penalty = _best(x, labels, x_tuning, tuning_labels)
        return cls(train.names, median, mean, scale, indicated, weights, intercept, inverse_penalty)

    def predict_proba(self, table: Table) -> Vector:
        """Risk of each sample, [samples].

        Raises:
            InputError: Other features than it was fitted on.
        """
        values = table.same_features(self.names, KIND)
        x = _design(values, self.median, self.mean, self.scale, self.indicated)
        return _sigmoid(x @ self.weights + self.intercept)

    def save(self, folder: Path) -> None:
        """Write JSON settings and safetensors coefficients into a new folder.

        Raises:
            OutputExistsError: The folder is taken.
        """
        from safetensors.numpy import save_file

        settings = {
            "kind": KIND,
            "names": list(self.names),
            "intercept": self.intercept,
            "inverse_penalty": self.inverse_penalty,
        }
        with whole_folder(folder) as partial:
            write_json(partial / SETTINGS_FILE, settings)
            arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
            save_file(arrays, partial / ARRAYS_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: A file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        settings = read_settings(folder, KIND)
        try:
            arrays = load_file(folder / ARRAYS_FILE)
            loaded = cls(
                names=tuple(settings["names"]),
                intercept=float(settings["intercept"]),
                inverse_penalty=float(settings["inverse_penalty"]),
                **{name: arrays[name] for name in _ARRAYS},
            )
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise BundleError(f"{folder / ARRAYS_FILE}: damaged ({error}); train again") from None
        if loaded.weights.size != len(loaded.names) + loaded.indicated.size:
            raise BundleError(
                f"{folder / ARRAYS_FILE}: {loaded.weights.size} weights do not fit; train again"
            )
        return loaded

    def describe(self) -> str:
        """One plain sentence for the report."""
        return (
            f"Logistic regression with an L2 penalty (C = {self.inverse_penalty:g}, chosen on tuning) on "
            f"{len(self.names)} tabular features and {self.indicated.size} indicators of missing values."
        )


_ARRAYS = ("median", "mean", "scale", "indicated", "weights")


def _scaling(values: FloatMatrix) -> tuple[Vector, Vector, Vector, npt.NDArray[np.int64]]:
    """Median, mean and scale after imputation, and the features whose absence gets an indicator."""
    missing = np.isnan(values)
    empty = missing.all(axis=0)
    # A feature that is never there has median 0, scale infinite: it contributes nothing.
    median = np.nanmedian(np.where(empty, np.float32(0), values), axis=0).astype(np.float64)
    filled = np.where(missing, median, values.astype(np.float64))
    scale = filled.std(axis=0)
    mean = filled.mean(axis=0)
    scale = np.where(scale > 1e-9 * np.maximum(1.0, np.abs(mean)), scale, np.inf)
    # Statistics of one code are missing together: one indicator stands for all of them.
    partly = np.flatnonzero(missing.any(axis=0) & ~empty)
    packed = np.packbits(missing[:, partly], axis=0).T
    first = np.unique(packed, axis=0, return_index=True)[1] if partly.size else np.empty(0, dtype=np.int64)
    return median, mean, scale, np.sort(partly[first]).astype(np.int64)


def _design(
    values: FloatMatrix, median: Vector, mean: Vector, scale: Vector, indicated: npt.NDArray[np.int64]
) -> Vector:
    missing = np.isnan(values)
    standard = (np.where(missing, median, values.astype(np.float64)) - mean) / scale
    return np.hstack([np.clip(standard, -MOST_DEVIATIONS, MOST_DEVIATIONS), missing[:, indicated]])


def _best(
    x: Vector, labels: npt.NDArray[np.bool_], x_tuning: Vector, tuning_labels: npt.NDArray[np.bool_]
) -> tuple[Vector, float, float]:
    """Weights, intercept and inverse penalty with the least log-loss on tuning."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

    best: tuple[float, Vector, float, float] | None = None
    # Each fit starts from the one before, which had the stronger penalty.
    model = SklearnLogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for inverse_penalty in INVERSE_PENALTIES:
        model.set_params(C=inverse_penalty)
        with warnings.catch_warnings():
            # Weak penalties on collinear features converge slowly; tuning judges the result all the same.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, labels)
        weights, intercept = model.coef_[0].astype(np.float64), float(model.intercept_[0])
        logits = x_tuning @ weights + intercept
        loss = float(np.logaddexp(0.0, np.where(tuning_labels, -logits, logits)).mean())
        if best is None or loss < best[0]:
            best = (loss, weights.copy(), intercept, inverse_penalty)
    assert best is not None
    return best[1:]


def _sigmoid(logits: Vector) -> Vector:
    from scipy.special import expit

    return np.asarray(expit(logits), dtype=np.float64)
