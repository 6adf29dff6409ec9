"""Which samples make a batch, and whose share they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.data.batching import Shares, by_count, by_length, shuffled
from caretrace.data.module import SampleModule

from .many import many

lengths = st.lists(st.integers(0, 60), min_size=1, max_size=400).map(np.array)


@given(lengths=lengths, max_tokens=st.integers(1, 300), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_sample_once_and_no_batch_over_the_budget(lengths, max_tokens, seed, epoch):
    order = shuffled(len(lengths), seed, epoch)
    batches = by_length(order, lengths, max_tokens, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or max(1, lengths[rows].max()) * len(rows) <= max_tokens


@given(lengths=lengths, seed=st.integers(0, 5))
def test_batches_by_length_depend_on_seed_and_epoch_alone(lengths, seed):
    def plan(epoch):
        return [
            rows.tolist() for rows in by_length(shuffled(len(lengths), seed, epoch), lengths, 90, seed, epoch)
        ]

    first = plan(0)
    np.random.default_rng().random(10)
    assert plan(0) == first


def test_batches_by_length_pad_little_and_come_in_another_order_every_epoch():
    lengths = np.random.default_rng(0).lognormal(3, 1, 5000).astype(int) + 1
    order = shuffled(len(lengths), 0, 0)
    budget = 2000

    def padding(batches):
        slots = sum(lengths[rows].max() * len(rows) for rows in batches)
        return 1 - lengths.sum() / slots

    similar = by_length(order, lengths, budget, 0, 0)
    assert padding(similar) < 0.06 < 0.5 < padding(by_count(order, 64))
    longest = [lengths[rows].max() for rows in similar]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2, "sorted by length over the epoch"
    other = by_length(shuffled(len(lengths), 0, 1), lengths, budget, 0, 1)
    again = {frozenset(rows.tolist()) for rows in similar} & {frozenset(rows.tolist()) for rows in other}
    assert len(again) <= 2  # the longest samples have few others to go with


@given(
    start=st.integers(0, 1000),
    size=st.integers(1, 50),
    world=st.integers(1, 9),
    portions=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_shares_are_disjoint_whole_and_weighed_by_their_samples(start, size, world, portions, seed):
    losses = np.random.default_rng(seed).random(size)
    mine = [Shares(rank, world, portions) for rank in range(world)]
    found = [own for share in mine for own in share.of(start, size)]
    assert sorted(np.concatenate(found)) == list(range(size))
    # Lightning adds up the portions of a process, each divided by their number; processes are averaged.
    gradient = [
        sum(
            losses[own].mean() * share.weight(len(own), size) / portions
            for own in share.of(start, size)
            if len(own)
        )
        for share in mine
    ]
    assert np.mean(gradient) == pytest.approx(losses.mean())


def test_one_process_computes_whole_batches():
    (own,) = Shares().of(7, 5)
    assert own.tolist() == [0, 1, 2, 3, 4]
    assert Shares().weight(5, 5) == 1


def codes(batch):
    return batch.events.code.tolist()


def test_what_was_done_is_left_out_in_the_interrupted_epoch_and_in_no_other():
    samples = many(50)

    def epoch(number, done=None):
        module = SampleModule(samples, samples, batch_size=8, seed=3, shares=Shares(0, 1, 2))
        if done:
            module.go_on(*done)
        module.trainer = type("Trainer", (), {"current_epoch": number})()
        loader = module.train_dataloader()
        assert len(loader) == 14  # Lightning counts what was done by itself
        return [codes(batch) for batch in loader]

    assert epoch(2, done=(2, 6)) == epoch(2)[6:]
    assert epoch(3, done=(2, 6)) == epoch(3)


def test_the_number_of_batches_by_length_is_told():
    samples = many(50)
    module = SampleModule(samples, samples, batch_size=8, seed=3, max_tokens=40)
    assert module.n_batches() == len(list(module.train_dataloader()))
