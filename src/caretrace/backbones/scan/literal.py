"""The selective scan step by step, as equation 2 of the paper has it: what every fast path must equal.

Symbols of Gu and Dao 2023 (arXiv 2312.00752, algorithm 2) and our words for them:

    x    inputs      what a step brings to each channel               [batch, step, channel]
    Δ    delta       how far time moves, softplus(delta + bias) > 0   [batch, step, channel]
    A    decay       rate at which a state fades, negative            [channel, state]
    B    writes      how much of the input enters each state          [batch, step, state]
    C    reads       how much of each state is read                   [batch, step, state]
    D    skip        how much of the input passes by the state        [channel]
    z    gate        multiplies the result as silu(gate)              [batch, step, channel]

    h[t] = exp(Δ[t] A) h[t-1] + Δ[t] B[t] x[t]        y[t] = (C[t] · h[t] + D x[t]) silu(z[t])
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def literal_scan(
    inputs: Float[Tensor, "batch step channel"],
    delta: Float[Tensor, "batch step channel"],
    decay: Float[Tensor, "channel state"],
    writes: Float[Tensor, "batch step state"],
    reads: Float[Tensor, "batch step state"],
    skip: Float[Tensor, "channel"],
    gate: Float[Tensor, "batch step channel"],
    bias: Float[Tensor, "channel"],
) -> Float[Tensor, "batch step channel"]:
    """Gated outputs, one step after the other; autograd follows each of them."""
    steps = F.softplus(delta + bias)
    hidden = inputs.new_zeros(inputs.shape[0], *decay.shape)
    outputs = []
    # unbind, because indexing inside the loop costs the backward pass a whole tensor per step.
    for x, step, write, read in zip(
        inputs.unbind(1), steps.unbind(1), writes.unbind(1), reads.unbind(1), strict=True
    ):
        hidden, output = one_step(hidden, x, step, decay, write, read)
        outputs.append(output)
    summed = torch.stack(outputs, 1) if outputs else nothing(steps, decay, writes, reads)
    return (summed + skip * inputs) * F.silu(gate)


def nothing(
    steps: Float[Tensor, "batch 0 channel"],
    decay: Float[Tensor, "channel state"],
    writes: Float[Tensor, "batch 0 state"],
    reads: Float[Tensor, "batch 0 state"],
) -> Float[Tensor, "batch 0 channel"]:
    """What is read in no steps. Everything takes part, so that no parameter is left without a gradient (0)."""
    return steps * decay.sum(-1) * (writes * reads).sum(-1, keepdim=True)


def one_step(
    hidden: Float[Tensor, "batch channel state"],
    inputs: Float[Tensor, "batch channel"],
    step: Float[Tensor, "batch channel"],
    decay: Float[Tensor, "channel state"],
    writes: Float[Tensor, "batch state"],
    reads: Float[Tensor, "batch state"],
) -> tuple[Float[Tensor, "batch channel state"], Float[Tensor, "batch channel"]]:
    """The state after one more step, and what is read from it; `step` is the length of the step, Δ."""
    faded = torch.exp(step[..., None] * decay) * hidden
    hidden = faded + (step * inputs)[..., None] * writes[:, None]
    return hidden, torch.einsum("bcs,bs->bc", hidden, reads)
