"""When a step was, per step, for every embedding and so for every backbone."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings

from caretrace.backbones import BACKBONES, build_backbone
from caretrace.backbones.embedding import MeasurementEmbedding, StepEmbedding
from caretrace.backbones.time_encoding import StepTimes, Timed, TimeEncoding

from .batches import N_CODES, N_TYPES, make_batch, samples, with_clock

N_STEPS, STEP_HOURS = 5, 2.0


def step_embedding(dropout=0.0):
    torch.manual_seed(0)
    return StepEmbedding(
        n_codes=N_CODES, n_types=N_TYPES, d_model=8, n_bins=4, dropout=dropout,
        code_dropout=0.0, step_hours=STEP_HOURS, n_steps=N_STEPS,
    ).eval()  # fmt: skip


def timed():
    return Timed(step_embedding(), d_model=8).eval()


def measurement_embedding():
    torch.manual_seed(0)
    return MeasurementEmbedding(n_codes=N_CODES, n_types=N_TYPES, d_model=8, n_bins=4, dropout=0.0).eval()


def times(gap, ago, clock) -> StepTimes:
    return StepTimes(*(torch.tensor([[float(each)]]) for each in (gap, ago, clock)))


def test_the_encoding_by_hand():
    encoding = TimeEncoding(d_model=6, ago=True)
    torch.nn.init.eye_(encoding.project.weight)
    torch.nn.init.zeros_(encoding.project.bias)
    found = encoding(times(gap=3, ago=9, clock=30))[0, 0]
    day, week = 2 * math.pi * 30 / 24, 2 * math.pi * 30 / 168
    expected = [math.log(4), math.sin(day), math.cos(day), math.sin(week), math.cos(week), math.log(10)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    unknown = encoding(times(gap=3, ago=9, clock=math.nan))[0, 0]
    torch.testing.assert_close(unknown, torch.tensor([math.log(4), 0, 0, 0, 0, math.log(10)]))


def test_a_stream_does_not_read_how_long_it_will_last():
    encoding = TimeEncoding(d_model=4, ago=False)
    assert torch.equal(encoding(times(1, 0, 5)), encoding(times(1, 70, 5)))
    assert not torch.equal(encoding(times(1, 0, 5)), encoding(times(2, 0, 5)))


@settings(max_examples=60)
@given(samples)
def test_times_of_steps_are_what_loops_find(rows):
    batch = with_clock(make_batch(rows), 50.0)
    found = step_embedding().times(batch)
    for sample, row in enumerate(rows):
        measured = {N_STEPS - 1 - min(int(before // STEP_HOURS), N_STEPS - 1) for before, _, _ in row}
        for step in range(N_STEPS):
            ago = (N_STEPS - 1 - step) * STEP_HOURS
            earlier = [each for each in measured if each < step]
            assert found.gap_hours[sample, step] == (step - max(earlier) if earlier else 0) * STEP_HOURS
            assert found.ago_hours[sample, step] == ago
            assert found.hour_of_week[sample, step] == (50.0 - ago) % 168


def test_what_stands_in_padding_is_no_time():
    batch = with_clock(make_batch([[(9.0, 1, 0.5), (0.5, 2, None)]], extra_padding=2), 50.0)
    spoilt = batch.time_hours.masked_fill(batch.padding_mask, -5.0)
    found = step_embedding().times(dataclasses.replace(batch, time_hours=spoilt))
    assert torch.equal(found.gap_hours, step_embedding().times(batch).gap_hours)


def test_times_of_measurements_are_those_of_the_batch():
    batch = with_clock(make_batch([[(9.0, 1, 0.5), (4.0, 1, 0.5), (0.5, 2, None)]]), 2.0)
    found = measurement_embedding().times(batch)
    assert found.gap_hours.tolist() == [[0, 5, 3.5]]
    assert found.ago_hours.tolist() == [[9, 4, 0.5]]
    assert found.time_hours.tolist() == [[-9, -4, -0.5]]
    assert found.hour_of_week.tolist() == [[161, 166, 1.5]]


@pytest.mark.parametrize("make", [timed, measurement_embedding])
class TestEmbeddings:
    rows = [[(7.5, 1, 0.2), (7.0, 2, 0.4), (0.5, 1, 0.9)]]  # noqa: RUF012

    def test_the_clock_is_per_step_and_not_per_window(self, make):
        embedding, batch = make(), make_batch(self.rows)
        early, late, unknown = (embedding(with_clock(batch, h))[0] for h in (3.0, 15.0, math.nan))
        assert not torch.allclose(early, late, atol=1e-3)
        change = late - early
        assert (change[0, 0] - change[0, -1]).abs().max() > 1e-3  # not one vector added to the whole window
        assert torch.isfinite(unknown).all()
        assert not torch.allclose(unknown, early, atol=1e-3)

    def test_a_week_later_is_the_same_time(self, make):
        embedding, batch = make(), make_batch(self.rows)
        one, other, tomorrow = (embedding(with_clock(batch, h))[0] for h in (10.0, 178.0, 34.0))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(tomorrow, one, atol=1e-3)

    def test_the_past_does_not_know_what_is_measured_later(self, make):
        embedding = make()
        before, _ = embedding(make_batch(self.rows))
        more = [[*self.rows[0], (0.25, 3, 0.1), (0.0, 3, 0.2)]]
        after, _ = embedding(make_batch(more))
        known = 2 if make is measurement_embedding else N_STEPS - 1
        torch.testing.assert_close(after[:, :known], before[:, :known], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("name", sorted(BACKBONES))
    def test_every_backbone_hears_of_gaps(self, make, name):
        embedding = make()
        torch.manual_seed(1)
        backbone = build_backbone(name, d_model=8, n_layers=1, dropout=0.0).eval()
        last = []
        for gap in (6.0, 2.0):
            hidden, padding_mask = embedding(make_batch([[(gap + 0.5, 1, 0.5), (0.5, 2, 0.5)]]))
            last.append(backbone(hidden, padding_mask)[:, -1])
        assert not torch.allclose(*last, atol=1e-4)

    def test_every_parameter_of_time_learns(self, make):
        embedding = make()
        hidden, _ = embedding(with_clock(make_batch(self.rows), 12.0))
        (hidden * torch.randn_like(hidden)).sum().backward()
        assert (embedding.time.project.weight.grad.abs().sum(0) > 0).all()


def test_steps_without_time_are_what_they_were():
    """Published figures depend on `StepEmbedding`; the clock comes on top, and only when asked for."""
    batch = make_batch(TestEmbeddings.rows)
    embedding = step_embedding()
    here, there = (embedding(with_clock(batch, hour))[0] for hour in (3.0, 15.0))
    assert torch.equal(here, there)
    assert not [name for name in embedding.state_dict() if "time" in name]


def test_a_sample_without_measurements_has_times_too():
    hidden, padding_mask = timed()(with_clock(make_batch([[], [(1.0, 1, 0.5)]]), 1.0))
    assert hidden.shape == (2, N_STEPS, 8)
    assert torch.isfinite(hidden).all()
    assert not padding_mask.any()
