"""Which samples come when: decided by seed and epoch alone."""

import types

import numpy as np
import pytest
import torch

from caretrace.data.module import SampleModule
from caretrace.data.samples import Samples


def samples(n):
    """Samples with one measurement each, whose code tells them apart."""
    zeros = np.zeros(n, dtype=np.float32)
    return Samples(
        offsets=np.arange(n + 1),
        code=np.arange(n) + 2,
        numeric_value=zeros,
        numeric_mask=np.zeros(n, dtype=bool),
        event_type=np.zeros(n, dtype=np.int64),
        time_hours=zeros,
        static=zeros[:, None],
        outcomes=(np.arange(n) % 2).astype(np.float32),
    )


def codes(loader):
    return [batch.code[:, 0].tolist() for batch, *_ in loader]


def epoch(number, seed=7):
    module = SampleModule(samples(10), samples(9), batch_size=4, seed=seed)
    module.trainer = types.SimpleNamespace(current_epoch=number)
    return codes(module.train_dataloader())


def test_every_sample_once_an_epoch():
    batches = epoch(0)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(code for batch in batches for code in batch) == list(range(2, 12))


def test_the_order_is_another_in_every_epoch_and_with_every_seed():
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=8)


def test_the_order_depends_on_seed_and_epoch_alone():
    first = epoch(3)
    np.random.default_rng().random(100)
    torch.rand(100)
    assert epoch(3) == first


def test_tuning_samples_come_in_order_with_their_outcomes():
    module = SampleModule(samples(10), samples(9), batch_size=2, seed=0)
    (batch, outcome, *_), (rest, *_) = module.val_dataloader()
    assert batch.code[:, 0].tolist() == list(range(2, 10))
    assert outcome.tolist() == [0, 1] * 4
    assert len(rest) == 1
    assert len(module.val_dataloader()) == 2


@pytest.mark.parametrize("n", [1, 4, 5])
def test_length_is_the_number_of_batches(n):
    module = SampleModule(samples(n), samples(1), batch_size=4, seed=0)
    assert len(module.train_dataloader()) == len(codes(module.train_dataloader()))
