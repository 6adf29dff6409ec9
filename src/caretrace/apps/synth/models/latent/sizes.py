"""How many codes a visit has: a weight for each number, and the normaliser that keeps probabilities exact.

Given its classes a visit is a set of independent codes, kept with a chance that depends on how many there are: files
cut lists at 3 or 20 codes, and leave out visits without any. P(n codes) comes from the generating function
G(z) = prod (1 - p + p z) at the points of the unit circle (Cauchy's formula; Fernandez and Williams 2010, IEEE
Transactions on Aerospace and Electronic Systems 46:803, for the Poisson-binomial distribution), which is a product over
codes: classes of people and of visits multiply, and a code with a history exchanges one factor.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from caretrace.evaluation.histories import Floats, Ints

Complexes = NDArray[np.complex128]
_LEAST_POINTS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class SizeWeights:
    """Chance that a visit with n codes is kept, relative to the likeliest number.

    Args:
        weight: `[n]`, from 0 codes on.
        tail: Of every larger number.
    """

    weight: Floats
    tail: float

    def of(self, count: Ints) -> Floats:
        """Weight of each number."""
        return np.append(self.weight, self.tail)[np.minimum(count, len(self.weight))]

    @property
    def simple(self) -> bool:
        """Whether only empty visits are another matter than the rest."""
        return len(self.weight) == 1

    @property
    def points(self) -> int:
        """Points on the circle: so many that a visit with as many codes again is out of the question."""
        return max(_LEAST_POINTS, 1 << int(np.ceil(np.log2(3 * len(self.weight)))))

    @property
    def circle(self) -> Complexes:
        """The upper half, the lower one is its mirror image; no point is real, where a factor could be 0."""
        return np.exp(1j * np.pi * (2 * np.arange(self.points // 2) + 1) / self.points)

    def over_circle(self, value: Floats) -> Complexes:
        """`[point]`: factors c such that the sum of value[n] P(n) is the real part of the sum of c G(z)."""
        powers = self.circle[:, None] ** -np.arange(len(value))
        return np.asarray(2 * (value * powers).sum(1) / self.points)


def generating(hazard: Floats, circle: Complexes) -> Complexes:
    """`[class, point]`: G of codes with these hazards `[class, code]`."""
    rate = -np.expm1(-hazard)
    out = [np.prod(1 + rate * (z - 1), axis=1) for z in circle]
    return np.stack(out, axis=1)


def exchanged(
    base: Complexes,
    hazard: Floats,
    seen: tuple[csr_array, ...],
    instead: tuple[Floats, ...],
    circle: Complexes,
) -> Complexes:
    """`[visit, class, point]`: `base` with the factors of codes seen before exchanged.

    Args:
        base: `generating(hazard, circle)`.
        hazard: `[class, code]`.
        seen: Per state, `[visit, code]`.
        instead: Per state, hazards `[class, code]` of codes seen before.
        circle: Points.
    """
    visits = seen[0].shape[0]
    old = np.unique(np.concatenate([matrix.indices for matrix in seen]))
    size, turn = np.zeros((2, visits, base.size))
    before = _logarithms(hazard[:, old], circle)
    for matrix, other in zip(seen, instead, strict=True):
        after, some = _logarithms(other[:, old], circle), matrix[:, old]
        size += some @ (after[0] - before[0])
        turn += some @ (after[1] - before[1])
    factor = np.exp(size) * (np.cos(turn) + 1j * np.sin(turn))
    return np.asarray(base * factor.reshape(visits, *base.shape))


def _logarithms(hazard: Floats, circle: Complexes) -> tuple[Floats, Floats]:
    """`[code, class times point]`: log(1 - p + p z), real and imaginary part; numpy's of complex numbers is slow."""
    rate = -np.expm1(-hazard).T[:, :, None]
    real, imaginary = 1 + rate * (circle.real - 1), rate * circle.imag
    size, turn = 0.5 * np.log(real**2 + imaginary**2), np.arctan2(imaginary, real)
    flat = len(rate), hazard.shape[0] * len(circle)
    return size.reshape(flat), turn.reshape(flat)


def both(people: Complexes, visits: Complexes, factor: Complexes) -> Floats:
    """`[visit, class of people, class of visits]`: real part of the sum over the circle of both times a factor.

    Two products of real matrices cost less than one of complex ones.
    """
    weighted = np.swapaxes(visits * factor, -1, -2)
    return np.asarray(people.real @ weighted.real - people.imag @ weighted.imag)
