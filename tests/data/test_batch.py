"""Batches check themselves; removing measurements leaves no trace of them."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caretrace.data.batch import NO_TEXT, EventBatch, GridBatch, gaps, pack


def batch_of(times: list[list[float]]) -> EventBatch:
    """Measurements at these hours; everything else follows from the position, so that rows are told apart."""
    width = max(1, *(len(row) for row in times))

    def table(value, dtype):
        cells = [[value(s, i) if i < len(row) else 0 for i in range(width)] for s, row in enumerate(times)]
        return torch.tensor(cells, dtype=dtype)

    padding_mask = torch.tensor([[i >= len(row) for i in range(width)] for row in times])
    time_hours = table(lambda s, i: times[s][i], torch.float32)
    return EventBatch(
        code=table(lambda s, i: 10 * s + i + 2, torch.int64),
        numeric_value=table(lambda s, i: (s + 1) / (i + 2), torch.float32),
        numeric_mask=table(lambda s, i: i % 2 == 0, torch.bool),
        text_id=table(lambda s, i: i + 1, torch.int64).masked_fill(padding_mask, NO_TEXT),
        event_type=table(lambda s, i: i % 5, torch.int64),
        time_hours=time_hours,
        time_delta_hours=gaps(time_hours, padding_mask),
        static=torch.arange(2.0 * len(times)).view(len(times), 2),
        padding_mask=padding_mask,
        hour_of_week=160.0 + torch.arange(len(times)),
    )


def assert_same(one: EventBatch, other: EventBatch) -> None:
    for field in dataclasses.fields(EventBatch):
        pair = getattr(one, field.name), getattr(other, field.name)
        torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True, msg=field.name)


def test_gaps_by_hand():
    batch = batch_of([[-5.0, -3.0, -3.0, -0.5], [-2.0], []])
    assert batch.time_delta_hours.tolist() == [[0, 2, 0, 2.5], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_without_by_hand():
    batch = batch_of([[-5.0, -3.0, -1.0], [-2.0, -1.5]])
    drop = torch.tensor([[False, True, False], [True, False, False]])
    left = batch.without(drop)
    assert left.code.tolist() == [[2, 4], [13, 0]]
    assert left.time_hours.tolist() == [[-5, -1], [-1.5, 0]]
    assert left.time_delta_hours.tolist() == [[0, 4], [0, 0]]  # the gap spans what was removed
    assert left.numeric_value.tolist() == [[0.5, 0.25], [pytest.approx(2 / 3), 0]]
    assert left.numeric_mask.tolist() == [[True, True], [False, False]]
    assert left.text_id.tolist() == [[1, 3], [2, NO_TEXT]]
    assert left.event_type.tolist() == [[0, 2], [1, 0]]
    assert left.padding_mask.tolist() == [[False, False], [False, True]]
    assert left.static is batch.static


def test_pack_takes_the_kept_ones_in_order_and_may_leave_nothing():
    batch = batch_of([[-5.0, -3.0, -1.0], [-2.0]])
    keep = torch.tensor([[False, True, True], [False, False, False]])
    assert pack(batch, keep).code.tolist() == [[3, 4], [0, 0]]
    nothing = pack(batch, torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.padding_mask.tolist() == [[True], [True]]
    assert nothing.code.tolist() == [[0], [0]]


ragged = st.lists(
    st.lists(st.floats(-100, 0, width=32), max_size=6).map(sorted), min_size=1, max_size=4
).filter(any)


@given(ragged)
def test_removing_nothing_is_the_identity(times):
    batch = batch_of(times)
    assert_same(batch.without(torch.zeros_like(batch.padding_mask)), batch)


@given(ragged, st.data())
def test_removed_measurements_might_as_well_never_have_been(times, data):
    dropped = [[data.draw(st.booleans()) for _ in row] for row in times]
    width = max(len(row) for row in times)
    drop = torch.tensor([row + [False] * (width - len(row)) for row in dropped])
    left = batch_of(times).without(drop)
    kept = [[t for t, d in zip(*pair, strict=True) if not d] for pair in zip(times, dropped, strict=True)]
    expected = batch_of(kept)
    assert torch.equal(left.time_hours, expected.time_hours)
    assert torch.equal(left.time_delta_hours, expected.time_delta_hours)
    assert torch.equal(left.padding_mask, expected.padding_mask)


def test_removing_twice_is_removing_both():
    batch = batch_of([[-5.0, -3.0, -1.0, -0.5]])
    first = torch.tensor([[True, False, False, False]])
    both = torch.tensor([[True, False, True, False]])
    assert_same(batch.without(first).without(torch.tensor([[False, True, False]])), batch.without(both))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"padding_mask": [[True, False, False], [False, True, True]]},
            "padding stands before",
        ),
        ({"time_hours": [[-5.0, -3.0, 0.001], [-2.0, 0.0, 0.0]]}, "lies after the prediction time"),
        ({"static": [[0.0, 1.0]]}, r"EventBatch.static has shape \(1, 2\), expected \(2, feature\)"),
        (
            {"numeric_value": [[0.0], [0.0]]},
            r"numeric_value has shape \(2, 1\), code has \(2, 3\)",
        ),
        ({"hour_of_week": [1.0]}, r"hour_of_week has shape \(1,\), expected \(2,\)"),
        ({"text_id": [[1, 2, -2], [1, -1, -1]]}, "text_id: a row below -1"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(change, message):
    """The message comes from the batch itself, so that it also speaks where axes are not checked."""
    batch = batch_of([[-5.0, -3.0, -1.0], [-2.0]])
    broken = {**{f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}}
    broken.update({name: torch.tensor(value) for name, value in change.items()})
    checked = object.__new__(EventBatch)
    for name, value in broken.items():
        object.__setattr__(checked, name, value)
    with pytest.raises(ValueError, match=message):
        checked.__post_init__()


def test_to_keeps_every_tensor():
    batch = batch_of([[-5.0, -3.0], [-1.0]])
    assert_same(batch.to("cpu"), batch)
    assert len(batch) == 2


def test_the_clock_of_every_measurement_goes_round_the_week():
    batch = batch_of([[-161.0, -5.0, 0.0], [-2.0]])
    assert batch.clock.tolist()[0] == [167, 155, 160]
    assert batch.clock[1, 0] == 159
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch) if f.name != "hour_of_week"}
    assert EventBatch(**fields).clock.isnan().all()


def grid(**change) -> GridBatch:
    """Two windows of three signals and two features of time over four steps."""
    values = torch.arange(24.0).view(2, 3, 4)
    made = {"values": values, "observed": values > 3, "time_features": -torch.arange(16.0).view(2, 2, 4)}
    grid = object.__new__(GridBatch)
    for name, value in {**made, **change}.items():
        object.__setattr__(grid, name, value)
    grid.__post_init__()
    return grid


def test_rows_of_a_grid_by_hand():
    batch = grid()
    assert len(batch) == 2
    assert batch.rows.shape == (2, 4, 5)
    assert batch.rows[1, 2].tolist() == [14, 18, 22, -10, -14]
    assert batch.padding_mask.shape == (2, 4)
    assert not batch.padding_mask.any()
    moved = batch.to("cpu")
    assert torch.equal(moved.rows, batch.rows)
    assert torch.equal(moved.observed, batch.observed)


def test_a_grid_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid().values = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observed": torch.ones(2, 3, 5, dtype=torch.bool)}, r"observed has shape \(2, 3, 5\), values has"),
        ({"values": torch.zeros(2, 3)}, r"values has \(2, 3\); both are \[batch, channel, step\]"),
        ({"time_features": torch.zeros(2, 2, 3)}, r"shape \(2, 2, 3\), expected \(2, feature, 4\)"),
        ({"time_features": torch.zeros(1, 2, 4)}, r"shape \(1, 2, 4\), expected \(2, feature, 4\)"),
        (
            {"values": torch.full((2, 3, 4), torch.nan)},
            r"values\[0, 0, 0\] is not a finite number; fill what",
        ),
        ({"time_features": torch.full((2, 2, 4), torch.inf)}, r"time_features\[0, 0, 0\] is not a finite"),
    ],
)
def test_a_grid_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        grid(**change)
