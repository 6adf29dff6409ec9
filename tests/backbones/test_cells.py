"""Cells against plain loops over measurements."""

import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.backbones.cells import Cells, find_cells

from .batches import N_CODES, N_TYPES, make_batch, samples

steps = st.tuples(st.integers(1, 7), st.sampled_from([0.5, 1.0, 4.0]))


def literal(rows, n_steps, step_hours):
    """(sample, code, step) → values in order of time, None for a measurement without one."""
    cells = defaultdict(list)
    for sample, row in enumerate(rows):
        for before, code, value in sorted(row, key=lambda each: -each[0]):
            step = n_steps - 1 - min(math.floor(before / step_hours), n_steps - 1)
            cells[sample, code, step].append(value)
    return dict(sorted(cells.items()))


def found(rows, n_steps, step_hours):
    return find_cells(make_batch(rows), n_codes=N_CODES, n_steps=n_steps, step_hours=step_hours)


@given(samples, steps)
def test_cells_are_what_loops_find(rows, shape):
    cells, expected = found(rows, *shape), literal(rows, *shape)
    where = zip(cells.row.tolist(), cells.code.tolist(), cells.step.tolist(), strict=True)
    assert list(where) == list(expected)
    for i, ((sample, code, step), values) in enumerate(expected.items()):
        valued = [value for value in values if value is not None]
        earlier = [s for (r, c, s) in expected if (r, c) == (sample, code) and s < step]
        assert cells.count[i] == len(values)
        assert cells.values[i] == len(valued)
        assert cells.event_type[i] == code % N_TYPES
        assert cells.total[i].item() == pytest.approx(sum(valued), abs=1e-6)
        assert cells.lowest[i] == min(valued, default=1)
        assert cells.highest[i] == max(valued, default=0)
        assert cells.last[i] == (valued[-1] if valued else 0)
        assert cells.again[i] == bool(earlier)
        assert cells.steps_since[i] == (step - max(earlier) if earlier else 0)
        assert cells.valued[i] == bool(valued)


@given(samples, steps)
def test_so_far_is_what_loops_find(rows, shape):
    so_far, expected = found(rows, *shape).so_far(), literal(rows, *shape)
    for i, (sample, code, step) in enumerate(expected):
        until = [
            v
            for (r, c, s), values in expected.items()
            if (r, c) == (sample, code) and s <= step
            for v in values
        ]
        valued = [value for value in until if value is not None]
        assert so_far.count[i] == len(until)
        assert so_far.valued[i] == bool(valued)
        if valued:
            assert so_far.last[i] == valued[-1]
            assert so_far.lowest_so_far[i].item() == pytest.approx(min(valued), abs=1e-6)
            assert so_far.highest_so_far[i].item() == pytest.approx(max(valued), abs=1e-6)
            assert so_far.mean_so_far[i].item() == pytest.approx(sum(valued) / len(valued), abs=1e-6)


def test_many_samples_do_not_blur_each_other():
    """Groups are told apart by a growing shift: the last of 4,000 must be as exact as the first."""
    rows = [[(2.0, 1, 0.3), (0.0, 1, 0.7)] for _ in range(4000)]
    so_far = found(rows, 4, 1.0).so_far()
    for name in ("lowest_so_far", "highest_so_far", "mean_so_far"):
        pairs = getattr(so_far, name).view(4000, 2)
        assert (pairs == pairs[0]).all(), name
    assert so_far.lowest_so_far[-1].item() == pytest.approx(0.3, abs=1e-7)


@pytest.mark.parametrize(
    ("hours_before", "step"), [(0.0, 2), (3.75, 2), (4.0, 1), (7.75, 1), (8.0, 0), (12.0, 0), (500.0, 0)]
)
def test_a_step_ends_with_its_last_moment_and_the_first_takes_what_is_older(hours_before, step):
    assert found([[(hours_before, 1, None)]], 3, 4.0).step.tolist() == [step]


def test_nobody_measured_is_no_cells():
    cells = found([[], []], 3, 4.0)
    assert isinstance(cells, Cells)
    assert cells.row.shape == (0,)
    assert cells.so_far().mean_so_far.shape == (0,)
