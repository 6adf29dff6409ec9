"""Measurements gathered into cells: one per (sample, code, step) in which something was measured."""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from caretrace.data.batch import EventBatch


@dataclasses.dataclass(frozen=True)
class SoFar:
    """What is known of a code at the end of a cell's step, from that step and all before it.

    Args:
        valued: 1 where the code has had a value, else 0.
        count: Measurements so far.
        last: Latest value.
        lowest_so_far: Lowest value.
        highest_so_far: Highest value.
        mean_so_far: Mean value.
    """

    valued: Float[Tensor, "cell"]
    count: Float[Tensor, "cell"]
    last: Float[Tensor, "cell"]
    lowest_so_far: Float[Tensor, "cell"]
    highest_so_far: Float[Tensor, "cell"]
    mean_so_far: Float[Tensor, "cell"]


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells in order of sample, code and step.

    Args:
        row: Sample in the batch.
        code: Code number.
        step: Step, 0 the oldest.
        event_type: Event type of the code.
        count: Measurements in the cell.
        values: Measurements with a value.
        total: Sum of the values.
        lowest: Lowest value; 1 where there is none.
        highest: Highest value; 0 where there is none.
        last: Latest value; 0 where there is none.
        again: 1 where the sample had the code in an earlier step, else 0.
        steps_since: Steps since then; 0 where there is none.
    """

    row: Int[Tensor, "cell"]
    code: Int[Tensor, "cell"]
    step: Int[Tensor, "cell"]
    event_type: Int[Tensor, "cell"]
    count: Float[Tensor, "cell"]
    values: Float[Tensor, "cell"]
    total: Float[Tensor, "cell"]
    lowest: Float[Tensor, "cell"]
    highest: Float[Tensor, "cell"]
    last: Float[Tensor, "cell"]
    again: Float[Tensor, "cell"]
    steps_since: Float[Tensor, "cell"]

    @property
    def valued(self) -> Float[Tensor, "cell"]:
        """1 where the cell has a value, else 0."""
        return (self.values > 0).float()

    def so_far(self) -> SoFar:
        """Running statistics within each (sample, code)."""
        group = (self.again == 0).long().cumsum(0) - 1
        # Shifting each group by twice its number lets one pass over all cells start afresh in every
        # group, since scaled values lie in [0, 1]; in double precision the shift costs no digits.
        shift = 2.0 * group.double()
        lowest = (self.lowest.double() - shift).cummin(0).values + shift if len(group) else shift
        highest = (self.highest.double() + shift).cummax(0).values - shift if len(group) else shift
        values, total, count = (_running_sum(each, group) for each in (self.values, self.total, self.count))
        position = torch.arange(len(group), device=group.device)
        latest = torch.where(self.values > 0, position, -1)
        latest = latest.cummax(0).values.clamp(min=0) if len(group) else latest
        return SoFar(
            valued=(values > 0.5).float(),
            count=count,
            last=self.last[latest],
            lowest_so_far=lowest.float(),
            highest_so_far=highest.float(),
            mean_so_far=total / values.clamp(min=1.0),
        )


def find_cells(batch: EventBatch, *, n_codes: int, n_steps: int, step_hours: float) -> Cells:
    """Gather a batch's measurements; a step is (end - step_hours, end], what is older goes to step 0."""
    keep = ~batch.padding_mask
    row = torch.arange(len(batch), device=keep.device)[:, None].expand_as(keep)[keep]
    code, value, mask = batch.code[keep], batch.numeric_value[keep], batch.numeric_mask[keep]
    age = (-batch.time_hours[keep] / step_hours).floor().clamp(max=n_steps - 1).long()
    key = (row * n_codes + code) * n_steps + (n_steps - 1 - age)
    cell, index = torch.unique(key, return_inverse=True)

    def reduce(values: Tensor, how: str, start: int | float) -> Tensor:
        into = torch.full((len(cell),), start, dtype=values.dtype, device=values.device)
        return into.scatter_reduce(0, index, values, how)

    pair, step = cell // n_steps, cell % n_steps
    again = torch.zeros(len(cell), device=value.device)
    again[1:] = (pair[1:] == pair[:-1]).float()
    since = torch.zeros(len(cell), device=value.device)
    since[1:] = (step[1:] - step[:-1]).float() * again[1:]
    # Measurements stand in chronological order: the highest position with a value is the latest.
    position = torch.arange(len(value), device=value.device)
    latest = reduce(torch.where(mask, position, -1), "amax", -1)
    return Cells(
        row=pair // n_codes,
        code=pair % n_codes,
        step=step,
        event_type=reduce(batch.event_type[keep], "amax", 0),
        count=reduce(torch.ones_like(value), "sum", 0.0),
        values=reduce(mask.float(), "sum", 0.0),
        total=reduce(value * mask, "sum", 0.0),
        lowest=reduce(torch.where(mask, value, 1.0), "amin", 1.0),
        highest=reduce(torch.where(mask, value, 0.0), "amax", 0.0),
        last=torch.where(latest >= 0, value[latest.clamp(min=0)], 0.0) if len(value) else value,
        again=again,
        steps_since=since,
    )


def _running_sum(values: Tensor, group: Tensor) -> Tensor:
    """Cumulative sum that starts afresh in every group of adjacent cells."""
    total = values.double().cumsum(0)
    starts = torch.zeros_like(group, dtype=torch.bool)
    starts[:1] = True
    starts[1:] = group[1:] != group[:-1]
    before = (total - values.double())[starts]
    return (total - before[group]).float()
