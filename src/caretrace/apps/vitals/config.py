"""Settings of the vitals models."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from caretrace.errors import ConfigError

# Concept of the datasets' codes → name of the channel, in order.
CONCEPTS = {
    "heart_rate": "hr",
    "oxygen_saturation": "spo2",
    "respiratory_rate": "resp",
    "systolic_pressure": "sbp",
    "diastolic_pressure": "dbp",
    "mean_pressure": "map",
    "temperature": "temp",
}
# From this distance between measurements on, a dataset is one of hourly charts; closer, of a monitor.
CHARTED_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Resolution:
    """How finely a recording is looked at.

    Args:
        step_seconds: Length of a step; measurements within one are averaged.
        length: Steps of a window.
        stride: Steps from one window to the next.
        max_gap_seconds: A recording is cut where nothing is measured for longer.
        fill_seconds: Two measurements no farther apart than this are joined by a line, to learn and to judge.
        scales_seconds: Time constants of the running averages that the detector looks at, short to long.
    """

    step_seconds: float
    length: int
    stride: int
    max_gap_seconds: float
    fill_seconds: float
    scales_seconds: tuple[float, ...]


MONITOR = Resolution(10.0, 256, 128, 7200.0, 60.0, (60.0, 600.0, 3600.0, 21_600.0))
CHARTED = Resolution(3600.0, 48, 24, 21_600.0, 7200.0, (7200.0, 21_600.0, 86_400.0))


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """What is read of a dataset; null is decided by how often it measures.

    Args:
        channels: Signals to read (`hr`, `spo2`, `resp`, `sbp`, `dbp`, `map`, `temp`); none reads all there are.
        step_seconds: Length of a step, seconds; 10 for monitors, 3600 for charts.
        length: Steps of a window; 256 for monitors, 48 for charts.
        stride: Steps from one window to the next; half a window.
        max_gap_seconds: A recording is cut where nothing is measured for longer; 2 h for monitors, 6 h for charts.
        fill_seconds: Gaps no longer than this are filled by a line in windows; 1 min for monitors, 2 h for charts.
        min_observed: Share of a window's values that must have been measured.
    """

    channels: tuple[str, ...] = ()
    step_seconds: float | None = None
    length: int | None = None
    stride: int | None = None
    max_gap_seconds: float | None = None
    fill_seconds: float | None = None
    min_observed: float = 0.5

    def __post_init__(self) -> None:
        strange = set(self.channels) - set(CONCEPTS.values())
        if strange:
            raise ConfigError(f"grid.channels: {min(strange)!r} is not one of {', '.join(CONCEPTS.values())}")


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """The recommended model: a forecaster that also weighs evidence of getting worse.

    Args:
        backbone: A row of `backbones.BACKBONES`.
        backbone_settings: What else the backbone takes.
        d_model: Width of the hidden states.
        n_layers: Layers of the backbone.
        dropout: Probability of dropping a hidden unit between layers.
        epochs: Passes over the training recordings, each with deviations put in anew.
        batch_size: Windows per batch.
        learning_rate: Highest of the one-cycle schedule.
        forecast_weight: Of the forecast's negative log-likelihood beside the evidence's cross-entropy.
        onset_weight: How much the first minutes of an abrupt deviation count in the loss.
        deviations_per_window: Mean number of deviations put into as many steps as a window has.
    """

    backbone: str = "gru"
    backbone_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    d_model: int = 48
    n_layers: int = 1
    dropout: float = 0.0
    epochs: int = 6
    batch_size: int = 50
    learning_rate: float = 5e-3
    forecast_weight: float = 0.3
    onset_weight: float = 8.0
    deviations_per_window: float = 0.07

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"detector.{name}: got {getattr(self, name)}, it must be at least 1")
        if not self.learning_rate > 0 or min(self.forecast_weight, self.onset_weight) < 0:
            raise ConfigError(
                "detector: learning_rate must be above 0, forecast_weight and onset_weight 0 or more"
            )


@dataclasses.dataclass(frozen=True)
class DocumentConfig:
    """The document's model: pre-train, then fine-tune with the convolutions frozen.

    Args:
        channels: Signals it reads, with the sine and cosine of the hour of day.
        convolutions: Width of each convolution.
        d_model: Width of the LSTM.
        n_layers: Layers of the LSTM.
        dropout: Between the layers of the LSTM.
        latent: Width of the embedding.
        batch_size: Windows per batch.
        pretrain_epochs: Passes over all training windows.
        finetune_epochs: Passes, calm windows drawn more often, with the convolutions frozen.
        learning_rate: Of the pre-training.
        finetune_factor: What fine-tuning multiplies the learning rate by.
        max_windows: Training windows at most, drawn at random.
        augmented: Whether windows are warped, shaken, scaled and robbed of a probe.
    """

    channels: tuple[str, ...] = ("hr", "spo2")
    convolutions: tuple[int, ...] = (16, 32)
    d_model: int = 64
    n_layers: int = 2
    dropout: float = 0.5
    latent: int = 32
    batch_size: int = 32
    pretrain_epochs: int = 3
    finetune_epochs: int = 1
    learning_rate: float = 1e-3
    finetune_factor: float = 0.1
    max_windows: int = 2000
    augmented: bool = True


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """When a score becomes an alarm.

    Args:
        false_alarms_per_day: The rate that the threshold is chosen for, per patient-day.
        delay_seconds: How long the score must stay up; steps count whole.
        clear_seconds: How long it must stay down before the alarm is over.
        join_seconds: Trouble that is back this soon is the same alarm.
        hysteresis: How far below the threshold the score must fall to clear.
        smoothing_seconds: Time constant of the running average of the score; 0 for none.
        early_seconds: How long before its onset an event may be announced without being false, in the judgement.
    """

    false_alarms_per_day: float = 0.2
    delay_seconds: float = 40.0
    clear_seconds: float = 600.0
    join_seconds: float = 3600.0
    hysteresis: float = 1.0
    smoothing_seconds: float = 0.0
    early_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.false_alarms_per_day > 0:
            raise ConfigError(
                f"policy.false_alarms_per_day: got {self.false_alarms_per_day}, it must be above 0"
            )
        if self.hysteresis < 0 or self.smoothing_seconds < 0:
            raise ConfigError("policy: hysteresis and smoothing_seconds must not be negative")


@dataclasses.dataclass(frozen=True)
class VitalsConfig:
    """Everything that can be set.

    Args:
        design: `evidence`, the one we recommend; `likelihood`, the same network judged by its forecast alone; `auto`
            takes whichever finds more of the deviations put into tuning recordings; `conv-lstm-autoencoder` is the
            document's.
        grid: What is read.
        detector: The recommended model.
        document: The document's model.
        policy: When a score becomes an alarm.
        seed: Of everything random.
    """

    design: Literal["auto", "evidence", "likelihood", "conv-lstm-autoencoder"] = "auto"
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    document: DocumentConfig = dataclasses.field(default_factory=DocumentConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    seed: int = 0
