"""Settings of a training."""

from __future__ import annotations

import dataclasses

from caretrace.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Args:
        seed: Seed of everything random.
        members: Models in the ensemble; each starts from its own seed, their logits are averaged.
        max_epochs: Epochs at most, per member.
        patience: Epochs without a better tuning loss before a member stops.
        batch_size: Samples per batch.
        learning_rate: Of AdamW (Loshchilov and Hutter 2019).
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of a gradient.
        plateau_factor: The learning rate is multiplied by this when the tuning loss stalls.
        plateau_patience: Epochs without a better tuning loss before that happens.
    """

    seed: int = 0
    members: int = 5
    max_epochs: int = 40
    patience: int = 6
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    plateau_factor: float = 0.5
    plateau_patience: int = 3

    def __post_init__(self) -> None:
        for name in ("members", "max_epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must be at least 1")
