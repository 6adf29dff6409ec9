"""Outputs and losses of heads, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caretrace.heads import LevelHead, QuantileHead, RiskHead, ShareHead, TaskWeights

NAN = math.nan


def tensor(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_one_logit_per_sample():
    head = RiskHead(d_in=6, d_hidden=4, dropout=0.0)
    assert head(torch.randn(3, 6)).shape == (3,)


def test_loss_by_hand():
    expected = (-math.log(0.5) - math.log(1 / (1 + math.exp(-2)))) / 2
    assert RiskHead.loss(tensor(0, 2), tensor(1, 1)).item() == pytest.approx(expected)


def test_a_missing_outcome_counts_for_nothing():
    logit = torch.tensor([0.3, -1.0, 5.0], requires_grad=True)
    loss = RiskHead.loss(logit, tensor(1, 0, NAN))
    assert loss.item() == pytest.approx(RiskHead.loss(logit[:2], tensor(1, 0)).item())
    loss.backward()
    assert logit.grad[2] == 0
    assert (logit.grad[:2] != 0).all()


def test_no_outcome_at_all_is_a_loss_of_zero_with_a_gradient_of_zero():
    logit = torch.tensor([0.3, -1.0], requires_grad=True)
    loss = RiskHead.loss(logit, tensor(NAN, NAN))
    loss.backward()
    assert loss == 0
    assert logit.grad.tolist() == [0, 0]


several = st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({outcome for _, outcome in pairs}) == 2
)


@given(several, st.floats(-5, 5))
def test_the_tuning_loss_does_not_mind_a_mean_risk_that_is_off(pairs, shift):
    logit, outcome = tensor(*(x for x, _ in pairs)), tensor(*(float(y) for _, y in pairs))
    plain = RiskHead.tuning_loss(logit, outcome)
    assert plain <= RiskHead.loss(logit, outcome) + 1e-5
    torch.testing.assert_close(RiskHead.tuning_loss(logit + shift, outcome), plain, rtol=1e-4, atol=1e-4)


def test_the_tuning_loss_prefers_the_better_ranking():
    outcome = tensor(0, 0, 1, 1)
    good, bad = tensor(-9, -8, -7, -6), tensor(-0.1, 0.2, 0.1, -0.2)
    assert RiskHead.loss(good, outcome) > RiskHead.loss(bad, outcome)
    assert RiskHead.tuning_loss(good, outcome) < RiskHead.tuning_loss(bad, outcome)


@pytest.mark.parametrize("outcome", [tensor(1, 1), tensor(0, 0), tensor(NAN, NAN), tensor(NAN, 1)])
def test_one_class_has_no_mean_to_set_right(outcome):
    logit = tensor(0.3, -1.0)
    torch.testing.assert_close(RiskHead.tuning_loss(logit, outcome), RiskHead.loss(logit, outcome))


def test_levels_by_hand_and_unknown_ones_for_nothing():
    head = LevelHead(d_in=6, d_hidden=4, dropout=0.0, horizons=2, levels=3)
    assert head(torch.randn(5, 7, 6)).shape == (5, 7, 2, 3)
    logits = torch.tensor([[[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])
    assert LevelHead.loss(logits, tensor([1, NAN])).item() == pytest.approx(math.log(3))
    assert LevelHead.loss(logits, torch.full((1, 2), NAN)).item() == 0


def test_a_share_is_fitted_to_its_mean():
    head = ShareHead(d_in=3, d_hidden=4, dropout=0.0)
    assert head(torch.randn(5, 7, 3)).shape == (5, 7)
    shares = tensor(0.2, 0.6, NAN)
    logit = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.SGD([logit], lr=1.0)
    for _ in range(200):
        optimiser.zero_grad()
        ShareHead.loss(logit.expand(3), shares).backward()
        optimiser.step()
    assert torch.sigmoid(logit).item() == pytest.approx(0.4, abs=1e-4)


def test_quantiles_never_cross_and_cost_what_they_should():
    head = QuantileHead(d_in=6, d_hidden=4, dropout=0.0, quantiles=(0.1, 0.5, 0.9))
    found = head(10 * torch.randn(50, 6))
    assert (found.diff(dim=-1) >= 0).all()
    # 2 above the lowest, 1 above the middle, 3 below the highest.
    loss = head.loss(tensor([1, 2, 6]), tensor(3))
    assert loss.item() == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 3) / 3)
    assert head.loss(torch.zeros(1, 3), tensor(NAN)).item() == 0


def test_weights_of_tasks():
    losses = {"a": tensor(2.0)[0], "b": tensor(0.5)[0]}
    weights = TaskWeights(("a", "b", "c"))
    assert weights(losses).item() == pytest.approx(2.5)
    with torch.no_grad():
        weights.log_variance[:] = torch.tensor([math.log(2.0), -9.0, 1.0])
    # exp(-log 2) 2 + log 2, and a log-variance of -9 is held at -3.
    assert weights(losses).item() == pytest.approx(1 + math.log(2) + math.exp(3) * 0.5 - 3, rel=1e-6)
    assert not TaskWeights(("a",), learned=False).log_variance.requires_grad


def test_a_loss_of_zero_cannot_drive_the_sum_without_end():
    weights = TaskWeights(("a",))
    optimiser = torch.optim.SGD(weights.parameters(), lr=1.0)
    for _ in range(50):
        optimiser.zero_grad()
        weights({"a": torch.zeros(())}).backward()
        optimiser.step()
    assert weights({"a": torch.zeros(())}).item() == -3
