"""Measurements → hidden states: what a backbone reads.

A value enters by a piecewise-linear encoding of its quantile (Gorishniy et al. 2022, "On Embeddings for
Numerical Features in Tabular Deep Learning"), with weights of its own for each code, so that a potassium
that is too low and one that is too high may both be bad news. A missing value is not a zero: a code that
was not measured adds nothing, and its absence is itself visible.
"""

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from caretrace.backbones.cells import Cells, find_cells
from caretrace.backbones.text_embedding import TextEmbedding
from caretrace.backbones.time_encoding import StepTimes, TimeEncoding
from caretrace.data.batch import NO_TEXT, EventBatch
from caretrace.data.clock import HOURS_PER_WEEK
from caretrace.errors import ConfigError

_INIT_STD = 0.03
_RECENCY_HOURS = 6.0

Term = tuple[Tensor, Tensor]  # table row and weight, each one per cell


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
        flat = self.heights().flatten(0, 1)
        position = value.clamp(0.0, 1.0) * self.n_bins
        knot = position.floor().clamp(max=self.n_bins - 1)
        left = code * (self.n_bins + 1) + knot.long()
        return torch.lerp(flat[left], flat[left + 1], (position - knot)[:, None])

    def heights(self) -> Float[Tensor, "n_codes knot d_model"]:
        """The embedding at each knot: the running sum of the slopes, from 0."""
        return nn.functional.pad(self.slopes.cumsum(1), (0, 0, 1, 0))


class BinnedValueEmbedding(nn.Module):
    """A vector per bin of a value in [0, 1], for each code: steps where `ValueEmbedding` has slopes.

    Args:
        n_codes: Size of the vocabulary.
        d_model: Width of the embedding.
        n_bins: Equal bins; values are quantiles, so each holds about as many training values.
    """

    def __init__(self, *, n_codes: int, d_model: int, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.bins = nn.Parameter(torch.randn(n_codes, n_bins, d_model) * _INIT_STD)

    def forward(self, code: Int[Tensor, "n"], value: Float[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """Embedding of each value; a value on the edge of two bins belongs to the upper one."""
        position = (value.clamp(0.0, 1.0) * self.n_bins).floor().clamp(max=self.n_bins - 1)
        return self.bins[code, position.long()]


_VALUES = {"linear": ValueEmbedding, "binned": BinnedValueEmbedding}


class MeasurementEmbedding(nn.Module):
    """One step per measurement: code, value or that there is none, event type, text, and when it was.

    Args:
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        d_model: Width of the embedding.
        n_bins: Linear pieces, or bins, of a value.
        dropout: Probability of dropping a hidden unit.
        values: How a value enters: "linear" in pieces, or "binned".
        n_static: Static features, added to every step; 0 for none.
        texts: Embedding of the texts; without it they are not read.

    Raises:
        ConfigError: `values` is neither.
    """

    def __init__(
        self,
        *,
        n_codes: int,
        n_types: int,
        d_model: int,
        n_bins: int,
        dropout: float,
        values: Literal["linear", "binned"] = "linear",
        n_static: int = 0,
        texts: TextEmbedding | None = None,
    ) -> None:
        super().__init__()
        if values not in _VALUES:
            raise ConfigError(f"values {values!r}: valid ones are {', '.join(_VALUES)}")
        self.code = nn.Embedding(n_codes, d_model)
        self.event_type = nn.Embedding(n_types, d_model)
        self.value = _VALUES[values](n_codes=n_codes, d_model=d_model, n_bins=n_bins)
        # The lowest value of a code adds 0, so that there is no value must be said by something else.
        self.no_value = nn.Parameter(torch.randn(d_model) * _INIT_STD)
        self.time = TimeEncoding(d_model=d_model, ago=True)
        self.static = nn.Linear(n_static, d_model, bias=False) if n_static else None
        self.texts = texts
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, batch: EventBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors and their padding mask (True where padded)."""
        value = self.value(batch.code.flatten(), batch.numeric_value.flatten()).view(*batch.code.shape, -1)
        hidden = (
            self.code(batch.code)
            + self.event_type(batch.event_type)
            + torch.where(batch.numeric_mask[..., None], value, self.no_value)
            + self.time(self.times(batch))
        )
        if self.static is not None:
            hidden = hidden + self.static(batch.static)[:, None]
        if self.texts is not None:
            hidden = hidden + self.texts(batch.text_id)
        return self.dropout(self.norm(hidden)), batch.padding_mask

    def times(self, batch: EventBatch) -> StepTimes:
        """When each measurement was."""
        return StepTimes(batch.time_delta_hours, -batch.time_hours, batch.clock)


class StepEmbedding(nn.Module):
    """Equal steps of time that end at the prediction time; the first step holds all that is older.

    Each step sums, over codes, what is new (that it was measured, how often, its lowest and highest
    value) and what is known by then (the last value, the lowest, highest and mean so far, how often, and
    how recently). A step knows nothing of later steps. Only measurements that exist cost anything: no
    [batch, step, code] grid is built.

    Args:
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        d_model: Width of the embedding.
        n_bins: Linear pieces of a value.
        dropout: Probability of dropping a hidden unit.
        code_dropout: Probability, in training, that a sample is shown without one of its codes.
        step_hours: Length of a step, hours.
        n_steps: Steps, the one for older measurements included.
        texts: Embedding of the texts, summed over the measurements of a step; without it they are not read.
    """

    def __init__(  # noqa: PLR0913 - there is no config below the applications
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
        texts: TextEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.n_codes, self.n_steps, self.step_hours = n_codes, n_steps, step_hours
        self.code_dropout = code_dropout
        rows = dict.fromkeys(("measured", "count", "known", "count_so_far", "recent"), n_codes)
        rows["event_type"] = n_types
        self.tables = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(n, d_model) * _INIT_STD) for name, n in rows.items()}
        )
        self.n_bins = n_bins
        self.values = nn.ModuleDict(
            {
                name: ValueEmbedding(n_codes=n_codes, d_model=d_model, n_bins=n_bins)
                for name in ("lowest", "highest", "last", "lowest_so_far", "highest_so_far", "mean_so_far")
            }
        )
        # Where each table starts once all of them stand in one, in the order of `_mix`.
        lengths = {
            **{name: len(self.tables[name]) for name in self.tables},
            **dict.fromkeys(self.values, n_codes * (n_bins + 1)),
        }
        starts = itertools.accumulate(lengths.values(), initial=0)
        self._first = dict(zip(lengths, starts, strict=False))
        self.texts = texts
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, batch: EventBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors of every step, and a padding mask that is all False."""
        cells = find_cells(batch, n_codes=self.n_codes, n_steps=self.n_steps, step_hours=self.step_hours)
        kept_codes = self._kept(len(batch), cells)
        kept = torch.ones_like(cells.count) if kept_codes is None else kept_codes[cells.row, cells.code]
        again = cells.again * kept
        new, known = self._new(cells), self._known(cells)
        # A decaying sum, topped up to 1 at each measurement, gives exp(-age / 6 h) of every code.
        decay = math.exp(-self.step_hours / _RECENCY_HOURS)
        top_up = kept - again * decay**cells.steps_since
        target = cells.row * self.n_steps + cells.step
        size = len(batch) * self.n_steps
        terms = [
            *((target, column, weight * kept) for column, weight in new),
            # A running sum of differences carries the state of every code forward to the steps that follow.
            *((target + size, column, weight * kept) for column, weight in known),
            *((target + size, column.roll(1), -weight.roll(1) * again) for column, weight in known),
            (target + 2 * size, self._column("recent", cells.code), top_up),
        ]
        fresh, change, recent = self._mix(terms, 3 * size).view(3, len(batch), self.n_steps, -1)
        hidden = fresh + change.cumsum(1) + _decayed(recent, decay)
        if self.texts is not None:
            hidden = hidden + self._said(batch, self.texts, kept_codes)
        padding = torch.zeros(len(batch), self.n_steps, dtype=torch.bool, device=hidden.device)
        return self.dropout(self.norm(hidden)), padding

    def times(self, batch: EventBatch) -> StepTimes:
        """When each step ended, and how long before that the last step was in which anything was measured."""
        age = (-batch.time_hours / self.step_hours).floor().clamp(max=self.n_steps - 1).long()
        step = torch.arange(self.n_steps, device=age.device)
        # Number of the step where something was measured, else 0, of which the latest earlier one is kept.
        measured = torch.zeros(len(batch), self.n_steps + 1, dtype=torch.long, device=age.device)
        measured.scatter_reduce_(1, self.n_steps - age, (self.n_steps - age) * ~batch.padding_mask, "amax")
        before = measured[:, :-1].cummax(1).values - 1
        gap = torch.where(before >= 0, (step - before) * self.step_hours, 0.0)
        ago = ((self.n_steps - 1 - step) * self.step_hours).expand(len(batch), -1).to(gap.dtype)
        return StepTimes(gap, ago, (batch.hour_of_week[:, None] - ago) % HOURS_PER_WEEK)

    def _new(self, cells: Cells) -> list[Term]:
        return [
            (self._column("measured", cells.code), torch.ones_like(cells.count)),
            (self._column("count", cells.code), torch.log1p(cells.count)),
            (self._column("event_type", cells.event_type), torch.ones_like(cells.count)),
            *self._value("lowest", cells.code, cells.lowest, cells.valued),
            *self._value("highest", cells.code, cells.highest, cells.valued),
        ]

    def _known(self, cells: Cells) -> list[Term]:
        so_far = cells.so_far()
        return [
            (self._column("known", cells.code), torch.ones_like(cells.count)),
            (self._column("count_so_far", cells.code), torch.log1p(so_far.count)),
            *(
                term
                for name in ("last", "lowest_so_far", "highest_so_far", "mean_so_far")
                for term in self._value(name, cells.code, getattr(so_far, name), so_far.valued)
            ),
        ]

    def _column(self, name: str, number: Tensor) -> Tensor:
        return self._first[name] + number

    def _value(self, name: str, code: Tensor, value: Tensor, valued: Tensor) -> list[Term]:
        """A value lies between two knots of its code's piecewise-linear function and weighs on both."""
        position = value.clamp(0.0, 1.0) * self.n_bins
        knot = position.detach().floor().clamp(max=self.n_bins - 1)
        left = self._first[name] + code * (self.n_bins + 1) + knot.long()
        right = position - knot
        return [(left, (1.0 - right) * valued), (left + 1, right * valued)]

    def _mix(self, terms: list[tuple[Tensor, Tensor, Tensor]], size: int) -> Tensor:
        """Weighted sums of table rows as one sparse product: row, table row, weight → [size, d_model]."""
        table = torch.cat(
            [*self.tables.values(), *(value.heights().flatten(0, 1) for value in self.values.values())]  # type: ignore[operator]
        )
        row, column, weight = (torch.cat(parts) for parts in zip(*terms, strict=True))
        mixing = torch.sparse_coo_tensor(
            torch.stack([row, column]), weight, (size, len(table)), check_invariants=False
        )
        with torch.autocast(
            table.device.type, enabled=False
        ):  # which has no sparse product, and no backward of it
            return torch.sparse.mm(mixing, table)

    def _kept(self, n_samples: int, cells: Cells) -> Tensor | None:
        """Weight of each [sample, code]: in training whole codes are dropped per sample, the rest scaled up."""
        if not self.training or self.code_dropout == 0:
            return None
        kept = torch.rand(n_samples, self.n_codes, device=cells.row.device) >= self.code_dropout
        return kept.float() / (1.0 - self.code_dropout)

    def _said(self, batch: EventBatch, texts: TextEmbedding, kept_codes: Tensor | None) -> Tensor:
        """Sum of the texts of each step, [batch, step, d_model]; a dropped code takes its texts with it."""
        said = texts(batch.text_id.masked_fill(batch.padding_mask, NO_TEXT))
        if kept_codes is not None:
            said = said * kept_codes.gather(1, batch.code)[..., None]
        age = (-batch.time_hours / self.step_hours).floor().clamp(max=self.n_steps - 1).long()
        target = (self.n_steps - 1 - age)[..., None].expand_as(said)
        return said.new_zeros(len(batch), self.n_steps, said.shape[-1]).scatter_add(1, target, said)


def _decayed(added: Tensor, decay: float) -> Tensor:
    """Sum over earlier steps of [batch, step, d_model], weighted by decay to the power of their age in steps."""
    age = torch.arange(added.shape[1], device=added.device)
    age = age[:, None] - age[None, :]
    weights = torch.where(age >= 0, decay ** age.clamp(min=0), 0.0)
    return weights.to(added.dtype) @ added
