"""The weights that the attention layer shows are the weights that it uses."""

import pytest
import torch
from torch import nn

from caretrace.backbones.transformer import SelfAttention, Transformer, causal_mask
from caretrace.errors import ConfigError

LENGTHS = torch.tensor([6, 3, 1])


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    hidden = torch.randn(3, 6, 16)
    return hidden, torch.arange(6) >= LENGTHS[:, None]


@pytest.fixture
def transformer():
    torch.manual_seed(1)
    model = Transformer(d_model=16, n_layers=2, dropout=0.5, n_heads=2).eval()
    for parameter in model.parameters():  # away from near-uniform attention
        nn.init.normal_(parameter, std=0.5)
    return model


def test_mask_by_hand():
    allowed = causal_mask(torch.tensor([[False, False, True]]))[0, 0]
    assert allowed.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]  # the padded step may see itself
    assert causal_mask(torch.tensor([[True, True]]))[0, 0].int().tolist() == [[1, 0], [0, 1]]


def test_rows_sum_to_one_and_padding_and_the_future_get_nothing(transformer, inputs):
    hidden, padding_mask = inputs
    weights = transformer.attention_weights(hidden, padding_mask)
    assert weights.shape == (2, 3, 2, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2, 6))
    assert (weights.triu(1) == 0).all()
    for sample, length in enumerate(LENGTHS):
        assert (weights[:, sample, :, :length, length:] == 0).all()
        assert (weights[:, sample, :, :length, :length].tril() > 0).any()


def test_the_output_follows_from_the_weights_shown(transformer, inputs):
    """Every layer written out with the shown weights gives what `forward` gives with torch's fused kernel."""
    hidden, padding_mask = inputs
    expected = transformer(hidden, padding_mask)
    for layer, weights in zip(
        transformer.layers, transformer.attention_weights(hidden, padding_mask), strict=True
    ):
        attention = layer.attention
        value = attention.query_key_value(layer.norm_attention(hidden))[..., 32:]
        heads = weights @ value.unflatten(-1, (2, 8)).transpose(1, 2)
        hidden = hidden + attention.out(heads.transpose(1, 2).flatten(2))
        hidden = hidden + layer.feed_forward(layer.norm_forward(hidden))
    literal = transformer.norm(hidden).masked_fill(padding_mask[..., None], 0.0)
    torch.testing.assert_close(literal, expected, rtol=1e-5, atol=1e-5)


def test_only_the_distance_between_steps_counts():
    """Rotary positions: the same three vectors later in time attend to each other in the same way."""
    torch.manual_seed(2)
    attention = SelfAttention(d_model=8, n_heads=2)
    steps = torch.randn(1, 3, 8)
    early = attention.weights(steps, torch.ones(1, 1, 3, 3, dtype=torch.bool).tril())
    allowed = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    allowed[..., :5] = torch.eye(8, dtype=torch.bool)[:, :5]
    late = attention.weights(torch.cat([torch.randn(1, 5, 8), steps], 1), allowed)
    torch.testing.assert_close(late[..., 5:, 5:], early, rtol=1e-4, atol=1e-6)
    swapped = attention.weights(steps[:, [1, 0, 2]], torch.ones(1, 1, 3, 3, dtype=torch.bool).tril())
    assert not torch.allclose(swapped[..., 2, :2].flip(-1), early[..., 2, :2], atol=1e-4)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"d_model 12 must be a multiple of 2 x n_heads \(8\)"):
        Transformer(d_model=12, n_layers=1, dropout=0.0)
