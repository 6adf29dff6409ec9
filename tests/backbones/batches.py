"""Random batches with exact times, so that a second computation lands in the same steps."""

import dataclasses

import torch
from hypothesis import strategies as st

from caretrace.data.batch import NO_TEXT, EventBatch, gaps

# Hours before the prediction time (quarters are exact in binary), code number, value in [0, 1] or None.
Measurement = tuple[float, int, float | None]

N_CODES, N_TYPES = 6, 4

measurement = st.tuples(
    st.integers(0, 80).map(lambda quarters: quarters / 4),
    st.integers(1, N_CODES - 1),
    st.one_of(st.none(), st.floats(0, 1, width=32)),
)
samples = st.lists(st.lists(measurement, max_size=12), min_size=1, max_size=4)


def make_batch(rows: list[list[Measurement]], extra_padding: int = 0) -> EventBatch:
    """Measurements of each sample, in any order, as a batch in chronological order."""
    ordered = [sorted(row, key=lambda each: -each[0]) for row in rows]
    width = max(1, *(len(row) for row in ordered)) + extra_padding
    padded = [row + [None] * (width - len(row)) for row in ordered]
    padding_mask = torch.tensor([[each is None for each in row] for row in padded])

    def table(pick, dtype):
        return torch.tensor(
            [[0 if each is None else pick(*each) for each in row] for row in padded], dtype=dtype
        )

    time_hours = table(lambda before, code, value: -before, torch.float32)
    code = table(lambda before, code, value: code, torch.int64)
    return EventBatch(
        code=code,
        numeric_value=table(lambda before, code, value: value or 0.0, torch.float32),
        numeric_mask=table(lambda before, code, value: value is not None, torch.bool),
        text_id=torch.full_like(code, NO_TEXT),
        event_type=code % N_TYPES,
        time_hours=time_hours,
        time_delta_hours=gaps(time_hours, padding_mask),
        static=torch.zeros(len(rows), 2),
        padding_mask=padding_mask,
    )


def with_clock(batch: EventBatch, hour_of_week: float) -> EventBatch:
    """The same measurements, seen at that hour of the week."""
    return dataclasses.replace(batch, hour_of_week=torch.full((len(batch),), hour_of_week))
