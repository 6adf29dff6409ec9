"""Heads: hidden states → outputs, each with its own loss, masked where the label is missing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RiskHead(nn.Module):
    """Probability of one outcome, as a logit.

    Args:
        d_in: Width of the input.
        d_hidden: Width of the layer in between.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(self, *, d_in: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(d_in, d_hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_hidden, 1),
        )

    def forward(self, hidden: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        return self.layers(hidden)[:, 0]

    @staticmethod
    def loss(
        logit: Float[Tensor, "batch"],
        outcome: Float[Tensor, "batch"],
        weight: Float[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean binary cross-entropy over the samples whose outcome is known (not NaN); 0 if none is.

        Args:
            logit: Logit per sample.
            outcome: 0 or 1, NaN where unknown.
            weight: By what each sample's loss is multiplied; of mean 1 over all samples, or the loss is scaled.
        """
        known = ~torch.isnan(outcome)
        total = F.binary_cross_entropy_with_logits(
            logit[known], outcome[known], None if weight is None else weight[known], reduction="sum"
        )
        return total / known.sum().clamp(min=1)

    @classmethod
    def tuning_loss(cls, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """The loss once the mean risk is set right, as the bundle's calibration will do.

        A small tuning split may have twice the deaths of another by chance. Its plain loss then prefers
        whichever epoch happens to be gloomy enough, not the one that ranks people best.
        """
        known = ~torch.isnan(outcome)
        logit, outcome = logit[known].double(), outcome[known].double()
        shift = torch.zeros((), dtype=torch.float64, device=logit.device)
        if 0 < outcome.sum() < len(outcome):
            for _ in range(20):  # Newton's method on a convex function of one number
                risk = torch.sigmoid(logit + shift)
                step = (risk - outcome).sum() / (risk * (1 - risk)).sum().clamp(min=1e-9)
                shift = shift - step.clamp(-2.0, 2.0)
        return cls.loss(logit + shift, outcome).float()
