"""What a backbone must do, one function per promise, so that faulty ones can be shown to be caught.

Every check is given `make`, which builds the backbone in evaluation mode with weights drawn from a seed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caretrace.backbones.base import Backbone

D_MODEL = 16
STEPS = 7
LENGTHS = (7, 4, 1, 0)

Make = Callable[..., nn.Module]  # make(seed=0, n_layers=2)
CHECKS: dict[str, Callable[[Make], None]] = {}


def check(promise: Callable[..., None]) -> Callable[..., None]:
    CHECKS[promise.__name__] = promise
    return promise


def ragged(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Hidden vectors of samples of `LENGTHS` steps, and their padding mask."""
    hidden = torch.randn(len(LENGTHS), STEPS, D_MODEL, generator=torch.Generator().manual_seed(1))
    return hidden.to(dtype), torch.arange(STEPS) >= torch.tensor(LENGTHS)[:, None]


def noise(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unpadded(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape[:2], dtype=torch.bool)


def gradients(backbone: nn.Module, hidden: Tensor, padding_mask: Tensor) -> dict[str, Tensor]:
    """Of a random sum of the outputs, by every parameter and by the input."""
    backbone.zero_grad()
    hidden = hidden.clone().requires_grad_()
    out = backbone(hidden, padding_mask)
    (out * noise(*hidden.shape[:2], D_MODEL).to(out)).sum().backward()
    found = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    missing = [name for name, grad in found.items() if grad is None]
    assert not missing, f"no gradient reaches {missing}"
    assert hidden.grad is not None
    return {name: grad.clone() for name, grad in found.items() if grad is not None} | {"hidden": hidden.grad}


def same(one: Tensor, other: Tensor, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@check
def it_keeps_its_shape(make: Make) -> None:
    backbone, (hidden, padding_mask) = make(), ragged()
    assert isinstance(backbone, Backbone)
    assert backbone.d_model == D_MODEL
    out = backbone(hidden, padding_mask)
    assert out.shape == hidden.shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


@check
def padding_comes_out_as_zero(make: Make) -> None:
    hidden, padding_mask = ragged()
    assert (make()(hidden, padding_mask)[padding_mask] == 0).all()


@check
def what_stands_in_padding_changes_nothing(make: Make) -> None:
    """Neither outputs nor gradients, whatever stands there."""
    backbone, (hidden, padding_mask) = make(), ragged()
    padded, real = padding_mask[..., None], (~padding_mask)[..., None]
    expected, learned = backbone(hidden, padding_mask), gradients(backbone, hidden, padding_mask)
    assert (learned["hidden"] * padded == 0).all(), "padding gets a gradient"
    for size in (1.0, -50.0, 1e6):
        spoilt = torch.where(padded, size * noise(*hidden.shape), hidden)
        same(backbone(spoilt, padding_mask), expected)
        found = gradients(backbone, spoilt, padding_mask)
        found["hidden"] = found["hidden"] * real
        for name, grad in found.items():
            torch.testing.assert_close(grad, learned[name], rtol=1e-5, atol=1e-6, msg=f"{name} at {size}")


@check
def how_much_is_padded_changes_nothing(make: Make) -> None:
    backbone, (hidden, padding_mask) = make(), ragged()
    wider = torch.cat([hidden, 100 * noise(len(LENGTHS), 9, D_MODEL)], 1)
    mask = torch.cat([padding_mask, torch.ones(len(LENGTHS), 9, dtype=torch.bool)], 1)
    together = backbone(wider, mask)
    same(together[:, :STEPS], backbone(hidden, padding_mask), 1e-6)
    for sample, length in enumerate(LENGTHS):
        if length:
            alone = hidden[sample : sample + 1, :length]
            same(backbone(alone, unpadded(alone))[0], together[sample, :length], 1e-6)


@check
def company_changes_nothing(make: Make) -> None:
    """A sample gets the same alone, and in another order, as among others."""
    backbone, (hidden, padding_mask) = make(), ragged()
    together = backbone(hidden, padding_mask)
    same(backbone(hidden.flip(0), padding_mask.flip(0)).flip(0), together, 1e-6)
    same(backbone(hidden[1:2], padding_mask[1:2])[0], together[1], 1e-6)


@check
def the_future_cannot_change_the_past(make: Make) -> None:
    """By changing it, and by the gradient, which also finds what a change happens to miss."""
    backbone, (hidden, _) = make(), ragged()
    before = backbone(hidden, unpadded(hidden))
    for step in range(STEPS - 1):
        changed = hidden.clone()
        changed[:, step + 1 :] = 30 * noise(len(hidden), STEPS - step - 1, D_MODEL)
        after = backbone(changed, unpadded(changed))
        same(after[:, : step + 1], before[:, : step + 1])
        assert not torch.allclose(after[:, step + 1 :], before[:, step + 1 :])
    seen = influence(backbone, hidden)
    assert (seen.triu(1) == 0).all(), f"steps that are seen ahead: {seen.triu(1).nonzero().tolist()}"


@check
def the_past_reaches_the_future(make: Make) -> None:
    """Otherwise a backbone that treats every step alone would pass the check above."""
    backbone, (hidden, _) = make(), ragged()
    assert (influence(backbone, hidden)[-1] > 0).all()


def influence(backbone: nn.Module, hidden: Tensor) -> Tensor:
    """[step, seen]: size of the gradient of a step's output by each step of the input."""
    rows = []
    for step in range(hidden.shape[1]):
        given = hidden.clone().requires_grad_()
        (backbone(given, unpadded(given))[:, step] * noise(len(hidden), D_MODEL)).sum().backward()
        assert given.grad is not None
        rows.append(given.grad.abs().sum((0, 2)))
    return torch.stack(rows)


@check
def step_gives_what_forward_gives(make: Make) -> None:
    """Outputs, and gradients through the whole chain of steps."""
    backbone, (hidden, _) = make(), ragged()
    whole = backbone(hidden, unpadded(hidden))
    expected = gradients(backbone, hidden, unpadded(hidden))
    out, state = [], None
    for current in hidden.unbind(1):
        one, state = backbone.step(current, state)
        assert one.shape == current.shape
        out.append(one)
    torch.testing.assert_close(torch.stack(out, 1), whole, rtol=1e-5, atol=1e-5)
    stepped = gradients(Stepped(backbone), hidden, unpadded(hidden))
    torch.testing.assert_close(stepped["hidden"], expected["hidden"], rtol=1e-4, atol=1e-5)


class Stepped(nn.Module):
    """A backbone run step by step."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, hidden: Tensor, padding_mask: Tensor) -> Tensor:
        out, state = [], None
        for current in hidden.unbind(1):
            one, state = self.backbone.step(current, state)
            out.append(one)
        return torch.stack(out, 1)


@check
def every_parameter_learns(make: Make) -> None:
    for name, grad in gradients(make().train(), *ragged()).items():
        assert torch.isfinite(grad).all(), name
        assert grad.abs().sum() > 0, f"{name} gets a gradient of 0"


@check
def gradients_are_those_of_the_function(make: Make) -> None:
    """In double precision, along random directions: the least that gradcheck asks."""
    backbone, (hidden, padding_mask) = make(), ragged(torch.float64)
    try:
        backbone = backbone.double()
        grads = gradients(backbone, hidden, padding_mask)
    except NotImplementedError:
        return
    values = dict(backbone.named_parameters())
    for name in grads:
        direction = noise(*grads[name].shape, seed=3).double()
        sides = []
        for sign in (1, -1):
            shift = 1e-6 * sign * direction
            given = hidden + shift if name == "hidden" else hidden
            with torch.no_grad():
                if name != "hidden":
                    values[name].add_(shift)
                out = backbone(given, padding_mask)
                sides.append((out * noise(*hidden.shape[:2], D_MODEL).double()).sum())
                if name != "hidden":
                    values[name].sub_(shift)
        numeric, exact = (sides[0] - sides[1]) / 2e-6, (grads[name] * direction).sum()
        torch.testing.assert_close(numeric, exact, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def saved_and_loaded_it_is_the_same(make: Make, folder: Path) -> None:
    backbone, (hidden, padding_mask) = make(seed=0), ragged()
    save_file(backbone.state_dict(), folder / "weights.safetensors")
    other = make(seed=1)
    assert not torch.equal(other(hidden, padding_mask), backbone(hidden, padding_mask))
    other.load_state_dict(load_file(folder / "weights.safetensors"))
    assert torch.equal(other(hidden, padding_mask), backbone(hidden, padding_mask))


@check
def evaluation_is_deterministic(make: Make) -> None:
    hidden, padding_mask = ragged()
    backbone = make(n_layers=3)
    assert torch.equal(backbone(hidden, padding_mask), backbone(hidden, padding_mask))
    assert torch.equal(make()(hidden, padding_mask), make()(hidden, padding_mask))
    backbone.train()
    assert not torch.equal(backbone(hidden, padding_mask), backbone(hidden, padding_mask)), "no dropout"


@check
def more_layers_are_more_parameters(make: Make) -> None:
    sizes = [sum(p.numel() for p in make(n_layers=n).parameters()) for n in (1, 2, 3)]
    assert sizes[0] < sizes[1] < sizes[2]


@check
def the_shortest_sequences_are_survived(make: Make) -> None:
    for steps in (0, 1):
        hidden = noise(3, steps, D_MODEL)
        out = make()(hidden, unpadded(hidden))
        assert out.shape == hidden.shape
        assert torch.isfinite(out).all()
    hidden = noise(2, 3, D_MODEL).requires_grad_()
    make()(hidden, torch.ones(2, 3, dtype=torch.bool)).sum().backward()
    assert hidden.grad is None or (hidden.grad == 0).all()


@check
def autocast_is_survived(make: Make) -> None:
    """bfloat16 has 8 bits: near enough, and gradients that are numbers."""
    backbone, (hidden, padding_mask) = make(), ragged()
    exact = backbone(hidden, padding_mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = backbone(hidden, padding_mask)
        loss = (out.float() * noise(*out.shape)).sum()
    assert (out.float() - exact).abs().max() < 0.05 * exact.abs().max()
    loss.backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


def compiled_it_is_the_same(make: Make, backend: str, device: str = "cpu") -> None:
    hidden, padding_mask = (each.to(device) for each in ragged())
    backbone = make().to(device)
    expected, learned = backbone(hidden, padding_mask), gradients(backbone, hidden, padding_mask)
    torch.compiler.reset()
    fast: Any = torch.compile(backbone, backend=backend)
    torch.testing.assert_close(fast(hidden, padding_mask), expected, rtol=1e-4, atol=1e-5)
    backbone.zero_grad()
    (fast(hidden, padding_mask) * noise(*expected.shape).to(device)).sum().backward()
    for name, parameter in backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, learned[name], rtol=1e-3, atol=1e-4, msg=name)


def a_gpu_gives_the_same(make: Make, device: str) -> None:
    """Forward, backward and step; bfloat16 by autocast near enough."""
    here, there = make(), make().to(device)
    hidden, padding_mask = ragged()
    sent = hidden.to(device), padding_mask.to(device)
    expected = here(hidden, padding_mask)
    torch.testing.assert_close(there(*sent).cpu(), expected, rtol=1e-3, atol=1e-4)
    learned = gradients(here, hidden, padding_mask)
    for name, grad in gradients(there, *sent).items():
        torch.testing.assert_close(grad.cpu(), learned[name], rtol=1e-2, atol=1e-3, msg=name)
    if here.causal:
        steps = Stepped(there)(*sent).cpu()
        torch.testing.assert_close(steps, Stepped(here)(hidden, padding_mask), rtol=1e-3, atol=1e-4)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = there(*sent)
    assert (out.float().cpu() - expected).abs().max() < 0.05 * expected.abs().max()
