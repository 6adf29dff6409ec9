"""Every form of the scan gives what the literal form gives, gradients included."""

import math

import pytest
import torch
from torch import Tensor

from caretrace.backbones.scan import mix, ops
from caretrace.backbones.scan.chunked import chunked_scan
from caretrace.backbones.scan.contract import ScanInputs
from caretrace.backbones.scan.forms import why_not
from caretrace.backbones.scan.literal import literal_scan
from caretrace.backbones.scan.mixing import composed_mix

from .invented import EXTREMES, assert_same, extreme, literal, mixing_inputs, results, scan_inputs


def form(name: str, dtype: torch.dtype = torch.float32):
    """The form called so; the test is skipped where it cannot run."""
    if name == "chunked":
        return chunked_scan
    reason = why_not(name, "cpu", dtype)
    if reason:
        pytest.skip(reason)
    return lambda *given: ops.scan(ScanInputs(*given), name)


every = pytest.mark.parametrize("name", ["cpu", "numba", "chunked"])
SHAPES = [
    (1, 1, 1, 1),
    (2, 40, 33, 5),
    (1, 32, 16, 16),
    (3, 65, 130, 16),
    (2, 33, 7, 64),
    (1, 7, 300, 17),
    (2, 200, 16, 8),
]


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_random_inputs(name, shape):
    given = scan_inputs(*shape)
    assert_same(results(form(name), given), literal(given))


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_random_inputs_in_double_precision(name, shape):
    # softplus of torch is the identity above 20, ours everywhere exact: keep below.
    given = scan_inputs(*shape, dtype=torch.float64)
    given = given._replace(delta=given.delta.clamp(max=5))
    assert_same(results(form(name, torch.float64), given), literal(given), 1e-12)


@every
@pytest.mark.parametrize("name_of_extreme", EXTREMES)
def test_extreme_inputs(name, name_of_extreme):
    given = extreme(name_of_extreme)
    assert_same(results(form(name), given), literal(given))


@every
@pytest.mark.parametrize("shape", [(0, 5, 4, 3), (2, 0, 4, 3), (0, 0, 4, 3)])
def test_inputs_without_samples_or_steps(name, shape):
    given = scan_inputs(*shape)
    found = results(form(name), given)
    assert_same(found, literal(given))
    assert all(gradient.abs().sum() == 0 for gradient in found)


@every
@pytest.mark.parametrize("argument", ScanInputs._fields)
def test_what_is_not_a_number_is_not_hidden(name, argument):
    given = scan_inputs(1, 40, 20, 4)
    tensor = getattr(given, argument).clone()
    tensor.view(-1)[0] = math.nan
    given = given._replace(**{argument: tensor})
    assert torch.equal(form(name)(*given).isnan(), literal_scan(*given).isnan())


@every
def test_one_task_of_many_channels_does_not_touch_another(name):
    given = scan_inputs(2, 50, 260, 6)
    changed = given._replace(inputs=given.inputs.clone())
    changed.inputs[1, :, 130] += 1
    differs = (form(name)(*given) != form(name)(*changed)).any(1)
    assert differs.nonzero().tolist() == [[1, 130]]


@every
def test_gradients_are_those_of_finite_differences(name):
    given = [tensor.requires_grad_() for tensor in scan_inputs(2, 5, 3, 2, torch.float64)]
    assert torch.autograd.gradcheck(form(name, torch.float64), given)


@every
def test_rows_that_are_apart_and_axes_in_another_order(name):
    wide = scan_inputs(2, 45, 44, 12)
    given = ScanInputs(
        wide.inputs[..., 3:25],
        wide.delta.transpose(0, 1)[:, :, 1:23].transpose(0, 1).contiguous().mT.contiguous().mT,
        wide.decay[:22].T.contiguous().T[:, :6],
        wide.writes[..., :6],
        wide.reads[..., 6:],
        wide.skip[::2],
        wide.gate[..., ::2],
        wide.bias[:22],
    )
    outputs = literal_scan(*given)
    torch.testing.assert_close(form(name)(*given), outputs, rtol=1e-5, atol=1e-5 * outputs.abs().max().item())


def mixed(given: tuple, how) -> list[Tensor]:
    projected, weights = given
    return results(lambda first, *others: how(first, type(weights)(*others)), (projected, *weights))


@pytest.mark.parametrize("setting", ["cpu", "numba", "chunked", "literal"])
@pytest.mark.parametrize(
    "shape", [(2, 40, 33, 5), (1, 1, 16, 16), (3, 3, 5, 2), (2, 70, 150, 16), (0, 4, 3, 2), (2, 0, 3, 2)]
)
def test_the_whole_of_a_layer(setting, shape, monkeypatch):
    form(setting) if setting != "literal" else None
    monkeypatch.setenv("CARETRACE_SCAN", setting)
    given = mixing_inputs(*shape)
    assert_same(mixed(given, mix), mixed(given, lambda *its: composed_mix(literal_scan, *its)))


def test_the_whole_of_a_layer_has_the_gradients_of_finite_differences():
    form("cpu")
    projected, weights = mixing_inputs(2, 6, 3, 2, torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (projected, *weights)]
    assert torch.autograd.gradcheck(lambda first, *others: mix(first, type(weights)(*others)), leaves)


def test_the_kernel_of_a_convolution_may_be_longer_than_the_sequence():
    form("cpu")
    projected, weights = mixing_inputs(2, 2, 5, 3)
    weights = weights._replace(kernel=torch.randn(5, 7))
    given = projected, weights
    assert_same(mixed(given, mix), mixed(given, lambda *its: composed_mix(literal_scan, *its)))


def test_the_literal_form_solves_the_differential_equation():
    """With a constant input the state is that of h' = A h + B x held for each step, to first order in B."""
    steps, rate, length = 4000, -0.7, 1e-3
    one = torch.ones(1, steps, 1, dtype=torch.float64)
    raw = math.log(math.expm1(length))
    given = ScanInputs(
        one, raw * one, torch.tensor([[rate]]).double(), one, one, torch.zeros(1).double(),
        torch.full_like(one, 40.0), torch.zeros(1).double(),
    )  # fmt: skip
    found = literal_scan(*given)[0, -1, 0] / 40.0
    exact = (math.exp(rate * length * steps) - 1) / rate
    assert abs(found - exact) < 1e-3 * exact
