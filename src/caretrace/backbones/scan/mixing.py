"""What lies between the projections of a Mamba layer, composed of torch's own operations."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scan = Callable[..., Tensor]


class MixingWeights(NamedTuple):
    """What a Mamba layer has learned, but for its two projections.

    Args:
        kernel: Depthwise causal convolution, the current step last.
        kernel_bias: Its bias.
        selection: From inputs to delta (rank numbers), writes and reads: selected = rank + 2 · state.
        delta_weight: From rank numbers to the delta of every channel.
        delta_bias: Added to delta.
        decay: Rate at which each state fades, negative.
        skip: How much of the input passes by the state.
    """

    kernel: Float[Tensor, "channel recent"]
    kernel_bias: Float[Tensor, "channel"]
    selection: Float[Tensor, "selected channel"]
    delta_weight: Float[Tensor, "channel rank"]
    delta_bias: Float[Tensor, "channel"]
    decay: Float[Tensor, "channel state"]
    skip: Float[Tensor, "channel"]

    def sizes(self) -> list[int]:
        """How the selected numbers are divided: delta, writes, reads."""
        return [self.delta_weight.shape[1], self.decay.shape[1], self.decay.shape[1]]


def composed_mix(
    scan: Scan, projected: Float[Tensor, "batch step both"], weights: MixingWeights
) -> Float[Tensor, "batch step channel"]:
    """Convolution, selection, scan and gate.

    Args:
        scan: A form of the selective scan, such as `literal_scan`.
        projected: Inputs and gate beside each other: both = 2 · channel.
        weights: Of the layer.
    """
    inputs, gate = projected.chunk(2, -1)
    steps, width = inputs.shape[1], weights.kernel.shape[1]
    seen = F.pad(inputs, (0, 0, width - 1, 0))
    # Sums of shifted inputs, since torch's convolution refuses what is empty.
    parts = [weights.kernel[:, at] * seen[:, at : at + steps] for at in range(width)]
    inputs = F.silu(torch.stack(parts).sum(0) + weights.kernel_bias)
    delta, writes, reads = torch.split(F.linear(inputs, weights.selection), weights.sizes(), -1)
    delta = F.linear(delta, weights.delta_weight)
    return scan(inputs, delta, weights.decay, writes, reads, weights.skip, gate, weights.delta_bias)
