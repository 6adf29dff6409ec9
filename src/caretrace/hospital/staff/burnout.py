"""Burnout as a slow latent number, and the intent to leave that follows from it."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Floats = NDArray[np.float64]


def threshold(prevalence: float) -> float:
    """Burnout above which somebody counts as burnt out, for a standard normal staff."""
    return float(norm.isf(prevalence))


def shift_for_log_odds(log_odds: float, prevalence: float) -> float:
    """How far the mean of burnout must move to change the odds of being burnt out by `log_odds`.

    Exact, so that a published odds ratio on prevalence is what comes out of the latent scale.
    """
    odds = prevalence / (1 - prevalence) * np.exp(log_odds)
    return float(norm.isf(prevalence) - norm.isf(odds / (1 + odds)))


@functools.lru_cache(maxsize=64)
def intent_intercept(prevalence: float, slope: float, offer_effect: float, offer_share: float) -> float:
    """Log odds of the intent to leave at burnout 0 that makes its prevalence come out.

    Args:
        prevalence: Wanted share with the intent.
        slope: Log odds per unit of burnout.
        offer_effect: Log odds added by an offer.
        offer_share: Share of staff with an offer in hand.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()

    def excess(intercept: float) -> float:
        plain = weights @ logistic(intercept + slope * nodes)
        offered = weights @ logistic(intercept + slope * nodes + offer_effect)
        return float((1 - offer_share) * plain + offer_share * offered - prevalence)

    return float(brentq(excess, -10, 10))


def drift(burnout: Floats, target: Floats, days: float, spread: float, noise: Floats) -> Floats:
    """Burnout a day later: an Ornstein-Uhlenbeck step towards `target`.

    Args:
        burnout: Now, `[person]`.
        target: Where load, moral stress, support and the person's own trait pull it, `[person]`.
        days: Time constant.
        spread: Stationary standard deviation around the target.
        noise: Standard normal draws, `[person]`.
    """
    keep = np.exp(-1 / days)
    return target + (burnout - target) * keep + spread * np.sqrt(1 - keep**2) * noise


def logistic(x: Floats) -> Floats:
    """Probability at log odds `x`."""
    return 1 / (1 + np.exp(-x))
