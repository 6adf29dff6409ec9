"""Settings of a training."""

from __future__ import annotations

import dataclasses
import math

from caretrace.errors import ConfigError

# A few dozen stays make one batch an epoch; hundreds of looks at the same few teach nothing.
_MOST_EPOCHS = 60


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Args:
        seed: Seed of everything random.
        members: Models in the ensemble; each starts from its own seed, their logits are averaged.
        max_steps: Batches at most, per member, rounded up to whole epochs.
        patience_steps: Batches without a better tuning loss before a member stops. Patience is counted in
            batches because an epoch of a small cohort is over before anything is learned.
        batch_size: Samples per batch.
        learning_rate: Of AdamW (Loshchilov and Hutter 2019).
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of a gradient.
        plateau_factor: The learning rate is multiplied by this when the tuning loss stalls.
        plateau_steps: Batches without a better tuning loss before that happens.
    """

    seed: int = 0
    members: int = 5
    max_steps: int = 2000
    patience_steps: int = 320
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    plateau_factor: float = 0.5
    plateau_steps: int = 160

    def __post_init__(self) -> None:
        for name in ("members", "max_steps", "patience_steps", "plateau_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must be at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must be above 0")
        for name in ("seed", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"training.{name}: got {getattr(self, name)}, it must not be negative")
        if not 0 < self.plateau_factor < 1:
            raise ConfigError(
                f"training.plateau_factor: got {self.plateau_factor}, it must lie between 0 and 1"
            )

    def epochs(self, steps: int, n_samples: int) -> int:
        """How many epochs over `n_samples` make at least `steps` batches; `_MOST_EPOCHS` at most."""
        return min(_MOST_EPOCHS, math.ceil(steps / math.ceil(n_samples / self.batch_size)))
