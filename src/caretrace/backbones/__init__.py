"""Backbones: tensors → hidden states, pure torch. To add one: one file, one row in `BACKBONES`."""

from collections.abc import Callable

from torch import nn

from caretrace.backbones.base import Backbone
from caretrace.backbones.recurrent import gru, lstm
from caretrace.backbones.transformer import Transformer
from caretrace.errors import ConfigError, unknown_name

BACKBONES: dict[str, Callable[..., nn.Module]] = {"gru": gru, "lstm": lstm, "transformer": Transformer}


def build_backbone(name: str, *, d_model: int, n_layers: int, dropout: float) -> nn.Module:
    """The backbone called `name`.

    Args:
        name: A key of `BACKBONES`.
        d_model: Width of the hidden states.
        n_layers: Layers in the stack.
        dropout: Dropout probability.

    Raises:
        ConfigError: No backbone has this name.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    return BACKBONES[name](d_model=d_model, n_layers=n_layers, dropout=dropout)


__all__ = ["BACKBONES", "Backbone", "build_backbone"]
