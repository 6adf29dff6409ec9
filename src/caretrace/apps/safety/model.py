"""The model: an encoder per kind of sequence, one backbone for all, a head per thing foreseen.

The documents' hybrid: numbers and names of a step are fused to one vector, the backbone carries what came before, and
the losses of all tasks are weighed by their uncertainty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from caretrace.apps.safety.config import ModelConfig
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS, LEVELS
from caretrace.apps.safety.sequences import ARRIVALS, HOSPITAL, PATHWAY, STAFF, TRUST, Scaling
from caretrace.backbones import build_backbone
from caretrace.heads import LevelHead, QuantileHead, ShareHead, TaskWeights

QUANTILES = (0.1, 0.5, 0.8, 0.9)
# Task → columns of the targets it is learned from, by kind of sequence.
TASKS: dict[str, dict[str, tuple[str, ...]]] = {
    HOSPITAL: {"crisis": CRISIS},
    PATHWAY: {
        "delay": ("delay",),
        "handoff": ("handoff",),
        "documentation": ("documentation",),
        "adverse": ("adverse",),
    },
    STAFF: {"fatigue": ("fatigue",), "burnout": ("burnout",), "retention": ("retention",)},
    TRUST: {"breach": ("breach",)},
    ARRIVALS: {"admissions": ("admissions",)},
}
# Tasks foreseen by quantiles → how their values are put on the scale of the head, and back.
SCALES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "delay": (torch.log, torch.exp),
    "admissions": (torch.log1p, torch.expm1),
}


@dataclasses.dataclass(frozen=True)
class StepBatch:
    """Sequences of one kind, padded at their end.

    Args:
        kind: Hospital, pathway or staff.
        values: Scaled numbers, NaN where unknown.
        names: Numbers of names, 0 where unknown.
        padding_mask: True where there is no step.
        targets: NaN where there is none.
    """

    kind: str
    values: Float[Tensor, "batch step channel"]
    names: Int[Tensor, "batch step column"]
    padding_mask: Bool[Tensor, "batch step"]
    targets: Float[Tensor, "batch step target"]

    def __post_init__(self) -> None:
        if not (
            self.values.shape[:2] == self.names.shape[:2] == self.padding_mask.shape == self.targets.shape[:2]
        ):
            raise ValueError("StepBatch: all parts need the same sequences and steps")


class ClinicalEncoder(nn.Module):
    """A step of one kind → a vector: numbers, whether they are known, and an embedding per name.

    Args:
        channels: How many numbers.
        sizes: How many names each column has, the unknown one included.
        d_category: Width of each embedding.
        d_model: Width of the result.
    """

    def __init__(self, *, channels: int, sizes: tuple[int, ...], d_category: int, d_model: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, d_category) for size in sizes)
        self.fuse = nn.Sequential(
            nn.Linear(2 * channels + d_category * len(sizes), d_model), nn.GELU(), nn.Linear(d_model, d_model)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self, values: Float[Tensor, "batch step channel"], names: Int[Tensor, "batch step column"]
    ) -> Float[Tensor, "batch step d_model"]:
        """One vector per step."""
        unknown = torch.isnan(values)
        parts = [values.masked_fill(unknown, 0.0), unknown.to(values.dtype)]
        parts += [embed(names[..., column]) for column, embed in enumerate(self.embeddings)]
        return self.norm(self.fuse(torch.cat(parts, -1)))


class SafetyModel(nn.Module):
    """Everything that is foreseen, from whichever kind of sequence it is foreseen from.

    Args:
        scalings: Kind of sequence → its columns.
        config: Size and parts.
        learned_weights: Whether the weights of the tasks are learned.
    """

    def __init__(
        self, scalings: Mapping[str, Scaling], config: ModelConfig, *, learned_weights: bool
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                kind: ClinicalEncoder(
                    channels=len(scaling.numeric),
                    sizes=tuple(len(seen) + 1 for seen in scaling.categorical.values()),
                    d_category=config.d_category,
                    d_model=config.d_model,
                )
                for kind, scaling in scalings.items()
            }
        )
        self.backbone = build_backbone(
            config.backbone,
            d_model=config.d_model,
            n_layers=config.n_layers,
            dropout=config.dropout,
            **config.backbone_settings,
        )
        # Open data lack some of what is foreseen from a kind.
        self.tasks = {
            kind: {task: each for task, each in TASKS[kind].items() if set(each) <= set(scaling.targets)}
            for kind, scaling in scalings.items()
        }
        self.heads = nn.ModuleDict(
            {task: _head(task, config) for each in self.tasks.values() for task in each}
        )
        self.weights = TaskWeights(tuple(self.heads), learned=learned_weights)
        self.columns = {kind: scaling.targets for kind, scaling in scalings.items()}

    def forward(self, batch: StepBatch) -> dict[str, Tensor]:
        """Output of each task of the batch's kind, `[batch, step, …]`.

        `crisis` are logits `[…, horizon, level]`, quantiles are those of logarithms, the others logits.
        """
        encoded = self.encoders[batch.kind](batch.values, batch.names)
        hidden = self.backbone(encoded, batch.padding_mask)
        # What this very step says need not pass through the recurrence.
        hidden = torch.cat([hidden, encoded], -1)
        return {task: self.heads[task](hidden) for task in self.tasks[batch.kind]}

    def losses(self, batch: StepBatch) -> dict[str, Tensor]:
        """Loss of each task that has a target in the batch."""
        outputs, found = self.forward(batch), {}
        for task, columns in self.tasks[batch.kind].items():
            places = [self.columns[batch.kind].index(column) for column in columns]
            target = batch.targets[..., places]
            if task in SCALES:
                target = SCALES[task][0](target)
            if not torch.isnan(target).all():
                target = target if len(columns) > 1 else target[..., 0]
                found[task] = self.heads[task].loss(outputs[task], target)  # type: ignore[operator]
        return found


def outputs_as_numbers(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Probabilities of levels, quantiles in minutes, shares."""
    found = {}
    for task, output in outputs.items():
        if task == "crisis":
            found[task] = output.softmax(-1)
        elif task in SCALES:
            found[task] = SCALES[task][1](output)
        else:
            found[task] = torch.sigmoid(output)
    return found


def _head(task: str, config: ModelConfig) -> nn.Module:
    d_in, d_hidden, dropout = 2 * config.d_model, config.d_head, config.dropout
    if task == "crisis":
        return LevelHead(
            d_in=d_in, d_hidden=d_hidden, dropout=dropout, horizons=len(HORIZONS_HOURS), levels=LEVELS
        )
    if task in SCALES:
        return QuantileHead(d_in=d_in, d_hidden=d_hidden, dropout=dropout, quantiles=QUANTILES)
    return ShareHead(d_in=d_in, d_hidden=d_hidden, dropout=dropout)
