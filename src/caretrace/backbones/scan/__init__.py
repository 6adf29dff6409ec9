"""The selective scan: one literal form, and faster ones that give the same. docs/mamba.md says which runs when."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from caretrace.backbones.scan import ops
from caretrace.backbones.scan.chunked import chunked_scan
from caretrace.backbones.scan.contract import ScanInputs
from caretrace.backbones.scan.forms import choose
from caretrace.backbones.scan.literal import literal_scan
from caretrace.backbones.scan.mamba_ssm import mamba_ssm_scan
from caretrace.backbones.scan.mixing import MixingWeights, composed_mix

_TORCH: dict[str, Callable[..., Tensor]] = {
    "literal": literal_scan,
    "chunked": chunked_scan,
    "mamba_ssm": mamba_ssm_scan,
}


def selective_scan(
    inputs: Float[Tensor, "batch step channel"],
    delta: Float[Tensor, "batch step channel"],
    decay: Float[Tensor, "channel state"],
    writes: Float[Tensor, "batch step state"],
    reads: Float[Tensor, "batch step state"],
    skip: Float[Tensor, "channel"],
    gate: Float[Tensor, "batch step channel"],
    bias: Float[Tensor, "channel"],
) -> Float[Tensor, "batch step channel"]:
    """Gated outputs of the selective scan; `literal_scan` says what each argument is.

    Half precision and autocast are computed in float32, since errors of a recurrence add up.

    Raises:
        ConfigError: CARETRACE_SCAN names a form that does not exist or cannot run here.
    """
    given = ScanInputs(inputs, delta, decay, writes, reads, skip, gate, bias)
    dtype = _exact(given)
    with torch.autocast(inputs.device.type, enabled=False):
        found = _scan(ScanInputs(*(tensor.to(dtype) for tensor in given)))
    return found.to(inputs.dtype)


def mix(
    projected: Float[Tensor, "batch step both"], weights: MixingWeights
) -> Float[Tensor, "batch step channel"]:
    """What lies between the projections of a Mamba layer; `composed_mix` says what each argument is.

    Raises:
        ConfigError: CARETRACE_SCAN names a form that does not exist or cannot run here.
    """
    dtype = _exact((projected, *weights))
    with torch.autocast(projected.device.type, enabled=False):
        exact = MixingWeights(*(tensor.to(dtype) for tensor in weights))
        if choose(projected.device.type, dtype) == "cpu":
            found = ops.mix(projected.to(dtype), exact)
        else:
            found = composed_mix(lambda *given: _scan(ScanInputs(*given)), projected.to(dtype), exact)
    return found.to(projected.dtype)


def _scan(given: ScanInputs) -> Tensor:
    form = choose(given.inputs.device.type, given.inputs.dtype)
    return _TORCH[form](*given) if form in _TORCH else ops.scan(given, form)


def _exact(tensors: tuple[Tensor, ...]) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


__all__ = ["MixingWeights", "mix", "selective_scan"]
