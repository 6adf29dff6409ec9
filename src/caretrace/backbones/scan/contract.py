"""What goes into the scan and what comes back, in the same order everywhere."""

from typing import NamedTuple

from torch import Tensor

# The backward pass starts from the state that each chunk of so many steps began with; as in kernels.cpp.
CHUNK = 16


class ScanInputs(NamedTuple):
    """The arguments of `literal_scan`, which describes them."""

    inputs: Tensor
    delta: Tensor
    decay: Tensor
    writes: Tensor
    reads: Tensor
    skip: Tensor
    gate: Tensor
    bias: Tensor


class ScanGradients(NamedTuple):
    """The gradient of each of `ScanInputs`."""

    inputs: Tensor
    delta: Tensor
    decay: Tensor
    writes: Tensor
    reads: Tensor
    skip: Tensor
    gate: Tensor
    bias: Tensor


def kept_shape(inputs: Tensor, states: int) -> tuple[int, int, int, int]:
    """Room for one state per chunk; channels and states are rounded up to whole vectors and groups."""
    batch, steps, channels = inputs.shape
    return batch, -(-steps // CHUNK), 16 * -(-channels // 16), 16 * -(-states // 16)
