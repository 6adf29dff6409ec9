"""Fusion by attention: a cardiovascular and a respiratory encoder, each on its own signals, with a joint truth.

The prototype "fused" one embedding with a copy of itself and learned from labels that had nothing to do with either
(52.5 %). Here each encoder is an autoencoder of its own channels, the truth is known because a deviation was put in,
and encoders that share a channel are refused.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.errors import CohortError

CARDIOVASCULAR = ("hr", "sbp", "dbp", "map")
RESPIRATORY = ("spo2", "resp")
FloatArray = npt.NDArray[np.float32]
_ALIKE = 0.999  # correlation from which two embeddings are one


class AttentionFusion(nn.Module):
    """A query looks at what each encoder says, and decides how much to listen to which.

    Args:
        widths: Width of each encoder's embedding.
        d_model: Width they are brought to.
    """

    def __init__(self, widths: tuple[int, ...], d_model: int = 32) -> None:
        super().__init__()
        self.keys = nn.ModuleList(nn.Linear(width, d_model) for width in widths)
        self.values = nn.ModuleList(nn.Linear(width, d_model) for width in widths)
        self.query = nn.Parameter(torch.randn(d_model) / d_model**0.5)
        self.out = nn.Sequential(nn.Linear(d_model * len(widths), d_model), nn.ReLU(), nn.Linear(d_model, 1))

    def attention(self, embeddings: tuple[Float[Tensor, ...], ...]) -> Float[Tensor, "window encoder"]:
        """How much each encoder is listened to; sums to 1."""
        keys = torch.stack([key(part) for key, part in zip(self.keys, embeddings, strict=True)], 1)
        return torch.softmax(keys @ self.query / self.query.shape[0] ** 0.5, -1)

    def forward(self, embeddings: tuple[Float[Tensor, ...], ...]) -> Float[Tensor, window]:
        """Log-odds that somebody gets worse."""
        weight = self.attention(embeddings)
        values = torch.stack([value(part) for value, part in zip(self.values, embeddings, strict=True)], 1)
        return self.out((weight[..., None] * values).flatten(1))[:, 0]


@dataclasses.dataclass(frozen=True)
class Views:
    """Windows as several encoders see them.

    Args:
        channels: Signals of each encoder.
        embeddings: One [window, latent] per encoder.

    Raises:
        CohortError: Two encoders read the same channel, or say the same: that is a copy, not a fusion.
    """

    channels: tuple[tuple[str, ...], ...]
    embeddings: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        for first in range(len(self.channels)):
            for second in range(first + 1, len(self.channels)):
                shared = set(self.channels[first]) & set(self.channels[second])
                if shared:
                    raise CohortError(
                        f"fusion: two encoders read {min(shared)!r}; give each its own signals, or there is "
                        "nothing to fuse"
                    )
                if _copied(self.embeddings[first], self.embeddings[second]):
                    raise CohortError(
                        "fusion: two embeddings are copies of each other; embed the windows with both encoders"
                    )

    def tensors(self) -> tuple[Tensor, ...]:
        """For the network."""
        return tuple(torch.from_numpy(part) for part in self.embeddings)


def _copied(one: FloatArray, other: FloatArray) -> bool:
    if one.shape != other.shape or not one.size:
        return False
    first, second = one.ravel() - one.mean(), other.ravel() - other.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return norm > 0 and float(first @ second) / norm > _ALIKE


def fit_fusion(views: Views, truth: npt.NDArray[np.bool_], seed: int, epochs: int = 60) -> AttentionFusion:
    """Learn from windows whose truth is known.

    Args:
        views: Training windows.
        truth: [window], whether a deviation lasted at the window's end.
        seed: Of everything random.
        epochs: Passes.

    Raises:
        CohortError: One class only.
    """
    if not 0 < truth.sum() < truth.size:
        raise CohortError(
            f"fusion: {int(truth.sum())} of {truth.size} windows get worse; it needs both kinds"
        )
    torch.manual_seed(seed)
    model = AttentionFusion(tuple(part.shape[1] for part in views.embeddings))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    wanted, inputs = torch.from_numpy(truth.astype(np.float32)), views.tensors()
    weight = torch.tensor((truth.size - truth.sum()) / truth.sum(), dtype=torch.float32)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(wanted)), 256):
            logit = model(tuple(part[chosen] for part in inputs))
            loss = F.binary_cross_entropy_with_logits(logit, wanted[chosen], pos_weight=weight)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return model.eval()
