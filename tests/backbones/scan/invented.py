"""Inputs of the scan, ordinary and extreme, and a comparison of results with the literal form."""

import torch
from torch import Tensor

from caretrace.backbones.scan.contract import ScanInputs
from caretrace.backbones.scan.literal import literal_scan
from caretrace.backbones.scan.mixing import MixingWeights


def scan_inputs(
    batch: int, steps: int, channels: int, states: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> ScanInputs:
    """Numbers of the size that a trained layer has."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    decay = -(torch.rand(channels, states, generator=draw, dtype=torch.float64) * 16).to(dtype)
    return ScanInputs(
        inputs=normal(batch, steps, channels),
        delta=normal(batch, steps, channels) - 2,
        decay=decay,
        writes=normal(batch, steps, states),
        reads=normal(batch, steps, states),
        skip=normal(channels),
        gate=normal(batch, steps, channels),
        bias=normal(channels),
    )


def mixing_inputs(
    batch: int, steps: int, channels: int, states: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, MixingWeights]:
    """What lies between the projections of a layer with a kernel of 4 steps and a rank of 3."""
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    weights = MixingWeights(
        kernel=normal(channels, 4) / 2,
        kernel_bias=normal(channels) / 2,
        selection=normal(3 + 2 * states, channels) / channels**0.5,
        delta_weight=normal(channels, 3) / 2,
        delta_bias=normal(channels) - 2,
        decay=-normal(channels, states).exp(),
        skip=normal(channels),
    )
    return normal(batch, steps, 2 * channels), weights


EXTREMES = {
    "nothing enters": {"inputs": 0.0},
    "nothing at all": {"inputs": 0.0, "writes": 0.0, "reads": 0.0, "gate": 0.0, "skip": 0.0},
    "steps of length almost 0": {"delta": -60.0},
    "steps of length exactly 0": {"delta": -1e4},
    "steps so long that all is forgotten": {"delta": 1e4},
    "softplus at its threshold": {"delta": 20.0, "bias": 0.0},
    "states that never fade": {"decay": 0.0},
    "states that fade at once": {"decay": -1e6},
    "states that fade so slowly that rounding counts": {"decay": -1e-7},
    "gates shut": {"gate": -1e4},
    "gates open": {"gate": 1e4},
    "large numbers": {"inputs": 1e12, "writes": 1e6},
    "small numbers": {"inputs": 1e-18, "writes": 1e-15},
}


def extreme(name: str, dtype: torch.dtype = torch.float32) -> ScanInputs:
    """70 steps in which the named arguments take the given value, here and there and then everywhere."""
    given = scan_inputs(2, 70, 21, 16, dtype)
    changed = {}
    for key, value in EXTREMES[name].items():
        tensor = getattr(given, key).clone()
        tensor[..., ::2] = value
        if tensor.ndim == 3:
            tensor[1] = value
        changed[key] = tensor
    return given._replace(**changed)


def results(form, given, weight: Tensor | None = None) -> list[Tensor]:
    """Outputs and the gradient of every argument."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in given]
    outputs = form(*leaves)
    if weight is None:
        weight = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(5), dtype=outputs.dtype)
    return [outputs.detach(), *torch.autograd.grad(outputs, leaves, weight)]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    """Equal within `tolerance` of each array's largest number."""
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.shape == theirs.shape, number
        assert ours.dtype == theirs.dtype, number
        assert torch.isfinite(theirs).all(), f"the literal form itself overflows in {number}"
        scale = theirs.abs().max().item() if theirs.numel() else 0.0
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * scale, msg=lambda text, n=number: f"{n}: {text}"
        )


def literal(given: ScanInputs) -> list[Tensor]:
    """The literal form in the precision of `given`."""
    return results(literal_scan, given)
