"""The batch every event model reads: named tensors that check themselves once."""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class EventBatch:
    """Irregular sequences of measurements, in chronological order, padded at the end.

    `batch` samples, `measurement` slots, `feature` static features.

    Args:
        code: Code number; 0 where padded, 1 for a code unknown to the vocabulary.
        numeric_value: Value scaled to [0, 1] (quantile among training values of its code); 0 where none.
        numeric_mask: Whether the measurement has a value.
        text_id: Row of the text in the embedding store; 0 for none.
        event_type: Position in `schema.EventType`.
        time_hours: Hours relative to the prediction time, ≤ 0 (0 = at the prediction time).
        time_delta_hours: Hours since the previous measurement of the sample; 0 for the first.
        static: Static features of the sample.
        padding_mask: True where a slot is padding; a padded slot cannot change a result.

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

    def __post_init__(self) -> None:
        shape = self.code.shape
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "static" and value.shape != shape:
                raise ValueError(
                    f"EventBatch.{field.name} has shape {tuple(value.shape)}, code has {tuple(shape)}"
                )
        if self.static.ndim != 2 or len(self.static) != len(self.code):
            raise ValueError(
                f"EventBatch.static has shape {tuple(self.static.shape)}, expected ({shape[0]}, feature)"
            )
        if bool((self.padding_mask[:, :-1] & ~self.padding_mask[:, 1:]).any()):
            raise ValueError("EventBatch.padding_mask: padding stands before a measurement; pad at the end")
        if bool((self.time_hours > 0).any()):
            raise ValueError("EventBatch.time_hours: a measurement lies after the prediction time")

    def __len__(self) -> int:
        return len(self.code)

    def to(self, device: torch.device | str) -> "EventBatch":
        """The same batch on another device."""
        return EventBatch(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})

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

    def moved(name: str) -> Tensor:
        return getattr(batch, name).gather(1, order).masked_fill(padding, 0)

    time_hours = moved("time_hours")
    return EventBatch(
        code=moved("code"),
        numeric_value=moved("numeric_value"),
        numeric_mask=moved("numeric_mask"),
        text_id=moved("text_id"),
        event_type=moved("event_type"),
        time_hours=time_hours,
        time_delta_hours=gaps(time_hours, padding),
        static=batch.static,
        padding_mask=padding,
    )


def gaps(
    time_hours: Float[Tensor, "batch measurement"], padding_mask: Bool[Tensor, "batch measurement"]
) -> Float[Tensor, "batch measurement"]:
    """Hours since the previous measurement; 0 for the first and where padded."""
    delta = torch.zeros_like(time_hours)
    delta[:, 1:] = time_hours[:, 1:] - time_hours[:, :-1]
    return delta.masked_fill(padding_mask, 0.0)
