"""Samples on disk: the same batches as in memory, whoever reads them, and flat memory."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from caretrace.data import store as stores
from caretrace.data.batching import Shares, by_count, shuffled
from caretrace.data.module import SampleModule
from caretrace.data.samples import Samples
from caretrace.data.store import SampleStore, write_store
from caretrace.data.stream import StreamLoader
from caretrace.errors import BundleError, ConfigError, OutputExistsError

from .many import many

N = 101
SEED, EPOCH = 7, 3


def parts(samples):
    """As they come from data files of unequal length."""
    for start, end in ((0, 40), (40, 41), (41, 41), (41, 90), (90, len(samples))):
        yield dataclasses.replace(samples.take(np.arange(start, end)), unknown_codes=2)


def write(tmp_path, **settings):
    write_store(tmp_path / "store", parts(many(N)), **settings)
    return SampleStore.open(tmp_path / "store")


def same(batch, samples, rows):
    expected = samples.batch(rows)
    for field in dataclasses.fields(expected):
        mine, theirs = getattr(batch.events, field.name), getattr(expected, field.name)
        if isinstance(theirs, torch.Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True, msg=field.name)
    assert batch.outcomes.tolist() == samples.outcomes[rows].tolist()


def test_taken_and_joined_samples_are_the_same():
    samples = many(30)
    rows = np.array([4, 0, 4, 29])
    halves = Samples.concat([samples.take(rows[:1]), samples.take(rows[1:])])
    for some in (samples.take(rows), halves):
        for field in ("code", "numeric_value", "numeric_mask", "event_type", "time_hours", "static"):
            mine = getattr(some.batch(range(4)), field)
            assert torch.equal(mine, getattr(samples.batch(rows), field))


READERS = [(1, 0, 1), (1, 2, 1), (2, 0, 3), (2, 2, 1), (4, 0, 1)]
# Lanes, samples per shard, processes, workers, portions: where the lanes can be shared, and few with workers,
# whose start takes time.
WHO_READS = [
    (*layout, *reader)
    for layout in [(1, 200), (1, 5), (4, 5), (8, 2), (8, 1000)]
    for reader in READERS
    if layout[0] % (reader[0] * max(1, reader[1])) == 0 and (reader[1] == 0 or layout[1] == 5)
]


@pytest.mark.parametrize(("lanes", "shard_samples", "world", "workers", "portions"), WHO_READS)
def test_the_same_batches_as_in_memory_whoever_reads(
    tmp_path, lanes, shard_samples, world, workers, portions
):
    store, samples = write(tmp_path, lanes=lanes, shard_samples=shard_samples), many(N)
    batches = by_count(store.order(SEED, EPOCH), 10)
    for rank, first in itertools.product(range(world), [0] if workers else [0, 4]):
        shares = Shares(rank, world, portions)
        found = iter(StreamLoader(store, 10, (SEED, EPOCH), shares, first, workers))
        for number in range(first, len(batches)):
            for own in shares.of(number * 10, len(batches[number])):
                batch = next(found)
                assert batch.counted == len(own)
                if len(own):
                    same(batch, samples, batches[number][own])
        assert next(found, None) is None


@pytest.mark.parametrize(("lanes", "shard_samples"), [(1, 5), (4, 5), (8, 2)])
def test_every_sample_once_an_epoch_in_another_order(tmp_path, lanes, shard_samples):
    store = write(tmp_path, lanes=lanes, shard_samples=shard_samples)
    orders = [store.order(SEED, epoch).tolist() for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(N))
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == store.order(SEED, 0).tolist()
    assert orders[0] != store.order(SEED + 1, 0).tolist()


def test_one_lane_that_fits_in_a_window_comes_in_the_order_of_memory(tmp_path):
    store = write(tmp_path, lanes=1, shard_samples=30)
    assert store.order(SEED, EPOCH).tolist() == shuffled(N, SEED, EPOCH).tolist()
    samples = many(N)
    loaders = [
        SampleModule(train, samples, batch_size=8, seed=SEED).train_dataloader() for train in (store, samples)
    ]
    assert len(loaders[0]) == len(loaders[1])
    for mine, theirs in zip(*loaders, strict=True):
        assert torch.equal(mine.events.code, theirs.events.code)
        assert torch.equal(mine.events.time_delta_hours, theirs.events.time_delta_hours)


def test_each_process_reads_files_of_its_own_and_few_at_a_time(tmp_path, monkeypatch):
    store = write(tmp_path, lanes=4, shard_samples=2)
    read, inside = [], []
    original = SampleStore.read_shard

    def watched(self, lane, number):
        inside.append((lane, number))
        return original(self, lane, number)

    monkeypatch.setattr(SampleStore, "read_shard", watched)
    for rank in range(2):
        inside.clear()
        list(StreamLoader(store, 10, (SEED, EPOCH), Shares(rank, 2)))
        read.append(set(inside))
        assert len(inside) == len(read[-1]), "a file was read twice"
    assert not read[0] & read[1]
    assert len(read[0] | read[1]) == len(list(store.path.rglob("*.parquet")))
    inside.clear()
    next(iter(StreamLoader(store, 10, (SEED, EPOCH), Shares(0, 2))))
    assert len(inside) == 2 * store.window, "more than one window of each lane"
    inside.clear()
    list(StreamLoader(store, 10, (SEED, EPOCH), Shares(0, 2), first=9))
    assert len(inside) < len(read[0]) / 2, "what was done before was read again"


def test_the_store_says_what_is_in_it(tmp_path):
    store = write(tmp_path, lanes=4, shard_samples=5)
    assert len(store) == N
    assert store.unknown_codes == 10
    assert [store.lane_samples(lane) for lane in range(4)] == [26, 25, 25, 25]
    with pytest.raises(OutputExistsError):
        write(tmp_path)


def test_processes_that_cannot_share_the_lanes_are_told(tmp_path):
    store = write(tmp_path, lanes=4, shard_samples=5)
    with pytest.raises(ConfigError, match=r"3 processes with 1 workers.*must be one of 1, 2, 4"):
        StreamLoader(store, 10, (0, 0), Shares(0, 3))
    with pytest.raises(ConfigError, match="4 lanes"):
        StreamLoader(store, 10, (0, 0), Shares(0, 2), workers=4)


def test_a_store_that_was_not_finished_is_not_there(tmp_path):
    def killed():
        yield many(50)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "store", killed(), lanes=2, shard_samples=2)
    assert not (tmp_path / "store").exists()


def test_a_damaged_store_names_the_remedy(tmp_path):
    store = write(tmp_path, lanes=1, shard_samples=5)
    shard = store.shard(0, 0)
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"shard-000000.parquet.*remove .*store: it is written again"):
        store.read_shard(0, 0)
    shard.unlink()
    with pytest.raises(BundleError, match="written again"):
        store.read_shard(0, 0)
    manifest = store.path / "store.json"
    stored = json.loads(manifest.read_text())
    unknown, bare = {**stored, "extra": 1}, {"format_version": stores.FORMAT_VERSION}
    for text in ("", "[]", "{}", json.dumps(unknown), json.dumps(bare)):
        manifest.write_text(text)
        with pytest.raises(BundleError, match="not a store of samples"):
            SampleStore.open(store.path)
    manifest.write_text(json.dumps({**stored, "format_version": stores.FORMAT_VERSION + 1}))
    with pytest.raises(BundleError, match="this caretrace reads"):
        SampleStore.open(store.path)


PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
from caretrace.data.batching import Shares
from caretrace.data.store import write_store
from caretrace.data.stream import StreamLoader
from tests.data.many import many

n, path = int(sys.argv[1]), Path(sys.argv[2])
parts = (many(500, longest=400, seed=seed) for seed in range(n // 500))
store = write_store(path, parts, lanes=4, shard_samples=64)
batches = sum(1 for _ in StreamLoader(store, 64, (0, 0), Shares()))
assert batches == -(-n // 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_ten_times_the_samples_take_no_more_memory(tmp_path):
    """Writing and one epoch of reading. The larger store holds 20,000 samples: 100 MB in memory."""
    from pathlib import Path

    def peak(n):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(n), str(tmp_path / str(n))],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    few, lots = peak(2_000), peak(20_000)
    assert lots - few < 30, f"{few:.0f} MiB for 2,000 samples, {lots:.0f} MiB for 20,000"
