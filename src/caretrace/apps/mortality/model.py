"""The mortality model: two readings of one record, and their mean.

The first reads the course: measurements → embedding → backbone → attention pooling → with static features
→ risk. The second reads the level: a linear map of a few statistics per code. Each is trained on a loss of
its own, so that neither leans on the other, and the logits are averaged: a few thousand stays are too few
for one network to learn both well (see the lab log).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.backbones import build_backbone
from caretrace.backbones.embedding import MeasurementEmbedding, StepEmbedding
from caretrace.backbones.pooling import AttentionPooling
from caretrace.backbones.summary import WindowSummary
from caretrace.data.batch import EventBatch
from caretrace.heads import RiskHead


class MortalityModel(nn.Module):
    """Logit of death for each sample.

    Args:
        config: Settings.
        n_codes: Size of the vocabulary.
        n_types: Number of event types.
        n_static: Number of static features.
    """

    def __init__(self, config: MortalityConfig, *, n_codes: int, n_types: int, n_static: int) -> None:
        super().__init__()
        d_model = config.d_model
        shared = {"n_codes": n_codes, "n_types": n_types, "d_model": d_model, "n_bins": config.n_bins}
        self.embedding: nn.Module
        if config.step_hours > 0:
            self.embedding = StepEmbedding(
                **shared,
                dropout=config.dropout,
                code_dropout=config.code_dropout,
                step_hours=config.step_hours,
                n_steps=math.ceil(config.lookback_hours / config.step_hours) + 1,
            )
        else:
            self.embedding = MeasurementEmbedding(**shared, dropout=config.dropout)
        self.backbone = build_backbone(
            config.backbone, d_model=d_model, n_layers=config.n_layers, dropout=config.dropout
        )
        self.pooling = AttentionPooling(d_model=d_model, n_heads=config.pooling_heads)
        self.static = nn.Linear(n_static, d_model // 2)
        self.head = RiskHead(d_in=2 * d_model + d_model // 2, d_hidden=d_model, dropout=config.dropout)
        self.summary = WindowSummary(n_codes=n_codes, windows_hours=config.summary_hours)
        self.level = nn.Linear(self.summary.n_features + n_static, 1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        self.level_penalty = config.level_penalty

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample: the mean of the readings."""
        return torch.stack(self.readings(batch)).mean(0)

    def readings(self, batch: EventBatch) -> list[Float[Tensor, "batch"]]:
        """Logit per sample by each reading; the level is left out when no summary is asked for."""
        if not self.summary.windows_hours:
            return [self._course(batch)]
        features = torch.cat([self.summary(batch), batch.static], -1)
        return [self._course(batch), self.level(features)[:, 0]]

    def _course(self, batch: EventBatch) -> Tensor:
        hidden, padding_mask = self.embedding(batch)
        hidden = self.backbone(hidden, padding_mask)
        last = last_steps(padding_mask)
        here = hidden[torch.arange(len(hidden), device=hidden.device), last]
        pooled = self.pooling(hidden, padding_mask)
        return self.head(torch.cat([pooled, here, F.gelu(self.static(batch.static))], -1))

    def loss(self, batch: EventBatch, outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy of each reading, and the ridge penalty of the linear one."""
        losses = [self.head.loss(logit, outcome) for logit in self.readings(batch)]
        return torch.stack(losses).sum() + self.level_penalty / 2 * self.level.weight.square().sum()

    def tuning_loss(
        self, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        """The same, once the mean risk is set right."""
        return self.head.tuning_loss(logit, outcome)


def last_steps(padding_mask: Bool[Tensor, "batch step"]) -> Int[Tensor, "batch"]:
    """Position of the last step that is not padding; 0 for a sample without steps."""
    return ((~padding_mask).sum(1) - 1).clamp(min=0)
