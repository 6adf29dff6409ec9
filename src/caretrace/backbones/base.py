"""The contract every backbone keeps: hidden states in, hidden states out."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class Backbone(Protocol):
    """A sequence model, causal unless `causal` is False.

    Padding cannot change a result, the future cannot change the past, and `step`, fed one hidden
    vector at a time, gives what `forward` gives. `tests/contracts/test_backbones.py` holds every row
    of the table to this.
    """

    causal: bool
    d_model: int

    def __call__(
        self, hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d_model"]:
        """Hidden states for whole sequences; `padding_mask` is True where a step is padding (at the end)."""
        ...

    def step(
        self, hidden: Float[Tensor, "batch d_model"], state: Any = None
    ) -> tuple[Float[Tensor, "batch d_model"], Any]:
        """Hidden state for one more step, and the state to pass with the next one."""
        ...
