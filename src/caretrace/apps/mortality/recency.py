"""Temporal-aware training: with several landmarks per stay, the later ones weigh more in the loss.

    weight(landmark) = 2 ^ (hours since ICU admission / half-life), scaled to mean 1 over the training samples

A label one half-life earlier in the stay counts half as much. Without a half-life all count alike, which is the
ablation. The tuning loss is never weighted, so that both are judged by the same.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples


class Recency(nn.Module):
    """Weights of samples by how late in the stay they are.

    Args:
        half_life_hours: A label so many hours earlier counts half as much.
    """

    latest_hours: Tensor
    mean: Tensor

    def __init__(self, half_life_hours: float) -> None:
        super().__init__()
        self.half_life_hours = half_life_hours
        # Buffers, so that a resumed training goes on with what was fitted.
        self.register_buffer("latest_hours", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.ones((), dtype=torch.float64))

    def fit(self, train: Samples) -> Float[np.ndarray, "sample"]:
        """Scale to mean 1 over the training samples, and return their weights."""
        hours = torch.from_numpy(train.hours_since_admission)
        known = hours[torch.isfinite(hours)]
        if len(known):
            self.latest_hours.fill_(float(known.max()))
        self.mean.fill_(1.0)
        self.mean.fill_(float(self(hours).mean()) if len(hours) else 1.0)
        weights: np.ndarray = self(hours).numpy()
        return weights

    def forward(self, hours_since_admission: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Weight of each sample; one of an unknown admission counts as the latest."""
        hours = torch.nan_to_num(hours_since_admission.double() - self.latest_hours, nan=0.0)
        return (torch.exp2(hours.clamp(max=0.0) / self.half_life_hours) / self.mean).float()


def recency(config: MortalityConfig) -> Recency | None:
    """What was asked for; None where all samples count alike."""
    hours = config.landmark_half_life_hours
    return None if hours is None else Recency(hours)


def weights_of(weighting: Recency | None, batch: EventBatch) -> Float[Tensor, "batch"] | None:
    """Weights of a batch's samples, if there are any."""
    if weighting is None:
        return None
    weights: Tensor = weighting(batch.hours_since_admission)
    return weights
