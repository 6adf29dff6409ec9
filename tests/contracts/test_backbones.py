"""What every row of `backbones.BACKBONES` must do."""

from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caretrace.backbones import BACKBONES, Backbone, build_backbone
from caretrace.errors import ConfigError

D_MODEL = 16
LENGTHS = (7, 4, 1, 0)

every = pytest.mark.parametrize("name", sorted(BACKBONES))


def build(name: str, n_layers: int = 2, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone(name, d_model=D_MODEL, n_layers=n_layers, dropout=0.3).eval()


def causal(name: str) -> nn.Module:
    backbone = build(name)
    if not backbone.causal:
        pytest.skip(f"{name} declares that it looks ahead")
    return backbone


def ragged(steps: int = 7) -> tuple[Tensor, Tensor]:
    """Hidden vectors of samples of `LENGTHS` steps, and their padding mask."""
    hidden = torch.randn(len(LENGTHS), steps, D_MODEL, generator=torch.Generator().manual_seed(1))
    return hidden, torch.arange(steps) >= torch.tensor(LENGTHS)[:, None]


def unpadded(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape[:2], dtype=torch.bool)


@every
def test_is_a_backbone_of_the_width_it_was_asked_for(name):
    backbone = build(name)
    assert isinstance(backbone, Backbone)
    assert backbone.d_model == D_MODEL
    hidden, padding_mask = ragged()
    out = backbone(hidden, padding_mask)
    assert out.shape == hidden.shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


@every
def test_padded_steps_come_out_as_zero(name):
    hidden, padding_mask = ragged()
    assert (build(name)(hidden, padding_mask)[padding_mask] == 0).all()


@every
@pytest.mark.parametrize("garbage", [1.0, -50.0, 1e6])
def test_what_stands_in_padding_changes_nothing(name, garbage):
    backbone, (hidden, padding_mask) = build(name), ragged()
    spoilt = torch.where(padding_mask[..., None], garbage * torch.randn_like(hidden), hidden)
    torch.testing.assert_close(backbone(spoilt, padding_mask), backbone(hidden, padding_mask), rtol=0, atol=0)


@every
def test_how_much_is_padded_changes_nothing(name):
    backbone, (hidden, padding_mask) = build(name), ragged()
    wider = torch.cat([hidden, 100 * torch.randn(len(LENGTHS), 9, D_MODEL)], 1)
    mask = torch.cat([padding_mask, torch.ones(len(LENGTHS), 9, dtype=torch.bool)], 1)
    together = backbone(wider, mask)
    torch.testing.assert_close(together[:, :7], backbone(hidden, padding_mask), rtol=0, atol=1e-6)
    for sample, length in enumerate(LENGTHS):
        if length:
            alone = hidden[sample : sample + 1, :length]
            torch.testing.assert_close(
                backbone(alone, unpadded(alone))[0], together[sample, :length], rtol=0, atol=1e-6
            )


@every
def test_the_future_cannot_change_the_past(name):
    backbone, (hidden, _) = causal(name), ragged()
    before = backbone(hidden, unpadded(hidden))
    for step in range(hidden.shape[1] - 1):
        changed = hidden.clone()
        changed[:, step + 1 :] = 30 * torch.randn_like(changed[:, step + 1 :])
        after = backbone(changed, unpadded(changed))
        torch.testing.assert_close(after[:, : step + 1], before[:, : step + 1], rtol=0, atol=0)
        assert not torch.allclose(after[:, step + 1 :], before[:, step + 1 :])


@every
def test_the_past_reaches_the_future(name):
    """Otherwise a backbone that treats every step alone would pass the test above."""
    backbone, (hidden, _) = build(name), ragged()
    hidden = hidden.clone().requires_grad_()
    backbone(hidden, unpadded(hidden))[:, -1].square().sum().backward()
    assert (hidden.grad.abs().sum(-1) > 0).all()


@every
def test_step_gives_what_forward_gives(name):
    backbone, (hidden, _) = causal(name), ragged()
    whole = backbone(hidden, unpadded(hidden))
    state = None
    for position, current in enumerate(hidden.unbind(1)):
        out, state = backbone.step(current, state)
        assert out.shape == current.shape
        torch.testing.assert_close(out, whole[:, position], rtol=1e-5, atol=1e-5)


@every
def test_every_parameter_learns(name):
    backbone, (hidden, padding_mask) = build(name).train(), ragged()
    out = backbone(hidden, padding_mask)
    (out * torch.randn_like(out)).sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@every
def test_saved_and_loaded_it_is_the_same(name, tmp_path: Path):
    backbone, (hidden, padding_mask) = build(name, seed=0), ragged()
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    other = build(name, seed=1)
    assert not torch.equal(other(hidden, padding_mask), backbone(hidden, padding_mask))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(hidden, padding_mask), backbone(hidden, padding_mask))


@every
@pytest.mark.parametrize("steps", [0, 1])
def test_the_shortest_sequences_are_survived(name, steps):
    hidden = torch.randn(3, steps, D_MODEL)
    out = build(name)(hidden, unpadded(hidden))
    assert out.shape == (3, steps, D_MODEL)
    assert torch.isfinite(out).all()


@every
def test_a_sample_without_steps_has_no_gradient_that_is_not_a_number(name):
    backbone = build(name)
    hidden = torch.randn(2, 3, D_MODEL, requires_grad=True)
    backbone(hidden, torch.ones(2, 3, dtype=torch.bool)).sum().backward()
    assert (hidden.grad == 0).all()


@every
def test_axes_are_checked_in_tests(name):
    backbone, (hidden, padding_mask) = build(name), ragged()
    with pytest.raises(TypeCheckError):
        backbone(hidden, padding_mask[:, 1:])
    with pytest.raises(TypeCheckError):
        backbone(hidden.double().long(), padding_mask)
    with pytest.raises(TypeCheckError):
        backbone.step(hidden)


@every
def test_layers_add_up_and_dropout_sleeps_in_evaluation(name):
    hidden, padding_mask = ragged()
    one, three = build(name, n_layers=1), build(name, n_layers=3)
    assert sum(p.numel() for p in three.parameters()) > 2 * sum(p.numel() for p in one.parameters())
    assert torch.equal(three(hidden, padding_mask), three(hidden, padding_mask))
    three.train()
    assert not torch.equal(three(hidden, padding_mask), three(hidden, padding_mask))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'grru': did you mean 'gru'\?.*gru, lstm, transformer"):
        build_backbone("grru", d_model=8, n_layers=1, dropout=0.0)
