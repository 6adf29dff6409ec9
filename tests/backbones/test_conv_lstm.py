"""The convolutions against loops, and the model of the vitals documents."""

import pytest
import torch
from torch import Tensor, nn

from caretrace.backbones.conv_lstm import ConvLSTM
from caretrace.data.batch import GridBatch
from caretrace.errors import ConfigError


def made(**settings) -> ConvLSTM:
    torch.manual_seed(0)
    return ConvLSTM(d_model=6, n_layers=1, dropout=0.0, channels=(5, 4), **settings).eval()


def convolved(layer: nn.Conv1d, rows: list[Tensor], before: int, after: int) -> list[Tensor]:
    """Each step: the kernel times the steps around it, nothing where there are none."""
    out = []
    for step in range(len(rows)):
        total = layer.bias
        for tap, place in enumerate(range(step - before, step + after + 1)):
            if 0 <= place < len(rows):
                total = total + layer.weight[:, :, tap] @ rows[place]
        out.append(torch.relu(total))
    return out


@pytest.mark.parametrize(("causal", "kernel", "before", "after"), [(True, 3, 2, 0), (True, 4, 3, 0),
                                                                  (False, 3, 1, 1), (False, 4, 1, 2)])  # fmt: skip
def test_it_is_convolutions_and_then_an_lstm(causal, kernel, before, after):
    backbone = made(causal=causal, kernel_size=kernel)
    hidden = torch.randn(2, 5, 6)
    out = backbone(hidden, torch.arange(5) >= torch.tensor([[5], [3]]))
    for sample, length in enumerate((5, 3)):
        rows = list(hidden[sample, :length])
        for layer in backbone.convolutions:
            rows = convolved(layer, rows, before, after)
        literal, _ = backbone.lstm(torch.stack(rows)[None])
        torch.testing.assert_close(out[sample, :length], literal[0], rtol=1e-5, atol=1e-6)


def test_it_reads_a_grid_as_the_document_has_it():
    """Two signals, sine and cosine of the hour; Conv1d 4 → 16 → 32; two LSTM layers of 64 with dropout 0.5."""
    model = ConvLSTM(d_in=4, d_model=64, n_layers=2, dropout=0.5)
    assert [(c.in_channels, c.out_channels) for c in model.convolutions] == [(4, 16), (16, 32)]
    assert (model.lstm.input_size, model.lstm.hidden_size, model.lstm.num_layers) == (32, 64, 2)
    assert model.lstm.dropout == 0.5
    grid = GridBatch(torch.randn(3, 2, 256), torch.ones(3, 2, 256, dtype=torch.bool), torch.randn(3, 2, 256))
    model.eval()
    whole = model(grid.rows, grid.padding_mask)
    assert whole.shape == (3, 256, 64)
    state = None
    for number, row in enumerate(grid.rows[:, :40].unbind(1)):
        out, state = model.step(row, state)
        torch.testing.assert_close(out, whole[:, number], rtol=1e-4, atol=1e-5)


def test_a_state_can_be_gone_on_from_twice():
    backbone = made()
    first, second, other = torch.randn(3, 1, 6).unbind(0)
    _, state = backbone.step(first)
    expected, _ = backbone.step(second, state)
    backbone.step(other, state)
    assert torch.equal(backbone.step(second, state)[0], expected)


@pytest.mark.parametrize("settings", [{"channels": ()}, {"channels": (8, 0)}, {"kernel_size": 0}])
def test_sizes_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError, match="must be positive, and there must be a convolution"):
        ConvLSTM(d_model=4, n_layers=1, dropout=0.0, **settings)
