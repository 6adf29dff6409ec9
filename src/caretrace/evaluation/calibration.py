"""How far risks can be believed: calibration error, curve, slope; and Platt scaling to mend them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit

from caretrace.errors import BundleError
from caretrace.evaluation.checks import (
    BoolArray,
    FloatArray,
    checked_labels,
    checked_probabilities,
    checked_scores,
    require_both_classes,
)

BINS = 10

# Risks of exactly 0 or 1 have no finite logit; they count as this far from certainty.
EDGE = 1e-7

# Spread of the prior of `calibration_slope`: wide enough not to matter, finite on separable data.
WEAK_PRIOR = 100.0


def ece(labels: npt.ArrayLike, risks: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean gap of risk and outcome over equal-width bins of risk.

    Naeini 2015 (https://doi.org/10.1609/aaai.v29i1.9602), Guo 2017 (arXiv 1706.04599); ten bins
    `[0, .1) ... [.9, 1]`, each weighted by its rows. It is never negative, so a perfectly calibrated
    model scores above zero on few rows: read it with its interval.

    Args:
        labels: [n], 0 or 1; one class is allowed.
        risks: [n], probabilities.
        bins: Number of bins.

    Raises:
        CohortError: Lengths that differ, or risks outside [0, 1].
    """
    truth = checked_labels(labels)
    probability = checked_probabilities(risks, truth.size)
    gaps = np.bincount(width_bins(probability, bins), weights=truth - probability, minlength=bins)
    return float(np.abs(gaps).sum() / truth.size)


def width_bins(risks: FloatArray, bins: int = BINS) -> npt.NDArray[np.int64]:
    """Number of the equal-width bin each risk falls in, [n]; the last bin includes 1."""
    return np.minimum((risks * bins).astype(np.int64), bins - 1)


def mass_bins(risks: FloatArray, bins: int = BINS) -> npt.NDArray[np.int64]:
    """Number of the bin each risk falls in when bins hold about equally many rows, [n].

    Equal risks share a bin, so there may be fewer bins than asked for; none is empty.
    """
    edges = np.quantile(risks, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, risks, side="left"), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class CalibrationCurve:
    """Predicted against observed, one point per bin of about equally many rows, [bins] each.

    Attributes:
        predicted: Mean risk in the bin.
        observed: Share of positives in the bin.
        low: Lower Wilson bound of `observed`.
        high: Upper Wilson bound of `observed`.
        count: Rows in the bin.
    """

    predicted: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray
    count: npt.NDArray[np.int64]


def calibration_curve(
    labels: npt.ArrayLike, risks: npt.ArrayLike, bins: int = BINS, level: float = 0.95
) -> CalibrationCurve:
    """Observed share of positives against mean risk, with Wilson intervals.

    The intervals take rows as independent; `curves.curves` widens them by a subject bootstrap.

    Args:
        labels: [n], 0 or 1.
        risks: [n], probabilities.
        bins: Most bins to form.
        level: Coverage of the intervals.

    Raises:
        CohortError: Lengths that differ, or risks outside [0, 1].
    """
    truth = checked_labels(labels)
    probability = checked_probabilities(risks, truth.size)
    which = mass_bins(probability, bins)
    count = np.bincount(which)
    positives = np.bincount(which, weights=truth).astype(np.float64)
    low, high = wilson(positives, count.astype(np.float64), level)
    predicted = np.bincount(which, weights=probability) / count
    return CalibrationCurve(predicted, positives / count, low, high, count.astype(np.int64))


def wilson(positives: FloatArray, count: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Score interval of a proportion (Wilson 1927), [bins] lower and upper bounds within [0, 1]."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = positives / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.clip(middle - half, 0.0, share), np.clip(middle + half, share, 1.0)


def logit(risks: npt.ArrayLike) -> FloatArray:
    """Log-odds of risks; 0 and 1 count as 1e-7 away from certainty."""
    clipped = np.clip(np.asarray(risks, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(clipped) - np.log1p(-clipped)


def calibration_slope(labels: npt.ArrayLike, risks: npt.ArrayLike) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of the outcome on the risk's logit.

    (1, 0) is perfect; a slope under 1 means risks are too extreme (Cox 1958; Van Calster 2019,
    https://doi.org/10.1186/s12916-019-1466-7). A prior far too weak to matter keeps the answer
    finite on perfectly separated labels.

    Returns:
        slope, intercept.

    Raises:
        CohortError: One class only, lengths that differ, or risks outside [0, 1].
    """
    truth = checked_labels(labels)
    x = logit(checked_probabilities(risks, truth.size))
    require_both_classes(truth, "calibration_slope")

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        value, residual = _log_loss(truth, point[0] * x + point[1])
        from_perfect = point - np.array([1.0, 0.0])
        gradient = np.array([residual @ x, residual.sum()]) + from_perfect / WEAK_PRIOR**2
        return value + float(from_perfect @ from_perfect) / (2 * WEAK_PRIOR**2), gradient

    slope, intercept = _minimum(loss, np.array([1.0, 0.0]), truth.size)
    return float(slope), float(intercept)


def shift_to_base_rate(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """What to add to every logit so that the mean risk is the share of positives.

    Calibration in the large (Cox 1958; Steyerberg 2010).

    Args:
        logits: [n], the model's raw outputs (log-odds).
        labels: [n], 0 or 1.

    Raises:
        CohortError: One class only, lengths that differ, or logits that are not finite.
    """
    truth = checked_labels(labels)
    x = checked_scores(logits, truth.size, "logits")
    require_both_classes(truth, "shift_to_base_rate")
    rate = truth.mean()
    # The mean risk rises with the shift, and these bounds put every risk below or above the rate.
    low, high = logit(rate) - x.max() - 1.0, logit(rate) - x.min() + 1.0
    return float(brentq(lambda shift: expit(x + shift).mean() - rate, low, high))


@dataclass(frozen=True)
class PlattScaling:
    """Risk = sigmoid(slope · logit + intercept), fitted with a prior at the identity.

    Platt 1999; Guo 2017 (arXiv 1706.04599) for neural networks. Maximum a posteriori: log-slope is
    normal around 0 with `slope_spread`, the intercept around 0 with `intercept_spread`. A few
    positives barely move the identity and hundreds override the prior, so a small tuning set cannot
    ruin a good model. The slope stays positive, hence ranks, AUROC and AUPRC never change.

    Attributes:
        slope: Factor on the logit; the identity has 1.
        intercept: Added to the scaled logit; the identity has 0.
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(
        cls,
        logits: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        slope_spread: float = 0.5,
        intercept_spread: float = 1.0,
        intercept_center: float = 0.0,
    ) -> Self:
        """Fit on rows the model was not trained on.

        Args:
            logits: [n], the model's raw outputs (log-odds).
            labels: [n], 0 or 1.
            slope_spread: Standard deviation of the prior of the log-slope.
            intercept_spread: Standard deviation of the prior of the intercept, in log-odds.
            intercept_center: Mean of that prior, in log-odds; see `shift_to_base_rate`.

        Raises:
            CohortError: One class only, lengths that differ, or logits that are not finite.
        """
        truth = checked_labels(labels)
        x = checked_scores(logits, truth.size, "logits")
        require_both_classes(truth, "PlattScaling.fit")
        center, spread = np.array([0.0, intercept_center]), np.array([slope_spread, intercept_spread])

        def loss(point: FloatArray) -> tuple[float, FloatArray]:
            scaled = math.exp(min(point[0], 50.0)) * x  # a line search may try absurd slopes
            value, residual = _log_loss(truth, scaled + point[1])
            off = (point - center) / spread
            gradient = np.array([residual @ scaled, residual.sum()]) + off / spread
            return value + float((off**2).sum()) / 2, gradient

        log_slope, intercept = _minimum(loss, center, truth.size)
        return cls(slope=float(np.exp(log_slope)), intercept=float(intercept))

    def apply(self, logits: npt.ArrayLike) -> FloatArray:
        """Calibrated risks, [n], of raw outputs, [n]."""
        return np.asarray(expit(self.slope * np.asarray(logits, dtype=np.float64) + self.intercept))

    def to_dict(self) -> dict[str, float]:
        """As JSON values; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            BundleError: A key is missing or a value is not a finite number, or the slope is not positive.
        """
        try:
            slope, intercept = float(values["slope"]), float(values["intercept"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"calibration: expected numbers for slope and intercept, got {values!r}"
            ) from error
        if not (0 < slope < math.inf and math.isfinite(intercept)):
            raise BundleError(
                f"calibration: slope must be positive and both finite, got {values!r}; train again"
            )
        return cls(slope=slope, intercept=intercept)


def _log_loss(truth: BoolArray, logits: FloatArray) -> tuple[float, FloatArray]:
    """Summed log-loss and its derivative by each logit."""
    signed = np.where(truth, logits, -logits)
    return float(-log_expit(signed).sum()), expit(logits) - truth


def _minimum(loss: Any, start: FloatArray, n: int) -> FloatArray:
    """Where a smooth function of two numbers that returns (value, gradient) is least."""

    def mean(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = loss(point)
        return value / n, gradient / n

    return np.asarray(
        minimize(mean, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 0.0}).x
    )
