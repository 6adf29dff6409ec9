"""Rates of rare things: drawn to what is known of their like, as far as the data say that they are alike.

A rate is Gamma distributed about a mean that its group gives; the shape, how closely rates follow their group, is the
one under which the counts are likeliest (empirical Bayes; Robbins 1956, Proceedings of the Third Berkeley
Symposium). Counts given rates are Poisson, so the posterior is a Gamma again and its mean a weighted one.

Age curves are Gaussian processes of the logarithm: a level, a line, a smooth and a rough part, and the same for the
difference between the sexes (Rasmussen and Williams 2006, Gaussian processes for machine learning, section 3.4, the
mode by Newton's method).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import gammaln

from caretrace.evaluation.histories import Floats, Ints

SHAPES = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512])
_LEAST = 1e-12
_NEWTON = 12
_STEP = 1.5  # largest change of a logarithm in a step of Newton's method
_OLDEST = 95.0  # years; where the last band is taken to end
_SCALE = 20.0  # years; age is measured as 2 log(1 + age / this): children change faster


@dataclasses.dataclass(frozen=True)
class CurveConfig:
    """Prior variances of the parts of an age curve, on the logarithm.

    Args:
        level: Of the whole.
        line: Of the slope.
        smooth: Of an integrated Brownian motion.
        rough: Of a Brownian motion.
        own: Of each band by itself.
        sex: Of the difference between the sexes.
        sex_rough: Of a Brownian motion of that difference.
    """

    level: float = 1.0
    line: float = 0.5
    smooth: float = 1.0
    rough: float = 0.02
    own: float = 1e-4
    sex: float = 0.3
    sex_rough: float = 1e-3


def likeliest_shape(count: Floats, expected: Floats, shapes: Floats = SHAPES) -> float:
    """Shape of the Gamma prior under which counts are likeliest.

    Args:
        count: Any shape.
        expected: Counts if each rate were its prior mean; where 0, nothing is said.
        shapes: To choose from.
    """
    informed = expected > 1e-9
    n, mean = count[informed], expected[informed]
    if not len(n):
        return float(shapes[len(shapes) // 2])
    score = [
        (gammaln(n + a) - gammaln(a) - a * np.log1p(mean / a) + n * np.log(mean / (a + mean))).sum()
        for a in shapes
    ]
    return float(shapes[int(np.argmax(score))])


def drawn_to(count: Floats, exposure: Floats, mean: Floats | float, shape: float) -> Floats:
    """Posterior mean of rates: counts over exposure, with a Gamma prior of this mean and shape."""
    return np.asarray((count + shape) / (exposure + shape / np.maximum(mean, _LEAST)))


def shrunk(count: Floats, exposure: Floats, mean: Floats | float, shapes: Floats = SHAPES) -> Floats:
    """`drawn_to` with the likeliest shape."""
    expected = exposure * mean
    return drawn_to(count, exposure, mean, likeliest_shape(count, expected, shapes))


def class_rates(count: Floats, exposure: Floats, group: Ints, n_groups: int) -> Floats:
    """Rates of codes in classes: share of the code in its group, times the group's weight in the class.

    A class is known for some groups of codes and hardly for the rest, so weights are drawn to the group's weight
    among all classes only as far as they agree; within a group codes follow their shares far more closely. Shares
    and weights need each other and are found in turn.

    Args:
        count: `[class, code]`, codes counted.
        exposure: `[class, code]`, visits, weighted by whatever multiplies the rate.
        group: `[code]`.
        n_groups: Number of groups.

    Returns:
        `[class, code]`.
    """
    if not count.size:
        return np.zeros(count.shape)
    size = np.bincount(group, minlength=n_groups)
    total = count.sum(0)
    share = _within((total + 0.3) / (exposure.mean(0) + 1e-9), group, n_groups)
    weight = np.ones((len(count), n_groups))
    for _ in range(3):
        n, e = _by_group(count, group, n_groups), _by_group(exposure * share, group, n_groups)
        # Of a group that nobody had, as much as half a code in all visits.
        usual = (n.sum(0) + 0.05) / np.maximum(e.sum(0), 1.0)
        scale = n.sum(1) / np.maximum(e @ usual, 1e-9)
        weight = shrunk(n, e, np.maximum(scale, 1e-6)[:, None] * usual)
        reach = (exposure * weight[:, group]).sum(0)
        share = _within(shrunk(total, reach, 1 / size[group]), group, n_groups)
    return shrunk(count, exposure, weight[:, group] * share)


def _by_group(values: Floats, group: Ints, n_groups: int) -> Floats:
    """`[class, group]` sums of `[class, code]`."""
    out = np.zeros((n_groups, len(values)))
    np.add.at(out, group, values.T)
    return out.T


def _within(values: Floats, group: Ints, n_groups: int) -> Floats:
    """Shares of each code in its group, summing to 1."""
    return np.asarray(values / np.bincount(group, values, n_groups)[group])


def age_curves(count: Floats, expected: Floats, edges: Ints, config: CurveConfig) -> Floats:
    """Factors by age band and sex, positive, one curve per row.

    Args:
        count: `[curve, cell]`.
        expected: `[curve, cell]`, counts if the factor were 1.
        edges: First age of each band.
        config: What curves are like.
    """
    if not len(count):
        return np.ones(count.shape)
    precision = np.linalg.inv(_covariance(edges, config))
    log = np.zeros(count.shape)
    diagonal = np.eye(count.shape[1])
    for _ in range(_NEWTON):
        mean = expected * np.exp(log)
        slope = count - mean - log @ precision
        step = np.linalg.solve(precision + mean[:, :, None] * diagonal, slope[:, :, None])[:, :, 0]
        log += np.clip(step, -_STEP, _STEP)
        if np.abs(step).max() < 1e-3:
            break
    return np.exp(log)


def _covariance(edges: Ints, config: CurveConfig) -> Floats:
    """`[cell, cell]`, of the logarithm of a curve."""
    last = np.append(edges[1:] - 1, max(_OLDEST, float(edges[-1])))
    age = 2 * np.log1p((edges + last) / 2 / _SCALE)
    line = np.outer(*[age - 2 * np.log1p(60 / _SCALE)] * 2)
    since = age - age[0]
    rough = np.minimum.outer(since, since)
    smooth = rough**2 * (3 * np.maximum.outer(since, since) - rough) / 6
    common = config.level + config.line * line + config.smooth * smooth + config.rough * rough
    common += config.own * np.eye(len(age))
    difference = config.sex + config.sex_rough * (line + rough)
    side = np.array([0.5, -0.5])
    out = np.kron(common, np.ones((2, 2))) + np.kron(difference, np.outer(side, side))
    return np.asarray(out + 1e-6 * np.eye(len(out)))
