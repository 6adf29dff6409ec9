"""The scan on a GPU, in Triton, for where mamba_ssm is not installed; Triton comes with torch's CUDA builds.

The plan of `kernels.cpp`: a program is one sample and a block of channels, their states stay in registers
while it walks the steps, and the backward pass computes the states of a chunk anew from those kept at its
start. Registers cannot be indexed, so a chunk's states pass through a scratch array that all chunks share.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from caretrace.backbones.scan.contract import CHUNK, ScanGradients, ScanInputs, kept_shape

_BLOCK = 16  # channels of a program; kept_shape rounds channels up to as many


def _kernel(function: Callable[..., Any]) -> Any:
    # unwrap: the checks of shapes that tests wrap around every function cannot be compiled.
    return triton.jit(inspect.unwrap(function))


def scan_forward(given: ScanInputs, keep: bool) -> tuple[Tensor, Tensor]:
    """Outputs, and what the backward pass needs (empty unless `keep`)."""
    given = ScanInputs(*(each.contiguous() for each in given))
    batch, steps, channels = given.inputs.shape
    states = given.decay.shape[1]
    kept = given.inputs.new_empty(kept_shape(given.inputs, states) if keep else (0,))
    outputs = torch.empty_like(given.inputs)
    _forward[batch, triton.cdiv(channels, _BLOCK)](
        *given, outputs, kept, steps, channels, states,
        KEEP=keep, CHUNK=CHUNK, BLOCK=_BLOCK, STATES=_padded(states), num_warps=1,
    )  # fmt: skip
    return outputs, kept


def scan_backward(d_outputs: Tensor, given: ScanInputs, kept: Tensor) -> ScanGradients:
    """Gradients of everything in `given`."""
    given = ScanInputs(*(each.contiguous() for each in given))
    batch, steps, channels = given.inputs.shape
    states, blocks, new = given.decay.shape[1], triton.cdiv(channels, _BLOCK), given.inputs.new_empty
    d_inputs, d_delta, d_gate = (torch.empty_like(given.inputs) for _ in range(3))
    d_writes, d_reads = (new(blocks, batch, steps, states) for _ in range(2))
    d_decay, d_skip, d_bias = new(batch, channels, states), new(batch, channels), new(batch, channels)
    scratch = new(batch, blocks, CHUNK, _BLOCK, _padded(states))
    _backward[batch, blocks](
        *given, kept, d_outputs.contiguous(), scratch,
        d_inputs, d_delta, d_gate, d_writes, d_reads, d_decay, d_skip, d_bias, batch, steps, channels, states,
        CHUNK=CHUNK, BLOCK=_BLOCK, STATES=_padded(states), num_warps=1,
    )  # fmt: skip
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


def _padded(states: int) -> int:
    """The power of two that holds them, as Triton wants it."""
    return int(triton.next_power_of_2(max(states, 2)))


@_kernel
def _sigmoid(x):  # type: ignore[no-untyped-def]
    small = tl.exp(-tl.abs(x))
    return tl.where(x < 0, small, 1.0) / (1.0 + small)


@_kernel
def _softplus(x):  # type: ignore[no-untyped-def]
    # log1p after Kahan: the error that 1 + y makes is divided out again.
    y = tl.exp(-tl.abs(x))
    one = 1.0 + y
    log = tl.where(one == 1.0, y, tl.log(one) * y / tl.where(one == 1.0, 1.0, one - 1.0))
    return tl.where(x < 0, 0.0, x) + log


@_kernel
def _load_two(first, second, at, on):  # type: ignore[no-untyped-def]
    return tl.load(first + at, mask=on, other=0.0), tl.load(second + at, mask=on, other=0.0)


@_kernel
def _rates(decay, channel, state, channels, states):  # type: ignore[no-untyped-def]
    on, has = channel < channels, state < states
    both = on[:, None] & has[None, :]
    return on, has, both, tl.load(decay + channel[:, None] * states + state[None, :], mask=both, other=0.0)


@_kernel
def _kept_at(chunk, channel, state, channels, states):  # type: ignore[no-untyped-def]
    # Channels and states are rounded up to 16, as kept_shape says.
    row = chunk * tl.cdiv(channels, 16) * 16 + channel[:, None]
    return row * tl.cdiv(states, 16) * 16 + state[None, :]


@_kernel
def _forward(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    inputs, delta, decay, writes, reads, skip, gate, bias, outputs, kept, steps, channels, states,
    KEEP: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr,  # noqa: N803
):  # fmt: skip
    sample = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    state = tl.arange(0, STATES)
    on, has, both, rates = _rates(decay, channel, state, channels, states)
    passing, shift = _load_two(skip, bias, channel, on)
    hidden = tl.zeros([BLOCK, STATES], dtype=tl.float32)
    for t in range(steps):
        if KEEP:  # noqa: SIM102 - known when compiled
            if t % CHUNK == 0:
                chunk = sample * tl.cdiv(steps, CHUNK) + t // CHUNK
                to = kept + _kept_at(chunk, channel, state, channels, states)
                tl.store(to, hidden, mask=both)
        row = sample * steps + t
        x = tl.load(inputs + row * channels + channel, mask=on, other=0.0)
        z = tl.load(gate + row * channels + channel, mask=on, other=0.0)
        step = _softplus(tl.load(delta + row * channels + channel, mask=on, other=0.0) + shift)
        write = tl.load(writes + row * states + state, mask=has, other=0.0)
        look = tl.load(reads + row * states + state, mask=has, other=0.0)
        hidden = tl.exp(step[:, None] * rates) * hidden + (step * x)[:, None] * write[None, :]
        read = tl.sum(hidden * look[None, :], 1) + passing * x
        tl.store(outputs + row * channels + channel, read * z * _sigmoid(z), mask=on)


@_kernel
def _again(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    inputs, delta, writes, mine, hidden, rates, shift, first, stop, channels, states, channel, state,
    BLOCK: tl.constexpr, STATES: tl.constexpr,  # noqa: N803
):  # fmt: skip
    # Forward once more; what is written is the state before each step.
    for local in range(stop):
        tl.store(mine + local * BLOCK * STATES, hidden)
        here = (first + local) * channels + channel
        x = tl.load(inputs + here, mask=channel < channels, other=0.0)
        step = _softplus(tl.load(delta + here, mask=channel < channels, other=0.0) + shift)
        write = tl.load(writes + (first + local) * states + state, mask=state < states, other=0.0)
        hidden = tl.exp(step[:, None] * rates) * hidden + (step * x)[:, None] * write[None, :]


@_kernel
def _step_back(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    d_hidden, d_read, before, rates, step, x, write, look, to_writes, to_reads, has
):
    # The equations stand beside backward_group in kernels.cpp. Lanes beyond the last channel have x = 0.
    fading = tl.exp(step[:, None] * rates)
    entering = (step * x)[:, None]
    after = fading * before + entering * write[None, :]
    d_hidden += d_read[:, None] * look[None, :]
    tl.store(to_reads, tl.sum(d_read[:, None] * after, 0), mask=has)
    tl.store(to_writes, tl.sum(entering * d_hidden, 0), mask=has)
    d_entering = tl.sum(d_hidden * write[None, :], 1)
    d_hidden *= fading
    return d_hidden, tl.sum(after * look[None, :], 1), d_entering, d_hidden * before


@_kernel
def _store_two(at, on, first, to_first, second, to_second):  # type: ignore[no-untyped-def]
    tl.store(to_first + at, first, mask=on)
    tl.store(to_second + at, second, mask=on)


@_kernel
def _store_three(at, on, first, to_first, second, to_second, third, to_third):  # type: ignore[no-untyped-def]
    tl.store(to_first + at, first, mask=on)
    tl.store(to_second + at, second, mask=on)
    tl.store(to_third + at, third, mask=on)


@_kernel
def _backward(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    inputs, delta, decay, writes, reads, skip, gate, bias, kept, d_outputs, scratch,
    d_inputs, d_delta, d_gate, d_writes, d_reads, d_decay, d_skip, d_bias, batch, steps, channels, states,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, STATES: tl.constexpr,  # noqa: N803
):  # fmt: skip
    sample, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lane, state = tl.arange(0, BLOCK), tl.arange(0, STATES)
    channel = block * BLOCK + lane
    on, has, both, rates = _rates(decay, channel, state, channels, states)
    passing, shift = _load_two(skip, bias, channel, on)
    chunks = tl.cdiv(steps, CHUNK)
    place = (sample * tl.num_programs(1) + block) * CHUNK * BLOCK + lane[:, None]
    mine = scratch + place * STATES + state[None, :]
    d_hidden, d_rates = tl.zeros([BLOCK, STATES], tl.float32), tl.zeros([BLOCK, STATES], tl.float32)
    d_passing, d_shift = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for back in range(chunks):
        start = (chunks - 1 - back) * CHUNK
        first, stop = sample * steps + start, tl.minimum(steps - start, CHUNK)
        at = _kept_at(sample * chunks + chunks - 1 - back, channel, state, channels, states)
        hidden = tl.load(kept + at, mask=both, other=0.0)
        _again(inputs, delta, writes, mine, hidden, rates, shift, first, stop, channels, states, channel, state, BLOCK, STATES)  # fmt: skip  # noqa: E501
        tl.debug_barrier()
        for reverse in range(stop):
            row = first + stop - 1 - reverse
            here, selected = row * channels + channel, row * states + state
            x, z = _load_two(inputs, gate, here, on)
            raw, d_out = _load_two(delta, d_outputs, here, on)
            write, look = _load_two(writes, reads, selected, has)
            before = tl.load(mine + (stop - 1 - reverse) * BLOCK * STATES)
            step, opened = _softplus(raw + shift), _sigmoid(z)
            d_read = d_out * z * opened
            part = block.to(tl.int64) * batch * steps * states + selected
            d_hidden, read, d_entering, d_exponent = _step_back(
                d_hidden, d_read, before, rates, step, x, write, look, d_writes + part, d_reads + part, has
            )
            d_raw = (tl.sum(d_exponent * rates, 1) + d_entering * x) * _sigmoid(raw + shift)
            d_z = d_out * (read + passing * x) * opened * (1.0 + z * (1.0 - opened))
            d_x = d_entering * step + d_read * passing
            _store_three(here, on, d_x, d_inputs, d_raw, d_delta, d_z, d_gate)
            d_rates += d_exponent * step[:, None]
            d_passing, d_shift = d_passing + d_read * x, d_shift + d_raw
        tl.debug_barrier()
    of_sample = sample * channels + channel
    tl.store(d_decay + of_sample[:, None] * states + state[None, :], d_rates, mask=both)
    _store_two(of_sample, on, d_passing, d_skip, d_shift, d_bias)
