"""The scan of Mamba-2 as matrix products (Dao and Gu 2024, arXiv 2405.21060, section 6 and listing 1).

All channels of a head fade at one rate, so that within a chunk the map from inputs to outputs is one matrix
per head: reads · writes, times the decay between the two steps. Chunks pass on one state per head.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CHUNK = 64


def dual_scan(
    inputs: Float[Tensor, "batch step head channel"],
    step: Float[Tensor, "batch step head"],
    decay: Float[Tensor, "head"],
    writes: Float[Tensor, "batch step state"],
    reads: Float[Tensor, "batch step state"],
) -> Float[Tensor, "batch step head channel"]:
    """What is read from the states after each step.

    Args:
        inputs: What a step brings to each channel.
        step: How far time moves, Δ > 0.
        decay: Rate at which the states of a head fade, A < 0.
        writes: How much of the input enters each state, B.
        reads: How much of each state is read, C.
    """
    batch, steps, heads, channels = inputs.shape
    chunk = min(CHUNK, max(steps, 1))
    missing = -steps % chunk  # filled with steps of length 0, which change nothing
    chunks = (steps + missing) // chunk
    entering = F.pad(inputs * step[..., None], (0, 0, 0, 0, 0, missing)).view(
        batch, chunks, chunk, heads, channels
    )
    fading = F.pad(step * decay, (0, 0, 0, missing)).view(batch, chunks, chunk, heads).transpose(2, 3)
    states = writes.shape[-1]
    writes, reads = (
        F.pad(each, (0, 0, 0, missing)).view(batch, chunks, chunk, states) for each in (writes, reads)
    )
    between = sums_between(fading).exp()
    # Within a chunk: what step s wrote, as it is read at step t.
    scores = torch.einsum("bctn,bcsn->bcts", reads, writes)
    within = torch.einsum("bcts,bchts,bcshp->bcthp", scores, between, entering)
    # From chunk to chunk: the state at the start of each.
    until_end = between[..., -1, :]
    added = torch.einsum("bcsn,bchs,bcshp->bchpn", writes, until_end, entering)
    state, before = entering.new_zeros(batch, heads, channels, states), []
    whole = fading.sum(-1).exp()
    for more, left in zip(added.unbind(1), whole.unbind(1), strict=True):
        before.append(state)
        state = state * left[..., None, None] + more
    if not before:
        return (within.sum() + state.sum()) * inputs
    faded = fading.cumsum(-1).exp()
    passed_on = torch.einsum("bctn,bcht,bchpn->bcthp", reads, faded, torch.stack(before, 1))
    return (within + passed_on).flatten(1, 2)[:, :steps]


def sums_between(values: Float[Tensor, "*rest step"]) -> Float[Tensor, "*rest step step"]:
    """Sums over (s, t] in row t and column s, minus infinity for s > t.

    Added up, not subtracted from each other: the difference of two large running sums would lose what a
    single short step adds.
    """
    steps = values.shape[-1]
    later = torch.ones(steps, steps, dtype=torch.bool, device=values.device).tril(-1)
    repeated = values[..., None].expand(*values.shape, steps).masked_fill(~later, 0.0)
    allowed = torch.ones(steps, steps, dtype=torch.bool, device=values.device).tril()
    return repeated.cumsum(-2).masked_fill(~allowed, float("-inf"))
