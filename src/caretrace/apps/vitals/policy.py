"""From scores to alarms at a stated rate of false ones.

Each reason (something sudden, something lasting) has a machine of its own; alarms of one subject that come within
`join_seconds` of each other are one, whatever their reason. Thresholds are chosen on tuning subjects, after
hysteresis, delay and joining, so that what is counted is what a ward would hear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.alarms import AlarmMachine, AlarmSettings, raised
from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.detector.network import LASTING, REASONS, SUDDEN
from caretrace.errors import ConfigError
from caretrace.evaluation.detection import DAY, Events, match

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
NEVER = 1e9  # a threshold that no score reaches
WORST = 5.0  # false alarms of a patient-day at most, for the bound: assumed
_HALVINGS = 14
_FACTORS = (0.6, 0.8, 1.0, 1.25, 1.6)  # of the wanted rate: where thresholds are looked for
_FLAT = 1e-3


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of one recording.

    Args:
        subject: Whose.
        times: [step], when each step is known, seconds.
        reasons: Reason → [step].
    """

    subject: int
    times: FloatArray
    reasons: Mapping[str, npt.NDArray[np.floating]]


@dataclasses.dataclass(frozen=True)
class Alarms:
    """Alarms as a ward hears them, in order of subject and time.

    Args:
        subject: [alarm], whose.
        time: [alarm], when it was raised, seconds.
        reason: [alarm], what for.
    """

    subject: IntArray
    time: FloatArray
    reason: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Score from which each reason is an alarm, and what is known of their rate.

    Args:
        raise_at: Reason → threshold.
        tuning_rate: False alarms per patient-day of tuning subjects at these thresholds.
        tuning_days: Patient-days they were counted over.
        bound: Rate that conformal risk control could guarantee in expectation: the counted rate plus one more
            patient-day with `WORST` false alarms, the most it allows for.
    """

    raise_at: dict[str, float]
    tuning_rate: float
    tuning_days: float
    bound: float


def alarm_settings(reason: str, threshold: float, config: PolicyConfig) -> AlarmSettings:
    """When a score of this reason becomes an alarm."""
    sudden = reason == REASONS[SUDDEN]
    return AlarmSettings(
        raise_at=threshold,
        clear_at=threshold - config.hysteresis,
        delay_seconds=config.sudden_delay_seconds if sudden else config.lasting_delay_seconds,
        clear_seconds=config.clear_seconds,
        join_seconds=config.join_seconds,
    )


def raise_alarms(recordings: Sequence[Scores], raise_at: Mapping[str, float], config: PolicyConfig) -> Alarms:
    """What a ward hears.

    Args:
        recordings: Scores, in order of subject and time.
        raise_at: Reason → threshold; reasons without one raise nothing.
        config: Delay, hysteresis and joining.
    """
    found: list[tuple[int, float, str]] = []
    for each in recordings:
        for reason, threshold in raise_at.items():
            score = np.asarray(each.reasons[reason], np.float64)
            if not (score >= threshold).any():
                continue
            machine = AlarmMachine(alarm_settings(reason, threshold, config))
            found += [
                (each.subject, alarm.time, reason) for alarm in raised(machine.advance(each.times, score))
            ]
    found.sort()
    kept = _joined(found, config.join_seconds)
    return Alarms(
        np.array([who for who, _, _ in kept], np.int64),
        np.array([when for _, when, _ in kept], np.float64),
        tuple(why for _, _, why in kept),
    )


def _joined(found: list[tuple[int, float, str]], within: float) -> list[tuple[int, float, str]]:
    kept: list[tuple[int, float, str]] = []
    for alarm in found:
        if not kept or kept[-1][0] != alarm[0] or alarm[1] - kept[-1][1] > within:
            kept.append(alarm)
    return kept


def false_rate(alarms: Alarms, events: Events, days: float, early: float) -> float:
    """False alarms per patient-day."""
    return float(match(events, alarms.subject, alarms.time, early).false.sum()) / days


def choose_thresholds(
    tuning: Sequence[Scores],
    reasons: Sequence[str],
    events: Events,
    watched: Mapping[int, float],
    config: PolicyConfig,
) -> Thresholds:
    """Thresholds at which tuning subjects have the wanted number of false alarms.

    Each reason first gets its share of the rate alone; then both shares are scaled together until what is heard,
    joined, has the rate.

    Args:
        tuning: Scores of tuning subjects.
        reasons: What may raise alarms.
        events: Known events of tuning subjects, alarms in which are not false; may be empty.
        watched: Seconds each tuning subject was recorded.
        config: The rate, and how alarms are raised.

    Raises:
        ConfigError: No reason, or nobody was watched.
    """
    days = sum(watched.values()) / DAY
    if not reasons or not days > 0:
        raise ConfigError("thresholds: no score, or no tuning recording to choose them on")
    shares = _shares(reasons, config.lasting_share)
    curves = {reason: _Curve(tuning, reason, events, days, config, shares[reason]) for reason in reasons}
    wanted = config.false_alarms_per_day

    def at(factor: float) -> dict[str, float]:
        return {reason: curve.threshold(wanted * shares[reason] * factor) for reason, curve in curves.items()}

    rates = []
    for factor in _FACTORS:
        alarms = raise_alarms(tuning, at(factor), config)
        rates.append(_counted(false_rate(alarms, events, days, config.early_seconds), days))
    slope, offset = np.polyfit(np.log(_FACTORS), np.log(rates), 1)
    factor = np.exp((np.log(wanted) - offset) / slope) if slope > _FLAT else 1.0
    raise_at = at(float(np.clip(factor, _FACTORS[0], _FACTORS[-1])))
    return _described(raise_alarms(tuning, raise_at, config), raise_at, events, watched, config)


def _counted(rate: float, days: float) -> float:
    """The rate to expect elsewhere: one alarm more than was counted.

    A threshold that k of n alarms exceed, and that was chosen as the lowest to do so, lies just above the alarm k + 1:
    the share of others above it is (k + 1) / (n + 1) in expectation, not k / n.
    """
    return rate + 1 / days


def _shares(reasons: Sequence[str], lasting: float) -> dict[str, float]:
    if len(reasons) == 1:
        return {reasons[0]: 1.0}
    return {reason: lasting if reason == REASONS[LASTING] else 1 - lasting for reason in reasons}


class _Curve:
    """Threshold of one reason as a function of its rate of false alarms alone.

    A few tuning alarms more or less would move a threshold a lot. So thresholds are found for several rates about the
    wanted one, and a straight line in the logarithm of the rate (an exponential tail) is drawn through them.
    """

    def __init__(
        self,
        tuning: Sequence[Scores],
        reason: str,
        events: Events,
        days: float,
        config: PolicyConfig,
        share: float,
    ) -> None:
        self._tuning, self._reason, self._events = tuning, reason, events
        self._days, self._config = days, config
        self._known: dict[float, float] = {}
        self._highest = max(float(np.max(each.reasons[reason], initial=-NEVER)) for each in tuning)
        self._lowest = float(np.median([np.median(each.reasons[reason]) for each in tuning]))
        rates = np.array(_FACTORS) * config.false_alarms_per_day * share
        found = np.array([self._exactly(float(rate)) for rate in rates])
        self._slope, self._offset = np.polyfit(np.log(rates), found, 1)

    def threshold(self, rate: float) -> float:
        """Threshold for a rate, on the line."""
        return float(self._slope * np.log(rate) + self._offset)

    def _exactly(self, rate: float) -> float:
        """Lowest threshold, to within rounding, at which no more than this rate is to be expected."""
        low, high = self._lowest, self._highest + 1e-3
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if _counted(self._rate(middle), self._days) > rate:
                low = middle
            else:
                high = middle
        return high

    def _rate(self, threshold: float) -> float:
        if threshold not in self._known:
            alarms = raise_alarms(self._tuning, {self._reason: threshold}, self._config)
            self._known[threshold] = false_rate(alarms, self._events, self._days, self._config.early_seconds)
        return self._known[threshold]


def _described(
    alarms: Alarms,
    raise_at: Mapping[str, float],
    events: Events,
    watched: Mapping[int, float],
    config: PolicyConfig,
) -> Thresholds:
    """Add what could be guaranteed: (n rate + WORST) / (n + 1), Angelopoulos et al. 2022, arXiv 2208.02814.

    The unit of exchange is a subject; rates are per day, so `n` is patient-days. The bound holds for a threshold
    chosen by it; with tens of patient-days and a rate of a few tenths the second term alone is near the rate, and a
    threshold that keeps the bound below the rate silences most alarms. We choose by the counted rate and report this.
    """
    days = sum(watched.values()) / DAY
    rate = false_rate(alarms, events, days, config.early_seconds)
    return Thresholds(dict(raise_at), rate, days, (days * rate + WORST) / (days + 1))
