"""The fast sparse embedding against a slow dense one, and what each embedding promises."""

import copy
import dataclasses
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from jaxtyping import TypeCheckError
from torch import Tensor

from caretrace.backbones.embedding import (
    BinnedValueEmbedding,
    MeasurementEmbedding,
    StepEmbedding,
    ValueEmbedding,
)
from caretrace.backbones.text_embedding import TextEmbedding
from caretrace.errors import ConfigError

from .batches import N_CODES, N_TYPES, make_batch, samples, with_clock

D_MODEL, N_BINS, N_STEPS, STEP_HOURS = 5, 4, 5, 2.0

ROWS = [
    [(19.0, 1, 0.2), (7.5, 1, 0.9), (7.25, 1, None), (3.0, 2, None), (0.0, 1, 0.5), (0.0, 3, 1.0)],
    [(8.0, 4, 0.0), (2.0, 4, 0.25)],
    [],
]


def step_embedding(code_dropout=0.0):
    torch.manual_seed(0)
    embedding = StepEmbedding(
        n_codes=N_CODES, n_types=N_TYPES, d_model=D_MODEL, n_bins=N_BINS,
        dropout=0.0, code_dropout=code_dropout, step_hours=STEP_HOURS, n_steps=N_STEPS,
    )  # fmt: skip
    with torch.no_grad():  # larger than at the start of training, so that nothing hides in the noise
        for parameter in embedding.parameters():
            parameter.normal_()
    return embedding


def value_of(embedding: ValueEmbedding, code: int, value: float) -> Tensor:
    """Each linear piece adds its slope by as much of it as the value has passed."""
    passed = [min(max(value * embedding.n_bins - piece, 0.0), 1.0) for piece in range(embedding.n_bins)]
    return sum(share * embedding.slopes[code, piece] for piece, share in enumerate(passed))


def dense(embedding: StepEmbedding, rows, weight=lambda sample, code: 1.0) -> Tensor:
    """`StepEmbedding` as its docstring tells it: every sample, step and code in turn."""
    out = []
    for sample, row in enumerate(rows):
        by_code = defaultdict(list)
        for before, code, value in sorted(row, key=lambda each: -each[0]):
            by_code[code].append((N_STEPS - 1 - min(int(before // STEP_HOURS), N_STEPS - 1), value))
        for step in range(N_STEPS):
            total = torch.zeros(D_MODEL)
            for code, its in by_code.items():
                total = total + weight(sample, code) * one_code(embedding, code, its, step)
            out.append(total)
    return embedding.norm(torch.stack(out).view(len(rows), N_STEPS, D_MODEL))


def one_code(embedding: StepEmbedding, code: int, its: list, step: int) -> Tensor:
    tables, values = embedding.tables, embedding.values
    total = torch.zeros(D_MODEL)
    new = [value for s, value in its if s == step]
    if new:
        total = total + tables["measured"][code] + math.log1p(len(new)) * tables["count"][code]
        total = total + tables["event_type"][code % N_TYPES]
        valued = [value for value in new if value is not None]
        if valued:
            total = total + value_of(values["lowest"], code, min(valued))
            total = total + value_of(values["highest"], code, max(valued))
    known = [value for s, value in its if s <= step]
    if known:
        latest = max(s for s, _ in its if s <= step)
        total = total + tables["known"][code] + math.log1p(len(known)) * tables["count_so_far"][code]
        total = total + math.exp(-(step - latest) * STEP_HOURS / 6.0) * tables["recent"][code]
        valued = [value for value in known if value is not None]
        if valued:
            total = total + value_of(values["last"], code, valued[-1])
            total = total + value_of(values["lowest_so_far"], code, min(valued))
            total = total + value_of(values["highest_so_far"], code, max(valued))
            total = total + value_of(values["mean_so_far"], code, sum(valued) / len(valued))
    return total


def unnormed(embedding: StepEmbedding) -> StepEmbedding:
    """Without the layer norm, which blows up rounding where all terms cancel."""
    plain = copy.copy(embedding)
    plain.norm = torch.nn.Identity()
    return plain


@settings(max_examples=50, deadline=None)
@given(samples)
def test_the_sparse_product_equals_the_dense_sum(rows):
    embedding = unnormed(step_embedding())
    fast, padding_mask = embedding(make_batch(rows))
    torch.testing.assert_close(fast, dense(embedding, rows), rtol=1e-5, atol=1e-5)
    assert not padding_mask.any()
    assert padding_mask.shape == (len(rows), N_STEPS)


def test_gradients_of_the_sparse_product_equal_those_of_the_dense_sum():
    fast, slow = step_embedding(), step_embedding()
    chosen = torch.randn(len(ROWS), N_STEPS, D_MODEL)
    (fast(make_batch(ROWS))[0] * chosen).sum().backward()
    (dense(slow, ROWS) * chosen).sum().backward()
    for (name, one), other in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert one.grad.abs().sum() > 0, name
        torch.testing.assert_close(
            one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_code_dropout_hides_whole_codes_of_a_sample_and_scales_the_rest():
    embedding = step_embedding(code_dropout=0.5).train()
    torch.manual_seed(3)
    hidden, _ = embedding(make_batch(ROWS))
    torch.manual_seed(3)
    kept = (torch.rand(len(ROWS), N_CODES) >= 0.5).float() * 2
    assert 0 < kept.mean() < 2
    expected = dense(embedding, ROWS, weight=lambda sample, code: kept[sample, code])
    torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
    asleep, _ = embedding.eval()(make_batch(ROWS))
    torch.testing.assert_close(asleep, dense(embedding, ROWS), rtol=1e-5, atol=1e-5)


def test_a_step_knows_nothing_of_later_steps():
    embedding = unnormed(step_embedding())
    before, _ = embedding(make_batch(ROWS))
    for step in range(N_STEPS - 1):
        first_later = (N_STEPS - 1 - step) * STEP_HOURS  # hours before the end at which the next step begins
        changed = [
            [each for each in row if each[0] >= first_later] + [(0.0, 1, 0.1), (0.0, 5, 1.0)] for row in ROWS
        ]
        after, _ = embedding(make_batch(changed))
        torch.testing.assert_close(after[:, : step + 1], before[:, : step + 1], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(after[:, -1], before[:, -1])


@pytest.mark.parametrize("value", [-0.1, 0.0, 0.1, 0.25, 0.6, 1.0, 1.7])
def test_a_value_is_a_piecewise_linear_function(value):
    torch.manual_seed(1)
    embedding = ValueEmbedding(n_codes=3, d_model=2, n_bins=4)
    found = embedding(torch.tensor([2]), torch.tensor([value]))
    torch.testing.assert_close(found[0], value_of(embedding, 2, value))


def test_value_heights_by_hand():
    embedding = ValueEmbedding(n_codes=1, d_model=1, n_bins=3)
    embedding.slopes.data = torch.tensor([[[1.0], [-4.0], [2.0]]])
    assert embedding.heights()[0, :, 0].tolist() == [0, 1, -3, -1]
    values = embedding(torch.zeros(3, dtype=torch.long), torch.tensor([0.5, 1 / 3, 1.0]))
    torch.testing.assert_close(values[:, 0], torch.tensor([-1.0, 1.0, -1.0]))


def measurement_embedding():
    torch.manual_seed(2)
    return MeasurementEmbedding(n_codes=N_CODES, n_types=N_TYPES, d_model=8, n_bins=N_BINS, dropout=0.0)


def test_one_step_per_measurement():
    batch = make_batch(ROWS)
    hidden, padding_mask = measurement_embedding()(batch)
    assert hidden.shape == (3, 6, 8)
    assert torch.equal(padding_mask, batch.padding_mask)


@pytest.mark.parametrize("make", [step_embedding, measurement_embedding])
def test_not_measured_is_not_the_lowest_value(make):
    embedding = make()
    nothing, lowest, half = (
        embedding(make_batch([[(1.0, 2, None), *more]]))[0][:, -1]
        for more in ([], [(0.0, 1, 0.0)], [(0.0, 1, 0.5)])
    )
    assert not torch.allclose(nothing, lowest)
    assert not torch.allclose(half, lowest)


def variant(**settings):
    torch.manual_seed(2)
    return MeasurementEmbedding(
        n_codes=N_CODES, n_types=N_TYPES, d_model=8, n_bins=N_BINS, dropout=0.0, **settings
    )


@pytest.mark.parametrize("values", ["linear", "binned"])
def test_a_measurement_without_a_value_is_not_one_with_the_lowest(values):
    embedding = variant(values=values)
    none, lowest, highest = (embedding(make_batch([[(1.0, 2, v)]]))[0] for v in (None, 0.0, 1.0))
    assert not torch.allclose(none, lowest, atol=1e-3)
    assert not torch.allclose(none, highest, atol=1e-3)
    assert not torch.allclose(lowest, highest, atol=1e-3)


def test_a_binned_value_is_its_bin():
    torch.manual_seed(1)
    embedding = BinnedValueEmbedding(n_codes=3, d_model=2, n_bins=4)
    values = torch.tensor([-0.1, 0.0, 0.2499, 0.25, 0.6, 0.75, 1.0, 1.7])
    bins = [0, 0, 0, 1, 2, 3, 3, 3]
    found = embedding(torch.full((8,), 2), values)
    assert torch.equal(found, torch.stack([embedding.bins[2, each] for each in bins]))
    assert not torch.equal(embedding(torch.tensor([1]), values[:1]), found[:1])


def test_static_features_reach_every_step():
    embedding, batch = variant(n_static=2), make_batch(ROWS)
    out, _ = embedding(batch)
    other, _ = embedding(dataclasses.replace(batch, static=batch.static + 1))
    assert ((other - out).abs().amax(-1) > 1e-3).all()
    ignorant, _ = variant()(batch)
    assert torch.equal(ignorant, variant()(dataclasses.replace(batch, static=batch.static + 1))[0])


def test_texts_are_added_where_they_stand():
    embedding = variant(texts=TextEmbedding(torch.randn(3, 5), d_model=8))
    batch = make_batch(ROWS)
    without, _ = embedding(batch)
    text_id = batch.text_id.clone()
    text_id[0, 2] = 1
    read, _ = embedding(dataclasses.replace(batch, text_id=text_id))
    differs = (read != without).any(-1)
    assert differs[0, 2]
    assert differs.sum() == 1


def test_every_part_of_an_embedding_learns():
    embedding = variant(values="binned", n_static=2, texts=TextEmbedding(torch.randn(3, 5), d_model=8))
    batch = with_clock(make_batch(ROWS), 3.0)
    batch = dataclasses.replace(batch, static=torch.ones(3, 2), text_id=batch.code % 3)
    hidden, _ = embedding(batch)
    (hidden * torch.randn_like(hidden)).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_values_enter_in_one_of_two_ways():
    with pytest.raises((ConfigError, TypeCheckError)):
        variant(values="squared")


def test_time_and_the_gap_before_are_told_apart():
    embedding = measurement_embedding()
    together, apart, earlier = (
        embedding(make_batch([[(before + gap, 1, 0.5), (before, 2, 0.5)]]))[0][0, 1]
        for before, gap in ((1.0, 0.0), (1.0, 5.0), (6.0, 0.0))
    )
    assert not torch.allclose(together, apart)
    assert not torch.allclose(together, earlier)
