"""Sleepiness by the three-process model, as published by Ingre et al. 2014 (model 5c).

Symbols: S = homeostatic process (falls while awake, recovers asleep), C = circadian, U = ultradian (12 h),
KSS = Karolinska Sleepiness Scale, 1 (very alert) to 9 (fighting sleep). All hours of the day are clock hours.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Ingre et al. 2014, table 1 and equations 1.1-1.9.
LOWER, UPPER, BREAK = 2.4, 14.3, 12.2
DECAY = -0.0353  # per hour awake
RECOVERY = math.log((14.3 - 14.0) / (14.3 - 7.96)) / 8  # per hour asleep
ACROPHASE = 16.8  # clock hour
CIRCADIAN, ULTRADIAN, ULTRADIAN_MEAN = 2.5, 0.5, -0.5
KSS_AT_ZERO, KSS_SLOPE = 9.68, -0.46


def awake(s: Floats, hours: Floats) -> Floats:
    """S after some hours awake, `[person]`."""
    return LOWER + (s - LOWER) * np.exp(DECAY * hours)


def asleep(s: Floats, hours: Floats) -> Floats:
    """S after some hours of sleep, `[person]`: linear up to the break, then saturating."""
    slope = RECOVERY * (BREAK - UPPER)
    to_break = np.clip((BREAK - s) / slope, 0, None)
    linear = s + slope * np.minimum(hours, to_break)
    rest = np.maximum(hours - to_break, 0)
    return np.where(rest > 0, UPPER - (UPPER - np.maximum(linear, BREAK)) * np.exp(RECOVERY * rest), linear)


def clock(hour: Floats) -> Floats:
    """C + U at a clock hour."""
    circadian = CIRCADIAN * np.cos(2 * np.pi * (hour - ACROPHASE) / 24)
    return circadian + ULTRADIAN_MEAN + ULTRADIAN * np.cos(2 * np.pi * (hour - ACROPHASE - 3) / 12)


def kss(s: Floats, hour: Floats) -> Floats:
    """Expected sleepiness: `9.68 - 0.46 (S + C + U)`, kept within 1 to 9.

    Args:
        s: S at that moment, `[person]`.
        hour: Clock hour.
    """
    return np.clip(KSS_AT_ZERO + KSS_SLOPE * (s + clock(hour)), 1, 9)
