"""Integrated and expected gradients on scores whose answer is known, and on a trained one."""

import builtins

import numpy as np
import pytest
import torch

from caretrace.errors import ConfigError
from caretrace.explain.gradients import gradient_shap, integrated_gradients

from .toy import additive, cases, make, trained


class Linear:
    """sum_i w_i presence_i + b · static, or its product form."""

    reference = "nothing"
    weights = torch.tensor([1.0, -2.0, 0.5])
    static = torch.tensor([3.0, 0.0])

    def __call__(self, batch):
        return self.path(batch)(torch.ones(len(batch), 3), batch.static)

    def path(self, sample):
        return lambda presence, static: presence @ self.weights + static @ self.static


class Product(Linear):
    """presence_0 · presence_1: each deserves half."""

    def path(self, sample):
        return lambda presence, static: 4.0 * presence[:, 0] * presence[:, 1]


SAMPLE = make([[4, 5, 6]])


def test_a_linear_score_gives_its_terms() -> None:
    sample = make([[4, 5, 6]])
    sample.static[:] = torch.tensor([[2.0, 5.0]])
    for method in (integrated_gradients, gradient_shap):
        found = method(Linear(), sample)
        expected = np.array([1.0, -2.0, 0.5]) if method is integrated_gradients else None
        if expected is not None:
            assert found.credit == pytest.approx(expected)
            assert found.reference_score == 0.0
            assert found.completeness_error < 1e-6
        assert found.static == pytest.approx([6.0, 0.0])
        assert found.score == pytest.approx(5.5)


def test_a_product_is_shared() -> None:
    assert integrated_gradients(Product(), SAMPLE).credit == pytest.approx([2.0, 2.0, 0.0])


def test_expected_gradients_shrink_by_what_the_references_keep() -> None:
    """A reference that holds a measurement gives it no credit: half of them do."""
    credit = gradient_shap(Linear(), SAMPLE, samples=4000).credit
    assert credit == pytest.approx([0.5, -1.0, 0.25], abs=0.05)


def test_expected_gradients_repeat_and_leave_the_global_generators_alone() -> None:
    model, sample = trained(), cases(1)[0].sample
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = np.random.random(), float(torch.rand(1))  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    first = gradient_shap(model, sample).credit
    assert (np.random.random(), float(torch.rand(1))) == expected  # noqa: NPY002
    assert (gradient_shap(model, sample).credit == first).all()
    assert (gradient_shap(model, sample, seed=1).credit != first).any()


def test_credits_of_a_trained_model_sum_up() -> None:
    for case in cases(6):
        found = integrated_gradients(trained(), case.sample)
        assert found.completeness_error < 0.01


def test_a_score_without_gradients_says_so() -> None:
    with pytest.raises(ConfigError, match="choose the method removal or ablation"):
        integrated_gradients(additive({4: 1.0}), SAMPLE)


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("captum"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'caretrace\[explain\]'"):
        integrated_gradients(Linear(), SAMPLE)
