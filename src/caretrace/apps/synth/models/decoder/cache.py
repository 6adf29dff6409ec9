"""A transformer one token at a time, with room for keys and values made once.

`Transformer.step` copies its cache with every token, and all sequences are at the same step. Here each row of the
batch has its own length, keys and values are written in place, and a row that is done is given to another subject.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caretrace.backbones.transformer import SelfAttention, Transformer, TransformerLayer

_ROOM = 64  # steps at first; doubled when a sequence is longer


class StaticTransformer:
    """Steps of a transformer, rows of different length beside each other.

    Args:
        backbone: The transformer.
        rows: How many sequences at once.
    """

    can_restart = True

    def __init__(self, backbone: Transformer, rows: int) -> None:
        self._backbone = backbone
        weight = next(backbone.parameters())
        attention = self._layer(0).attention
        head = backbone.d_model // attention.n_heads
        shape = (len(backbone.layers), 2, rows, attention.n_heads, _ROOM, head)
        self._cache = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self._length = torch.zeros(rows, dtype=torch.int64, device=weight.device)

    def restart(self, rows: Tensor) -> None:
        """Begin anew in these rows."""
        self._length[rows] = 0

    def step(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Hidden states `[row, d_model]` of the next token of these rows, given in increasing order."""
        length = self._length[rows]
        self._make_room(int(length.max()) + 1)
        rotation = self._backbone.rotary(length[:, None].to(hidden.dtype))
        within = int(length.max()) + 1
        may = (torch.arange(within, device=hidden.device) <= length[:, None])[:, None, None]
        current = hidden[:, None]
        every = len(rows) == self._cache.shape[2]
        for number in range(len(self._backbone.layers)):
            layer = self._layer(number)
            query, key, value = _project(layer.attention, layer.norm_attention(current))
            query, key = rotation.turn(query), rotation.turn(key)
            cache = self._cache[number]
            cache[0, rows, :, length] = key[:, :, 0]
            cache[1, rows, :, length] = value[:, :, 0]
            keys, values = (part[:, :, :within] if every else part[rows, :, :within] for part in cache)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=may)
            current = current + layer.attention.out(mixed.transpose(1, 2).flatten(2))
            current = current + layer.feed_forward(layer.norm_forward(current))
        self._length[rows] += 1
        return self._backbone.norm(current)[:, 0]

    def _layer(self, number: int) -> TransformerLayer:
        layer = self._backbone.layers[number]
        assert isinstance(layer, TransformerLayer)
        return layer

    def _make_room(self, steps: int) -> None:
        if steps > self._cache.shape[4]:
            self._cache = torch.cat([self._cache, torch.zeros_like(self._cache)], 4)


class AnySteps:
    """Steps of any backbone; all rows begin together, because what its state is made of is its own affair.

    Args:
        backbone: Anything with the contract's `step`.
        rows: How many sequences at once.
    """

    can_restart = False

    def __init__(self, backbone: nn.Module, rows: int) -> None:
        self._backbone, self._rows = backbone, rows
        self._state: Any = None

    def restart(self, rows: Tensor) -> None:
        """Begin anew in all rows."""
        del rows
        self._state = None

    def step(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Hidden states `[row, d_model]`; rows that are left out are fed nothing of meaning."""
        whole = hidden.new_zeros(self._rows, hidden.shape[1])
        whole[rows] = hidden
        out, self._state = self._backbone.step(whole, self._state)  # type: ignore[operator]
        return out[rows]


def steps_of(backbone: nn.Module, rows: int) -> StaticTransformer | AnySteps:
    """The fastest way to take steps with a backbone."""
    return (
        StaticTransformer(backbone, rows) if isinstance(backbone, Transformer) else AnySteps(backbone, rows)
    )


def _project(attention: SelfAttention, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    parts = attention.query_key_value(hidden).unflatten(-1, (3, attention.n_heads, -1))
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    return query, key, value
