"""Mamba and Mamba-2: what the contract of every backbone does not ask."""

import math

import pytest
import torch
import torch.nn.functional as F

from caretrace.backbones import build_backbone
from caretrace.backbones.mamba import Mamba
from caretrace.backbones.scan.duality import dual_scan, sums_between
from caretrace.backbones.scan.literal import one_step
from caretrace.errors import ConfigError


def test_it_starts_as_the_paper_says():
    torch.manual_seed(0)
    model = Mamba(d_model=48, n_layers=1, dropout=0.0)
    layer = model.layers[0]
    assert torch.allclose(layer.log_decay.exp(), torch.arange(1.0, 17.0).expand(96, 16))  # S4D-real
    steps = F.softplus(layer.delta.bias)
    assert 1e-3 * 0.999 <= steps.min() < 3e-3 < 3e-2 < steps.max() <= 1e-1 * 1.001
    assert layer.selection.out_features == 3 + 2 * 16  # dt_rank is d_model / 16
    assert (layer.skip == 1).all()


def test_settings_reach_the_layers():
    made = build_backbone(
        "mamba", d_model=16, n_layers=2, dropout=0.0, d_state=5, d_conv=3, expand=3, dt_rank=2
    )
    layer = made.layers[1]
    assert layer.log_decay.shape == (48, 5)
    assert layer.kernel.shape == (48, 3)
    assert layer.delta.in_features == 2
    with pytest.raises(ConfigError, match="d_stat"):
        build_backbone("mamba", d_model=16, n_layers=2, dropout=0.0, d_stat=5)


@pytest.mark.parametrize("setting", ["literal", "chunked"])
def test_every_form_of_the_scan_gives_the_same_model(setting, monkeypatch):
    torch.manual_seed(0)
    model, hidden = Mamba(d_model=16, n_layers=2, dropout=0.0), torch.randn(3, 40, 16)
    mask, weight = torch.arange(40) >= torch.tensor([40, 17, 0])[:, None], torch.randn(3, 40, 16)

    def run() -> list[torch.Tensor]:
        outputs = model(hidden, mask)
        return [outputs, *torch.autograd.grad((outputs * weight).sum(), [*model.parameters()])]

    expected = run()
    monkeypatch.setenv("CARETRACE_SCAN", setting)
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_convolution_that_sees_only_the_current_step(name):
    model = build_backbone(name, d_model=8, n_layers=1, dropout=0.0, d_conv=1).eval()
    hidden = torch.randn(2, 5, 8)
    whole = model(hidden, torch.zeros(2, 5, dtype=torch.bool))
    state = None
    for position, current in enumerate(hidden.unbind(1)):
        out, state = model.step(current, state)
        torch.testing.assert_close(out, whole[:, position], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_it_learns_to_recall_what_the_input_selects(name):
    """Selective copying: the one token that was marked is asked for at the end; no fixed filter can do it."""
    torch.manual_seed(0)
    samples, steps, tokens = 32, 12, 4
    model = build_backbone(name, d_model=32, n_layers=2, dropout=0.0)
    embedding, head = torch.nn.Embedding(2 * tokens, 32), torch.nn.Linear(32, tokens)
    parameters = [*model.parameters(), *embedding.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    right = []
    for _ in range(150):
        seen = torch.randint(0, tokens, (samples, steps))
        marked = torch.arange(samples), torch.randint(0, steps - 1, (samples,))
        label = seen[marked]
        seen[marked] += tokens
        hidden = model(embedding(seen), torch.zeros(samples, steps, dtype=torch.bool))
        scores = head(hidden[:, -1])
        optimizer.zero_grad()
        F.cross_entropy(scores, label).backward()
        optimizer.step()
        right.append((scores.argmax(-1) == label).float().mean().item())
    assert sum(right[-10:]) / 10 > 0.95


def dual_inputs(batch, steps, heads, channels, states, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    return (
        normal(batch, steps, heads, channels),
        F.softplus(normal(batch, steps, heads) - 1),
        -normal(heads).exp(),
        normal(batch, steps, states),
        normal(batch, steps, states),
    )


def step_by_step(inputs, step, decay, writes, reads):
    batch, steps, heads, channels = inputs.shape
    rates = decay.repeat_interleave(channels)[:, None].expand(-1, writes.shape[-1])
    hidden, found = inputs.new_zeros(batch, heads * channels, writes.shape[-1]), []
    for t in range(steps):
        length = step[:, t].repeat_interleave(channels, -1)
        hidden, out = one_step(hidden, inputs[:, t].flatten(1), length, rates, writes[:, t], reads[:, t])
        found.append(out.view(batch, heads, channels))
    return torch.stack(found, 1)


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 200])
def test_the_matrices_of_mamba_2_give_what_the_recurrence_gives(steps):
    given = [tensor.requires_grad_() for tensor in dual_inputs(2, steps, 3, 4, 5)]
    expected, found = step_by_step(*given), dual_scan(*given)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, given, weight), torch.autograd.grad(expected, given, weight)
    )


@pytest.mark.parametrize("length", [0.0, 1e-6, 1e4])
def test_steps_of_extreme_length(length):
    inputs, step, *others = dual_inputs(2, 100, 2, 4, 8, torch.float32)
    step[:, 10:40] = length
    expected, found = step_by_step(inputs, step, *others), dual_scan(inputs, step, *others)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_sums_between_two_steps():
    found = sums_between(torch.tensor([1.0, 10.0, 100.0]))
    less = -math.inf
    assert found.tolist() == [[0.0, less, less], [10.0, 0.0, less], [110.0, 100.0, 0.0]]
