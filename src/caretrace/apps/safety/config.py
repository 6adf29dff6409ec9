"""Settings of the safety models."""

from __future__ import annotations

import dataclasses

from caretrace.apps.safety.sequences import ARRIVALS, HOSPITAL, KINDS, PATHWAY, STAFF, TRUST
from caretrace.errors import ConfigError
from caretrace.training.descent import DescentConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size and parts of the model.

    Args:
        backbone: Name of a backbone (`caretrace train --help` lists them).
        d_model: Width of the hidden states.
        n_layers: Layers of the backbone.
        d_category: Width of the embedding of each name (site, complaint, shift, …).
        d_head: Width inside each head.
        dropout: Probability of dropping a hidden unit.
        backbone_settings: What else the backbone takes, such as `d_state` of Mamba.
    """

    backbone: str = "gru"
    d_model: int = 96
    n_layers: int = 1
    d_category: int = 8
    d_head: int = 64
    dropout: float = 0.1
    backbone_settings: dict[str, int | float | str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "d_category", "d_head"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}: got {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout: got {self.dropout}, it must lie in [0, 1)")


@dataclasses.dataclass(frozen=True)
class SafetyConfig:
    """Settings of a training.

    Args:
        block_days: The dataset is cut into blocks of so many days, each of one split.
        kinds: Sequences to learn from: `hospital`, `pathway`, `staff`.
        window_hours: Hours of a hospital in one training sequence; predictions read whatever lies before them.
        batch: Sequences of each kind in a batch; a batch has some of every kind.
        batches: Batches of an epoch.
        most_pathways: Pathways kept for training, drawn at random; a city has half a million a year.
        learned_weights: Weigh the tasks by their uncertainty (Kendall et al. 2018); otherwise equally.
        stop_by_values: Tasks count by the square root of their tuning values when an epoch is judged; otherwise alike.
        members: Models in the ensemble, each from its own seed; their probabilities are averaged.
        blend: Mix boosted trees and linear models into the network, per target as much as the tuning blocks ask for.
        model: Size and parts.
        descent: How the model is fitted.
    """

    block_days: int = 28
    kinds: tuple[str, ...] = KINDS
    window_hours: int = 192
    batch: int = 24
    batches: int = 60
    most_pathways: int = 60_000
    learned_weights: bool = True
    stop_by_values: bool = False
    members: int = 1
    blend: bool = True
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    descent: DescentConfig = dataclasses.field(
        default_factory=lambda: DescentConfig(epochs=25, patience=6, learning_rate=3e-3, schedule="plateau")
    )

    def __post_init__(self) -> None:
        for name in ("block_days", "window_hours", "batch", "batches", "most_pathways", "members"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, it must be at least 1")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ConfigError(
                f"kinds: got {', '.join(self.kinds) or 'none'}; give one or more of {', '.join(KINDS)}"
            )


# Sequences of a batch, relative to `SafetyConfig.batch`: pathways are short, and their targets rare.
SHARE_OF_BATCH = {HOSPITAL: 1, PATHWAY: 8, STAFF: 2, TRUST: 1, ARRIVALS: 1}
