"""Samples as a Lightning data module. The MEDS splits get Lightning's names here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from caretrace.data.batching import LabelledBatch, Shares, by_count, by_length, shuffled
from caretrace.data.samples import Samples
from caretrace.data.store import SampleStore
from caretrace.data.stream import StreamLoader


class SampleModule(lightning.LightningDataModule):
    """Batches of the training and tuning splits.

    The order of an epoch depends on seed and epoch alone, so an interrupted run sees the same batches
    when it resumes, and several processes divide the same ones.

    Args:
        train: Samples of training subjects, in memory or on disk.
        tuning: Samples of tuning subjects.
        batch_size: Samples per training batch, over all processes.
        seed: Seed of the shuffling.
        max_tokens: Batches by length in place of `batch_size`; see `batching.by_length`.
        shares: Which part of each batch is this process's.
        workers: Processes that read ahead from a store.
    """

    def __init__(
        self,
        train: Samples | SampleStore,
        tuning: Samples,
        *,
        batch_size: int,
        seed: int,
        max_tokens: int | None = None,
        shares: Shares | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.tuning = train, tuning
        self.batch_size, self.seed, self.max_tokens = batch_size, seed, max_tokens
        self.shares, self.workers = shares or Shares(), workers
        self._done: tuple[int, int] = (0, 0)

    def go_on(self, epoch: int, done: int) -> None:
        """Leave out what was done before.

        Args:
            epoch: The epoch that was interrupted.
            done: Portions of batches that each process has computed in it.
        """
        self._done = epoch, done // self.shares.portions

    def n_batches(self) -> int:
        """Batches of the first epoch, over all processes; with `max_tokens` others may have a few more."""
        if isinstance(self.train, SampleStore):
            return -(-len(self.train) // self.batch_size)
        return len(self._plan(self.train, 0))

    def train_dataloader(self) -> DataLoader[LabelledBatch] | StreamLoader:
        """Shuffled batches; built anew for every epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = self._done[1] if self._done[0] == epoch else 0
        if isinstance(self.train, SampleStore):
            return StreamLoader(
                self.train, self.batch_size, (self.seed, epoch), self.shares, first, self.workers
            )
        batches = _Batches(self.train, self._plan(self.train, epoch), self.shares, first)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[LabelledBatch]:
        """The tuning split in order."""
        batches = by_count(np.arange(len(self.tuning)), 4 * self.batch_size)
        whole = Shares(self.shares.rank, self.shares.world)
        return DataLoader(_Batches(self.tuning, batches, whole), batch_size=None)

    def _plan(self, train: Samples, epoch: int) -> list[np.ndarray]:
        order = shuffled(len(train), self.seed, epoch)
        if self.max_tokens is None:
            return by_count(order, self.batch_size)
        return by_length(order, np.diff(train.offsets), self.max_tokens, self.seed, epoch)


class _Batches(IterableDataset[LabelledBatch]):
    """The portions of one process, batch by batch, beginning with batch number `first`."""

    def __init__(
        self, samples: Samples, batches: Sequence[np.ndarray], shares: Shares, first: int = 0
    ) -> None:
        self.samples, self.batches, self.shares, self.first = samples, batches, shares, first

    def __len__(self) -> int:
        """Of the whole epoch: Lightning counts what was done before by itself."""
        return len(self.batches) * self.shares.portions

    def __iter__(self) -> Iterator[LabelledBatch]:
        start = sum(len(rows) for rows in self.batches[: self.first])
        for rows in self.batches[self.first :]:
            for own in self.shares.of(start, len(rows)):
                chosen = rows[own] if len(own) else rows[:1]
                yield LabelledBatch(
                    self.samples.batch(chosen),
                    torch.from_numpy(self.samples.outcomes[chosen]),
                    self.shares.weight(len(own), len(rows)),
                    len(own),
                )
            start += len(rows)
