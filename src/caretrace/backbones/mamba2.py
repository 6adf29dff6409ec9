"""Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): heads that fade at one rate each, computed as matrix products.

A layer adds to its hidden states what this makes of them (section 7.1, figure 6):

    norm → in-projection → gate, x, writes (B), reads (C), delta of each head
    x, writes, reads → causal depthwise convolution over d_conv steps → silu
    scan of x → multiplied by silu(gate) → norm → out-projection
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.backbones.scan.duality import dual_scan
from caretrace.backbones.stack import Stack

# The defaults of the paper's code: rates from 1 to 16, steps from 0.001 to 0.1, heads of 64 channels.
_FASTEST_RATE, _SHORTEST_STEP, _LONGEST_STEP, _CHANNELS_OF_A_HEAD = 16.0, 1e-3, 1e-1, 64


@dataclasses.dataclass(frozen=True)
class Mamba2State:
    """What one layer carries from step to step.

    Args:
        recent: What the convolution still sees: the last d_conv - 1 steps.
        hidden: The state of every channel of every head.
    """

    recent: Float[Tensor, "batch recent convolved"]
    hidden: Float[Tensor, "batch head channel state"]


class Mamba2Layer(nn.Module):
    """One layer: norm, mixing, and the sum with what came in.

    Args:
        d_model: Width of the hidden states, in and out.
        d_state: States per channel.
        d_conv: Steps the convolution sees.
        expand: Channels per unit of `d_model`.
        d_head: Channels of a head; divides expand · d_model.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(
        self, *, d_model: int, d_state: int, d_conv: int, expand: int, d_head: int, dropout: float
    ) -> None:
        super().__init__()
        d_inner = expand * d_model
        n_heads, convolved, bound = d_inner // d_head, d_inner + 2 * d_state, d_conv**-0.5
        self.sizes = [d_inner, convolved, n_heads]
        self.selected = [d_inner, d_state, d_state]
        self.d_head = d_head
        self.norm = nn.RMSNorm(d_model, eps=1e-5)
        self.in_projection = nn.Linear(d_model, sum(self.sizes), bias=False)
        self.kernel = nn.Parameter(torch.empty(convolved, d_conv).uniform_(-bound, bound))
        self.kernel_bias = nn.Parameter(torch.empty(convolved).uniform_(-bound, bound))
        span = math.log(_LONGEST_STEP / _SHORTEST_STEP)
        step = torch.exp(torch.rand(n_heads) * span + math.log(_SHORTEST_STEP))
        self.delta_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus undone
        self.log_decay = nn.Parameter(torch.empty(n_heads).uniform_(1.0, _FASTEST_RATE).log())
        self.skip = nn.Parameter(torch.ones(n_heads))
        self.gated_norm = nn.RMSNorm(d_inner, eps=1e-5)
        self.out_projection = nn.Linear(d_inner, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "batch step d_model"]) -> Float[Tensor, "batch step d_model"]:
        """Hidden states of every step given those before it."""
        gate, seen, delta = torch.split(self.in_projection(self.norm(hidden)), self.sizes, -1)
        width, steps = self.kernel.shape[1], hidden.shape[1]
        seen = F.pad(seen, (0, 0, width - 1, 0))
        parts = [self.kernel[:, at] * seen[:, at : at + steps] for at in range(width)]
        x, writes, reads = self._select(torch.stack(parts).sum(0))
        # A recurrence in half precision would add up its errors: the scan is computed in float32.
        with torch.autocast(hidden.device.type, enabled=False):
            step = F.softplus(_exact(delta) + self.delta_bias)
            read = dual_scan(_exact(x), step, -self.log_decay.exp(), _exact(writes), _exact(reads))
        return hidden + self._finish(read, x, gate)

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: Mamba2State | None
    ) -> tuple[Float[Tensor, "batch d_model"], Mamba2State]:
        """One more step."""
        gate, seen, delta = torch.split(self.in_projection(self.norm(hidden)), self.sizes, -1)
        recent = seen.new_zeros(len(seen), self.kernel.shape[1] - 1, seen.shape[1])
        recent = torch.cat([recent if state is None else state.recent, seen[:, None]], 1)
        x, writes, reads = self._select((recent * self.kernel.T).sum(1))
        step = F.softplus(delta + self.delta_bias)
        carried = torch.einsum("bhp,bh,bn->bhpn", x, step, writes)
        if state is not None:
            carried = carried + state.hidden * torch.exp(step * -self.log_decay.exp())[..., None, None]
        read = torch.einsum("bhpn,bn->bhp", carried, reads)
        return hidden + self._finish(read, x, gate), Mamba2State(recent[:, 1:], carried)

    def _select(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs divided into heads, writes and reads."""
        x, writes, reads = torch.split(F.silu(convolved + self.kernel_bias), self.selected, -1)
        return x.view(*x.shape[:-1], self.sizes[0] // self.d_head, self.d_head), writes, reads

    def _finish(self, read: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        """From what was read to what is added to the hidden states."""
        mixed = (read + self.skip[:, None] * x).flatten(-2) * F.silu(gate)
        return self.dropout(self.out_projection(self.gated_norm(mixed)))


class Mamba2(Stack):
    """A stack of Mamba-2 layers and a norm.

    Args:
        d_model: Width of the hidden states, in and out.
        n_layers: Layers in the stack.
        dropout: Probability of dropping a hidden unit.
        d_state: States per channel.
        d_conv: Steps the convolution sees.
        expand: Channels per unit of `d_model`.
        d_head: Channels of a head; the largest divisor that 64 and expand · d_model share when None.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_layers: int,
        dropout: float,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        d_head: int | None = None,
    ) -> None:
        width = math.gcd(_CHANNELS_OF_A_HEAD, expand * d_model) if d_head is None else d_head
        settings = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "d_head": width}
        super().__init__(
            [Mamba2Layer(d_model=d_model, dropout=dropout, **settings) for _ in range(n_layers)], d_model
        )


def _exact(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
