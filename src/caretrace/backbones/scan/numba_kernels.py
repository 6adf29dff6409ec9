"""The scan compiled by Numba, for machines without a C++ compiler (pip install 'caretrace[numba]').

The same plan as `kernels.cpp`: a task is one sample and a block of channels; the backward pass starts from
the states kept at the start of each chunk. LLVM turns the loops over the channels of a block into vectors.
What it compiles is cached beside this file, or where NUMBA_CACHE_DIR says.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from caretrace.backbones.scan.compiled import threads
from caretrace.backbones.scan.contract import CHUNK, ScanGradients, ScanInputs, kept_shape

_BLOCK = 16  # channels that advance together
_FAST = {"contract", "nsz", "arcp"}  # none that forgets what is not a number


def _compile(function: Callable[..., Any], parallel: bool = False) -> Any:
    # unwrap: the checks of shapes that tests wrap around every function cannot be compiled.
    plain = inspect.unwrap(function)
    return numba.njit(cache=True, error_model="numpy", fastmath=_FAST, parallel=parallel)(plain)


def scan_forward(given: ScanInputs, keep: bool) -> tuple[Tensor, Tensor]:
    """Outputs, and what the backward pass needs (empty unless `keep`)."""
    kept = given.inputs.new_empty(kept_shape(given.inputs, given.decay.shape[1]) if keep else (0, 0, 0, 0))
    outputs = torch.empty(given.inputs.shape, dtype=given.inputs.dtype)
    _use_threads()
    _forward(_arrays(given), outputs.numpy(), kept.numpy())
    return outputs, kept


def scan_backward(d_outputs: Tensor, given: ScanInputs, kept: Tensor) -> ScanGradients:
    """Gradients of everything in `given`."""
    batch, steps, channels = given.inputs.shape
    states, blocks, new = given.decay.shape[1], -(-channels // _BLOCK), given.inputs.new_empty
    d_inputs, d_delta, d_gate = (new(batch, steps, channels) for _ in range(3))
    d_writes, d_reads = (new(blocks, batch, steps, states) for _ in range(2))
    d_decay, d_skip, d_bias = new(batch, channels, states), new(batch, channels), new(batch, channels)
    found = (d_inputs, d_delta, d_gate, d_writes, d_reads, d_decay, d_skip, d_bias)
    _use_threads()
    _backward(_arrays(given), _arrays((d_outputs,))[0], kept.numpy(), tuple(each.numpy() for each in found))
    d_writes, d_reads, d_decay, d_skip, d_bias = (each.sum(0) for each in found[3:])
    return ScanGradients(d_inputs, d_delta, d_decay, d_writes, d_reads, d_skip, d_gate, d_bias)


def _use_threads() -> None:
    numba.set_num_threads(min(threads(), numba.config.NUMBA_NUM_THREADS))


def _arrays(tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return tuple(each.detach().contiguous().numpy() for each in tensors)


@_compile
def _exp(x):  # type: ignore[no-untyped-def]
    # As power_of_two in vectors.h, in a form that LLVM turns into vectors.
    scaled = x * np.float32(1.4426950408889634)
    scaled = np.float32(-126) if scaled < np.float32(-126) else scaled
    scaled = np.float32(127) if scaled > np.float32(127) else scaled
    whole = np.floor(scaled + np.float32(0.5))
    f = scaled - whole
    q = f * np.float32(1.54531629e-4) + np.float32(1.33908634e-3)
    q = q * f + np.float32(9.61808256e-3)
    q = q * f + np.float32(5.55035711e-2)
    q = q * f + np.float32(2.40226508e-1)
    q = q * f + np.float32(6.93147188e-1)
    bits = np.int32(np.int32(np.int32(whole) + np.int32(127)) << np.int32(23))
    return (q * f + np.float32(1)) * bits.view(np.float32)


@_compile
def _softplus(x):  # type: ignore[no-untyped-def]
    return (x if x > 0 else x * 0) + math.log1p(math.exp(-abs(x)))


@_compile
def _sigmoid(x):  # type: ignore[no-untyped-def]
    small = math.exp(-abs(x))
    return (small if x < 0 else 1) / (1 + small)


@functools.partial(_compile, parallel=True)
def _forward(given, outputs, kept):  # type: ignore[no-untyped-def]
    batch, _, channels = given[0].shape
    blocks = (channels + _BLOCK - 1) // _BLOCK
    for task in numba.prange(batch * blocks):
        _forward_task(given, outputs, kept, task // blocks, task % blocks * _BLOCK)


@_compile
def _forward_task(given, outputs, kept, sample, first):  # type: ignore[no-untyped-def]
    inputs, _, decay, writes, reads, skip, gate, _ = given
    width, rates = _rates(decay, first)
    step, entering, read = np.zeros((3, _BLOCK), decay.dtype)
    hidden = np.zeros_like(rates)
    for t in range(inputs.shape[1]):
        if kept.size and t % CHUNK == 0:
            for lane in range(width):
                for n in range(decay.shape[1]):
                    kept[sample, t // CHUNK, first + lane, n] = hidden[n, lane]
        _enter(given, sample, t, first, width, step, entering)
        read[:] = 0
        for n in range(decay.shape[1]):
            write, look = writes[sample, t, n], reads[sample, t, n]
            for lane in range(_BLOCK):
                hidden[n, lane] = _exp(step[lane] * rates[n, lane]) * hidden[n, lane] + entering[lane] * write
                read[lane] += hidden[n, lane] * look
        for lane in range(width):
            at = first + lane
            z = gate[sample, t, at]
            outputs[sample, t, at] = (read[lane] + skip[at] * inputs[sample, t, at]) * z * _sigmoid(z)


@_compile
def _rates(decay, first):  # type: ignore[no-untyped-def]
    width = min(_BLOCK, len(decay) - first)
    rates = np.zeros((decay.shape[1], _BLOCK), decay.dtype)
    rates[:, :width] = decay[first : first + width].T
    return width, rates


@_compile
def _enter(given, sample, t, first, width, step, entering):  # type: ignore[no-untyped-def]
    for lane in range(width):
        step[lane] = _softplus(given[1][sample, t, first + lane] + given[7][first + lane])
        entering[lane] = step[lane] * given[0][sample, t, first + lane]


@functools.partial(_compile, parallel=True)
def _backward(given, d_outputs, kept, found):  # type: ignore[no-untyped-def]
    batch, _, channels = given[0].shape
    blocks = (channels + _BLOCK - 1) // _BLOCK
    for task in numba.prange(batch * blocks):
        _backward_task(given, d_outputs, kept, found, task // blocks, task % blocks)


@_compile
def _backward_task(given, d_outputs, kept, found, sample, block):  # type: ignore[no-untyped-def]
    decay, steps, first = given[2], given[0].shape[1], block * _BLOCK
    width, rates = _rates(decay, first)
    d_hidden, d_rates = np.zeros_like(rates), np.zeros_like(rates)
    hidden = np.zeros((CHUNK + 1, decay.shape[1], _BLOCK), decay.dtype)
    faded = np.zeros((CHUNK, decay.shape[1], _BLOCK), decay.dtype)
    slices = np.zeros((5, CHUNK, _BLOCK), decay.dtype)  # step, entering, read, d_step, d_entering
    sums = np.zeros((2, _BLOCK), decay.dtype)  # d_skip, d_bias
    scratch = (hidden, faded, slices, d_hidden, d_rates)
    for chunk in range((steps - 1) // CHUNK, -1, -1):
        start, stop = chunk * CHUNK, min(steps, (chunk + 1) * CHUNK)
        for lane in range(width):
            for n in range(decay.shape[1]):
                hidden[0, n, lane] = kept[sample, chunk, first + lane, n]
        _again(given, rates, hidden, faded, slices, (sample, start, stop, first, width))
        for t in range(stop - 1, start - 1, -1):
            d_read = np.zeros(_BLOCK, decay.dtype)
            for lane in range(width):
                z = given[6][sample, t, first + lane]
                d_read[lane] = d_outputs[sample, t, first + lane] * z * _sigmoid(z)
            at = (sample, t, t - start, block)
            _step_back(given, rates, scratch, d_read, at, found)
            _store(given, d_outputs, slices, d_read, sums, (sample, t, t - start, first, width), found)
    for lane in range(width):
        found[5][sample, first + lane] = d_rates[:, lane]
        found[6][sample, first + lane], found[7][sample, first + lane] = sums[0, lane], sums[1, lane]


@_compile
def _again(given, rates, hidden, faded, slices, place):  # type: ignore[no-untyped-def]
    sample, start, stop, first, width = place
    for t in range(stop - start):
        step, entering, read = slices[0, t], slices[1, t], slices[2, t]
        _enter(given, sample, start + t, first, width, step, entering)
        read[:] = 0
        for n in range(rates.shape[0]):
            write, look = given[3][sample, start + t, n], given[4][sample, start + t, n]
            for lane in range(_BLOCK):
                fading = _exp(step[lane] * rates[n, lane])
                state = fading * hidden[t, n, lane] + entering[lane] * write
                faded[t, n, lane], hidden[t + 1, n, lane] = fading, state
                read[lane] += state * look


@_compile
def _step_back(given, rates, scratch, d_read, at, found):  # type: ignore[no-untyped-def]
    # The equations stand beside backward_group in kernels.cpp.
    sample, t, local, block = at
    hidden, faded, slices, d_hidden, d_rates = scratch
    step, entering, d_step, d_entering = (
        slices[0, local],
        slices[1, local],
        slices[3, local],
        slices[4, local],
    )
    d_step[:] = 0
    d_entering[:] = 0
    for n in range(rates.shape[0]):
        write, look = given[3][sample, t, n], given[4][sample, t, n]
        d_write = d_look = step[0] * 0
        products = np.empty((2, _BLOCK), step.dtype)
        for lane in range(_BLOCK):
            gradient = d_hidden[n, lane] + d_read[lane] * look
            products[0, lane] = entering[lane] * gradient
            products[1, lane] = d_read[lane] * hidden[local + 1, n, lane]
            d_entering[lane] += gradient * write
            gradient *= faded[local, n, lane]
            d_hidden[n, lane] = gradient
            d_exponent = gradient * hidden[local, n, lane]
            d_step[lane] += d_exponent * rates[n, lane]
            d_rates[n, lane] += d_exponent * step[lane]
        for lane in range(_BLOCK):
            d_write += products[0, lane]
            d_look += products[1, lane]
        found[3][block, sample, t, n], found[4][block, sample, t, n] = d_write, d_look


@_compile
def _store(given, d_outputs, slices, d_read, sums, place, found):  # type: ignore[no-untyped-def]
    sample, t, local, first, width = place
    inputs, delta, _, _, _, skip, gate, bias = given
    for lane in range(width):
        at = first + lane
        x, z = inputs[sample, t, at], gate[sample, t, at]
        opened = _sigmoid(z)
        slope = opened * (1 + z * (1 - opened))
        d_delta = (slices[3, local, lane] + slices[4, local, lane] * x) * _sigmoid(
            delta[sample, t, at] + bias[at]
        )
        found[0][sample, t, at] = slices[4, local, lane] * slices[0, local, lane] + d_read[lane] * skip[at]
        found[1][sample, t, at] = d_delta
        found[2][sample, t, at] = d_outputs[sample, t, at] * (slices[2, local, lane] + skip[at] * x) * slope
        sums[0, lane] += d_read[lane] * x
        sums[1, lane] += d_delta
