"""Batches from a store: each process, and each of its workers, reads lanes of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from caretrace.data.batching import LabelledBatch, Shares
from caretrace.data.samples import Samples
from caretrace.data.store import SampleStore
from caretrace.errors import ConfigError

# Positions in the epoch, and the samples there.
_Piece = tuple[np.ndarray, Samples | None]


class StreamLoader:
    """The portions of one process, batch by batch, for one epoch.

    Args:
        store: The samples.
        batch_size: Samples per batch, over all processes.
        draw: Seed and epoch.
        shares: Which part of each batch is this process's.
        first: Batch to begin with.
        workers: Processes that read and decode; 0 reads here.

    Raises:
        ConfigError: Processes × workers do not divide the lanes.
    """

    def __init__(
        self,
        store: SampleStore,
        batch_size: int,
        draw: tuple[int, int],
        shares: Shares,
        first: int = 0,
        workers: int = 0,
    ) -> None:
        readers = shares.world * max(1, workers)
        if store.lanes % readers:
            allowed = [n for n in range(1, store.lanes + 1) if store.lanes % n == 0]
            raise ConfigError(
                f"{shares.world} processes with {max(1, workers)} workers each cannot share {store.lanes} lanes: "
                f"processes × training.workers must be one of {', '.join(map(str, allowed))}"
            )
        self.store, self.batch_size, self.shares = store, batch_size, shares
        self.first, self.workers = first, workers
        self._pieces = _Pieces(store, batch_size, draw, shares, first)

    def __len__(self) -> int:
        """Of the whole epoch: Lightning counts what was done before by itself."""
        return -(-len(self.store) // self.batch_size) * self.shares.portions

    def __iter__(self) -> Iterator[LabelledBatch]:
        pieces = iter(DataLoader(self._pieces, batch_size=None, num_workers=self.workers))
        last: Samples | None = None
        for start in range(self.first * self.batch_size, len(self.store), self.batch_size):
            size = min(self.batch_size, len(self.store) - start)
            # Workers take turns, so as many pieces as there are workers make up one batch.
            found = [next(pieces) for _ in range(max(1, self.workers))]
            samples = [part for _, part in found if part is not None]
            joined = Samples.concat(samples) if samples else None
            positions = np.concatenate([where for where, _ in found])
            for own in self.shares.of(start, size):
                rows = np.flatnonzero(np.isin(positions, own + start))
                rows = rows[np.argsort(positions[rows])]
                source = joined if len(rows) else joined or last
                # An empty share: a stranger stands in and counts nothing.
                source = self.store.read_shard(0, 0) if source is None else source
                chosen = rows if len(rows) else np.zeros(1, dtype=np.int64)
                yield LabelledBatch(
                    source.batch(chosen),
                    torch.from_numpy(source.outcomes[chosen]),
                    self.shares.weight(len(rows), size),
                    len(rows),
                )
            last = joined


class _Pieces(IterableDataset[_Piece]):
    """What the lanes of one reader contribute to each batch."""

    def __init__(
        self, store: SampleStore, batch_size: int, draw: tuple[int, int], shares: Shares, first: int
    ) -> None:
        self.store, self.batch_size, self.draw = store, batch_size, draw
        self.shares, self.first = shares, first

    def __iter__(self) -> Iterator[_Piece]:
        worker = get_worker_info()
        number, n = (0, 1) if worker is None else (worker.id, worker.num_workers)
        lanes = range(self.shares.rank + self.shares.world * number, self.store.lanes, self.shares.world * n)
        begin = self.first * self.batch_size
        readers = {lane: _Lane(self.store, lane, self.draw, self._before(lane, begin)) for lane in lanes}
        for start in range(begin, len(self.store), self.batch_size):
            end = min(start + self.batch_size, len(self.store))
            found = []
            for lane, reader in readers.items():
                where = np.arange(start + (lane - start) % self.store.lanes, end, self.store.lanes)
                if len(where):
                    found.append((where, reader.take(len(where))))
            if found:
                yield np.concatenate([where for where, _ in found]), Samples.concat([s for _, s in found])
            else:
                yield np.zeros(0, dtype=np.int64), None

    def _before(self, lane: int, position: int) -> int:
        """Samples of a lane before a position of the epoch."""
        return max(0, (position - lane + self.store.lanes - 1) // self.store.lanes)


class _Lane:
    """One lane, read forward."""

    def __init__(self, store: SampleStore, lane: int, draw: tuple[int, int], skip: int) -> None:
        self.store, self.lane = store, lane
        self._windows = store.windows(lane, *draw)
        self._samples: Samples | None = None
        self._order = np.zeros(0, dtype=np.int64)
        self._pass_over(skip)

    def take(self, n: int) -> Samples:
        """The next `n` samples."""
        found = []
        while n:
            if not len(self._order):
                self._samples = None  # before the next shards are read, not after
                shards, self._order = next(self._windows)
                self._read(shards)
            assert self._samples is not None
            found.append(self._samples.take(self._order[:n]))
            n -= len(self._order[:n])
            self._order = self._order[len(found[-1]) :]
        return Samples.concat(found)

    def _pass_over(self, n: int) -> None:
        """Windows that were done before are not read again."""
        while n:
            shards, self._order = next(self._windows)
            if n < len(self._order):
                self._read(shards)
                self._order = self._order[n:]
                return
            n -= len(self._order)
            self._order = self._order[:0]

    def _read(self, shards: list[int]) -> None:
        self._samples = Samples.concat([self.store.read_shard(self.lane, number) for number in shards])
