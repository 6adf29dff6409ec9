"""Backbones: tensors → hidden states, pure torch. To add one: one file, one row in `BACKBONES`.

A row is imported only when asked for, so that naming the backbones (`caretrace train --help`) costs no torch.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from caretrace.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from torch import nn

# Name → module and what in it makes the backbone.
BACKBONES = {
    "conv-lstm": "caretrace.backbones.conv_lstm:ConvLSTM",
    "gru": "caretrace.backbones.recurrent:gru",
    "lstm": "caretrace.backbones.recurrent:lstm",
    "mamba": "caretrace.backbones.mamba:Mamba",
    "mamba2": "caretrace.backbones.mamba2:Mamba2",
    "transformer": "caretrace.backbones.transformer:Transformer",
}


def find_backbone(name: str) -> "Callable[..., nn.Module]":
    """What makes the backbone called `name`: a class, or a function that returns an instance.

    Raises:
        ConfigError: No backbone has this name.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    module, _, attribute = BACKBONES[name].partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), attribute)
    return found


def build_backbone(name: str, *, d_model: int, n_layers: int, dropout: float, **settings: Any) -> "nn.Module":
    """The backbone called `name`.

    Args:
        name: A key of `BACKBONES`.
        d_model: Width of the hidden states.
        n_layers: Layers in the stack.
        dropout: Dropout probability.
        settings: What else this backbone takes, such as `n_heads` of a Transformer.

    Raises:
        ConfigError: No backbone has this name, or it has no such setting.
    """
    make = find_backbone(name)
    known = set(inspect.signature(make).parameters)
    for setting in settings:
        if setting not in known:
            raise ConfigError(unknown_name(f"setting of {name}", setting, known))
    return make(d_model=d_model, n_layers=n_layers, dropout=dropout, **settings)


__all__ = ["BACKBONES", "build_backbone", "find_backbone"]
