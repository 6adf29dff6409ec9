"""The batches every model reads: named tensors that check themselves once."""

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from caretrace.data.clock import HOURS_PER_WEEK

# `text_id` of a measurement without text.
NO_TEXT = -1
_PER_SAMPLE = ("hour_of_week", "hours_since_admission")


@dataclasses.dataclass(frozen=True)
class EventBatch:
    """Irregular sequences of measurements, in chronological order, padded at the end.

    `batch` samples, `measurement` slots, `feature` static features.

    Args:
        code: Code number; 0 where padded, 1 for a code unknown to the vocabulary.
        numeric_value: Value scaled to [0, 1] (quantile among training values of its code); 0 where none.
        numeric_mask: Whether the measurement has a value.
        text_id: Row of the text in the embedding store; -1 (`NO_TEXT`) for none, and where padded.
        event_type: Position in `schema.EventType`.
        time_hours: Hours relative to the prediction time, ≤ 0 (0 = at the prediction time).
        time_delta_hours: Hours since the previous measurement of the sample; 0 for the first.
        static: Static features of the sample.
        padding_mask: True where a slot is padding; a padded slot cannot change a result.
        hour_of_week: Prediction time, hours since Monday 0:00 (`data.clock`), in [0, 168); NaN where unknown,
            as it is everywhere when left out.
        hours_since_admission: Hours from the latest ICU admission to the prediction time; NaN where unknown,
            as it is everywhere when left out.

    Raises:
        ValueError: Shapes disagree, padding stands before a measurement, or a time lies after the
            prediction time.
    """

    code: Int[Tensor, "batch measurement"]
    numeric_value: Float[Tensor, "batch measurement"]
    numeric_mask: Bool[Tensor, "batch measurement"]
    text_id: Int[Tensor, "batch measurement"]
    event_type: Int[Tensor, "batch measurement"]
    time_hours: Float[Tensor, "batch measurement"]
    time_delta_hours: Float[Tensor, "batch measurement"]
    static: Float[Tensor, "batch feature"]
    padding_mask: Bool[Tensor, "batch measurement"]
    hour_of_week: Float[Tensor, "batch"] = None  # type: ignore[assignment]  # both are filled in below
    hours_since_admission: Float[Tensor, "batch"] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        shape = self.code.shape
        for name in _PER_SAMPLE:
            if vars(self)[name] is None:
                object.__setattr__(self, name, torch.full(shape[:1], torch.nan, device=self.code.device))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("static", *_PER_SAMPLE) and value.shape != shape:
                raise ValueError(
                    f"EventBatch.{field.name} has shape {tuple(value.shape)}, code has {tuple(shape)}"
                )
        if self.static.ndim != 2 or len(self.static) != len(self.code):
            raise ValueError(
                f"EventBatch.static has shape {tuple(self.static.shape)}, expected ({shape[0]}, feature)"
            )
        for name in _PER_SAMPLE:
            if getattr(self, name).shape != shape[:1]:
                raise ValueError(
                    f"EventBatch.{name} has shape {tuple(getattr(self, name).shape)}, expected ({shape[0]},)"
                )
        if bool((self.padding_mask[:, :-1] & ~self.padding_mask[:, 1:]).any()):
            raise ValueError("EventBatch.padding_mask: padding stands before a measurement; pad at the end")
        if bool((self.time_hours > 0).any()):
            raise ValueError("EventBatch.time_hours: a measurement lies after the prediction time")
        if bool((self.text_id < NO_TEXT).any()):
            raise ValueError(f"EventBatch.text_id: a row below {NO_TEXT}, which stands for no text")

    @property
    def clock(self) -> Float[Tensor, "batch measurement"]:
        """Hour of the week of each measurement, in [0, 168); NaN where unknown."""
        return (self.hour_of_week[:, None] + self.time_hours) % HOURS_PER_WEEK

    def __len__(self) -> int:
        return len(self.code)

    def to(self, device: torch.device | str) -> "EventBatch":
        """The same batch on another device."""
        return EventBatch(**_moved(self, device))

    def without(self, drop: Bool[Tensor, "batch measurement"]) -> "EventBatch":
        """The batch as if the marked measurements had never been made."""
        keep = ~drop & ~self.padding_mask
        return pack(self, keep)


def pack(batch: EventBatch, keep: Bool[Tensor, "batch measurement"]) -> EventBatch:
    """Move the kept measurements to the front of each sample and pad the rest.

    Gaps are computed afresh, so nothing of a removed measurement remains.
    """
    length = max(1, int(keep.sum(1).max()))
    order = torch.argsort((~keep).to(torch.int8), dim=1, stable=True)[:, :length]
    padding = ~keep.gather(1, order)

    def moved(name: str, filler: int = 0) -> Tensor:
        return getattr(batch, name).gather(1, order).masked_fill(padding, filler)

    time_hours = moved("time_hours")
    return EventBatch(
        code=moved("code"),
        numeric_value=moved("numeric_value"),
        numeric_mask=moved("numeric_mask"),
        text_id=moved("text_id", NO_TEXT),
        event_type=moved("event_type"),
        time_hours=time_hours,
        time_delta_hours=gaps(time_hours, padding),
        static=batch.static,
        padding_mask=padding,
        hour_of_week=batch.hour_of_week,
        hours_since_admission=batch.hours_since_admission,
    )


def gaps(
    time_hours: Float[Tensor, "batch measurement"], padding_mask: Bool[Tensor, "batch measurement"]
) -> Float[Tensor, "batch measurement"]:
    """Hours since the previous measurement; 0 for the first and where padded."""
    delta = torch.zeros_like(time_hours)
    delta[:, 1:] = time_hours[:, 1:] - time_hours[:, :-1]
    return delta.masked_fill(padding_mask, 0.0)


@dataclasses.dataclass(frozen=True)
class GridBatch:
    """Windows of signals on a regular grid of time, all of the same length.

    `batch` windows, `channel` signals, `step` equal steps from the oldest to the latest, `feature` features
    of time. A window belongs to one subject; how it is cut is the business of whoever makes it.

    Args:
        values: Signals, scaled; a step without a measurement holds what fills it (0, or an interpolation).
        observed: Whether the value was measured, not filled in.
        time_features: What is known of each step before anything is measured, such as sine and cosine of
            the hour (`data.clock.cyclical`); never scaled.

    Raises:
        ValueError: Shapes disagree, or a value or feature is not a finite number.
    """

    values: Float[Tensor, "batch channel step"]
    observed: Bool[Tensor, "batch channel step"]
    time_features: Float[Tensor, "batch feature step"]

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if len(shape) != 3 or tuple(self.observed.shape) != shape:
            raise ValueError(
                f"GridBatch.observed has shape {tuple(self.observed.shape)}, values has {shape}; "
                "both are [batch, channel, step]"
            )
        features = tuple(self.time_features.shape)
        if len(features) != 3 or (features[0], features[2]) != (shape[0], shape[2]):
            raise ValueError(
                f"GridBatch.time_features has shape {features}, expected ({shape[0]}, feature, {shape[2]})"
            )
        for name in ("values", "time_features"):
            finite = torch.isfinite(getattr(self, name))
            if not bool(finite.all()):
                where = [int(axis) for axis in (~finite).nonzero()[0]]
                raise ValueError(
                    f"GridBatch.{name}[{', '.join(map(str, where))}] is not a finite number; "
                    "fill what was not measured and set observed to False there"
                )

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device | str) -> "GridBatch":
        """The same batch on another device."""
        return GridBatch(**_moved(self, device))

    @property
    def rows(self) -> Float[Tensor, "batch step row"]:
        """Signals, then features of time, of each step: what a convolution over steps reads."""
        return torch.cat([self.values, self.time_features.to(self.values.dtype)], 1).transpose(1, 2)

    @property
    def padding_mask(self) -> Bool[Tensor, "batch step"]:
        """All False: a grid has no padding."""
        shape = (len(self.values), self.values.shape[2])
        return torch.zeros(shape, dtype=torch.bool, device=self.values.device)


def _moved(batch: EventBatch | GridBatch, device: torch.device | str) -> dict[str, Any]:
    return {f.name: getattr(batch, f.name).to(device) for f in dataclasses.fields(batch)}
