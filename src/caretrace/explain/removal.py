"""Credit by taking away: what the score would be if a measurement had never been made, or had said nothing.

*Removal* leaves a measurement out of the record (occlusion by the padding mask; Zeiler and Fergus 2014): the
record stays one that could exist. *Ablation* leaves the measurement at its place and replaces what it says by a
stated reference. Both are literal: nothing is linearised, and the figures may be checked by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caretrace import schema
from caretrace.data.batch import NO_TEXT, EventBatch
from caretrace.data.vocabulary import UNKNOWN
from caretrace.errors import ConfigError, unknown_name
from caretrace.explain.attribution import Attribution
from caretrace.explain.groups import NOBODY, Groups, checked, each, members
from caretrace.explain.scores import (
    LeavesOut,
    Score,
    Tell,
    chunks,
    copies,
    replaced,
    score_once,
    score_without,
)

REFERENCES: dict[str, str] = {
    "unknown": "something unknown, without a value, at the same time",
    "median": "the same code with the median of its training values",
}
NEVER_MADE = "the record without it"


def removal(
    score: Score, sample: EventBatch, groups: Groups | None = None, tell: Tell | None = None
) -> Attribution:
    """Credit of each group: the score less the score of the record without it.

    Args:
        score: The score.
        sample: A batch of one sample.
        groups: Group of each measurement; by default each stands alone. A group's credit is given to each of
            its members, so read one member per group (`per_group`).
        tell: Told about progress.
    """
    alone = groups is None
    groups = checked(sample, each(sample) if groups is None else groups)
    full = score_once(score, sample)
    if alone and isinstance(score, LeavesOut):
        with torch.no_grad():
            without = score.without_each(sample).double().cpu().numpy()[groups != NOBODY]
    else:
        without = score_without(score, sample, members(groups), tell)
    return _attributed(sample, groups, full, full - without, NEVER_MADE)


def ablation(
    score: Score,
    sample: EventBatch,
    groups: Groups | None = None,
    reference: str = "unknown",
    tell: Tell | None = None,
) -> Attribution:
    """Credit of each group: the score less the score with the group replaced by a reference.

    Args:
        score: The score.
        sample: A batch of one sample.
        groups: As in `removal`.
        reference: "unknown": code unknown, no value, no text, no event type. "median": the value alone is
            replaced, by the median of the training values of its code; a measurement without a value gets 0.
        tell: Told about progress.

    Raises:
        ConfigError: No such reference.
    """
    if reference not in REFERENCES:
        raise ConfigError(unknown_name("reference", reference, REFERENCES))
    groups = checked(sample, each(sample) if groups is None else groups)
    full = score_once(score, sample)
    inside = members(groups)
    found = [np.zeros(0)]
    with torch.no_grad():
        for rows in chunks(len(inside), inside.shape[1]):
            told = blanked(copies(sample, len(rows)), torch.from_numpy(inside[rows]), reference)
            found.append(score(told).double().cpu().numpy())
            if tell:
                tell(int(rows[-1]) + 1, len(inside))
    return _attributed(sample, groups, full, full - np.concatenate(found), REFERENCES[reference])


def blanked(batch: EventBatch, where: torch.Tensor, reference: str) -> EventBatch:
    """A batch in which some measurements say no more than the reference; `where` is [batch, measurement]."""
    if reference == "median":
        return replaced(batch, numeric_value=batch.numeric_value.masked_fill(where & batch.numeric_mask, 0.5))
    return replaced(
        batch,
        code=batch.code.masked_fill(where, UNKNOWN),
        numeric_value=batch.numeric_value.masked_fill(where, 0.0),
        numeric_mask=batch.numeric_mask & ~where,
        text_id=batch.text_id.masked_fill(where, NO_TEXT),
        event_type=batch.event_type.masked_fill(where, list(schema.EventType).index(schema.EventType.OTHER)),
    )


def static_removal(
    score: Score, sample: EventBatch, features: Sequence[Sequence[int]], reference: np.ndarray | None = None
) -> np.ndarray:
    """Credit of static features: the score less the score with them set to the reference.

    Args:
        score: The score.
        sample: A batch of one sample.
        features: Columns that stand or fall together, such as those of one category.
        reference: Value of every column, [feature]; by default 0, which is the mean age and no known category.

    Returns:
        float64 [group of columns].
    """
    static = sample.static.expand(len(features), -1).clone()
    for number, columns in enumerate(features):
        chosen = list(columns)
        blank = torch.zeros(len(chosen)) if reference is None else torch.as_tensor(reference[chosen])
        static[number, chosen] = blank.to(static)
    if not len(features):
        return np.zeros(0)
    with torch.no_grad():
        batch = replaced(copies(sample, len(features)), static=static)
        return score_once(score, sample) - score(batch).double().cpu().numpy()


def interactions(score: Score, sample: EventBatch, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Second difference by removal: what two measurements are worth together beyond what each is worth alone.

    f(all) - f(without i) - f(without j) + f(without both): positive where they need each other, negative where
    either would do, 0 where their effects add up (Grabisch and Roubens 1999, for a pair and full context).

    Args:
        score: The score.
        sample: A batch of one sample.
        pairs: Positions of measurements.

    Returns:
        float64 [pair].
    """
    drop = np.zeros((3, len(pairs), sample.code.shape[1]), dtype=bool)
    for number, (first, second) in enumerate(pairs):
        drop[0, number, first] = drop[1, number, second] = True
        drop[2, number, [first, second]] = True
    without = score_without(score, sample, drop.reshape(-1, drop.shape[2])).reshape(3, -1)
    return score_once(score, sample) - without[0] - without[1] + without[2]


def per_group(groups: Groups, credit: np.ndarray) -> np.ndarray:
    """Credit of each group from an attribution by `removal` or `ablation` with these groups, [group]."""
    found = np.zeros(int(groups.max(initial=NOBODY)) + 1)
    found[groups[groups != NOBODY]] = credit[groups != NOBODY]
    return found


def _attributed(
    sample: EventBatch, groups: Groups, full: float, by_group: np.ndarray, reference: str
) -> Attribution:
    credit = np.zeros(sample.code.shape[1])
    credit[groups != NOBODY] = by_group[groups[groups != NOBODY]]
    return Attribution(credit, np.zeros(sample.static.shape[1]), full, None, reference)
