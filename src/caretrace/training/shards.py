"""A model divided among processes: each holds a part of every weight and gathers the rest when it is needed."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method


def divide(model: nn.Module, mesh: DeviceMesh) -> None:
    """Fully sharded data parallel, as torch's `fully_shard` does it (Zhao et al. 2023, arXiv 2304.11277).

    Layers in a `ModuleList` or `Sequential` are gathered one at a time, everything else together. What is not
    trained by gradient steps stays whole on every process.

    Args:
        model: The model; changed in place.
        mesh: One dimension of processes.
    """
    whole = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                if any(parameter.requires_grad for parameter in layer.parameters()):
                    fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(model, mesh=mesh, ignored_params=whole)
    register_fsdp_forward_method(model, "loss")
