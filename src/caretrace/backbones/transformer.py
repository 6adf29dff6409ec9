"""Causal Transformer with its own attention layer (Vaswani et al. 2017; pre-norm, Xiong et al. 2020).

The layer is our own because torch's encoder layer returns no attention weights and its fast path skips
hooks (pytorch #88810, #99304, #128413). Positions enter by rotation (Su et al. 2021), so a sequence may
have any length and `step` needs no table.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.errors import ConfigError


@dataclasses.dataclass
class LayerCache:
    """Keys and values of the steps one layer has seen, each [batch, head, step, d_head]."""

    keys: Tensor
    values: Tensor


class SelfAttention(nn.Module):
    """Causal multi-head self-attention with rotary positions.

    Args:
        d_model: Width of the hidden states.
        n_heads: Heads; must divide `d_model` into even parts.
    """

    def __init__(self, *, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % (2 * n_heads):
            raise ConfigError(
                f"d_model {d_model} must be a multiple of 2 x n_heads ({2 * n_heads}) for rotary positions"
            )
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self,
        hidden: Float[Tensor, "batch step d_model"],
        allowed: Bool[Tensor, "batch 1 step seen"],
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "batch step d_model"], LayerCache]:
        """Attend from each step to those `allowed`; `cache` holds the steps before the first of `hidden`."""
        query, key, value = self._project(hidden, 0 if cache is None else cache.keys.shape[2])
        if cache is not None:
            key, value = torch.cat([cache.keys, key], 2), torch.cat([cache.values, value], 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).flatten(2)), LayerCache(key, value)

    def weights(
        self, hidden: Float[Tensor, "batch step d_model"], allowed: Bool[Tensor, "batch 1 step seen"]
    ) -> Float[Tensor, "batch head step seen"]:
        """The attention weights that `forward` uses, each row sums to 1."""
        query, key, _ = self._project(hidden, 0)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1)

    def _project(self, hidden: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        batch, steps, d_model = hidden.shape
        parts = self.query_key_value(hidden).view(batch, steps, 3, self.n_heads, d_model // self.n_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return _rotate(query, start), _rotate(key, start), value


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, *, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model=d_model, n_heads=n_heads)
        self.norm_forward = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * d_model, d_model)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Float[Tensor, "batch step d_model"],
        allowed: Bool[Tensor, "batch 1 step seen"],
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "batch step d_model"], LayerCache]:
        """Hidden states and the grown cache."""
        mixed, cache = self.attention(self.norm_attention(hidden), allowed, cache)
        hidden = hidden + self.dropout(mixed)
        return hidden + self.dropout(self.feed_forward(self.norm_forward(hidden))), cache


class Transformer(nn.Module):
    """A stack of causal Transformer layers.

    Args:
        d_model: Width of the hidden states, in and out.
        n_layers: Layers in the stack.
        dropout: Probability of dropping a hidden unit.
        n_heads: Attention heads.
    """

    causal = True

    def __init__(self, *, d_model: int, n_layers: int, dropout: float, n_heads: int = 4) -> None:
        super().__init__()
        self.d_model = d_model
        layers = [
            TransformerLayer(d_model=d_model, n_heads=n_heads, dropout=dropout) for _ in range(n_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden state of each step given itself and the steps before it, 0 where padded."""
        allowed = causal_mask(padding_mask)
        for layer in self.layers:
            hidden, _ = layer(hidden, allowed)
        return self.norm(hidden).masked_fill(padding_mask[..., None], 0.0)

    def attention_weights(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "layer batch head step step"]:
        """Attention of every layer and head; padded rows attend to themselves."""
        allowed = causal_mask(padding_mask)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            weights.append(layer.attention.weights(layer.norm_attention(hidden), allowed))
            hidden, _ = layer(hidden, allowed)
        return torch.stack(weights)

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: list[LayerCache] | None = None
    ) -> tuple[Float[Tensor, "batch d_model"], list[LayerCache]]:
        """One more step; `state` holds each layer's keys and values."""
        seen = 1 if state is None else state[0].keys.shape[2] + 1
        allowed = torch.ones(len(hidden), 1, 1, seen, dtype=torch.bool, device=hidden.device)
        grown, current = [], hidden[:, None]
        for number, layer in enumerate(self.layers):
            current, cache = layer(current, allowed, None if state is None else state[number])
            grown.append(cache)
        return self.norm(current)[:, 0], grown


def causal_mask(padding_mask: Bool[Tensor, "batch step"]) -> Bool[Tensor, "batch 1 step step"]:
    """Which step may look at which: itself and earlier ones that are not padding.

    A padded step may look at itself, so that its row of weights is defined; its output is discarded.
    """
    steps = padding_mask.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=padding_mask.device).tril()
    itself = torch.eye(steps, dtype=torch.bool, device=padding_mask.device)
    return ((earlier & ~padding_mask[:, None, :]) | itself)[:, None]


def _rotate(parts: Tensor, start: int) -> Tensor:
    """Rotary position embedding of [batch, head, step, d_head], the first step at position `start`."""
    half = parts.shape[-1] // 2
    position = torch.arange(start, start + parts.shape[2], device=parts.device, dtype=parts.dtype)
    frequency = 10_000.0 ** (-torch.arange(half, device=parts.device, dtype=parts.dtype) / half)
    angle = position[:, None] * frequency
    first, second = parts[..., :half], parts[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
