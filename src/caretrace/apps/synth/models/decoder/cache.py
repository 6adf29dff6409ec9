"""A transformer one token at a time, with room for keys and values made once.

`Transformer.step` copies its cache with every token, and all sequences are at the same step. Here each row of the
batch has its own length, keys and values are written in place, and a row that is done is given to another subject.
Rows of similar length lie side by side in a *lane*, so that a few long histories do not make attention long for all
the others; a row that outgrows its lane is moved to the next one, of twice the width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caretrace.backbones.transformer import SelfAttention, Transformer, TransformerLayer
from caretrace.evaluation.histories import Ints

_NARROWEST = 64  # steps of the first lane


class _Lane:
    """Keys and values of rows that have up to `width` steps.

    Args:
        like: A tensor of the kind to keep.
        shape: `[layer, 2, 0, head, width, d_head]`.

    Attributes:
        rows: `[slot]`, row of each slot; slots have no gaps.
        cache: As `shape`, with room for as many slots as ever were at once.
    """

    def __init__(self, like: Tensor, shape: tuple[int, ...]) -> None:
        self.rows: Ints = np.zeros(0, np.int64)
        self.cache = like.new_zeros(shape)

    @property
    def width(self) -> int:
        """Steps at most."""
        return self.cache.shape[4]

    def add(self, rows: Ints) -> Ints:
        """Slots of rows that come in."""
        slots = np.arange(len(self.rows), len(self.rows) + len(rows))
        self.rows = np.concatenate([self.rows, rows])
        if len(self.rows) > self.cache.shape[2]:
            grown = list(self.cache.shape)
            grown[2] = max(2 * grown[2], len(self.rows))
            larger = self.cache.new_zeros(grown)
            larger[:, :, : self.cache.shape[2]] = self.cache
            self.cache = larger
        return slots

    def remove(self, slots: Ints) -> None:
        """Give these slots up; the last rows move into the gaps."""
        n = len(self.rows) - len(slots)
        gaps = slots[slots < n]
        movers = np.setdiff1d(np.arange(n, len(self.rows)), slots)
        self.cache[:, :, gaps] = self.cache[:, :, movers]
        self.rows[gaps] = self.rows[movers]
        self.rows = self.rows[:n]


class StaticTransformer:
    """Steps of a transformer, rows of different length beside each other.

    Args:
        backbone: The transformer.
        rows: How many sequences at once.
    """

    can_restart = True

    def __init__(self, backbone: Transformer, rows: int) -> None:
        self._backbone = backbone
        self._weight = next(backbone.parameters())
        self._length, self._lane = np.zeros(rows, np.int64), np.full(rows, -1)
        self._lanes: list[_Lane] = []

    def restart(self, rows: Tensor) -> None:
        """Begin anew in these rows."""
        self.release(rows)

    def release(self, rows: Tensor) -> None:
        """These rows are done: forget what they had."""
        done = rows.cpu().numpy()
        for number in np.unique(self._lane[done]).tolist():
            if number >= 0:
                lane = self._lanes[number]
                lane.remove(np.flatnonzero(np.isin(lane.rows, done)))
        self._lane[done], self._length[done] = -1, 0

    def step(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Hidden states `[row, d_model]` of the next token of these rows, given in increasing order."""
        whose = rows.cpu().numpy()
        self._make_room(whose)
        place = np.full(len(self._length), -1)
        place[whose] = np.arange(len(whose))
        taken = [np.flatnonzero(place[lane.rows] >= 0) for lane in self._lanes]
        in_lanes = [lane.rows[slots] for lane, slots in zip(self._lanes, taken, strict=True)]
        order = torch.from_numpy(place[np.concatenate(in_lanes)]).to(hidden.device)
        parts = [
            _Part(lane, slots, torch.from_numpy(self._length[each]).to(hidden.device))
            for lane, slots, each in zip(self._lanes, taken, in_lanes, strict=True)
            if len(slots)
        ]
        length = torch.cat([part.length for part in parts])
        rotation = self._backbone.rotary(length[:, None].to(hidden.dtype))
        current = hidden[order][:, None]
        for number in range(len(self._backbone.layers)):
            layer = self._layer(number)
            query, key, value = _project(layer.attention, layer.norm_attention(current))
            query, key = rotation.turn(query), rotation.turn(key)
            sizes = [len(part.length) for part in parts]
            split = (each.split(sizes) for each in (query, key, value))
            mixed = [part.attend(number, *each) for part, *each in zip(parts, *split, strict=True)]
            current = current + layer.attention.out(torch.cat(mixed).transpose(1, 2).flatten(2))
            current = current + layer.feed_forward(layer.norm_forward(current))
        self._length[whose] += 1
        out = torch.empty_like(hidden)
        out[order] = self._backbone.norm(current)[:, 0]
        return out

    def _layer(self, number: int) -> TransformerLayer:
        layer = self._backbone.layers[number]
        assert isinstance(layer, TransformerLayer)
        return layer

    def _make_room(self, rows: Ints) -> None:
        """New rows get a slot, and those that fill their lane one in the next."""
        wanted = np.maximum(np.ceil(np.log2((self._length[rows] + 1) / _NARROWEST)), 0).astype(np.int64)
        for number in range(int(wanted.max()) + 1):
            if number == len(self._lanes):
                self._lanes.append(self._new_lane(number))
            coming = rows[(wanted == number) & (self._lane[rows] != number)]
            if not len(coming):
                continue
            lane = self._lanes[number]
            slots = lane.add(coming)
            if number:
                self._move(coming, slots, number)
            self._lane[coming] = number

    def _move(self, rows: Ints, slots: Ints, number: int) -> None:
        """What these rows have in the lane below goes with them."""
        below, lane = self._lanes[number - 1], self._lanes[number]
        old = np.flatnonzero(np.isin(below.rows, rows))
        to = slots[np.searchsorted(rows, below.rows[old])]
        lane.cache[:, :, to, :, : below.width] = below.cache[:, :, old]
        below.remove(old)

    def _new_lane(self, number: int) -> _Lane:
        layers, heads = len(self._backbone.layers), self._layer(0).attention.n_heads
        head = self._backbone.d_model // heads
        return _Lane(self._weight, (layers, 2, 0, heads, _NARROWEST << number, head))


class _Part:
    """The rows of a lane that take a step.

    Args:
        lane: The lane.
        slots: Their slots.
        length: `[slot]`, steps before this one.
    """

    def __init__(self, lane: _Lane, slots: Ints, length: Tensor) -> None:
        self.lane, self.length = lane, length
        self._slots = torch.from_numpy(slots).to(length.device)
        self._every = len(slots) == len(lane.rows)
        self._within = int(length.max()) + 1
        steps = torch.arange(self._within, device=length.device)
        past = (steps > length[:, None])[:, None, None]
        self._mask = torch.zeros(past.shape, device=length.device).masked_fill(past, -torch.inf)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`[slot, head, 1, d_head]`, after the new key and value are written."""
        cache = self.lane.cache[layer]
        cache[0][self._slots, :, self.length] = key[:, :, 0]
        cache[1][self._slots, :, self.length] = value[:, :, 0]
        if self._every:
            keys, values = cache[:, : len(self.length), :, : self._within]
        else:
            keys, values = cache[:, self._slots, :, : self._within]
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=self._mask.to(query.dtype))


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

    def release(self, rows: Tensor) -> None:
        """Nothing to do before all begin anew."""

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
