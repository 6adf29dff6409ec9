"""Models that have learned nothing, to see whether an explanation notices (Adebayo et al. 2018)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def shuffled(model: AnyModule, seed: int) -> AnyModule:
    """A copy whose parameters are shuffled, each tensor within itself: the same numbers, nothing learned."""
    draw = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=draw).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other
