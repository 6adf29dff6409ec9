"""Figures a ward reads, from scores, alarms and known events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.policy import Alarms, Scores, Thresholds, raise_alarms
from caretrace.comparators.early_warning import limit_violations
from caretrace.data.grid import Stretch
from caretrace.evaluation.detection import DAY, Events, alarm_burden, match
from caretrace.evaluation.vus import volumes

FloatArray = npt.NDArray[np.float64]
Figure = dict[str, float]
# What a crossing of a threshold is, and for how long it must last so that neither a movement nor a loose probe is one.
CROSSING = {"hr": (50.0, 120.0), "spo2": (90.0, np.inf)}
LASTING_SECONDS = 600.0
VUS_DRAWS = 60  # resamples of subjects; each takes seconds
_OFFSETS = np.linspace(6, -10, 33)


@dataclasses.dataclass(frozen=True)
class Truth:
    """What really happened to the judged subjects.

    Args:
        events: All of them.
        abrupt: [event], which came abruptly.
        source: Where this is known from.
    """

    events: Events
    abrupt: npt.NDArray[np.bool_]
    source: str

    def some(self, chosen: npt.NDArray[np.bool_]) -> Events:
        """Some of the events."""
        return Events(self.events.subject[chosen], self.events.onset[chosen], self.events.end[chosen])


def burden(
    truth: Truth,
    alarms: Alarms,
    watched: Mapping[int, float],
    config: PolicyConfig,
    replicates: int,
    seed: int,
) -> dict[str, Figure]:
    """The ward's table, with recall and delay by course; figures that cannot be taken are left out."""
    asked = {"early": config.early_seconds, "replicates": replicates, "seed": seed}
    figures = alarm_burden(truth.events, alarms.subject, alarms.time, watched, **asked)  # type: ignore[arg-type]
    for course, chosen in (("abrupt", truth.abrupt), ("gradual", ~truth.abrupt)):
        if chosen.any():
            own = alarm_burden(truth.some(chosen), alarms.subject, alarms.time, watched, **asked)  # type: ignore[arg-type]
            figures |= {
                f"{name}_{course}": own[name] for name in ("event_recall", "delay_median", "delay_p90")
            }
    return {name: value for name, value in figures.items() if np.isfinite(list(value.values())).all()}


def crossings(
    truth: Truth,
    stretches: Sequence[Stretch],
    times: Sequence[FloatArray],
    channels: tuple[str, ...],
    lasting: float,
) -> FloatArray:
    """When each event first takes a signal over a limit for `lasting` seconds, [event]; NaN where it never does.

    Args:
        truth: The events.
        stretches: Recordings.
        times: When each of their steps is known.
        channels: Their signals, in order.
        lasting: How long a limit must be broken without a pause, seconds; the time is that of its end.
    """
    found = np.full(truth.events.onset.size, np.nan)
    limits = {name: bounds for name, bounds in CROSSING.items() if name in channels}
    for stretch, when in zip(stretches, times, strict=True):
        own = np.flatnonzero(truth.events.subject == stretch.subject)
        if not own.size or not limits:
            continue
        shown = dict(zip(channels, stretch.values, strict=True))
        step = float(when[1] - when[0]) if len(when) > 1 else 1.0
        over = when[limit_violations(shown, step, lasting, limits)]
        for event in own:
            inside = over[(over > truth.events.onset[event]) & (over <= truth.events.end[event])]
            if inside.size:
                found[event] = np.fmin(found[event], inside[0])
    return found


def warning(
    truth: Truth, alarms: Alarms, crossed: FloatArray, early: float, replicates: int, seed: int
) -> Figure | None:
    """Median seconds from the alarm to the crossing, over gradual events that have both; positive warns.

    Args:
        truth: The events.
        alarms: What was heard.
        crossed: [event], from `crossings`.
        early: How long before its onset an event may be announced.
        replicates: Resamples of subjects.
        seed: Of the resamples.
    """
    delay = match(truth.events, alarms.subject, alarms.time, early).delay
    lead = crossed - (truth.events.onset + delay)
    kept = ~truth.abrupt & ~np.isnan(lead)
    if kept.sum() < 2:
        return None
    rng = np.random.default_rng(seed)
    subject, place = np.unique(truth.events.subject[kept], return_inverse=True)
    of_subject = [lead[kept][place == i] for i in range(len(subject))]
    draws = [
        np.median(np.concatenate([of_subject[i] for i in rng.integers(0, len(subject), len(subject))]))
        for _ in range(replicates)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(np.median(lead[kept])), "low": float(low), "high": float(high)}


def load_at_recall(
    scores: Sequence[Scores],
    thresholds: Thresholds,
    truth: Truth,
    recall: float,
    days: float,
    config: PolicyConfig,
) -> tuple[float, float]:
    """Fewest alarms per patient-day at which at least so many events are caught, and the recall that has.

    Args:
        scores: Of the judged subjects.
        thresholds: All of them are lowered or raised together.
        truth: The events.
        recall: What must be reached; if it cannot be, the highest recall is taken.
        days: Patient-days watched.
        config: How alarms are raised.
    """
    best = (np.nan, -1.0)
    for offset in _OFFSETS:
        moved = {reason: value + float(offset) for reason, value in thresholds.raise_at.items()}
        alarms = raise_alarms(scores, moved, config)
        caught = float(
            np.mean(~np.isnan(match(truth.events, alarms.subject, alarms.time, config.early_seconds).delay))
        )
        load = len(alarms.time) / days
        if caught >= recall:
            return load, caught
        if caught > best[1]:
            best = (load, caught)
    return best


@dataclasses.dataclass(frozen=True)
class Steps:
    """Scores and truth per minute (or per step, where that is longer), for figures without a threshold.

    Args:
        owner: [step], which subject.
        label: [step], 1 within an event.
        scores: Name → [step].
    """

    owner: npt.NDArray[np.int64]
    label: npt.NDArray[np.bool_]
    scores: Mapping[str, FloatArray]


def blocks(values: FloatArray, size: int) -> FloatArray:
    """Highest of every `size` neighbours, the last ones that are fewer included."""
    return np.maximum.reduceat(values, np.arange(0, len(values), size))


def labels_of(truth: Truth, subject: int, times: FloatArray) -> npt.NDArray[np.bool_]:
    """[step], whether a step lies within an event of its subject."""
    inside = np.zeros(len(times), bool)
    for event in np.flatnonzero(truth.events.subject == subject):
        inside |= (times > truth.events.onset[event]) & (times <= truth.events.end[event])
    return inside


def vus_pr(
    steps: Steps, ours: str, window: int, seed: int, draws: int = VUS_DRAWS
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """VUS-PR of every score, and ours minus each, with intervals from the same resamples of subjects.

    Args:
        steps: Scores and truth.
        ours: Name of our score.
        window: Widest stretch of an event, steps.
        seed: Of the resamples.
        draws: How many resamples.
    """
    subjects = np.unique(steps.owner)
    places = {who: np.flatnonzero(steps.owner == who) for who in subjects}
    rng = np.random.default_rng(seed)

    def all_of(index: npt.NDArray[np.int64], owner: npt.NDArray[np.int64]) -> dict[str, float] | None:
        label = steps.label[index]
        if not 0 < label.sum() < label.size:
            return None
        return {name: volumes(label, score[index], window, owner).pr for name, score in steps.scores.items()}

    whole = all_of(np.arange(len(steps.owner)), steps.owner)
    if whole is None:
        return {}, {}
    found = []
    for _ in range(draws):
        drawn = rng.choice(subjects, len(subjects))
        index = np.concatenate([places[who] for who in drawn])
        owner = np.repeat(np.arange(len(drawn)), [len(places[who]) for who in drawn])
        draw = all_of(index, owner)
        if draw is not None:
            found.append(draw)
    figures = {name: _figure(value, [draw[name] for draw in found]) for name, value in whole.items()}
    apart = {
        name: _difference(whole[ours] - value, [draw[ours] - draw[name] for draw in found])
        for name, value in whole.items()
        if name != ours
    }
    return figures, apart


def _figure(value: float, draws: list[float]) -> Figure:
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (value, value)
    return {"value": value, "low": float(low), "high": float(high)}


def _difference(value: float, draws: list[float]) -> Figure:
    figure = _figure(value, draws)
    return {"difference": figure["value"], "low": figure["low"], "high": figure["high"]}


def episodes(condition: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """First step of every run of True."""
    return np.flatnonzero(condition & ~np.concatenate([[False], condition[:-1]]))


def watched_days(watched: Mapping[int, float]) -> float:
    """Patient-days."""
    return sum(watched.values()) / DAY
