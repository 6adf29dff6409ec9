"""When a step happens, told to every backbone in the same way: added to its hidden vectors beforehand.

A recurrence, a convolution and a state-space model count steps, not hours. What they must know of time they
read from the vectors, so one encoding serves them all. Only a Transformer can use times otherwise, too: see
`positions` there.
"""

import dataclasses
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.data.batch import EventBatch
from caretrace.data.clock import N_CYCLICAL, cyclical


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Times of the steps of a batch; a step knows nothing of later ones, except by `ago_hours`.

    Args:
        gap_hours: Hours since the step before in which anything was measured, ≥ 0; 0 where there is none.
        ago_hours: Hours from the step to the prediction time, ≥ 0.
        hour_of_week: Hours since Monday 0:00; NaN where unknown.
    """

    gap_hours: Float[Tensor, "batch step"]
    ago_hours: Float[Tensor, "batch step"]
    hour_of_week: Float[Tensor, "batch step"]

    @property
    def time_hours(self) -> Float[Tensor, "batch step"]:
        """Hours relative to the prediction time, ≤ 0: what a Transformer with positions in hours is given."""
        return -self.ago_hours


class TimeEncoding(nn.Module):
    """Linear map of log(1 + hours since the step before) and of sine and cosine of time of day and of week.

    Args:
        d_model: Width of the encoding.
        ago: Whether log(1 + hours to the prediction time) is read, too. A stream has no prediction time:
            a model that goes `step` by `step` leaves this out.
    """

    def __init__(self, *, d_model: int, ago: bool) -> None:
        super().__init__()
        self.ago = ago
        self.project = nn.Linear(1 + N_CYCLICAL + ago, d_model)

    def forward(self, times: StepTimes) -> Float[Tensor, "batch step d_model"]:
        """Encoding of every step."""
        gap = torch.log1p(times.gap_hours)[..., None]
        features = [gap, cyclical(times.hour_of_week)]
        if self.ago:
            features.append(torch.log1p(times.ago_hours)[..., None])
        return self.project(torch.cat(features, -1))


class EventEmbedding(Protocol):
    """What makes hidden vectors of an `EventBatch`, and can tell when its steps were."""

    def __call__(
        self, batch: EventBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors and their padding mask (True where padded)."""
        ...

    def times(self, batch: EventBatch) -> StepTimes:
        """When each step was."""
        ...


class Timed(nn.Module):
    """Another embedding with the time encoding added to it.

    Args:
        embedding: An `EventEmbedding` that does not encode time itself, such as `StepEmbedding`.
        d_model: Its width.
        ago: See `TimeEncoding`.
    """

    def __init__(self, embedding: nn.Module, *, d_model: int, ago: bool = True) -> None:
        super().__init__()
        self.embedding = embedding
        self.time = TimeEncoding(d_model=d_model, ago=ago)

    def forward(
        self, batch: EventBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors with their time, and their padding mask (True where padded)."""
        hidden, padding_mask = self.embedding(batch)
        return hidden + self.time(self.times(batch)), padding_mask

    def times(self, batch: EventBatch) -> StepTimes:
        """When each step was."""
        times: StepTimes = self.embedding.times(batch)  # type: ignore[operator]
        return times
