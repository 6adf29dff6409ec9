"""The record in a table: what trees are given, one row per sample, with holes where nothing was measured."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.data.batch import EventBatch

_PER_WINDOW = 6  # count, last, lowest, highest, mean, slope
_PER_RECORD = 2  # first value, hours since the last measurement
_LEAST_SPREAD = 1e-9


class WindowStatistics(nn.Module):
    """Count, last, lowest, highest, mean and slope of every code, over the record and in windows that end now.

    The same statistics that the comparators read (`comparators.tabular`), of scaled values. What was not measured
    is NaN, but for counts.

    Args:
        n_codes: Size of the vocabulary.
        windows_hours: Length of each window, hours; the whole record is always one more.
    """

    def __init__(self, *, n_codes: int, windows_hours: Sequence[float]) -> None:
        super().__init__()
        self.n_codes, self.windows_hours = n_codes, tuple(windows_hours)

    @property
    def n_features(self) -> int:
        """Width of the table."""
        return self.n_codes * ((len(self.windows_hours) + 1) * _PER_WINDOW + _PER_RECORD)

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch feature"]:
        """The table; columns of one code lie next to each other within a window."""
        here = ~batch.padding_mask
        parts = [self._window(batch, here & (batch.time_hours >= -hours)) for hours in self.windows_hours]
        return torch.cat([self._window(batch, here, whole=True), *parts], -1)

    def _window(self, batch: EventBatch, keep: Tensor, whole: bool = False) -> Tensor:
        """[batch, code · statistic] of the measurements that are kept."""
        size = len(batch) * self.n_codes
        row = torch.arange(len(batch), device=keep.device)[:, None].expand_as(keep)
        cell = (row * self.n_codes + batch.code)[keep]
        mask, value, time = batch.numeric_mask[keep], batch.numeric_value[keep], batch.time_hours[keep]
        valued, nan = cell[mask], value.new_full((), torch.nan)

        def reduce(values: Tensor, how: str, cells: Tensor) -> Tensor:
            into = values.new_full((size,), torch.nan)
            return into.scatter_reduce(0, cells, values, how, include_self=False)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(size).index_add(0, valued, values)

        count = value.new_zeros(size).index_add(0, cell, torch.ones_like(value))
        n = total(torch.ones_like(value[mask])).clamp(min=1.0)
        mean_value, mean_time = total(value[mask]) / n, total(time[mask]) / n
        off_value, off_time = value[mask] - mean_value[valued], time[mask] - mean_time[valued]
        spread = total(off_time * off_time)
        slope = torch.where(spread > _LEAST_SPREAD, total(off_value * off_time) / spread, nan)
        # Measurements stand in chronological order: the highest position with a value is the latest.
        position = torch.arange(len(value), device=keep.device, dtype=torch.float64)[mask]
        first, last = (reduce(position, how, valued) for how in ("amin", "amax"))
        lowest, highest = (reduce(value[mask], how, valued) for how in ("amin", "amax"))
        mean = torch.where(lowest.isnan(), nan, mean_value)
        columns = [count, _taken(value, last), lowest, highest, mean, slope]
        if whole:
            columns += [_taken(value, first), -reduce(time, "amax", cell)]
        return torch.stack(columns, -1).view(len(batch), -1)


def _taken(values: Tensor, position: Tensor) -> Tensor:
    """The value at each position, NaN where there is none."""
    if not len(values):
        return values.new_full(position.shape, torch.nan)
    return torch.where(position.isnan(), torch.nan, values[position.nan_to_num().long()])
