"""The record in a few numbers per code: what a linear model of the same measurements would be given."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.data.batch import EventBatch

_PLAIN = 3  # measured, count, slope
_BENT = 4  # last, lowest, highest, mean: each in linear pieces
_PIECES = 2
_LEAST_SPREAD = 0.05  # keeps the slope of two measurements in one minute small


class WindowSummary(nn.Module):
    """Whether, how often, last, lowest, highest, mean and slope of every code, in windows that end now.

    A value enters as two linear pieces, below and above the median of its code, so that a linear map of the
    summary may bend there: too low and too high can both be bad. Pieces are centred and a code without a
    value in a window gives zeros. The slope is that of the least-squares line, per window length.

    Args:
        n_codes: Size of the vocabulary.
        windows_hours: Length of each window, hours.
    """

    def __init__(self, *, n_codes: int, windows_hours: Sequence[float]) -> None:
        super().__init__()
        self.n_codes, self.windows_hours = n_codes, tuple(windows_hours)

    @property
    def n_features(self) -> int:
        """Width of the summary."""
        return self.n_codes * len(self.windows_hours) * (_PLAIN + _BENT * _PIECES)

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch feature"]:
        """The summary, one window after the other."""
        parts = [self._window(batch, hours) for hours in self.windows_hours]
        return torch.cat(parts, -1).flatten(1)

    def _window(self, batch: EventBatch, hours: float) -> Tensor:
        """[batch, code, statistic] of the measurements of the last `hours`."""
        keep = ~batch.padding_mask & (batch.time_hours >= -hours)
        size = len(batch) * self.n_codes
        row = torch.arange(len(batch), device=keep.device)[:, None].expand_as(keep)
        cell = (row * self.n_codes + batch.code)[keep]
        mask = batch.numeric_mask[keep]
        value, time = batch.numeric_value[keep], 1.0 + batch.time_hours[keep] / hours
        valued = cell[mask]

        def reduce(values: Tensor, how: str, start: int | float = 0.0) -> Tensor:
            into = torch.full((size,), start, device=values.device, dtype=values.dtype)
            return into.scatter_reduce(0, valued, values[mask], how)

        count = torch.zeros(size, device=keep.device).index_add(0, cell, torch.ones_like(value))
        n = reduce(torch.ones_like(value), "sum")
        some = (n > 0).float()
        mean_value, mean_time = (reduce(each, "sum") / n.clamp(min=1.0) for each in (value, time))
        off_value, off_time = value - mean_value[cell], time - mean_time[cell]
        spread = reduce(off_time * off_time, "sum")
        # Measurements stand in chronological order: the highest position with a value is the latest.
        latest = reduce(torch.arange(len(value), device=keep.device), "amax", -1)
        last = torch.where(latest >= 0, value[latest.clamp(min=0)], 0.0) if len(value) else some
        plain = [
            (count > 0).float(),
            torch.log1p(count),
            reduce(off_value * off_time, "sum") / (spread + _LEAST_SPREAD),
        ]
        bent = [last, reduce(value, "amin", 1.0), reduce(value, "amax", 0.0), mean_value]
        pieces = [
            ((each * _PIECES - piece).clamp(0.0, 1.0) - 0.5) * some
            for each in bent
            for piece in range(_PIECES)
        ]
        return torch.stack([*plain, *pieces], -1).view(len(batch), self.n_codes, -1)
