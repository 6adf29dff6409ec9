"""The mortality model: two readings of one record, and their mean.

The first reads the course: measurements → embedding → backbone → attention pooling → with static features
→ risk. The second (`level`) is a logistic regression on a few statistics per code, solved beforehand. Their
logits are averaged: they err on different people, and a few thousand stays are too few for one network to
learn both well (see the lab log).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.level import LevelReading
from caretrace.apps.mortality.recency import recency, weights_of
from caretrace.apps.mortality.screening import Screen
from caretrace.apps.mortality.trees import TreeReading
from caretrace.backbones import build_backbone
from caretrace.backbones.embedding import MeasurementEmbedding, StepEmbedding
from caretrace.backbones.pooling import AttentionPooling
from caretrace.backbones.text_embedding import TextEmbedding, TextVectors
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples
from caretrace.heads import RiskHead


class MortalityModel(nn.Module):
    """Logit of death for each sample.

    Args:
        config: Settings.
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        n_static: Number of static features.
        texts: Vectors of the texts; None leaves them unread.
    """

    def __init__(
        self,
        config: MortalityConfig,
        *,
        n_codes: int,
        n_types: int,
        n_static: int,
        texts: TextVectors | None = None,
    ) -> None:
        super().__init__()
        d_model = config.d_model
        self.embedding = _embedding(config, n_codes, n_types, texts)
        self.backbone = build_backbone(
            config.backbone,
            d_model=d_model,
            n_layers=config.n_layers,
            dropout=config.dropout,
            **config.backbone_settings,
        )
        self.pooling = AttentionPooling(d_model=d_model, n_heads=config.pooling_heads)
        self.static = nn.Linear(n_static, d_model // 2)
        self.head = RiskHead(d_in=2 * d_model + d_model // 2, d_hidden=d_model, dropout=config.dropout)
        self.level: LevelReading | None = None
        if config.level_hours:
            self.level = LevelReading(
                n_codes=n_codes,
                n_static=n_static,
                windows_hours=config.level_hours,
                spread=config.level_spread,
            )
        self.trees: TreeReading | None = None
        self.trees_weight = config.trees_weight
        if config.trees:
            self.trees = TreeReading(n_codes=n_codes, windows_hours=config.trees_hours, n_trees=config.trees)
        self.recency = recency(config)
        self.screen = _screen(config, n_codes)
        if self.screen is not None:
            self.screen.guard(self.embedding)
            if self.level is not None:
                self.screen.guard(self.level.summary)
            if self.trees is not None:
                self.screen.guard(self.trees.statistics)

    def prepare(self, train: Samples) -> None:
        """Solve the reading that needs no gradient steps; deterministic, and done before training."""
        weights = None if self.recency is None else self.recency.fit(train)
        if self.screen is not None:
            self.screen.fit(train, weights)
        if self.level is not None:
            self.level.solve(train, weights)
        if self.trees is not None:
            self.trees.solve(train, weights)

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample: the mean of the readings."""
        return self.together(
            self.course(batch),
            None if self.level is None else self.level(batch),
            None if self.trees is None else self.trees(batch),
        )

    def together(
        self,
        course: Float[Tensor, "batch"],
        level: Float[Tensor, "batch"] | None = None,
        trees: Float[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch"]:
        """The mean of the readings' logits, those of the trees weighted."""
        total, weight = course, 1.0
        if level is not None:
            total, weight = total + level, weight + 1
        if trees is not None:
            total, weight = total + self.trees_weight * trees, weight + self.trees_weight
        return total / weight

    def course(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample by the sequence alone."""
        hidden, padding_mask = self.embedding(batch)
        hidden = self.backbone(hidden, padding_mask)
        last = last_steps(padding_mask)
        here = hidden[torch.arange(len(hidden), device=hidden.device), last]
        pooled = self.pooling(hidden, padding_mask)
        return self.head(torch.cat([pooled, here, F.gelu(self.static(batch.static))], -1))

    def loss(self, batch: EventBatch, outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy of the sequence, which must stand by itself, not on the other reading."""
        return self.head.loss(self.course(batch), outcome, weights_of(self.recency, batch))

    def tuning_loss(
        self, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        """The same, once the mean risk is set right."""
        return self.head.tuning_loss(logit, outcome)


def last_steps(padding_mask: Bool[Tensor, "batch step"]) -> Int[Tensor, "batch"]:
    """Position of the last step that is not padding; 0 for a sample without steps."""
    return ((~padding_mask).sum(1) - 1).clamp(min=0)


def _embedding(config: MortalityConfig, n_codes: int, n_types: int, texts: TextVectors | None) -> nn.Module:
    """Steps of a grid, or every measurement by itself."""
    shared: dict[str, Any] = {
        "n_codes": n_codes,
        "n_types": n_types,
        "d_model": config.d_model,
        "n_bins": config.n_bins,
        "texts": None if texts is None else TextEmbedding(texts, d_model=config.d_model),
    }
    if config.step_hours <= 0:
        return MeasurementEmbedding(**shared, dropout=config.dropout)
    return StepEmbedding(
        **shared,
        dropout=config.dropout,
        code_dropout=config.code_dropout,
        step_hours=config.step_hours,
        n_steps=math.ceil(config.lookback_hours / config.step_hours) + 1,
    )


def _screen(config: MortalityConfig, n_codes: int) -> Screen | None:
    if config.screen <= 0 or config.step_hours <= 0:
        return None
    windows = config.level_hours or (config.lookback_hours,)
    return Screen(n_codes=n_codes, windows_hours=windows, strength=config.screen)
