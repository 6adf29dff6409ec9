"""What a model looks at. Drawn, never called importance: on a planted task pooling attention ranked the planted
events at an AUROC of .35 to .60 where chance has .5, while the model itself was never wrong.
"""

from jaxtyping import Float
from torch import Tensor, eye


def rollout(
    weights: Float[Tensor, "layer batch head step step"],
) -> Float[Tensor, "batch step step"]:
    """Attention roll-out (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3).

    Each layer's mean over heads, half and half with the residual connection, multiplied through the layers.

    Args:
        weights: Attention weights of every layer and head; rows sum to 1.

    Returns:
        How much of each input step reaches each output step, under this view; rows sum to 1.
    """
    mixed = weights.mean(2)
    identity = eye(mixed.shape[-1], device=mixed.device, dtype=mixed.dtype)
    flowing = identity.expand(mixed.shape[1:])
    for layer in mixed:
        flowing = (layer + identity) / 2 @ flowing
    return flowing


def received(
    weights: Float[Tensor, "layer batch head step step"],
) -> Float[Tensor, "layer batch head step"]:
    """Weight that each step receives, summed over the steps that look at it."""
    return weights.sum(-2)
