"""Whether new recordings look like those a model was tuned on: a shifted sensor must not pass in silence.

Per subject and channel two numbers say most: the mean level, and how far values lie from their one-step forecast (a
noisier sensor is harder to forecast). Their means over new subjects are compared with those over tuning subjects by
Welch's test (Welch 1947), Bonferroni-corrected over channels and numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from caretrace.errors import CohortError

FloatArray = npt.NDArray[np.float64]
KINDS = ("level", "noise")
_NO_VARIANCE = 1e-12
ALPHA = 0.01  # chance that anything is flagged where nothing has changed


@dataclasses.dataclass(frozen=True)
class Drift:
    """What has changed.

    Args:
        p: [kind, channel], chance of a difference as large; 1 where it cannot be told.
        difference: [kind, channel], new minus reference: levels in the channel's unit, noise as a logarithm.
        flagged: Names of what differs, such as `spo2 level`.
    """

    p: FloatArray
    difference: FloatArray
    flagged: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Levels and noise of the subjects a model was tuned on.

    Args:
        channels: Signals, in order.
        numbers: [subject, kind, channel]; NaN where a subject has none.
    """

    channels: tuple[str, ...]
    numbers: FloatArray

    @classmethod
    def of(
        cls,
        channels: tuple[str, ...],
        values: Sequence[npt.NDArray[np.float32]],
        residuals: Sequence[npt.NDArray[np.float32]],
    ) -> Reference:
        """Summaries of recordings, each taken as one subject.

        Args:
            channels: Signals, in order.
            values: Each [channel, step], in the channels' units.
            residuals: Each [channel, step], values less their forecast, in scales of the forecast.

        Raises:
            CohortError: No recording.
        """
        if not values:
            raise CohortError("drift: no recording to compare with; use a dataset with tuning subjects")
        rows = [
            [_middle(shown), np.log(np.array(_middle(np.abs(apart))) + 1e-6)]
            for shown, apart in zip(values, residuals, strict=True)
        ]
        return cls(channels, np.array(rows, np.float64))

    def compare(self, new: Reference) -> Drift:
        """What differs in new recordings.

        Raises:
            CohortError: Other channels.
        """
        if self.channels != new.channels:
            raise CohortError(
                f"drift: tuned on {', '.join(self.channels)}, got {', '.join(new.channels)}; give the same channels"
            )

        def known(numbers: FloatArray) -> FloatArray:
            return numbers[~np.isnan(numbers)]

        p = np.ones((len(KINDS), len(self.channels)))
        difference = np.full_like(p, np.nan)
        for kind, _ in enumerate(KINDS):
            for channel, _ in enumerate(self.channels):
                old, now = (known(part[:, kind, channel]) for part in (self.numbers, new.numbers))
                if min(len(old), len(now)) >= 3:
                    difference[kind, channel] = now.mean() - old.mean()
                    p[kind, channel] = _welch(old, now)
        flagged = [
            f"{name} {kind}"
            for i, kind in enumerate(KINDS)
            for j, name in enumerate(self.channels)
            if p[i, j] < ALPHA / p.size
        ]
        return Drift(p, difference, tuple(flagged))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; None where a subject has no number."""
        return {
            "channels": list(self.channels),
            "numbers": [
                [[None if np.isnan(x) else float(x) for x in row] for row in subject]
                for subject in self.numbers
            ],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Reference:
        """What `to_dict` gave."""
        return cls(tuple(value["channels"]), np.array(value["numbers"], np.float64))


def _welch(old: FloatArray, now: FloatArray) -> float:
    """Chance of means as far apart, by Student's t with Welch's degrees of freedom."""
    apart = float(now.mean() - old.mean())
    parts = np.array([old.var(ddof=1) / len(old), now.var(ddof=1) / len(now)])
    if parts.sum() < _NO_VARIANCE:  # everybody has the same number: no spread to judge by
        return 1.0 if abs(apart) < 1e-6 else 0.0
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(old) - 1, len(now) - 1])).sum()
    return float(2 * stats.t.sf(abs(apart) / np.sqrt(parts.sum()), freedom))


def _middle(values: npt.NDArray[np.float32]) -> list[float]:
    """Median of each channel; NaN where nothing was measured."""
    return [float(np.median(row[~np.isnan(row)])) if (~np.isnan(row)).any() else np.nan for row in values]
