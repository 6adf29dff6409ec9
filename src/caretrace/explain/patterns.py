"""Where and when credit lies: critical windows, event types over time, and how it grows over landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caretrace import schema
from caretrace.data.batch import EventBatch
from caretrace.data.clock import HOURS_PER_WEEK
from caretrace.explain.attribution import Attribution
from caretrace.explain.groups import NOBODY, chosen, windows
from caretrace.explain.removal import per_group, removal
from caretrace.explain.scores import Score, replaced, score_once


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of time and what the record would be without all of it.

    Args:
        from_hours: Its start, hours before the prediction time.
        to_hours: Its end, likewise; smaller.
        measurements: How many it holds.
        credit: The score less the score without them.
    """

    from_hours: float
    to_hours: float
    measurements: int
    credit: float


def critical_windows(score: Score, sample: EventBatch, hours: float) -> list[Window]:
    """Every window with a measurement in it, the one that matters most first.

    Args:
        score: The score.
        sample: A batch of one sample.
        hours: Length of a window; windows are counted back from the prediction time.
    """
    groups = windows(sample, hours)
    credit = per_group(groups, removal(score, sample, groups).credit)
    age = np.floor(-sample.time_hours[0].cpu().numpy().astype(np.float64) / hours)
    found = []
    for number, each in enumerate(credit):
        inside = groups == number
        place = float(age[inside][0])
        found.append(Window((place + 1) * hours, place * hours, int(inside.sum()), float(each)))
    return sorted(found, key=lambda window: -abs(window.credit))


def types_over_time(sample: EventBatch, attribution: Attribution, hours: float) -> np.ndarray:
    """Sum of credits by event type and window.

    Args:
        sample: A batch of one sample.
        attribution: Of that sample; by a method whose credits add up.
        hours: Length of a window, counted back from the prediction time.

    Returns:
        float64 [event type in the order of `schema.EventType`, window; the latest first].
    """
    kept = ~sample.padding_mask[0].cpu().numpy()
    age = np.floor(-sample.time_hours[0].cpu().numpy().astype(np.float64) / hours).astype(int)[kept]
    found = np.zeros((len(schema.EventType), int(age.max(initial=-1)) + 1))
    np.add.at(found, (sample.event_type[0].cpu().numpy()[kept], age), attribution.credit[kept])
    return found


def at_landmark(sample: EventBatch, hours_earlier: float) -> EventBatch:
    """The record as it was so many hours before its prediction time; static features as they are."""
    later = sample.time_hours > -hours_earlier
    seen = sample.without(later)
    moved = (seen.time_hours + hours_earlier).masked_fill(seen.padding_mask, 0.0)
    clocks = {"hour_of_week": (seen.hour_of_week - hours_earlier) % HOURS_PER_WEEK}
    since = vars(seen).get("hours_since_admission")
    if since is not None:
        clocks["hours_since_admission"] = since - hours_earlier
    return replaced(seen, time_hours=moved, **clocks)


@dataclasses.dataclass(frozen=True)
class Evolution:
    """What the codes of a record are worth as time goes by.

    Args:
        hours_earlier: Landmarks, hours before the prediction time, [landmark]; the earliest first.
        logits: Score at each landmark, [landmark].
        codes: Code numbers, [code].
        credit: The score less the score without the code, [landmark, code]; 0 before its first measurement.
    """

    hours_earlier: np.ndarray
    logits: np.ndarray
    codes: np.ndarray
    credit: np.ndarray


def evolution(
    score: Score, sample: EventBatch, hours_earlier: Sequence[float], codes: Sequence[int] | None = None
) -> Evolution:
    """Credit of codes by removal, at each landmark, from what was known then.

    Args:
        score: The score.
        sample: A batch of one sample.
        hours_earlier: Landmarks, hours before the prediction time.
        codes: Numbers of the codes to follow; all of the record by default.
    """
    order = np.sort(np.asarray(hours_earlier, dtype=np.float64))[::-1]
    numbers = np.unique(sample.code[0][~sample.padding_mask[0]].cpu().numpy())
    numbers = numbers if codes is None else np.intersect1d(numbers, codes)
    logits, credit = np.zeros(len(order)), np.zeros((len(order), len(numbers)))
    for place, hours in enumerate(order):
        then = at_landmark(sample, float(hours))
        logits[place] = score_once(score, then)
        own = np.where(then.padding_mask[0].cpu().numpy(), NOBODY, then.code[0].cpu().numpy())
        known = np.intersect1d(numbers, own)
        if len(known):
            groups = chosen(then, *(np.flatnonzero(own == code).tolist() for code in known))
            credit[place, np.searchsorted(numbers, known)] = per_group(
                groups, removal(score, then, groups).credit
            )
    return Evolution(order, logits, numbers, credit)
