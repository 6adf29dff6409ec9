"""Causal Transformer with its own attention layer (Vaswani et al. 2017; pre-norm, Xiong et al. 2020).

The layer is our own because torch's encoder layer returns no attention weights and its fast path skips
hooks (pytorch #88810, #99304, #128413). Positions enter by rotation (Su et al. 2021), so a sequence may
have any length and `step` needs no table; they are numbers of steps, or real times in hours.

No mask is ever built for `forward`: padding stands at the end and attention looks back, so no step that is
kept can see it. That is exact, and lets torch take its fastest kernel.
"""

import dataclasses
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.errors import ConfigError

Positions = Literal["steps", "hours", "learned"]

_BASE = 10_000.0  # Su et al. 2021, section 3.2.2
# Periods that times in hours are told by, from a few minutes to a few years: our choice.
_SHORTEST_HOURS, _LONGEST_HOURS = 0.25, 25_000.0


@dataclasses.dataclass(frozen=True)
class LayerCache:
    """Keys (already turned) and values of the steps one layer has seen, each [batch, head, step, d_head]."""

    keys: Tensor
    values: Tensor


@dataclasses.dataclass(frozen=True)
class Rotation:
    """By how much each pair of a head's units turns at each step, both [batch or 1, 1, step, pair]."""

    cos: Tensor
    sin: Tensor

    def turn(self, parts: Tensor) -> Tensor:
        """The rotated [batch, head, step, d_head]."""
        cos, sin = self.cos.to(parts.dtype), self.sin.to(parts.dtype)
        first, second = parts.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class RotaryPositions(nn.Module):
    """Angles of rotation: a frequency per pair of units times the position of a step.

    Args:
        d_head: Width of a head, even.
        positions: "steps": the number of the step, with the frequencies of Su et al.; "hours": its time,
            with periods spread evenly in logarithm from a quarter of an hour to three years; "learned":
            its time, with frequencies that start there and are trained.
    """

    def __init__(self, d_head: int, positions: Positions) -> None:
        super().__init__()
        self.positions = positions
        self.n_pairs = d_head // 2
        self.log_frequency: nn.Parameter | None = None
        if positions == "learned":
            self.log_frequency = nn.Parameter(self._frequency(torch.device("cpu"), torch.float32).log())

    def forward(self, position: Float[Tensor, "batch step"]) -> Rotation:
        """Angles at each position: numbers of steps, or hours since any fixed moment."""
        if self.log_frequency is None:
            frequency = self._frequency(position.device, position.dtype)
        else:
            frequency = self.log_frequency.exp().to(position.dtype)
        angle = (position[..., None] * frequency)[:, None]
        return Rotation(angle.cos(), angle.sin())

    def _frequency(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        pair = torch.arange(self.n_pairs, device=device, dtype=dtype)
        if self.positions == "steps":
            return _BASE ** (-pair / self.n_pairs)
        spread = _LONGEST_HOURS / _SHORTEST_HOURS
        return 2 * math.pi / _SHORTEST_HOURS * spread ** (-pair / max(1, self.n_pairs - 1))


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
        self, hidden: Float[Tensor, "batch step d_model"], rotation: Rotation, cache: LayerCache | None = None
    ) -> tuple[Float[Tensor, "batch step d_model"], LayerCache]:
        """Attend from each step to itself and those before it.

        Args:
            hidden: Hidden states; a single step when there is a cache.
            rotation: Rotation of each step of `hidden`.
            cache: Keys and values of the steps before `hidden`.
        """
        query, key, value = self._project(hidden, rotation)
        if cache is not None:
            key, value = torch.cat([cache.keys, key], 2), torch.cat([cache.values, value], 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        return self.out(mixed.transpose(1, 2).flatten(2)), LayerCache(key, value)

    def weights(
        self,
        hidden: Float[Tensor, "batch step d_model"],
        rotation: Rotation,
        allowed: Bool[Tensor, "batch 1 step step"],
    ) -> Float[Tensor, "batch head step step"]:
        """The attention weights that `forward` uses where `allowed`; each row sums to 1."""
        query, key, _ = self._project(hidden, rotation)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1)

    def _project(self, hidden: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.query_key_value(hidden).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return rotation.turn(query), rotation.turn(key), value


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, *, d_model: int, n_heads: int, d_feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model=d_model, n_heads=n_heads)
        self.norm_forward = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_feed_forward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_feed_forward, d_model),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden: Float[Tensor, "batch step d_model"], rotation: Rotation, cache: LayerCache | None = None
    ) -> tuple[Float[Tensor, "batch step d_model"], LayerCache]:
        """Hidden states and the grown cache."""
        mixed, cache = self.attention(self.norm_attention(hidden), rotation, cache)
        hidden = hidden + self.dropout(mixed)
        return hidden + self.dropout(self.feed_forward(self.norm_forward(hidden))), cache


class Transformer(nn.Module):
    """A stack of causal Transformer layers.

    Args:
        d_model: Width of the hidden states, in and out.
        n_layers: Layers in the stack.
        dropout: Probability of dropping a hidden unit.
        n_heads: Attention heads.
        d_feed_forward: Width inside the feed-forward part; twice `d_model` when None.
        positions: What tells steps apart: their number ("steps"), or their time in hours at fixed ("hours")
            or trained ("learned") frequencies. Times are given to `forward` and `step` beside the hidden states.
    """

    causal = True

    def __init__(
        self,
        *,
        d_model: int,
        n_layers: int,
        dropout: float,
        n_heads: int = 4,
        d_feed_forward: int | None = None,
        positions: Positions = "steps",
    ) -> None:
        super().__init__()
        if positions not in ("steps", "hours", "learned"):
            raise ConfigError(f"positions {positions!r}: valid ones are steps, hours, learned")
        self.d_model = d_model
        self.layers = nn.ModuleList(
            TransformerLayer(
                d_model=d_model,
                n_heads=n_heads,
                d_feed_forward=2 * d_model if d_feed_forward is None else d_feed_forward,
                dropout=dropout,
            )
            for _ in range(n_layers)
        )
        self.rotary = RotaryPositions(d_model // n_heads, positions)
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        hidden: Float[Tensor, "batch step d_model"],
        padding_mask: Bool[Tensor, "batch step"],
        time_hours: Float[Tensor, "batch step"] | None = None,
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden state of each step given itself and the steps before it, 0 where padded.

        Args:
            hidden: Hidden states.
            padding_mask: True where a step is padding (at the end).
            time_hours: Time of each step, hours since any fixed moment; only for positions in hours.

        Raises:
            ConfigError: Times are needed and not given, or the other way round.
        """
        rotation = self._rotation(hidden, time_hours)
        for layer in self.layers:
            hidden, _ = layer(hidden, rotation)
        return self.norm(hidden).masked_fill(padding_mask[..., None], 0.0)

    def attention_weights(
        self,
        hidden: Float[Tensor, "batch step d_model"],
        padding_mask: Bool[Tensor, "batch step"],
        time_hours: Float[Tensor, "batch step"] | None = None,
    ) -> Float[Tensor, "layer batch head step step"]:
        """Attention of every layer and head; padded rows attend to themselves."""
        allowed, rotation = causal_mask(padding_mask), self._rotation(hidden, time_hours)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            weights.append(layer.attention.weights(layer.norm_attention(hidden), rotation, allowed))
            hidden, _ = layer(hidden, rotation)
        return torch.stack(weights)

    def step(
        self,
        hidden: Float[Tensor, "batch d_model"],
        state: list[LayerCache] | None = None,
        time_hours: Float[Tensor, "batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch d_model"], list[LayerCache]]:
        """One more step; `state` holds each layer's keys and values, so its memory grows with every step."""
        seen = 0 if state is None else state[0].keys.shape[2]
        rotation = self._rotation(hidden[:, None], None if time_hours is None else time_hours[:, None], seen)
        grown, current = [], hidden[:, None]
        for number, layer in enumerate(self.layers):
            current, cache = layer(current, rotation, None if state is None else state[number])
            grown.append(cache)
        return self.norm(current)[:, 0], grown

    def _rotation(self, hidden: Tensor, time_hours: Tensor | None, first: int = 0) -> Rotation:
        """Rotation of each step of [batch, step, d_model], of which the first is number `first`."""
        # At least single precision: bfloat16 cannot tell step 256 from 257.
        precision = torch.promote_types(hidden.dtype, torch.float32)
        if (time_hours is None) != (self.rotary.positions == "steps"):
            raise ConfigError(
                f"a transformer with positions={self.rotary.positions!r} was given "
                f"{'no times' if time_hours is None else 'times'}: positions 'hours' and 'learned' need time_hours, "
                "'steps' takes none"
            )
        if time_hours is None:
            number = torch.arange(first, first + hidden.shape[1], device=hidden.device, dtype=precision)
            return self.rotary(number[None])
        return self.rotary(time_hours.to(precision))


def causal_mask(padding_mask: Bool[Tensor, "batch step"]) -> Bool[Tensor, "batch 1 step step"]:
    """Which step may look at which: itself and earlier ones that are not padding.

    A padded step may look at itself, so that its row of weights is defined; its output is discarded.
    """
    steps = padding_mask.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=padding_mask.device).tril()
    itself = torch.eye(steps, dtype=torch.bool, device=padding_mask.device)
    return ((earlier & ~padding_mask[:, None, :]) | itself)[:, None]
