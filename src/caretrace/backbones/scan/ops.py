"""The kernels as operators of torch, so that autograd, autocast and `torch.compile` know what they do.

`caretrace::scan` is the scan alone, by any engine that brings `scan_forward` and `scan_backward`;
`caretrace::mix` is all that lies between the projections of a Mamba layer, by the compiled kernels.
"""

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from caretrace.backbones.scan.contract import ScanInputs, kept_shape
from caretrace.backbones.scan.mixing import MixingWeights

ENGINES = {
    "cpu": "caretrace.backbones.scan.compiled",
    "numba": "caretrace.backbones.scan.numba_kernels",
    "triton": "caretrace.backbones.scan.triton_kernels",
}
_SCAN = "Tensor inputs, Tensor delta, Tensor decay, Tensor writes, Tensor reads, Tensor skip, Tensor gate, Tensor bias"
_MIX = (
    "Tensor projected, Tensor kernel, Tensor kernel_bias, Tensor selection, Tensor delta_weight, "
    "Tensor delta_bias, Tensor decay, Tensor skip"
)

torch.library.define("caretrace::scan", f"({_SCAN}, bool keep, str engine) -> (Tensor, Tensor)")
torch.library.define(
    "caretrace::scan_backward",
    f"(Tensor d_outputs, {_SCAN}, Tensor kept, str engine) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define("caretrace::mix", f"({_MIX}, bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
torch.library.define(
    "caretrace::mix_backward",
    f"(Tensor d_outputs, {_MIX}, Tensor convolved, Tensor selected, Tensor delta, Tensor kept) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def load_engine(name: str) -> ModuleType:
    """The module that computes the scan under this name."""
    return importlib.import_module(ENGINES[name])


def scan(given: ScanInputs, engine: str) -> Tensor:
    """Gated outputs of the selective scan."""
    outputs: Tensor = torch.ops.caretrace.scan(*given, _wanted(given), engine)[0]
    return outputs


def mix(projected: Tensor, weights: MixingWeights) -> Tensor:
    """What `composed_mix` gives, with the compiled kernels."""
    outputs: Tensor = torch.ops.caretrace.mix(projected, *weights, _wanted((projected, *weights)))[0]
    return outputs


def _wanted(tensors: tuple[Tensor, ...]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@torch.library.impl("caretrace::scan", "default")
def _scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, keep, engine = arguments
    given = ScanInputs(*tensors)
    if not given.inputs.numel():
        return torch.zeros_like(given.inputs), given.inputs.new_empty(0)
    return load_engine(engine).scan_forward(given, keep)


@torch.library.impl("caretrace::scan_backward", "default")
def _scan_backward(*arguments: Any) -> tuple[Tensor, ...]:
    d_outputs, *tensors, kept, engine = arguments
    given = ScanInputs(*tensors)
    if not given.inputs.numel():
        return tuple(torch.zeros_like(each) for each in given)
    return tuple(load_engine(engine).scan_backward(d_outputs, given, kept))


@torch.library.impl("caretrace::mix", "default")
def _mix(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    projected, *tensors, keep = arguments
    weights, compiled = MixingWeights(*tensors), load_engine("cpu")
    batch, steps, both = projected.shape
    if not projected.numel():
        empty = projected.new_empty(0)
        return projected.new_zeros(batch, steps, both // 2), empty, empty, empty, empty
    inputs, gate = projected.chunk(2, -1)
    convolved = compiled.convolve_forward(inputs, weights.kernel, weights.kernel_bias)
    selected = convolved @ weights.selection.T
    low, writes, reads = torch.split(selected, weights.sizes(), -1)
    delta = low @ weights.delta_weight.T
    given = ScanInputs(convolved, delta, weights.decay, writes, reads, weights.skip, gate, weights.delta_bias)
    outputs, kept = compiled.scan_forward(given, keep)
    if not keep:
        convolved = selected = delta = projected.new_empty(0)
    return outputs, convolved, selected, delta, kept


@torch.library.impl("caretrace::mix_backward", "default")
def _mix_backward(*arguments: Any) -> tuple[Tensor, ...]:
    d_outputs, projected, *tensors, convolved, selected, delta, kept = arguments
    weights, compiled = MixingWeights(*tensors), load_engine("cpu")
    if not projected.numel():
        return tuple(torch.zeros_like(each) for each in (projected, *weights))
    channels, rank = weights.delta_weight.shape
    inputs, gate = projected.chunk(2, -1)
    low, writes, reads = torch.split(selected, weights.sizes(), -1)
    given = ScanInputs(convolved, delta, weights.decay, writes, reads, weights.skip, gate, weights.delta_bias)
    # Gradients go where they belong at once: halves of d_projected, thirds of d_selected.
    d_projected, d_selected = torch.empty_like(projected), torch.empty_like(selected)
    d_inputs, d_gate = d_projected.chunk(2, -1)
    found = compiled.scan_backward(d_outputs, given, kept, d_gate)
    d_low, d_writes, d_reads = torch.split(d_selected, weights.sizes(), -1)
    d_writes.copy_(found.writes)
    d_reads.copy_(found.reads)
    d_delta = found.delta.flatten(0, 1)
    d_low.copy_(found.delta @ weights.delta_weight)
    d_delta_weight = d_delta.T @ low.reshape(-1, rank)
    d_convolved = found.inputs.view(-1, channels)
    d_convolved.addmm_(d_selected.view(len(d_convolved), -1), weights.selection)
    d_selection = d_selected.view(len(d_convolved), -1).T @ convolved.view(-1, channels)
    d_kernel, d_kernel_bias = compiled.convolve_backward(
        found.inputs, inputs, weights.kernel, weights.kernel_bias, d_inputs
    )
    return (
        d_projected, d_kernel, d_kernel_bias, d_selection, d_delta_weight, found.bias, found.decay, found.skip
    )  # fmt: skip


@torch.library.register_fake("caretrace::scan")
def _fake_scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, keep, _ = arguments
    given = ScanInputs(*tensors)
    kept = kept_shape(given.inputs, given.decay.shape[1]) if keep else (0,)
    return torch.empty_like(given.inputs, memory_format=torch.contiguous_format), given.inputs.new_empty(kept)


@torch.library.register_fake("caretrace::scan_backward")
def _fake_scan_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _, *tensors, _, _ = arguments
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in tensors)


@torch.library.register_fake("caretrace::mix")
def _fake_mix(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    projected, *tensors, keep = arguments
    weights, new = MixingWeights(*tensors), projected.new_empty
    batch, steps, both = projected.shape
    outputs, convolved, delta = (new(batch, steps, both // 2) for _ in range(3))
    if not keep:
        return outputs, new(0), new(0), new(0), new(0)
    kept = new(kept_shape(outputs, weights.decay.shape[1]))
    return outputs, convolved, new(batch, steps, len(weights.selection)), delta, kept


@torch.library.register_fake("caretrace::mix_backward")
def _fake_mix_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _, *tensors, _, _, _, _ = arguments
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in tensors)


def _remember_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _, ctx.engine = inputs
    ctx.set_materialize_grads(False)  # else torch fills zeros for what has no gradient
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _derive_scan(ctx: Any, d_outputs: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if d_outputs is None:
        return (None,) * 10
    found = torch.ops.caretrace.scan_backward(d_outputs, *ctx.saved_tensors, ctx.engine)
    return (*found, None, None)


def _remember_mix(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:-1], *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _derive_mix(ctx: Any, d_outputs: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if d_outputs is None:
        return (None,) * 9
    return (*torch.ops.caretrace.mix_backward(d_outputs, *ctx.saved_tensors), None)


torch.library.register_autograd("caretrace::scan", _derive_scan, setup_context=_remember_scan)
torch.library.register_autograd("caretrace::mix", _derive_mix, setup_context=_remember_mix)
