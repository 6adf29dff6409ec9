"""What the model looks at, in full: every weight, to be studied elsewhere. What is looked at is not what matters.

A file is a compressed npz (`numpy.load` reads it without pickle):

layers    [layer, sample, head, step, step]  float16, of a Transformer only; row = the step that looks
pooling   [sample, head, step]               float16, weight of each step in the pooled vector
hidden    [sample, step, d_model]            float16, what the backbone gave
query     [head, d_head]                     float32, what the pooling asks
padding   [sample, step]                     bool
logit     [sample]                           float32, of this member alone
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caretrace.apps.mortality.document import DocumentModel
from caretrace.apps.mortality.model import MortalityModel
from caretrace.backbones.transformer import SelfAttention, Transformer
from caretrace.data.batch import EventBatch
from caretrace.files import whole_file

_MEGABYTE = 1_000_000
_HALF = 2  # bytes of a float16


def attention_of(member: MortalityModel | DocumentModel, batch: EventBatch) -> dict[str, Tensor]:
    """Everything a file holds, of one member and batch, computed without dropout.

    Args:
        member: The model; left in the mode it is in.
        batch: Samples.
    """
    caught: dict[str, Any] = {}
    handles = [
        member.backbone.register_forward_pre_hook(lambda _, inputs: caught.update(backbone=inputs)),
        member.pooling.register_forward_pre_hook(lambda _, inputs: caught.update(pooling=inputs)),
    ]
    try:
        with _evaluating(member), torch.no_grad():
            logit = member.course(batch)
            found = {"pooling": member.pooling.weights(*caught["pooling"]).transpose(1, 2)}
            if isinstance(member.backbone, Transformer):
                found["layers"] = member.backbone.attention_weights(*caught["backbone"])
    finally:
        for handle in handles:
            handle.remove()
    hidden, padding = caught["pooling"]
    return {
        **found,
        "hidden": hidden,
        "query": member.pooling.query.detach(),
        "padding": padding,
        "logit": logit,
    }


def save_attention(
    path: Path, member: MortalityModel | DocumentModel, batch: EventBatch, megabytes: int
) -> dict[str, int]:
    """Write attention into a file of bounded size.

    Samples are left out from the end until the rest fits; of a single sample that does not fit by itself, the earliest
    steps.

    Args:
        path: An npz file; written whole or not at all.
        member: The model.
        batch: Samples.
        megabytes: Most bytes before compression, in millions.

    Returns:
        Samples, steps, and the first step that was kept.
    """
    wanted = max(1, min(len(batch), megabytes * _MEGABYTE // max(1, _bytes(member, batch.code.shape[1]))))
    part = _first(batch, wanted)
    found = attention_of(member, part)
    steps, first = found["padding"].shape[1], 0
    kept = max(1, min(len(part), megabytes * _MEGABYTE // _bytes(member, steps)))
    if kept == 1:
        real = max(1, int((~found["padding"][0]).sum()))
        most = next(n for n in range(real, 0, -1) if n == 1 or _bytes(member, n) <= megabytes * _MEGABYTE)
        first, steps = real - most, real
    arrays: dict[str, Any] = {
        name: _cut(name, value, kept, slice(first, steps)) for name, value in found.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return {"samples": kept, "steps": steps - first, "first_step": first}


def _bytes(member: MortalityModel | DocumentModel, steps: int) -> int:
    """Of one sample with so many steps."""
    pooling, hidden = member.pooling.n_heads * steps, member.pooling.key.in_features * steps
    layers = 0
    if isinstance(member.backbone, Transformer):
        layers = sum(
            module.n_heads for module in member.backbone.modules() if isinstance(module, SelfAttention)
        )
        layers *= steps**2
    return _HALF * (layers + pooling + hidden) + steps


def _first(batch: EventBatch, count: int) -> EventBatch:
    return EventBatch(**{name: value[:count] for name, value in vars(batch).items()})


def _cut(name: str, value: Tensor, kept: int, steps: slice) -> np.ndarray:
    if name == "query":
        return value.cpu().numpy()
    if name == "logit":
        return value[:kept].cpu().numpy()
    if name == "padding":
        return value[:kept, steps].cpu().numpy()
    cut = {
        "layers": lambda: value[:, :kept, :, steps, steps],
        "pooling": lambda: value[:kept, :, steps],
        "hidden": lambda: value[:kept, steps],
    }[name]()
    return cut.half().cpu().numpy()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that no random number is drawn and a training goes on as if nobody had looked."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class AttentionRecorder:
    """Saves attention every so many training batches; watches a model from outside and changes nothing in it.

    Args:
        member: The model.
        folder: Where the files go: `batch-000320.npz`; numbers go on from those that are there.
        every: Batches between two files.
        megabytes: Largest file, before compression.
    """

    def __init__(
        self, member: MortalityModel | DocumentModel, folder: Path, *, every: int, megabytes: int
    ) -> None:
        self.member, self.folder, self.every, self.megabytes = member, folder, every, megabytes
        there = [int(path.stem.removeprefix("batch-")) for path in folder.glob("batch-*.npz")]
        self.batches = max(there, default=0)
        self.handle = member.embedding.register_forward_hook(self._seen)

    def _seen(self, module: nn.Module, inputs: tuple[EventBatch], output: Any) -> None:
        del output
        if not (module.training and torch.is_grad_enabled()):
            return
        self.batches += 1
        if self.batches % self.every == 0:
            save_attention(
                self.folder / f"batch-{self.batches:06d}.npz", self.member, inputs[0], self.megabytes
            )
