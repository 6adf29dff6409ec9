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
class DeviationTimes:
    """How often and how quickly the deviations come that are put into training recordings; seconds, all assumed.

    Args:
        per_day: Mean number per patient-day.
        quick: Shortest and longest rise, time at full size and way back of abrupt ones.
        slow: The same of gradual ones.
        thermal: Least rise of a temperature.
        sudden: How long after its rise an abrupt one still counts as sudden.
    """

    per_day: float
    quick: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    slow: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    thermal: float
    sudden: float


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
        deviations: How deviations for training look at this resolution.
        backbone: What won on tuning recordings of this resolution.
    """

    step_seconds: float
    length: int
    stride: int
    max_gap_seconds: float
    fill_seconds: float
    scales_seconds: tuple[float, ...]
    deviations: DeviationTimes
    backbone: str


_MINUTE, _HOUR = 60.0, 3600.0
MONITOR = Resolution(
    step_seconds=10.0,
    length=256,
    stride=128,
    max_gap_seconds=2 * _HOUR,
    fill_seconds=_MINUTE,
    scales_seconds=(30.0, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 8 * _HOUR),
    deviations=DeviationTimes(
        per_day=2.0,
        quick=((1.0, 6 * _MINUTE), (6 * _MINUTE, 80 * _MINUTE), (3 * _MINUTE, 40 * _MINUTE)),
        slow=((15 * _MINUTE, 8 * _HOUR), (30 * _MINUTE, 6 * _HOUR), (20 * _MINUTE, 2 * _HOUR)),
        thermal=2 * _HOUR,
        sudden=300.0,
    ),
    backbone="none",
)
CHARTED = Resolution(
    step_seconds=_HOUR,
    length=48,
    stride=24,
    max_gap_seconds=6 * _HOUR,
    fill_seconds=2 * _HOUR,
    scales_seconds=(2 * _HOUR, 6 * _HOUR, 24 * _HOUR),
    deviations=DeviationTimes(
        per_day=0.25,
        quick=((0.5 * _HOUR, 2 * _HOUR), (3 * _HOUR, 24 * _HOUR), (2 * _HOUR, 12 * _HOUR)),
        slow=((4 * _HOUR, 16 * _HOUR), (3 * _HOUR, 24 * _HOUR), (2 * _HOUR, 12 * _HOUR)),
        thermal=2 * _HOUR,
        sudden=2 * _HOUR,
    ),
    backbone="gru",
)


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
        backbone: `none` looks at each step's features alone, which hold the past at several scales; else a row of
            `backbones.BACKBONES`, which reads windows step by step. `auto` takes `none` for monitors, `gru` for charts.
        backbone_settings: What else the backbone takes.
        d_model: Width of the hidden states.
        n_layers: Layers of the backbone.
        dropout: Probability of dropping a hidden unit.
        taught_by: What counts as getting worse: `deviations` put into training recordings; known `events` of training
            subjects; or `both`. `auto` is `both` where ten events or more are known, else `deviations`.
        batches: How many batches it learns from.
        batch_steps: Steps per batch, drawn at random; a backbone takes as many windows as hold them.
        learning_rate: Highest; it rises over the first batches and falls to 0.
        forecast_weight: Of the negative log-likelihoods of the forecast and of the masked reconstruction, beside the
            evidence's cross-entropy.
        sudden_weight: Of the evidence of something sudden beside that of something lasting.
        deviations_per_day: Mean number of deviations put into a day of training; null takes 2 for monitors, 0.25 for
            charts.
    """

    backbone: str = "auto"
    backbone_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    d_model: int = 96
    n_layers: int = 1
    dropout: float = 0.1
    taught_by: Literal["auto", "deviations", "events", "both"] = "auto"
    batches: int = 2000
    batch_steps: int = 2048
    learning_rate: float = 3e-3
    forecast_weight: float = 0.1
    sudden_weight: float = 1.0
    deviations_per_day: float | None = None

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "batches", "batch_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"detector.{name}: got {getattr(self, name)}, it must be at least 1")
        if not self.learning_rate > 0 or min(self.forecast_weight, self.sudden_weight) < 0:
            raise ConfigError(
                "detector: learning_rate must be above 0, forecast_weight and sudden_weight 0 or more"
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
        fitted: Whether it is fitted at all, to stand beside the recommended model.
        fused: Whether two more, of cardiovascular and respiratory signals, are fitted and fused.
    """

    channels: tuple[str, ...] = ("hr", "spo2")
    convolutions: tuple[int, ...] = (16, 32)
    d_model: int = 64
    n_layers: int = 2
    dropout: float = 0.5
    latent: int = 32
    batch_size: int = 32
    pretrain_epochs: int = 2
    finetune_epochs: int = 1
    learning_rate: float = 1e-3
    finetune_factor: float = 0.1
    max_windows: int = 800
    augmented: bool = True
    fitted: bool = True
    fused: bool = False


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """When a score becomes an alarm.

    Args:
        false_alarms_per_day: The rate that the thresholds are chosen for, per patient-day.
        lasting_share: Share of it that alarms for something lasting may use; something sudden has the rest.
        sudden_delay_seconds: How long a score of something sudden must stay up; steps count whole.
        lasting_delay_seconds: The same for everything else.
        clear_seconds: How long a score must stay down before the alarm is over.
        join_seconds: Trouble that is back this soon, for whatever reason, is the same alarm.
        hysteresis: How far below the threshold the score must fall to clear.
        early_seconds: How long before its onset an event may be announced without being false, in the judgement.
    """

    false_alarms_per_day: float = 0.2
    lasting_share: float = 0.5
    sudden_delay_seconds: float = 10.0
    lasting_delay_seconds: float = 120.0
    clear_seconds: float = 600.0
    join_seconds: float = 3600.0
    hysteresis: float = 1.0
    early_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.false_alarms_per_day > 0:
            raise ConfigError(
                f"policy.false_alarms_per_day: got {self.false_alarms_per_day}, it must be above 0"
            )
        if not 0 < self.lasting_share < 1:
            raise ConfigError(f"policy.lasting_share: got {self.lasting_share}; give a share between 0 and 1")
        for name in (
            *("sudden_delay_seconds", "lasting_delay_seconds", "clear_seconds", "join_seconds"),
            *("hysteresis", "early_seconds"),
        ):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"policy.{name}: got {getattr(self, name)}, it must not be negative")


@dataclasses.dataclass(frozen=True)
class VitalsConfig:
    """Everything that can be set.

    Args:
        design: `evidence`, the one we recommend; `likelihood`, the same network judged by its forecast alone;
            `reconstruction`, by what it makes of each channel from the others; `auto` takes whichever finds most of
            the deviations put into tuning recordings; `conv-lstm-autoencoder` is the document's.
        grid: What is read.
        detector: The recommended model.
        document: The document's model.
        policy: When a score becomes an alarm.
        events: Parquet file of known events (`subject_id`, `onset`, `end`): alarms of tuning subjects within them are
            not counted as false when thresholds are chosen. Null takes `metadata/known_events.parquet` of the dataset;
            without that every alarm counts, which is on the safe side.
        seed: Of everything random.
    """

    design: Literal["auto", "evidence", "likelihood", "reconstruction", "conv-lstm-autoencoder"] = "auto"
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)
    document: DocumentConfig = dataclasses.field(default_factory=DocumentConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    events: str | None = None
    seed: int = 0
