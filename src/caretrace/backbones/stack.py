"""Layers one after the other, then a norm: what both Mambas are."""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn


class Stack(nn.Module):
    """Recurrent layers that add to their hidden states, and a norm at the end.

    Args:
        layers: Each maps [batch, step, d_model] to the same, and has a `step` that takes and returns a state.
        d_model: Width of the hidden states, in and out.
    """

    causal = True

    def __init__(self, layers: Iterable[nn.Module], d_model: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.ModuleList(layers)
        self.norm = nn.RMSNorm(d_model, eps=1e-5)

    def forward(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden state of each step given itself and the steps before it, 0 where padded."""
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(hidden).masked_fill(padding_mask[..., None], 0.0)

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: list[Any] | None = None
    ) -> tuple[Float[Tensor, "batch d_model"], list[Any]]:
        """One more step; `state` holds what each layer carries."""
        carried = []
        for number, layer in enumerate(self.layers):
            hidden, after = layer.step(hidden, None if state is None else state[number])  # type: ignore[operator]
            carried.append(after)
        return self.norm(hidden), carried
