"""Windows of a regular grid → hidden vectors, one per step."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.data.batch import GridBatch


class GridEmbedding(nn.Module):
    """Linear map of a step's signals, of which of them were measured, and of its features of time.

    Whether a value was measured is an input of its own, so a value that fills a gap can be told from one
    that was measured. Every backbone can then read a grid; `ConvLSTM` can also read `GridBatch.rows` as is.

    Args:
        n_channels: Signals.
        n_features: Features of time.
        d_model: Width of the embedding.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(self, *, n_channels: int, n_features: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(2 * n_channels + n_features, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, batch: GridBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors of every step, and a padding mask that is all False."""
        observed = batch.observed.to(batch.values.dtype).transpose(1, 2)
        rows = torch.cat([batch.rows, observed], -1)
        return self.dropout(self.norm(self.project(rows))), batch.padding_mask
