"""What shows of severity at the bedside, hour by hour, and the masks treatments are made of."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.timeline import HOUR, Admissions, Stays

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Signals:
    """Severity as it shows; axes `[stay, hour]` unless stated.

    Args:
        severity: Latent severity; 0 once the stay is over.
        slow: The same with a lag of half a day, as kidneys, liver and marrow show it.
        apparent: What staff see: severity with their error, an hour late.
        loads: `[stay, system]`.
        present: Whether the stay lasts at that hour.
    """

    severity: Matrix
    slow: Matrix
    apparent: Matrix
    loads: NDArray[np.float64]
    present: Mask

    def organ(self, system: int, slow: bool = False) -> Matrix:
        """How ill one organ system looks (or, `slow`, is), `[stay, hour]`."""
        return self.loads[:, system, None] * (self.slow if slow else self.apparent)


def observe(admissions: Admissions, stays: Stays, noise: float, rng: np.random.Generator) -> Signals:
    """Derive what shows of each stay's severity.

    Args:
        admissions: Hold the loads.
        stays: Hold the severity.
        noise: Scale of the error staff make.
        rng: Source of chance.
    """
    present = ~np.isnan(stays.severity)
    severity = np.where(present, stays.severity, 0).astype(np.float64)
    slow, seen = severity.copy(), severity.copy()
    # Assumed: staff misjudge severity by 0.35, and keep the misjudgement for some hours.
    error = correlated(rng, severity.shape, 0.8).T * 0.35 * noise
    for hour in range(1, severity.shape[1]):
        slow[:, hour] = slow[:, hour - 1] + (severity[:, hour] - slow[:, hour - 1]) / 12
        seen[:, hour] = severity[:, hour - 1]
    return Signals(severity, slow, np.maximum(seen + error, 0), admissions.loads[stays.admission], present)


def correlated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float | Matrix) -> Matrix:
    """Standard normal noise that is correlated from hour to hour.

    Args:
        rng: Source of chance.
        shape: `(stay, hour)` plus any further axes.
        correlation: Between neighbouring hours; a number, or one per entry of the last axis.

    Returns:
        `[hour, stay, ...]`: hours first, because they are walked through.
    """
    noise = rng.standard_normal((shape[1], shape[0], *shape[2:]))
    fresh = np.sqrt(1 - np.square(correlation))
    for hour in range(1, shape[1]):
        noise[hour] = correlation * noise[hour - 1] + fresh * noise[hour]
    return noise


def switched(signal: Matrix, on: Matrix | float, off: Matrix | float, present: Mask) -> Mask:
    """A treatment that starts when a signal passes `on` and stops when it falls below `off`.

    Args:
        signal: `[stay, hour]`.
        on: Threshold to start, a number or `[stay, 1]`.
        off: Threshold to stop, lower than `on`.
        present: Whether the stay lasts, `[stay, hour]`.
    """
    decides = (signal > on) | (signal < off)
    hours = np.arange(signal.shape[1])
    last = np.maximum.accumulate(np.where(decides, hours, -1), axis=1)
    going = np.take_along_axis(signal > on, np.maximum(last, 0), axis=1) & (last >= 0)
    return going & present


def spans(mask: Mask) -> tuple[Ints, Ints, Ints]:
    """Runs of true hours: their stay, first hour, and the hour after the last; each `[span]`."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    stay, first = np.nonzero(edges == 1)
    _, after = np.nonzero(edges == -1)
    return stay, first, after


def moments(stays: Stays, stay: Ints, hour: Ints | NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """Times to the minute in the given hours of the stays, seconds since 1970, `[event]`."""
    minutes = rng.integers(0, 60, len(stay)) * 60
    return np.asarray(stays.begin[stay] + np.asarray(hour * HOUR, np.int64) + minutes, np.int64)
