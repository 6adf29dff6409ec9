"""Convolutions over steps, then an LSTM: short shapes first, long memory after (after Shi et al. 2015).

The convolutions are padded on the left only, so a step sees itself and the `kernel_size` - 1 steps before it,
and `step` gives what `forward` gives. With `causal=False` they look to both sides, as most autoencoders of
signals do; then there is no `step`.

Made for a grid: `ConvLSTM(d_in=4, channels=(16, 32), d_model=64, n_layers=2, dropout=0.5)` reads the rows of a
`GridBatch` with two signals and the hour of day as they are. In the table it reads hidden vectors.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ConvLSTMState:
    """What `ConvLSTM` carries from one step to the next.

    Args:
        tails: The last `kernel_size` - 1 inputs of each convolution, each [batch, channel, step].
        memory: Hidden and cell state of the LSTM, each [layer, batch, d_model].
    """

    tails: tuple[Tensor, ...]
    memory: tuple[Tensor, Tensor] | None


class ConvLSTM(nn.Module):
    """Convolutions over steps with ReLU, then a stack of LSTM layers with dropout between them.

    Args:
        d_model: Width of the hidden states, out (and in, unless `d_in` says otherwise).
        n_layers: LSTM layers.
        dropout: Probability of dropping a hidden unit between LSTM layers.
        d_in: Width of what is read; `d_model` when None.
        channels: Width of each convolution.
        kernel_size: Steps that a convolution sees.
        causal: Whether a convolution sees only its own step and earlier ones.

    Raises:
        ConfigError: No convolution, or one that is not positive.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_layers: int,
        dropout: float,
        d_in: int | None = None,
        channels: tuple[int, ...] = (16, 32),
        kernel_size: int = 3,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not channels or min(*channels, kernel_size) < 1:
            raise ConfigError(
                f"conv-lstm: channels {list(channels)} and kernel_size {kernel_size} must be positive, "
                "and there must be a convolution; try [16, 32] and 3"
            )
        self.d_model, self.causal, self.kernel_size = d_model, causal, kernel_size
        widths = (d_model if d_in is None else d_in, *channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(narrow, wide, kernel_size) for narrow, wide in zip(widths, channels, strict=False)
        )
        self.lstm = nn.LSTM(
            channels[-1], d_model, n_layers, batch_first=True, dropout=dropout if n_layers > 1 else 0.0
        )

    def forward(
        self, hidden: Float[Tensor, "batch step d_in"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden state after each step, 0 where padded."""
        if hidden.shape[1] == 0:  # torch's kernels refuse a sequence without steps
            return hidden.new_zeros(len(hidden), 0, self.d_model)
        behind = self.kernel_size - 1 if self.causal else (self.kernel_size - 1) // 2
        beside = (behind, self.kernel_size - 1 - behind)
        rows = hidden.transpose(1, 2)
        for convolution in self.convolutions:
            if not self.causal:  # the last real steps look into the padding, and must find nothing
                rows = rows.masked_fill(padding_mask[:, None], 0.0)
            rows = F.relu(convolution(F.pad(rows, beside)))
        out: Tensor = self.lstm(rows.transpose(1, 2))[0]
        return out.masked_fill(padding_mask[..., None], 0.0)

    def step(
        self, hidden: Float[Tensor, "batch d_in"], state: ConvLSTMState | None = None
    ) -> tuple[Float[Tensor, "batch d_model"], ConvLSTMState]:
        """One more step.

        Raises:
            ConfigError: The convolutions look ahead, so no step is known before those that follow it.
        """
        if not self.causal:
            raise ConfigError("conv-lstm with causal=False cannot go step by step; build it with causal=True")
        current, tails = hidden[..., None], []
        for number, convolution in enumerate(self.convolutions):
            before = self.kernel_size - 1
            seen = F.pad(current, (before, 0)) if state is None else _append(state.tails[number], current)
            tails.append(seen[..., 1:])
            current = F.relu(convolution(seen))
        out, memory = self.lstm(current.transpose(1, 2), None if state is None else state.memory)
        return out[:, 0], ConvLSTMState(tuple(tails), memory)


def _append(tail: Tensor, current: Tensor) -> Tensor:
    """[batch, channel, step] with one more step at its end."""
    return torch.cat([tail, current], -1)
