"""What a ward asks of alarms: events caught, false alarms per patient-day, minutes of warning.

An alarm is a moment, an event a stretch of time of one subject. An alarm belongs to the event in whose
stretch, or at most `early` seconds before it, it falls; one that belongs to none is false. Several alarms
in one event catch it once. Rates are per day that somebody was watched, so that a longer recording does
not look worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.checks import BoolArray, FloatArray, checked_labels

IntArray = npt.NDArray[np.int64]

DAY = 86_400.0


@dataclass(frozen=True)
class Events:
    """What should be found.

    Args:
        subject: [events], whose event it is.
        onset: [events], when it begins, seconds.
        end: [events], when it is over, seconds; at or after `onset`.

    Raises:
        CohortError: Lengths that differ, times that are not finite, or an end before its onset.
    """

    subject: IntArray
    onset: FloatArray
    end: FloatArray

    def __post_init__(self) -> None:
        if not self.subject.shape == self.onset.shape == self.end.shape or self.subject.ndim != 1:
            raise CohortError(
                f"events: got {self.subject.shape} subjects, {self.onset.shape} onsets and {self.end.shape} "
                "ends; give one of each per event"
            )
        wrong = np.flatnonzero(~(self.end >= self.onset) | ~np.isfinite(self.end - self.onset))
        if wrong.size:
            at = wrong[0]
            raise CohortError(
                f"events: number {at} lasts from {self.onset[at]} to {self.end[at]}; an end lies at or after its "
                "onset, and both are finite"
            )


@dataclass(frozen=True)
class Matches:
    """Which alarm belongs to which event.

    Args:
        false: [alarms], True where an alarm belongs to no event.
        delay: [events], first alarm minus onset, seconds; negative is warning; NaN where nobody alarmed.
    """

    false: BoolArray
    delay: FloatArray


def match(
    events: Events, alarm_subject: npt.ArrayLike, alarm_time: npt.ArrayLike, early: float = 0.0
) -> Matches:
    """Give every alarm to the events it falls into.

    Args:
        events: What should be found.
        alarm_subject: [alarms], whose alarm it is.
        alarm_time: [alarms], when it was raised, seconds.
        early: How long before its onset an event may be announced, seconds.

    Raises:
        CohortError: Alarms without a subject each, or at a time that is not finite.
        ConfigError: A negative `early`.
    """
    if early < 0:
        raise ConfigError(f"early: got {early}; give 0 or a number of seconds before the onset")
    subject, time = np.asarray(alarm_subject, np.int64), np.asarray(alarm_time, np.float64)
    if subject.shape != time.shape or not np.isfinite(time).all():
        raise CohortError(
            f"alarms: got {subject.shape} subjects and {time.shape} times; give one finite time per alarm"
        )
    false, delay = np.ones(time.size, bool), np.full(events.onset.size, np.nan)
    order = np.lexsort((time, subject))
    sorted_subject, sorted_time = subject[order], time[order]
    for number, (who, onset, end) in enumerate(zip(events.subject, events.onset, events.end, strict=True)):
        low, high = np.searchsorted(sorted_subject, [who, who + 1])
        first = low + np.searchsorted(sorted_time[low:high], onset - early, side="left")
        after = low + np.searchsorted(sorted_time[low:high], end, side="right")
        if first < after:
            delay[number] = sorted_time[first] - onset
            false[order[first:after]] = False
    return Matches(false, delay)


def alarm_burden(
    events: Events,
    alarm_subject: npt.ArrayLike,
    alarm_time: npt.ArrayLike,
    watched: Mapping[int, float],
    *,
    early: float = 0.0,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """The table a ward reads, with intervals from resampling subjects.

    Args:
        events: What should be found.
        alarm_subject: [alarms], whose alarm it is.
        alarm_time: [alarms], when it was raised, seconds.
        watched: Seconds each subject was watched, those without event or alarm included.
        early: How long before its onset an event may be announced, seconds.
        replicates: Resamples of subjects.
        seed: Of the resamples.

    Returns:
        Metric → `{"value", "low", "high"}`: `event_recall` (events caught), `event_precision` (events caught over
        these plus false alarms), `false_alarms_per_patient_day`, `alarms_per_patient_day`, `delay_median` and
        `delay_p90` (seconds from the onset, over caught events). NaN where there is nothing to take it of.

    Raises:
        CohortError: An event or alarm of somebody who was not watched, or nobody was watched.
    """
    people = np.array(sorted(watched), np.int64)
    seconds = np.array([watched[int(who)] for who in people], np.float64)
    if not people.size or not (seconds > 0).all():
        raise CohortError(
            "watched: nobody, or somebody for no time; give the seconds each subject was recorded"
        )
    alarms = np.asarray(alarm_subject, np.int64)
    for name, subjects in (("event", events.subject), ("alarm", alarms)):
        stranger = np.flatnonzero(~np.isin(subjects, people))
        if stranger.size:
            raise CohortError(
                f"{name} {stranger[0]}: subject {subjects[stranger[0]]} was not watched; add its seconds to `watched`"
            )
    found = match(events, alarms, alarm_time, early)
    owner = _Owners(np.searchsorted(people, events.subject), np.searchsorted(people, alarms), seconds, found)
    everyone = np.ones(people.size)
    rng = np.random.default_rng(seed)
    draws = [
        owner.metrics(np.bincount(rng.integers(0, people.size, people.size), minlength=people.size))
        for _ in range(replicates)
    ]
    return {
        name: {"value": value, **_interval(np.array([draw[name] for draw in draws]))}
        for name, value in owner.metrics(everyone).items()
    }


@dataclass(frozen=True)
class _Owners:
    """Events and alarms by position of their subject, so that a resample is a weight per subject."""

    event: IntArray
    alarm: IntArray
    seconds: FloatArray
    found: Matches

    def metrics(self, weight: npt.NDArray[np.float64] | IntArray) -> dict[str, float]:
        days = float(weight @ self.seconds) / DAY
        event, alarm = weight[self.event], weight[self.alarm]
        caught = ~np.isnan(self.found.delay)
        hits, false = float(event[caught].sum()), float(alarm[self.found.false].sum())
        return {
            "event_recall": _ratio(hits, float(event.sum())),
            "event_precision": _ratio(hits, hits + false),
            "false_alarms_per_patient_day": _ratio(false, days),
            "alarms_per_patient_day": _ratio(float(alarm.sum()), days),
            "delay_median": _quantile(self.found.delay[caught], event[caught], 0.5),
            "delay_p90": _quantile(self.found.delay[caught], event[caught], 0.9),
        }


def point_adjusted_f1(labels: npt.ArrayLike, flagged: npt.ArrayLike) -> float:
    """F1 per step after one flagged step made its whole event count as found (Xu et al. 2018).

    A score that flags steps at random reaches .9 with it on long events (Kim et al. 2022,
    https://doi.org/10.1609/aaai.v36i7.20680): show it only beside that of a random score.

    Args:
        labels: [n], 1 inside an event, steps in order of time.
        flagged: [n], 1 where a step is flagged.

    Raises:
        CohortError: Values that are neither 0 nor 1, or lengths that differ.
    """
    truth, positive = checked_labels(labels), checked_labels(flagged)
    if truth.shape != positive.shape:
        raise CohortError(f"flagged: got {positive.size} steps for {truth.size} labels; give one per step")
    run = np.cumsum(np.diff(truth, prepend=False) & truth)
    touched = np.bincount(run[truth], weights=positive[truth], minlength=int(run[-1]) + 1) > 0
    adjusted = np.where(truth, touched[run], positive)
    hits = float((adjusted & truth).sum())
    return _ratio(2 * hits, float(adjusted.sum() + truth.sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _quantile(values: FloatArray, weights: npt.NDArray[np.float64] | IntArray, share: float) -> float:
    """Smallest value with at least `share` of the weight at or below it."""
    kept = weights > 0
    if not kept.any():
        return float("nan")
    order = np.argsort(values[kept])
    reached = np.cumsum(weights[kept][order])
    return float(values[kept][order][np.searchsorted(reached, share * reached[-1])])


def _interval(draws: FloatArray) -> dict[str, float]:
    known = draws[np.isfinite(draws)]
    if not known.size:
        return {"low": float("nan"), "high": float("nan")}
    low, high = np.quantile(known, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
