"""Everything a monitor's alarms stand beside, under one interface: recordings in, a score per step out.

Limits, NEWS2 and random scores learn nothing; EWMA and CUSUM compare with the subject's own first hour; the methods on
windows learn from training subjects (`subsequence.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from caretrace.comparators.control_charts import cusum, ewma
from caretrace.comparators.early_warning import LIMITS, news2
from caretrace.comparators.subsequence import METHODS, Subsequence
from caretrace.errors import ConfigError, unknown_name

FloatArray = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


class Monitoring(Protocol):
    """A score per step of a recording, that uses no later step."""

    def fit(self, recordings: Sequence[FloatArray]) -> object:
        """Learn from training recordings; may do nothing."""
        ...

    def score(self, recording: FloatArray) -> Scores:
        """[channel, step] in the channels' units → [step]; higher is worse."""
        ...


class _Rule:
    """A score that learns nothing from other subjects."""

    def __init__(self, score: Callable[[FloatArray], Scores]) -> None:
        self.score = score

    def fit(self, recordings: Sequence[FloatArray]) -> _Rule:
        """Nothing is learned."""
        del recordings
        return self


NAMES = ("random", "limits", "news2", "ewma", "cusum", *METHODS)


def build_monitoring(
    name: str, channels: Sequence[str], step_seconds: float, window_seconds: float = 1800.0, seed: int = 0
) -> Monitoring:
    """The comparator called `name`.

    Args:
        name: One of `NAMES`.
        channels: Signals, in order.
        step_seconds: Length of a step.
        window_seconds: Length of a window, for the methods on windows.
        seed: Of what is random.

    Raises:
        ConfigError: No comparator has this name.
    """
    if name not in NAMES:
        raise ConfigError(unknown_name("comparator of monitoring", name, NAMES))
    if name in METHODS:
        return Subsequence(name, max(2, round(window_seconds / step_seconds)), seed)
    rng = np.random.default_rng(seed)
    first_hour = max(2, round(3600 / step_seconds))
    rules: dict[str, Callable[[FloatArray], Scores]] = {
        "random": lambda recording: np.asarray(rng.random(recording.shape[1])),
        "limits": lambda recording: _beyond_limits(recording, channels),
        "news2": lambda recording: np.nan_to_num(
            news2(dict(zip(channels, recording, strict=True))).points, nan=0.0
        ),
        "ewma": lambda recording: _worst(recording, first_hour, ewma),
        "cusum": lambda recording: _worst(recording, first_hour, cusum),
    }
    return _Rule(rules[name])


def _beyond_limits(recording: FloatArray, channels: Sequence[str]) -> Scores:
    """How far the worst channel lies beyond its limits, as a share of the limit; below 0 within them."""
    beyond = []
    for name, values in zip(channels, recording.astype(np.float64), strict=True):
        if name in LIMITS:
            low, high = LIMITS[name]
            over = (values - high) / high if np.isfinite(high) else np.full(values.shape, -np.inf)
            beyond.append(np.maximum((low - values) / low, over))
    worst = np.max([np.nan_to_num(each, nan=-1.0, neginf=-1.0) for each in beyond], axis=0)
    return np.asarray(worst, np.float64)


def _worst(recording: FloatArray, first: int, chart: Callable[..., Scores]) -> Scores:
    """The chart of the channel that is farthest from what was usual in the subject's first steps."""
    scores = [np.zeros(recording.shape[1])]
    for values in recording.astype(np.float64):
        early = values[:first][~np.isnan(values[:first])]
        if early.size >= 2 and early.std() > 0:
            scores.append(chart(values, float(early.mean()), float(early.std())))
    return np.asarray(np.max(scores, axis=0), np.float64)
