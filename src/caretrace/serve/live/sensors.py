"""Technical trouble of many subjects at once: what `apps.vitals.technical.SignalWatch` says of each of them.

Two things a ward needs besides. A channel that a subject never had is not off; and one that is measured every quarter
of an hour (a cuff) is off only after several times its own usual interval.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.technical import LIMITS

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_INTERVALS = 3.0  # so many usual intervals without a value: the probe is off
_WEIGHT = 0.2  # of the newest interval in the usual one
_ARRAYS = ("shown", "unseen", "unchanged", "usual")


def plausible_bounds(channels: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest value a living body can have, [channel] each."""
    limits = [LIMITS[name] for name in channels]
    return (
        np.array([each.low for each in limits], np.float32),
        np.array([each.high for each in limits], np.float32),
    )


class Sensors:
    """The sensors of everybody.

    Args:
        channels: Signals, in order.
        step_seconds: Time between two steps.
    """

    def __init__(self, channels: tuple[str, ...], step_seconds: float) -> None:
        limits = [LIMITS[name] for name in channels]
        self._step = step_seconds
        self._off = np.array([each.off_seconds for each in limits]) / step_seconds
        still = np.array([each.flat_seconds for each in limits]) / step_seconds
        self._flat = np.maximum(still, [each.flat_samples for each in limits])
        self.shown = np.zeros((0, len(channels)), np.float32)  # last value
        self.unseen = np.zeros((0, len(channels)))  # steps since there was one
        self.unchanged = np.zeros((0, len(channels)))  # steps since it was another one
        self.usual = np.zeros((0, len(channels)))  # steps between two values

    def grow(self, slots: int) -> None:
        """Make room for so many subjects."""
        more = slots - len(self.shown)
        for name, start in (("shown", np.nan), ("unseen", 0.0), ("unchanged", 0.0), ("usual", 1.0)):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.full((more, array.shape[1]), start, array.dtype)]))

    def reset(self, slots: IntArray) -> None:
        """A recording begins."""
        self.shown[slots], self.unseen[slots], self.unchanged[slots], self.usual[slots] = np.nan, 0, 0, 1

    def step(self, slots: IntArray, values: FloatArray) -> tuple[BoolArray, BoolArray]:
        """One more step of some subjects.

        Args:
            slots: [row], different ones.
            values: [row, channel]; NaN where nothing was measured.

        Returns:
            [row, channel] whose probe is off, and [row, channel] whose line is flat.
        """
        known, before = ~np.isnan(values), self.shown[slots]
        gap = self.unseen[slots] + 1
        ever = ~np.isnan(before)
        usual = np.where(known & ever, (1 - _WEIGHT) * self.usual[slots] + _WEIGHT * gap, self.usual[slots])
        changed = known & (values != before)
        unseen, unchanged = np.where(known, 0, gap), np.where(changed, 0, self.unchanged[slots] + 1)
        self.shown[slots] = np.where(known, values, before)
        self.unseen[slots], self.unchanged[slots], self.usual[slots] = unseen, unchanged, usual
        off = ever & ~known & (unseen >= np.maximum(self._off, np.ceil(_INTERVALS * usual)))
        flat = known & (unchanged >= self._flat)
        return off, flat

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What must be kept to go on after a restart."""
        return {name: getattr(self, name).copy() for name in _ARRAYS}

    def restore(self, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        """Go on from there."""
        for name in _ARRAYS:
            setattr(self, name, arrays[name].copy())
