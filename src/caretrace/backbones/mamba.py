"""Mamba (Gu and Dao 2023, arXiv 2312.00752): a recurrence whose step, writes and reads follow the input.

A layer adds to its hidden states what this makes of them (section 3.4, figure 3):

    norm → in-projection → x, gate        width d_model → 2 · d_inner, d_inner = expand · d_model
    x → causal depthwise convolution over d_conv steps → silu
    x → delta (through dt_rank numbers), writes (B), reads (C)       section 3.2, algorithm 2
    selective scan of x, multiplied by silu(gate) → out-projection → d_model

`caretrace.backbones.scan` computes what lies between the projections, in whichever way is fastest here.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.backbones.scan import MixingWeights, mix
from caretrace.backbones.scan.literal import one_step
from caretrace.backbones.stack import Stack

# Section 3.6: softplus(bias of delta) is drawn log-uniformly from this range.
_SHORTEST_STEP, _LONGEST_STEP = 1e-3, 1e-1


@dataclasses.dataclass(frozen=True)
class MambaState:
    """What one layer carries from step to step.

    Args:
        recent: What the convolution still sees: the last d_conv - 1 steps.
        hidden: The state of every channel.
    """

    recent: Float[Tensor, "batch recent channel"]
    hidden: Float[Tensor, "batch channel state"]


class MambaLayer(nn.Module):
    """One layer: norm, mixing, and the sum with what came in.

    Args:
        d_model: Width of the hidden states, in and out.
        d_state: States per channel.
        d_conv: Steps the convolution sees.
        expand: Channels per unit of `d_model`.
        dt_rank: Numbers from which the steps of all channels are made.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(
        self, *, d_model: int, d_state: int, d_conv: int, expand: int, dt_rank: int, dropout: float
    ) -> None:
        super().__init__()
        d_inner = expand * d_model
        self.d_state, self.d_conv, self.dt_rank = d_state, d_conv, dt_rank
        self.norm = nn.RMSNorm(d_model, eps=1e-5)
        self.in_projection = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.kernel = nn.Parameter(torch.empty(d_inner, d_conv).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.kernel_bias = nn.Parameter(torch.empty(d_inner).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.selection = nn.Linear(d_inner, dt_rank + 2 * d_state, bias=False)
        self.delta = nn.Linear(dt_rank, d_inner)
        # S4D-real (section 3.6): the states of every channel fade at rates 1, 2, ... d_state.
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log()
        self.log_decay = nn.Parameter(rates.repeat(d_inner, 1))
        self.skip = nn.Parameter(torch.ones(d_inner))
        self.out_projection = nn.Linear(d_inner, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)
        self._start_delta()

    def _start_delta(self) -> None:
        nn.init.uniform_(self.delta.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        span = math.log(_LONGEST_STEP) - math.log(_SHORTEST_STEP)
        step = torch.exp(torch.rand_like(self.delta.bias) * span + math.log(_SHORTEST_STEP))
        with torch.no_grad():
            self.delta.bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus undone

    def forward(self, hidden: Float[Tensor, "batch step d_model"]) -> Float[Tensor, "batch step d_model"]:
        """Hidden states of every step given those before it."""
        weights = MixingWeights(
            kernel=self.kernel,
            kernel_bias=self.kernel_bias,
            selection=self.selection.weight,
            delta_weight=self.delta.weight,
            delta_bias=self.delta.bias,
            decay=-self.log_decay.exp(),
            skip=self.skip,
        )
        mixed = mix(self.in_projection(self.norm(hidden)), weights)
        return hidden + self.dropout(self.out_projection(mixed))

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: MambaState | None
    ) -> tuple[Float[Tensor, "batch d_model"], MambaState]:
        """One more step."""
        x, gate = self.in_projection(self.norm(hidden)).chunk(2, -1)
        if state is None:
            state = MambaState(
                x.new_zeros(len(x), self.d_conv - 1, x.shape[1]), x.new_zeros(len(x), *self.log_decay.shape)
            )
        seen = torch.cat([state.recent, x[:, None]], 1)
        x = F.silu((seen * self.kernel.T).sum(1) + self.kernel_bias)
        delta, writes, reads = torch.split(self.selection(x), [self.dt_rank, self.d_state, self.d_state], -1)
        length = F.softplus(self.delta(delta))
        carried, output = one_step(state.hidden, x, length, -self.log_decay.exp(), writes, reads)
        mixed = (output + self.skip * x) * F.silu(gate)
        return hidden + self.dropout(self.out_projection(mixed)), MambaState(seen[:, 1:], carried)


class Mamba(Stack):
    """A stack of Mamba layers and a norm.

    Args:
        d_model: Width of the hidden states, in and out.
        n_layers: Layers in the stack.
        dropout: Probability of dropping a hidden unit.
        d_state: States per channel.
        d_conv: Steps the convolution sees.
        expand: Channels per unit of `d_model`.
        dt_rank: Numbers from which the steps of all channels are made; d_model / 16 when None.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_layers: int,
        dropout: float,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
    ) -> None:
        rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        settings = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "dt_rank": rank}
        super().__init__(
            [MambaLayer(d_model=d_model, dropout=dropout, **settings) for _ in range(n_layers)], d_model
        )
