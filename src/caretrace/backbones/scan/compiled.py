"""The kernels of `kernels.cpp` as functions of tensors."""

import ctypes
import os

import torch
from torch import Tensor

from caretrace.backbones.scan.build import library
from caretrace.backbones.scan.contract import ScanGradients, ScanInputs, kept_shape

_SUFFIX = {torch.float32: "float", torch.float64: "double"}


class _Rows(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("stride", ctypes.c_int64))


class _ScanCall(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "steps", "channels", "states", "threads")),
        *((name, _Rows) for name in ("inputs", "delta", "writes", "reads", "gate")),
        *((name, ctypes.c_void_p) for name in ("decay", "skip", "bias")),
        ("outputs", _Rows),
        ("kept", ctypes.c_void_p),
        *((name, _Rows) for name in ("d_outputs", "d_inputs", "d_delta", "d_gate")),
        *((name, ctypes.c_void_p) for name in ("d_writes", "d_reads", "d_decay", "d_skip", "d_bias")),
    )


class _ConvolutionCall(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "steps", "channels", "width", "threads")),
        ("inputs", _Rows),
        *((name, ctypes.c_void_p) for name in ("kernel", "bias")),
        *((name, _Rows) for name in ("outputs", "d_outputs", "d_inputs")),
        *((name, ctypes.c_void_p) for name in ("d_kernel", "d_bias")),
    )


class _Process:
    """Whether this process was forked: OpenMP's threads do not survive that, and waiting for them never ends."""

    forked = False


def _after_fork() -> None:
    _Process.forked = True


os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """As many as torch uses; they come from the same pool, since the runtime of OpenMP is torch's."""
    return 1 if _Process.forked else torch.get_num_threads()


def scan_forward(given: ScanInputs, keep: bool) -> tuple[Tensor, Tensor]:
    """Outputs, and what the backward pass needs (empty unless `keep`)."""
    inputs = given.inputs
    outputs = torch.empty(inputs.shape, dtype=inputs.dtype)
    kept = torch.empty(kept_shape(inputs, given.decay.shape[1]) if keep else (0,), dtype=inputs.dtype)
    call, held = _scan_call(given, kept)
    call.outputs = _rows(outputs)
    _run("scan_forward", inputs.dtype, call)
    del held
    return outputs, kept


def scan_backward(
    d_outputs: Tensor, given: ScanInputs, kept: Tensor, d_gate: Tensor | None = None
) -> ScanGradients:
    """Gradients of everything in `given`.

    Args:
        d_outputs: Gradient of the outputs.
        given: As in the forward pass.
        kept: What the forward pass kept.
        d_gate: Where that of the gate goes; rows may be apart.
    """
    batch, steps, channels = given.inputs.shape
    states = given.decay.shape[1]
    new = given.inputs.new_empty
    call, held = _scan_call(given, kept)
    d_outputs = _in_rows(d_outputs)
    d_inputs, d_delta = new(batch, steps, channels), new(batch, steps, channels)
    d_gate = new(batch, steps, channels) if d_gate is None else d_gate
    parts = library().tasks_of_a_sample(ctypes.c_int64(channels), ctypes.c_int64(given.inputs.element_size()))
    d_writes, d_reads = new(parts, batch, steps, states), new(parts, batch, steps, states)
    d_decay, d_skip, d_bias = new(batch, channels, states), new(batch, channels), new(batch, channels)
    call.d_outputs, call.d_inputs = _rows(d_outputs), _rows(d_inputs)
    call.d_delta, call.d_gate = _rows(d_delta), _rows(d_gate)
    call.d_writes, call.d_reads, call.d_decay = d_writes.data_ptr(), d_reads.data_ptr(), d_decay.data_ptr()
    call.d_skip, call.d_bias = d_skip.data_ptr(), d_bias.data_ptr()
    _run("scan_backward", given.inputs.dtype, call)
    del held
    return ScanGradients(
        d_inputs,
        d_delta,
        d_decay.sum(0),
        d_writes.sum(0),
        d_reads.sum(0),
        d_skip.sum(0),
        d_gate,
        d_bias.sum(0),
    )


def convolve_forward(inputs: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """The silu of a causal depthwise convolution of [batch, step, channel] with [channel, recent]."""
    outputs = torch.empty(inputs.shape, dtype=inputs.dtype)
    call, held = _convolution_call(inputs, kernel, bias)
    call.outputs = _rows(outputs)
    _run("convolve_forward", inputs.dtype, call)
    del held
    return outputs


def convolve_backward(
    d_outputs: Tensor, inputs: Tensor, kernel: Tensor, bias: Tensor, d_inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of kernel and bias; that of the inputs is written to `d_inputs`, whose rows may be apart."""
    batch, _, channels = inputs.shape
    d_kernel, d_bias = inputs.new_empty(batch, *kernel.shape), inputs.new_empty(batch, channels)
    call, held = _convolution_call(inputs, kernel, bias)
    d_outputs = _in_rows(d_outputs)
    call.d_outputs, call.d_inputs = _rows(d_outputs), _rows(d_inputs)
    call.d_kernel, call.d_bias = d_kernel.data_ptr(), d_bias.data_ptr()
    _run("convolve_backward", inputs.dtype, call)
    del held
    return d_kernel.sum(0), d_bias.sum(0)


def _scan_call(given: ScanInputs, kept: Tensor) -> tuple[_ScanCall, list[Tensor]]:
    """The structure for C, and the tensors that must live as long as it is used."""
    batch, steps, channels = given.inputs.shape
    rows = [_in_rows(each) for each in (given.inputs, given.delta, given.writes, given.reads, given.gate)]
    flat = [each.contiguous() for each in (given.decay, given.skip, given.bias)]
    call = _ScanCall(batch, steps, channels, given.decay.shape[1], threads())
    call.inputs, call.delta, call.writes, call.reads, call.gate = map(_rows, rows)
    call.decay, call.skip, call.bias = (each.data_ptr() for each in flat)
    call.kept = kept.data_ptr() if kept.numel() else None
    return call, [*rows, *flat]


def _convolution_call(inputs: Tensor, kernel: Tensor, bias: Tensor) -> tuple[_ConvolutionCall, list[Tensor]]:
    batch, steps, channels = inputs.shape
    held = [_in_rows(inputs), kernel.contiguous(), bias.contiguous()]
    call = _ConvolutionCall(batch, steps, channels, kernel.shape[1], threads())
    call.inputs, call.kernel, call.bias = _rows(held[0]), held[1].data_ptr(), held[2].data_ptr()
    return call, held


def _run(name: str, dtype: torch.dtype, call: ctypes.Structure) -> None:
    if getattr(library(), f"{name}_{_SUFFIX[dtype]}")(ctypes.byref(call)):
        raise MemoryError(f"no memory left for {name}")


def _in_rows(tensor: Tensor) -> Tensor:
    """The same numbers so that each step is a row, and all rows are equally far apart."""
    batch, steps, channels = tensor.shape
    even = batch == 1 or steps == 1 or tensor.stride(0) == steps * tensor.stride(1)
    return tensor if even and (channels == 1 or tensor.stride(2) == 1) else tensor.contiguous()


def _rows(tensor: Tensor) -> _Rows:
    return _Rows(tensor.data_ptr(), tensor.stride(1) if tensor.shape[1] > 1 else tensor.stride(0))
