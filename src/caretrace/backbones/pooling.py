"""Attention pooling: hidden states of all steps → one vector, by queries that are learned."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.errors import ConfigError


class AttentionPooling(nn.Module):
    """Each head asks one learned question of all steps (Lin et al. 2017, "A Structured Self-Attentive Embedding").

    Padded steps get a weight of exactly zero. A sample without any step pools to zero.

    Args:
        d_model: Width of the hidden states; `n_heads` must divide it.
        n_heads: Learned queries.
    """

    def __init__(self, *, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ConfigError(f"d_model {d_model} must be a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.query = nn.Parameter(torch.randn(n_heads, d_model // n_heads) * 0.1)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)

    def forward(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch d_model"]:
        """The heads' weighted sums, side by side."""
        value = self.value(hidden).unflatten(-1, (self.n_heads, -1))
        return (self.weights(hidden, padding_mask)[..., None] * value).sum(1).flatten(1)

    def weights(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step head"]:
        """Weight of each step per head; a head's weights sum to 1, and are 0 where padded."""
        key = self.key(hidden).unflatten(-1, (self.n_heads, -1))
        scores = (key * self.query).sum(-1) / key.shape[-1] ** 0.5
        padded = padding_mask[..., None]
        # The lowest finite number, not -inf: a sample that is all padding must not give NaN.
        return scores.masked_fill(padded, torch.finfo(scores.dtype).min).softmax(1).masked_fill(padded, 0.0)
