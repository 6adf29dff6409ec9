"""Measurements → hidden states: what a backbone reads.

A value enters by a piecewise-linear encoding of its quantile (Gorishniy et al. 2022, "On Embeddings for
Numerical Features in Tabular Deep Learning"), with weights of its own for each code, so that a potassium
that is too low and one that is too high may both be bad news. A missing value is not a zero: a code that
was not measured adds nothing, and its absence is itself visible.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from caretrace.data.batch import EventBatch

_INIT_STD = 0.03
_RECENCY_HOURS = 6.0


class ValueEmbedding(nn.Module):
    """Piecewise-linear function of a value in [0, 1], one per code.

    Args:
        n_codes: Size of the vocabulary.
        d_model: Width of the embedding.
        n_bins: Linear pieces.
    """

    def __init__(self, *, n_codes: int, d_model: int, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.slopes = nn.Parameter(torch.randn(n_codes, n_bins, d_model) * _INIT_STD)

    def forward(self, code: Int[Tensor, "n"], value: Float[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """Embedding of each value; 0 at value 0."""
        heights = nn.functional.pad(self.slopes.cumsum(1), (0, 0, 1, 0))
        flat = heights.flatten(0, 1)
        position = value.clamp(0.0, 1.0) * self.n_bins
        knot = position.floor().clamp(max=self.n_bins - 1)
        left = code * (self.n_bins + 1) + knot.long()
        return torch.lerp(flat[left], flat[left + 1], (position - knot)[:, None])


class MeasurementEmbedding(nn.Module):
    """One step per measurement: code, value, event type, and the time since the one before.

    Args:
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        d_model: Width of the embedding.
        n_bins: Linear pieces of a value.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(self, *, n_codes: int, n_types: int, d_model: int, n_bins: int, dropout: float) -> None:
        super().__init__()
        self.code = nn.Embedding(n_codes, d_model)
        self.event_type = nn.Embedding(n_types, d_model)
        self.value = ValueEmbedding(n_codes=n_codes, d_model=d_model, n_bins=n_bins)
        self.time = nn.Linear(2, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: EventBatch) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors and their padding mask (True where padded)."""
        value = self.value(batch.code.flatten(), batch.numeric_value.flatten()).view(*batch.code.shape, -1)
        times = torch.stack([torch.log1p(batch.time_delta_hours), torch.log1p(-batch.time_hours)], -1)
        hidden = (
            self.code(batch.code)
            + self.event_type(batch.event_type)
            + value * batch.numeric_mask[..., None]
            + self.time(times)
        )
        return self.dropout(self.norm(hidden)), batch.padding_mask


class StepEmbedding(nn.Module):
    """Equal steps of time that end at the prediction time; the first step holds all that is older.

    Each step sums, over codes, what is new (that it was measured, how often, lowest and highest value)
    and what is known (the last value carried forward, and how recently it was measured). Only
    measurements that exist cost anything: no [batch, step, code] grid is built.

    Args:
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        d_model: Width of the embedding.
        n_bins: Linear pieces of a value.
        dropout: Probability of dropping a hidden unit.
        code_dropout: Probability, in training, that a sample is shown without one of its codes.
        step_hours: Length of a step, hours.
        n_steps: Steps, the one for older measurements included.
    """

    def __init__(
        self,
        *,
        n_codes: int,
        n_types: int,
        d_model: int,
        n_bins: int,
        dropout: float,
        code_dropout: float,
        step_hours: float,
        n_steps: int,
    ) -> None:
        super().__init__()
        self.n_codes, self.n_steps, self.step_hours = n_codes, n_steps, step_hours
        self.code_dropout = code_dropout
        self.presence, self.frequency, self.known, self.recent = (
            nn.Parameter(torch.randn(n_codes, d_model) * _INIT_STD) for _ in range(4)
        )
        self.event_type = nn.Parameter(torch.randn(n_types, d_model) * _INIT_STD)
        self.lowest, self.highest, self.last = (
            ValueEmbedding(n_codes=n_codes, d_model=d_model, n_bins=n_bins) for _ in range(3)
        )
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: EventBatch) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors of every step, and a padding mask that is all False."""
        cells = self._cells(batch)
        weight = self._kept(len(batch), cells["row"], cells["code"])[:, None]
        code, valued = cells["code"], cells["valued"][:, None]
        fresh = (
            self.presence[code]
            + self.event_type[cells["event_type"]]
            + torch.log1p(cells["count"])[:, None] * self.frequency[code]
            + valued * (self.lowest(code, cells["lowest"]) + self.highest(code, cells["highest"]))
        )
        # A running sum of differences carries the last value of every code forward.
        state = self.known[code] + valued * self.last(code, cells["last"])
        before = torch.cat([torch.zeros_like(state[:1]), state[:-1]]) * cells["again"][:, None]
        # A decaying sum, topped up to 1 at each measurement, gives exp(-age / 6 h) of every code.
        decay = torch.exp(torch.tensor(-self.step_hours / _RECENCY_HOURS))
        top_up = 1.0 - cells["again"] * decay ** cells["steps_since"]
        hidden = (
            self._scatter(fresh * weight, cells, len(batch))
            + self._scatter((state - before) * weight, cells, len(batch)).cumsum(1)
            + self._decayed(self._scatter(self.recent[code] * top_up[:, None] * weight, cells, len(batch)), decay)
        )
        padding = torch.zeros(len(batch), self.n_steps, dtype=torch.bool, device=hidden.device)
        return self.dropout(self.norm(hidden)), padding

    def _cells(self, batch: EventBatch) -> dict[str, Tensor]:
        """One cell per (sample, code, step) that was measured, in that order."""
        keep = ~batch.padding_mask
        row = torch.arange(len(batch), device=keep.device)[:, None].expand_as(keep)[keep]
        code, value, mask = batch.code[keep], batch.numeric_value[keep], batch.numeric_mask[keep]
        age = (-batch.time_hours[keep] / self.step_hours).floor().clamp(max=self.n_steps - 1).long()
        key = (row * self.n_codes + code) * self.n_steps + (self.n_steps - 1 - age)
        cell, index = torch.unique(key, return_inverse=True)
        n = len(cell)

        def reduce(values: Tensor, how: str, start: float) -> Tensor:
            return torch.full((n,), start, dtype=values.dtype, device=values.device).scatter_reduce(
                0, index, values, how
            )

        valued = reduce(mask.float(), "amax", 0.0)
        slot = torch.arange(len(value), device=value.device)
        # Chronological order within a sample makes the largest valued slot the latest value.
        latest = reduce(torch.where(mask, slot, -1), "amax", -1).clamp(min=0)
        pair = cell // self.n_steps
        step = cell % self.n_steps
        again = torch.zeros(n, device=value.device)
        again[1:] = (pair[1:] == pair[:-1]).float()
        since = torch.zeros(n, device=value.device)
        since[1:] = (step[1:] - step[:-1]).float() * again[1:]
        return {
            "row": pair // self.n_codes,
            "code": pair % self.n_codes,
            "step": step,
            "count": reduce(torch.ones_like(value), "sum", 0.0),
            "valued": valued,
            "lowest": reduce(torch.where(mask, value, 1.0), "amin", 1.0),
            "highest": reduce(torch.where(mask, value, 0.0), "amax", 0.0),
            "last": value[latest] if len(value) else value,
            "event_type": reduce(batch.event_type[keep], "amax", 0),
            "again": again,
            "steps_since": since,
        }

    def _kept(self, n_samples: int, row: Tensor, code: Tensor) -> Tensor:
        """Weight of each cell: in training whole codes are dropped per sample and the rest scaled up."""
        if not self.training or self.code_dropout == 0:
            return torch.ones(len(row), device=row.device)
        kept = (torch.rand(n_samples, self.n_codes, device=row.device) >= self.code_dropout).float()
        return kept[row, code] / (1.0 - self.code_dropout)

    def _scatter(self, parts: Tensor, cells: dict[str, Tensor], n_samples: int) -> Tensor:
        target = cells["row"] * self.n_steps + cells["step"]
        flat = torch.zeros(n_samples * self.n_steps, parts.shape[1], dtype=parts.dtype, device=parts.device)
        return flat.index_add(0, target, parts).view(n_samples, self.n_steps, -1)

    def _decayed(self, added: Tensor, decay: Tensor) -> Tensor:
        """Sum over earlier steps, each weighted by decay to the power of its age in steps."""
        age = torch.arange(self.n_steps, device=added.device)
        age = age[:, None] - age[None, :]
        weights = torch.where(age >= 0, decay.to(added.device) ** age.clamp(min=0), 0.0)
        return weights.to(added.dtype) @ added
