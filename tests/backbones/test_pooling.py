"""Attention pooling: weights that sum to one and never leave the real steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caretrace.backbones.pooling import AttentionPooling
from caretrace.errors import ConfigError


@pytest.fixture(scope="module")
def pooling():
    torch.manual_seed(0)
    return AttentionPooling(d_model=8, n_heads=2)


def ragged(lengths, garbage=0.0):
    width = max(1, *lengths)
    hidden = torch.randn(len(lengths), width, 8, generator=torch.Generator().manual_seed(4))
    padding_mask = torch.arange(width) >= torch.tensor(lengths)[:, None]
    return torch.where(padding_mask[..., None], garbage, hidden), padding_mask


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_weights_sum_to_one_and_are_zero_where_padded(pooling, lengths):
    hidden, padding_mask = ragged(lengths)
    weights = pooling.weights(hidden, padding_mask)
    assert (weights[padding_mask] == 0).all()
    expected = torch.tensor([[float(length > 0)] * 2 for length in lengths])
    torch.testing.assert_close(weights.sum(1), expected)


@pytest.mark.parametrize("garbage", [1.0, 1e6, -1e6])
def test_padding_changes_nothing(pooling, garbage):
    one, other = (pooling(*ragged([5, 2, 0], what)) for what in (0.0, garbage))
    assert torch.equal(one, other)
    assert (one[2] == 0).all()


def test_pooling_is_the_weighted_sum_of_values(pooling):
    hidden, padding_mask = ragged([4, 2])
    weights, values = pooling.weights(hidden, padding_mask), pooling.value(hidden)
    literal = torch.stack(
        [sum(weights[s, t].repeat_interleave(4) * values[s, t] for t in range(4)) for s in range(2)]
    )
    torch.testing.assert_close(pooling(hidden, padding_mask), literal)


def test_a_sample_without_steps_has_finite_gradients(pooling):
    hidden = torch.randn(1, 3, 8, requires_grad=True)
    pooling(hidden, torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert (hidden.grad == 0).all()


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="d_model 9 must be a multiple of n_heads 2"):
        AttentionPooling(d_model=9, n_heads=2)
