"""The mortality model: measurements → embedding → backbone → attention pooling → static features → risk."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.backbones import build_backbone
from caretrace.backbones.embedding import MeasurementEmbedding, StepEmbedding
from caretrace.backbones.pooling import AttentionPooling
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

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        hidden, padding_mask = self.embedding(batch)
        hidden = self.backbone(hidden, padding_mask)
        pooled = self.pooling(hidden, padding_mask)
        return self.head(torch.cat([pooled, last_step(hidden, padding_mask), F.gelu(self.static(batch.static))], -1))

    def loss(self, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy over the samples whose outcome is known."""
        return self.head.loss(logit, outcome)


def last_step(
    hidden: Float[Tensor, "batch step d_model"], padding_mask: Bool[Tensor, "batch step"]
) -> Float[Tensor, "batch d_model"]:
    """Hidden state of the last step that is not padding; zeros for a sample without steps."""
    count = (~padding_mask).sum(1)
    last = (count - 1).clamp(min=0)
    return hidden[torch.arange(len(hidden), device=hidden.device), last] * (count > 0)[:, None]
