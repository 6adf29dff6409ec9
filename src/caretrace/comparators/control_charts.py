"""Control charts from quality control: EWMA and CUSUM of a signal against what is usual for its subject.

Roberts 1959 (EWMA) and Page 1954 (CUSUM), with the usual settings of Montgomery, "Introduction to Statistical
Quality Control": lambda 0.2; slack half a standard deviation. Both run forward only, so that a score at a step
knows nothing of later ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

FloatArray = npt.NDArray[np.float64]


def ewma(values: npt.ArrayLike, mean: float, sd: float, weight: float = 0.2) -> FloatArray:
    """Distance of the moving average from the usual mean, in its own standard deviations.

    Args:
        values: [steps]; NaN where there is no value: the average drifts back to the usual level.
        mean: Usual level.
        sd: Usual standard deviation, above 0.
        weight: Of the newest value, in (0, 1].

    Returns:
        [steps], 0 and higher.
    """
    deviation = np.nan_to_num((np.asarray(values, np.float64) - mean) / sd, nan=0.0)
    average = lfilter([weight], [1.0, weight - 1.0], deviation)
    return np.asarray(np.abs(average) / np.sqrt(weight / (2.0 - weight)), np.float64)


def cusum(values: npt.ArrayLike, mean: float, sd: float, slack: float = 0.5) -> FloatArray:
    """The larger of the two one-sided cumulative sums, in standard deviations.

    S(t) = max(0, S(t-1) + z(t) - slack) for rises, the same with -z for falls. Without a loop:
    S = walk - min(0, lowest point of the walk so far), with walk the plain running sum.

    Args:
        values: [steps]; NaN where there is no value: it adds nothing.
        mean: Usual level.
        sd: Usual standard deviation, above 0.
        slack: Deviation that is forgiven at each step, standard deviations.

    Returns:
        [steps], 0 and higher.
    """
    deviation = (np.asarray(values, np.float64) - mean) / sd
    known = ~np.isnan(deviation)
    sums = []
    for sign in (1.0, -1.0):
        walk = np.cumsum(np.where(known, sign * deviation - slack, 0.0))
        sums.append(walk - np.minimum(0.0, np.minimum.accumulate(walk)))
    return np.asarray(np.maximum(*sums), np.float64)
