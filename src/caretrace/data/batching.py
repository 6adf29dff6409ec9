"""Which samples make a batch, and which of them are whose share.

A batch is decided by seed and epoch alone, never by how many processes compute it. Position p of an epoch
(the p-th sample, counted over all batches) belongs to share p mod n, where n is processes × portions.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from caretrace.data.batch import EventBatch

# Batches that are sorted by length together: more gives less padding, fewer gives more mixing.
_POOL = 64


class LabelledBatch(NamedTuple):
    """Samples with their outcomes: a whole batch, or one share of it.

    Args:
        events: The samples.
        outcomes: Labels, float32 [sample].
        weight: By what the mean loss of this share is to be multiplied so that the mean over all shares is the
            mean over the samples of the batch, however unequal the shares are.
        counted: Samples that count: 0 where a share is empty and a stranger stands in, for every process must
            take part in every step.
    """

    events: EventBatch
    outcomes: torch.Tensor
    weight: float
    counted: int


@dataclasses.dataclass(frozen=True)
class Shares:
    """How batches are divided.

    Args:
        rank: Number of this process.
        world: Processes.
        portions: Portions in which each process computes its part of a batch.
    """

    rank: int = 0
    world: int = 1
    portions: int = 1

    def of(self, start: int, size: int) -> list[np.ndarray]:
        """For each portion of this process, which samples of a batch are its own.

        Args:
            start: Position of the batch's first sample in the epoch.
            size: Samples in the batch.
        """
        n = self.world * self.portions
        return [
            np.arange((portion * self.world + self.rank - start) % n, size, n)
            for portion in range(self.portions)
        ]

    def weight(self, own: int, size: int) -> float:
        """`LabelledBatch.weight` of a share with `own` of the batch's `size` samples."""
        return own * self.world * self.portions / size


def shuffled(n: int, seed: int, epoch: int) -> np.ndarray:
    """Row numbers in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def by_count(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Batches of `size` samples; the last one may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def by_length(
    order: np.ndarray, lengths: np.ndarray, max_tokens: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Batches of samples of similar length, of at most `max_tokens` slots with padding, in random order.

    Args:
        order: Row numbers, shuffled.
        lengths: Measurements of each row; a sample without any takes one slot.
        max_tokens: Longest sample times number of samples; one that is longer stands alone.
        seed: Seed of the order of batches.
        epoch: Number of the epoch.
    """
    cost = np.maximum(lengths[order], 1)
    pools = (np.cumsum(cost) - 1) // (_POOL * max_tokens)
    batches: list[np.ndarray] = []
    for pool in np.split(order, np.flatnonzero(np.diff(pools)) + 1):
        rows = pool[np.argsort(lengths[pool], kind="stable")]
        start = 0
        for end, width in enumerate(np.maximum(lengths[rows], 1).tolist()):
            if (
                end > start and (end - start + 1) * width > max_tokens
            ):  # rows are sorted: width is the longest
                batches.append(rows[start:end])
                start = end
        batches.append(rows[start:])
    return [batches[i] for i in np.random.default_rng([seed, epoch, 1]).permutation(len(batches))]
