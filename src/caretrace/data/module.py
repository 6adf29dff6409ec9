"""Samples as a Lightning data module. The MEDS splits get Lightning's names here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples

LabelledBatch = tuple[EventBatch, torch.Tensor]


class SampleModule(lightning.LightningDataModule):
    """Batches of the training and tuning splits.

    The order of an epoch depends on seed and epoch alone, so an interrupted run sees the same batches
    when it resumes.

    Args:
        train: Samples of training subjects.
        tuning: Samples of tuning subjects.
        batch_size: Samples per training batch.
        seed: Seed of the shuffling.
    """

    def __init__(self, train: Samples, tuning: Samples, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.tuning = train, tuning
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> DataLoader[LabelledBatch]:
        """Shuffled batches; built anew for every epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        return DataLoader(_Batches(self.train, order, self.batch_size), batch_size=None)

    def val_dataloader(self) -> DataLoader[LabelledBatch]:
        """The tuning split in order."""
        return DataLoader(
            _Batches(self.tuning, np.arange(len(self.tuning)), 4 * self.batch_size), batch_size=None
        )


class _Batches(IterableDataset[LabelledBatch]):
    def __init__(self, samples: Samples, order: np.ndarray, batch_size: int) -> None:
        self.samples, self.order, self.batch_size = samples, order, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for start in range(0, len(self.order), self.batch_size):
            rows = self.order[start : start + self.batch_size]
            yield self.samples.batch(rows), torch.from_numpy(self.samples.outcomes[rows])
