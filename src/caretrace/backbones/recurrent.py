"""GRU (Cho et al. 2014) and LSTM (Hochreiter and Schmidhuber 1997), run by torch's own kernels.

Padding stands at the end and recurrences only look back, so no step that is kept can see it; padded
outputs are set to zero. This is exact, and on a CPU cheaper than packing, which leaves torch's fused kernels:
32 sequences of width 64, of up to 256 steps and half full, take one core 44 ms forward and backward where
packed ones take 156 (GRU), and 19 where they take 189 (LSTM).
"""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn


class Recurrent(nn.Module):
    """A stack of recurrent layers with dropout between them.

    Args:
        cell: `nn.GRU` or `nn.LSTM`.
        d_model: Width of the hidden states, in and out.
        n_layers: Layers in the stack.
        dropout: Probability of dropping a hidden unit between layers.
    """

    causal = True

    def __init__(self, cell: type[nn.GRU | nn.LSTM], *, d_model: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = cell(
            d_model, d_model, n_layers, batch_first=True, dropout=dropout if n_layers > 1 else 0.0
        )

    def forward(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden state after each step, 0 where padded."""
        if hidden.shape[1] == 0:  # torch's kernels refuse a sequence without steps
            return hidden
        out: Tensor = self.layers(hidden)[0]
        return out.masked_fill(padding_mask[..., None], 0.0)

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: Any = None
    ) -> tuple[Float[Tensor, "batch d_model"], Any]:
        """One more step; `state` is the cell's own, None at the start."""
        out, state = self.layers(hidden[:, None], state)
        return out[:, 0], state


def gru(*, d_model: int, n_layers: int, dropout: float) -> Recurrent:
    """GRU layers (Cho et al. 2014)."""
    return Recurrent(nn.GRU, d_model=d_model, n_layers=n_layers, dropout=dropout)


def lstm(*, d_model: int, n_layers: int, dropout: float) -> Recurrent:
    """LSTM layers (Hochreiter and Schmidhuber 1997)."""
    return Recurrent(nn.LSTM, d_model=d_model, n_layers=n_layers, dropout=dropout)
