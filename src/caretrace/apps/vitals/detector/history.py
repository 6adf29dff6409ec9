"""What a subject's signals were like so far: running averages and spreads over several time scales.

A network that sees one step after the other would have to keep hours of them in its state. Instead every step comes
with averages whose weights fall off exponentially with their age, in which missing steps do not count:

    average(t) = sum of decay^(t-s) x(s) over measured s, divided by sum of decay^(t-s) over measured s

Two running sums per channel and scale are all that must be remembered, and a step looks back only: a stream, taken
one step at a time, and a stored recording give the same numbers.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from torch import Tensor

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

_FLOOR = 1e-6  # of a sum of weights: nothing measured yet
_CLIP = 8.0  # standard deviations
LEVEL = 0.3  # what a level is multiplied by, to be as large as the other features
_QUICK_SCALES = 2  # the quick spread is taken over so many times the shortest scale


@dataclasses.dataclass(frozen=True)
class HistorySettings:
    """What is remembered.

    Args:
        n_channels: Signals.
        step_seconds: Length of a step.
        scales_seconds: Time constants of the averages, short to long, at least two.
    """

    n_channels: int
    step_seconds: float
    scales_seconds: tuple[float, ...]

    @property
    def n_features(self) -> int:
        """Width of what `History.advance` gives."""
        return self.n_channels * (len(self.scales_seconds) + 6) + 1


def longest(features: Tensor, n_channels: int) -> Tensor:
    """The average over the longest scale of each channel, from what `History.advance` gives.

    Args:
        features: [..., feature].
        n_channels: Signals.
    """
    # Five parts and the time so far from the end: averages[1] - averages[-1], then LEVEL * averages[1].
    first = features.shape[-1] - 1 - 5 * n_channels
    apart, level = (features[..., at : at + n_channels] for at in (first, first + n_channels))
    return level / LEVEL - apart


class History:
    """The running sums of several subjects, side by side.

    Args:
        settings: What is remembered.
        n_subjects: How many subjects.
    """

    def __init__(self, settings: HistorySettings, n_subjects: int = 1) -> None:
        self.settings = settings
        scales, channels = len(settings.scales_seconds), settings.n_channels
        self._sums = np.zeros((2, scales, n_subjects, channels))  # of values and of weights
        # Of absolute deviations and their weights: quick ones, slow ones.
        self._spreads = np.zeros((2, 2, n_subjects, channels))
        self._steps = np.zeros(n_subjects)

    def memory(self) -> dict[str, tuple[DoubleArray, int]]:
        """All that is remembered, not copied: name → array, and which of its axes counts subjects."""
        return {"sums": (self._sums, 2), "spreads": (self._spreads, 2), "steps": (self._steps, 0)}

    def advance(
        self,
        values: FloatArray,
        subjects: npt.NDArray[np.int64] | None = None,
        kept: npt.NDArray[np.int64] | slice = slice(None),
    ) -> FloatArray:
        """Take steps, one or many.

        Args:
            values: [subject, channel, step], standardised; NaN where nothing was measured.
            subjects: Whose steps these are; None for all.
            kept: Which of the steps are wanted; all are remembered.

        Returns:
            [subject, feature, step]: distances between averages of neighbouring scales, the level, which channels
            were measured, logarithms of a quick and a slow spread, and for how long there have been steps.
        """
        at = np.arange(self._steps.size) if subjects is None else subjects
        measured = ~np.isnan(values)
        weight = measured.astype(np.float64)
        value = np.where(measured, values, 0.0).astype(np.float64)
        averages = [
            self._average(self._sums, scale, seconds, at, value, weight)
            for scale, seconds in enumerate(self.settings.scales_seconds)
        ]
        now = np.where(measured, value, averages[0])
        quick, slow = self._deviations(now, averages, at)
        seen = self._steps[at, None, None] + np.arange(1, values.shape[2] + 1)
        self._steps[at] += values.shape[2]
        now, weight, quick, slow, seen = (each[..., kept] for each in (now, weight, quick, slow, seen))
        averages = [each[..., kept] for each in averages]
        hours = np.log1p(seen * self.settings.step_seconds / 3600)
        steps = zip([now, *averages[:-1]], averages, strict=True)
        parts = [
            *(finer - coarser for finer, coarser in steps),
            now - averages[-1],
            averages[1] - averages[-1],
            LEVEL * averages[1],
            weight,
            np.log(quick + 0.05),
            np.log(slow + 0.1),
            np.minimum(hours, 3.5),
        ]
        return np.clip(np.concatenate(parts, 1), -_CLIP, _CLIP).astype(np.float32)

    def _deviations(
        self, now: DoubleArray, averages: list[DoubleArray], at: npt.NDArray[np.int64]
    ) -> tuple[DoubleArray, DoubleArray]:
        """How far a channel swings about its shortest average, and the second about the longest."""
        scales, always = self.settings.scales_seconds, np.ones_like(now)
        return (
            self._average(self._spreads, 0, _QUICK_SCALES * scales[0], at, np.abs(now - averages[0]), always),
            self._average(self._spreads, 1, scales[-1], at, np.abs(averages[1] - averages[-1]), always),
        )

    def _average(
        self,
        sums: DoubleArray,
        place: int,
        seconds: float,
        at: npt.NDArray[np.int64],
        value: DoubleArray,
        weight: DoubleArray,
    ) -> DoubleArray:
        decay = float(np.exp(-self.settings.step_seconds / seconds))
        running = []
        for kind, added in enumerate((value, weight)):
            before = sums[kind, place, at][..., None]
            if added.shape[2] == 1:  # a stream: `lfilter` costs more than it does
                total = (1 - decay) * added + decay * before
            else:
                total, _ = lfilter([1 - decay], [1.0, -decay], added, axis=2, zi=decay * before)
            sums[kind, place, at] = total[..., -1]
            running.append(total)
        return np.asarray(running[0] / np.maximum(running[1], _FLOOR), np.float64)
