"""The weights that the attention layer shows are the weights that it uses."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import nn

from caretrace.backbones.transformer import RotaryPositions, SelfAttention, Transformer, causal_mask
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


def dense(transformer, hidden, padding_mask):
    """`forward` with a mask of every pair of steps, as it would be without knowing where padding stands."""
    allowed, rotation = causal_mask(padding_mask), transformer._rotation(hidden, None)
    for layer in transformer.layers:
        query, key, value = layer.attention._project(layer.norm_attention(hidden), rotation)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        hidden = hidden + layer.attention.out(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + layer.feed_forward(layer.norm_forward(hidden))
    return transformer.norm(hidden).masked_fill(padding_mask[..., None], 0.0)


def test_no_mask_is_needed_where_padding_stands_at_the_end(transformer, inputs):
    hidden, padding_mask = inputs
    found, expected = transformer(hidden, padding_mask), dense(transformer, hidden, padding_mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    one, other = (
        torch.autograd.grad(out.square().sum(), list(transformer.parameters())) for out in (found, expected)
    )
    for mine, its in zip(one, other, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def causal(steps):
    return torch.ones(1, 1, steps, steps, dtype=torch.bool).tril()


def test_only_the_distance_between_steps_counts():
    """Rotary positions: the same three vectors later in time attend to each other in the same way."""
    torch.manual_seed(2)
    attention, rotary = SelfAttention(d_model=8, n_heads=2), RotaryPositions(4, "steps")
    steps, number = torch.randn(1, 3, 8), torch.arange(3.0)[None]
    early = attention.weights(steps, rotary(number), causal(3))
    late = attention.weights(steps, rotary(number + 5000), causal(3))
    torch.testing.assert_close(late, early, rtol=1e-3, atol=1e-4)
    swapped = attention.weights(steps[:, [1, 0, 2]], rotary(number), causal(3))
    assert not torch.allclose(swapped[..., 2, :2].flip(-1), early[..., 2, :2], atol=1e-4)


@pytest.mark.parametrize("positions", ["hours", "learned"])
class TestHours:
    """Positions that are times."""

    times = torch.tensor([[-80.0, -79.75, -40.0, -3.0, -3.0, 0.0]])

    def made(self, positions):
        torch.manual_seed(3)
        transformer = Transformer(d_model=16, n_layers=2, dropout=0.0, n_heads=2, positions=positions).eval()
        for parameter in transformer.layers.parameters():
            nn.init.normal_(parameter, std=0.4)
        return transformer, torch.randn(1, 6, 16), torch.zeros(1, 6, dtype=torch.bool)

    def test_gaps_count_and_their_origin_does_not(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        out = transformer(hidden, padding_mask, self.times)
        moved = transformer(hidden, padding_mask, self.times + 512.0)
        torch.testing.assert_close(moved, out, rtol=1e-2, atol=2e-3)
        stretched = transformer(hidden, padding_mask, self.times * 3)
        assert (stretched - out)[:, 1:].abs().max() > 0.05

    def test_a_later_time_cannot_change_the_past(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        later = self.times.clone()
        later[:, 4:] += 7.0
        out, changed = (transformer(hidden, padding_mask, times) for times in (self.times, later))
        assert torch.equal(out[:, :4], changed[:, :4])
        assert not torch.allclose(out[:, 4:], changed[:, 4:])

    def test_step_gives_what_forward_gives(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        whole, state = transformer(hidden, padding_mask, self.times), None
        for number, current in enumerate(hidden.unbind(1)):
            out, state = transformer.step(current, state, self.times[:, number])
            torch.testing.assert_close(out, whole[:, number], rtol=1e-4, atol=1e-5)

    def test_weights_shown_follow_time(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        weights = transformer.attention_weights(hidden, padding_mask, self.times)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 2, 6))
        other = transformer.attention_weights(hidden, padding_mask, self.times / 10)
        assert not torch.allclose(weights, other, atol=1e-3)

    def test_frequencies_learn_only_where_they_should(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        transformer(hidden, padding_mask, self.times)[:, -1].square().sum().backward()
        frequency = transformer.rotary.log_frequency
        assert (frequency is not None) == (positions == "learned")
        assert frequency is None or frequency.grad.abs().min() > 0

    def test_without_times_it_says_what_it_needs(self, positions):
        transformer, hidden, padding_mask = self.made(positions)
        with pytest.raises(ConfigError, match=f"positions='{positions}' was given no times"):
            transformer(hidden, padding_mask)
        with pytest.raises(ConfigError, match="need time_hours"):
            transformer.step(hidden[:, 0])


def test_times_that_nobody_reads_are_refused(transformer, inputs):
    with pytest.raises(ConfigError, match="positions='steps' was given times"):
        transformer(*inputs, torch.zeros(3, 6))


def test_positions_stay_exact_in_half_precision(transformer):
    """In bfloat16 step 257 would stand where step 256 does."""
    half = transformer.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rotation = half._rotation(torch.zeros(1, 258, 16, dtype=torch.bfloat16), None)
    assert rotation.cos.dtype == torch.float32
    assert (rotation.cos[0, 0, 256] - rotation.cos[0, 0, 257]).abs().max() > 0.1
    assert half(torch.randn(1, 258, 16).bfloat16(), torch.zeros(1, 258, dtype=torch.bool)).isfinite().all()


def test_memory_of_a_stream_grows_by_one_step_at_a_time(transformer):
    state, sizes = None, []
    for _ in range(4):
        _, state = transformer.step(torch.randn(2, 16), state)
        sizes.append(sum(each.keys.numel() + each.values.numel() for each in state))
    assert sizes == [128, 256, 384, 512]  # 2 layers x (keys + values) x 2 samples x 16 units


def test_a_state_can_be_gone_on_from_twice(transformer):
    """What might come next is asked for without spoiling what did come."""
    first, second, other = torch.randn(3, 1, 16).unbind(0)
    _, state = transformer.step(first)
    expected, _ = transformer.step(second, state)
    transformer.step(other, state)
    assert torch.equal(transformer.step(second, state)[0], expected)


def test_the_width_inside_is_a_setting():
    wide = Transformer(d_model=16, n_layers=1, dropout=0.0, d_feed_forward=40)
    assert [m.out_features for m in wide.layers[0].feed_forward if isinstance(m, nn.Linear)] == [40, 16]
    assert sum(p.numel() for p in wide.parameters()) > sum(
        p.numel() for p in Transformer(d_model=16, n_layers=1, dropout=0.0).parameters()
    )


def test_positions_have_three_names():
    with pytest.raises((ConfigError, TypeCheckError)):
        Transformer(d_model=16, n_layers=1, dropout=0.0, positions="days")


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"d_model 12 must be a multiple of 2 x n_heads \(8\)"):
        Transformer(d_model=12, n_layers=1, dropout=0.0)
