"""What is explained: a function from a batch to the logit of each sample.

The logit, never the probability: near 0 and 1 the sigmoid is flat, its gradient vanishes, and two measurements
that each suffice would share next to nothing.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from caretrace.data.batch import EventBatch, gaps

Score = Callable[[EventBatch], Float[Tensor, "batch"]]
# Told (pieces done, pieces in all).
Tell = Callable[[int, int], None]
# Slots (rows x measurements) scored at once: about a hundred megabytes in the default model.
MOST_SLOTS = 131_072

FloatArray = np.ndarray


class Path(Protocol):
    """A score of one record whose measurements are there in part.

    With `presence` 1 everywhere and the record's own static features it is the score, with 0 everywhere and
    the reference's static features it is the score of the reference.
    """

    def __call__(
        self, presence: Float[Tensor, "point measurement"], static: Float[Tensor, "point feature"]
    ) -> Float[Tensor, "point"]:
        """Logit at each point; differentiable in both arguments."""
        ...


@runtime_checkable
class GradedScore(Protocol):
    """A score that gradient methods can be asked of.

    Args:
        reference: What a record with presence 0 everywhere is, in words.
    """

    reference: str

    def __call__(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        ...

    def path(self, sample: EventBatch) -> Path:
        """The score of one sample, in part; padded slots have a presence too, and no say."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A score that knows a shorter way to every record without one of its measurements."""

    def __call__(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        ...

    def without_each(self, sample: EventBatch) -> Float[Tensor, "measurement"]:
        """Logit of one sample without each of its measurements; the score itself where padded."""
        ...


@runtime_checkable
class Attends(Protocol):
    """A score with attention to look at. What is looked at is not what matters: drawn only."""

    def __call__(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        ...

    def attention(self, sample: EventBatch) -> dict[str, Float[Tensor, "measurement"]]:
        """Name of a kind of attention → weight of each measurement of one sample; 0 where padded."""
        ...


def row(batch: EventBatch, number: int) -> EventBatch:
    """One sample of a batch without its padding."""
    length = max(1, int((~batch.padding_mask[number]).sum()))
    parts = {name: value[number : number + 1] for name, value in vars(batch).items()}
    return EventBatch(
        **{
            name: value[:, :length] if value.ndim == 2 and name != "static" else value
            for name, value in parts.items()
        }
    )


def copies(sample: EventBatch, count: int) -> EventBatch:
    """One sample, `count` times."""
    return EventBatch(**{name: value.expand(count, *value.shape[1:]) for name, value in vars(sample).items()})


def padded(sample: EventBatch, extra: int) -> EventBatch:
    """One sample with `extra` more padded slots."""
    parts = dict(vars(sample))
    for name, value in parts.items():
        if value.ndim == 2 and name != "static":
            filler = True if name == "padding_mask" else (-1 if name == "text_id" else 0)
            parts[name] = torch.nn.functional.pad(value, (0, extra), value=filler)
    return EventBatch(**parts)


def replaced(sample: EventBatch, **values: Tensor) -> EventBatch:
    """A batch with some fields replaced; gaps are computed afresh from the times."""
    parts = {**vars(sample), **values}
    parts["time_delta_hours"] = gaps(parts["time_hours"], parts["padding_mask"])
    return EventBatch(**parts)


def score_without(
    score: Score, sample: EventBatch, drop: Bool[np.ndarray, "record measurement"], tell: Tell | None = None
) -> Float[np.ndarray, "record"]:
    """Logit of one sample without the marked measurements, for many choices of them.

    Args:
        score: The score.
        sample: A batch of one sample.
        drop: One row per record to score: which measurements it lacks.
        tell: Told about progress.
    """
    found = [np.zeros(0)]
    with torch.no_grad():
        for rows in chunks(len(drop), drop.shape[1]):
            part = copies(sample, len(rows)).without(torch.from_numpy(drop[rows]))
            found.append(score(part).double().cpu().numpy())
            if tell:
                tell(int(rows[-1]) + 1, len(drop))
    return np.concatenate(found)


def score_once(score: Score, sample: EventBatch) -> float:
    """Logit of one sample."""
    with torch.no_grad():
        return float(score(sample)[0])


def chunks(count: int, width: int) -> Iterator[np.ndarray]:
    """Row numbers in portions of at most `MOST_SLOTS` slots."""
    size = max(1, MOST_SLOTS // max(1, width))
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
