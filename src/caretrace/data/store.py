"""Samples on disk, for training sets that are larger than memory.

A store is a folder: `store.json`, and for every lane a folder of Parquet files ("shards"), one row per sample.
Row i of what was written lies in lane i mod `lanes`; so lanes differ in length by one sample at most, and
processes that own different lanes read different files and still put the same batches together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caretrace.data.samples import PER_MEASUREMENT, Samples
from caretrace.errors import BundleError
from caretrace.files import read_json, whole_folder, write_json

FORMAT_VERSION = 2
_MANIFEST = "store.json"
# As small as their values: (on disk, in memory).
_DTYPES = {
    "code": (pa.int32(), np.int64),
    "numeric_value": (pa.float32(), np.float32),
    "numeric_mask": (pa.bool_(), np.bool_),
    "event_type": (pa.int8(), np.int64),
    "time_hours": (pa.float32(), np.float32),
    "text_id": (pa.int64(), np.int64),
}


@dataclasses.dataclass(frozen=True)
class SampleStore:
    """Samples of a split in Parquet shards.

    An epoch reads the shards of each lane in random order, `window` at a time, and shuffles the samples within
    those: that is all that is ever in memory.

    Args:
        path: The folder.
        n_samples: Samples in all.
        lanes: Lanes; processes × workers must divide it.
        shard_samples: Samples per shard; the last one of a lane may have fewer.
        unknown_codes: Measurements whose code the vocabulary does not know.
        window: Shards of a lane in memory at once.
    """

    path: Path
    n_samples: int
    lanes: int
    shard_samples: int
    unknown_codes: int
    window: int = 4

    @classmethod
    def open(cls, path: Path) -> SampleStore:
        """A store that `write_store` wrote.

        Raises:
            BundleError: It is missing, damaged or of a newer version.
        """
        try:
            stored = read_json(path / _MANIFEST)
            version = stored.pop("format_version")
            if version != FORMAT_VERSION:
                raise BundleError(
                    f"{path} has store format {version}, this caretrace reads {FORMAT_VERSION}; "
                    "remove it: it is written again"
                )
            return cls(path, **stored)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{path} is not a store of samples ({type(error).__name__}); remove it: it is written again"
            ) from None

    def __len__(self) -> int:
        return self.n_samples

    def lane_samples(self, lane: int) -> int:
        """Samples of one lane."""
        return (self.n_samples - lane + self.lanes - 1) // self.lanes

    def shard(self, lane: int, number: int) -> Path:
        """The file of one shard."""
        return _shard(self.path, lane, number)

    def windows(self, lane: int, seed: int, epoch: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Which shards of a lane are in memory together in an epoch, and the order of their samples.

        Yields:
            Numbers of the shards, and positions among their samples laid end to end.
        """
        n = self.lane_samples(lane)
        n_shards = -(-n // self.shard_samples)
        # One lane whose shards fit in one window comes in the same order as samples in memory.
        rng = np.random.default_rng([seed, epoch] if self.lanes == 1 else [seed, epoch, 2, lane])
        shards = np.arange(n_shards) if n_shards <= self.window else rng.permutation(n_shards)
        for start in range(0, n_shards, self.window):
            chosen = shards[start : start + self.window].tolist()
            sizes = [min(self.shard_samples, n - number * self.shard_samples) for number in chosen]
            yield chosen, rng.permutation(sum(sizes))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Numbers of the samples, as they were written, in the order of an epoch.

        The same samples in memory, taken in this order, make the same batches.
        """
        found = np.empty(self.n_samples, dtype=np.int64)
        for lane in range(self.lanes):
            rows = []
            for shards, order in self.windows(lane, seed, epoch):
                starts = np.array(shards) * self.shard_samples
                end = self.lane_samples(lane)
                laid = [np.arange(start, min(start + self.shard_samples, end)) for start in starts]
                rows.append(np.concatenate(laid)[order])
            if rows:
                found[lane :: self.lanes] = np.concatenate(rows) * self.lanes + lane
        return found

    def read_shard(self, lane: int, number: int) -> Samples:
        """The samples of one shard.

        Raises:
            BundleError: The file is missing or damaged.
        """
        path = self.shard(lane, number)
        try:
            table = pq.read_table(path, memory_map=True, use_threads=False).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            raise BundleError(f"{path}: {error}; remove {self.path}: it is written again") from None
        lists = {name: table.column(name).chunk(0) for name in PER_MEASUREMENT}
        static = table.column("static").chunk(0)
        return Samples(
            offsets=lists["code"].offsets.to_numpy().astype(np.int64),
            **{
                name: lists[name].values.to_numpy(zero_copy_only=False).astype(dtype)
                for name, (_, dtype) in _DTYPES.items()
            },
            static=static.values.to_numpy().reshape(len(static), -1).copy(),
            outcomes=table.column("outcomes").to_numpy().copy(),
            hour_of_week=table.column("hour_of_week").to_numpy().copy(),
            hours_since_admission=table.column("hours_since_admission").to_numpy().copy(),
        )


def write_store(
    path: Path, parts: Iterable[Samples], *, lanes: int = 8, shard_samples: int = 256
) -> SampleStore:
    """Write samples as they come; at most `lanes` × `shard_samples` of them and one part are in memory.

    Args:
        path: Folder to make; it appears whole or not at all.
        parts: Samples in portions, such as one data file each.
        lanes: Processes × workers that read it must divide this.
        shard_samples: Samples per shard.

    Raises:
        OutputExistsError: The folder is taken.
        ResourceError: It cannot be written.
    """
    block, done, unknown = lanes * shard_samples, 0, 0
    pending: Samples | None = None
    with whole_folder(path) as folder:
        for lane in range(lanes):
            _shard(folder, lane, 0).parent.mkdir()
        for part in parts:
            unknown += part.unknown_codes
            pending = part if pending is None else Samples.concat([pending, part])
            while len(pending) >= block:
                _write_block(folder, pending.take(np.arange(block)), lanes, done // block)
                pending, done = pending.take(np.arange(block, len(pending))), done + block
        if pending is not None and len(pending):
            _write_block(folder, pending, lanes, done // block)
            done += len(pending)
        stored = {
            "n_samples": done,
            "lanes": lanes,
            "shard_samples": shard_samples,
            "unknown_codes": unknown,
        }
        write_json(folder / _MANIFEST, {"format_version": FORMAT_VERSION, **stored})
    return SampleStore(path, **stored)


def _shard(folder: Path, lane: int, number: int) -> Path:
    return folder / f"lane-{lane:03d}" / f"shard-{number:06d}.parquet"


def _write_block(folder: Path, block: Samples, lanes: int, number: int) -> None:
    for lane in range(min(lanes, len(block))):
        own = block.take(np.arange(lane, len(block), lanes))
        offsets = pa.array(own.offsets, pa.int32())
        columns: dict[str, pa.Array] = {
            name: pa.ListArray.from_arrays(offsets, pa.array(getattr(own, name)).cast(on_disk))
            for name, (on_disk, _) in _DTYPES.items()
        }
        flat = pa.array(np.ascontiguousarray(own.static, dtype=np.float32).ravel())
        columns["static"] = pa.FixedSizeListArray.from_arrays(flat, own.static.shape[1])
        columns["outcomes"] = pa.array(own.outcomes)
        for name in ("hour_of_week", "hours_since_admission"):
            columns[name] = pa.array(getattr(own, name), pa.float32())
        pq.write_table(pa.table(columns), _shard(folder, lane, number), compression="zstd")
