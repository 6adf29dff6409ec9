"""What wards do today: NEWS2 and single limits. Nothing here is learned.

NEWS2: Royal College of Physicians 2017, "National Early Warning Score (NEWS) 2", chart 1, SpO2 scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caretrace.errors import ConfigError, unknown_name

FloatArray = npt.NDArray[np.float64]

# Channel: (decimals the chart is read with, [(highest value of the band, points)], the last band is open).
NEWS2: dict[str, tuple[int, tuple[tuple[float, int], ...]]] = {
    "resp": (0, ((8, 3), (11, 1), (20, 0), (24, 2), (np.inf, 3))),
    "spo2": (0, ((91, 3), (93, 2), (95, 1), (np.inf, 0))),
    "sbp": (0, ((90, 3), (100, 2), (110, 1), (219, 0), (np.inf, 3))),
    "hr": (0, ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (np.inf, 3))),
    "temp": (1, ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (np.inf, 2))),
}
# Never in a monitor's signals: supplemental oxygen (2 points) and consciousness (3 points).
NOT_MONITORED = ("supplemental oxygen", "consciousness")


class EarlyWarning(NamedTuple):
    """NEWS2 over time.

    Args:
        points: [steps], sum over the channels that had a value; NaN where none had.
        missing: What NEWS2 asks for and these signals do not have: with any of it the score is partial.
    """

    points: FloatArray
    missing: tuple[str, ...]


def news2(channels: Mapping[str, npt.ArrayLike]) -> EarlyWarning:
    """NEWS2 of each step, partial where channels are missing.

    Args:
        channels: Channel (`hr`, `spo2`, `resp`, `sbp`, `temp`) → [steps] in bpm, %, breaths/min, mmHg, °C; NaN where
            there is no value. Other channels are not used.

    Raises:
        ConfigError: None of the five channels is given.
    """
    used = [name for name in NEWS2 if name in channels]
    if not used:
        raise ConfigError(
            f"news2: got {', '.join(channels) or 'no channels'}; give some of {', '.join(NEWS2)}"
        )
    points = np.stack([_points(name, np.asarray(channels[name], np.float64)) for name in used])
    known = ~np.isnan(points).all(axis=0)
    total = np.where(known, np.nansum(points, axis=0), np.nan)
    return EarlyWarning(total, (*(name for name in NEWS2 if name not in used), *NOT_MONITORED))


def _points(channel: str, values: FloatArray) -> FloatArray:
    decimals, bands = NEWS2[channel]
    bounds = np.array([bound for bound, _ in bands])
    scores = np.array([points for _, points in bands], np.float64)
    band = np.searchsorted(bounds, np.round(values, decimals), side="left")
    return np.where(np.isnan(values), np.nan, scores[np.minimum(band, len(scores) - 1)])


# Usual default limits of bedside monitors; SpO2 at 90 % as in AAMI's reports on alarm burden.
LIMITS: dict[str, tuple[float, float]] = {
    "hr": (50, 120),
    "spo2": (90, np.inf),
    "resp": (8, 30),
    "sbp": (90, 180),
}


def limit_violations(
    channels: Mapping[str, npt.ArrayLike],
    step_seconds: float,
    delay_seconds: float = 0.0,
    limits: Mapping[str, tuple[float, float]] = LIMITS,
) -> npt.NDArray[np.bool_]:
    """Where a monitor with single limits sounds.

    Args:
        channels: Channel → [steps]; NaN where there is no value, which violates nothing.
        step_seconds: Time between two steps.
        delay_seconds: How long a limit must be violated without a break before it sounds (15 s cut alarms by
            60 %, AAMI).
        limits: Channel → lowest and highest value that is silent.

    Returns:
        [steps], True while any limit sounds.

    Raises:
        ConfigError: A limit for a channel that is not there.
    """
    sounding: npt.NDArray[np.bool_] | None = None
    for name, (low, high) in limits.items():
        if name not in channels:
            if limits is LIMITS:
                continue
            raise ConfigError(unknown_name("channel", name, channels))
        values = np.asarray(channels[name], np.float64)
        held = sustained((values < low) | (values > high), round(delay_seconds / step_seconds))
        sounding = held if sounding is None else sounding | held
    if sounding is None:
        raise ConfigError(f"limit_violations: none of {', '.join(limits)} is among {', '.join(channels)}")
    return sounding


def sustained(condition: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """Where a condition holds and has held at each of the `steps` steps before."""
    position = np.arange(condition.size)
    last_break = np.maximum.accumulate(np.where(condition, -1, position))
    return condition & (position - last_break > steps)
