"""Fit the detector: every epoch reads training recordings with other deviations in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from caretrace.apps.vitals.config import DetectorConfig
from caretrace.apps.vitals.detector.deviations import HIGHEST_SPO2, Course, DeviationSettings
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.material import (
    IN_WINDOWS,
    KEPT,
    KnownEvents,
    Portion,
    Steps,
    Teacher,
    Windows,
)
from caretrace.apps.vitals.detector.network import Detector, covered, nll
from caretrace.apps.vitals.task import Recordings
from caretrace.data.grid import ChannelScaler, Stretch
from caretrace.errors import ConfigError
from caretrace.training.descent import DescentConfig, descend

FloatArray = npt.NDArray[np.float32]
Told = Callable[[dict[str, float]], None]
LOSSES = ("sudden", "lasting", "forecast", "reconstruction")
COVERED = ("covered_by_forecast", "covered_by_reconstruction")  # share within the central 90 %
_VISITS = 2  # how often a step is learned from before other deviations are drawn
_FEWEST_EPOCHS, _MOST_EPOCHS = 2, 60
_SOME = 10  # known events, from which on they teach
_BESIDE = 0.25  # how many deviations are put in beside known events, of what is usual


def usual_spread(train: Sequence[Stretch], channels: tuple[str, ...]) -> ChannelScaler:
    """Mean over everybody, and the usual standard deviation *within* a subject: what a deviation is measured by.

    Raises:
        CohortError: A channel without two different values.
    """
    overall = ChannelScaler.fit(train, channels)
    spreads = []
    for stretch in train:
        measured = stretch.observed.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            centred = stretch.values - np.nansum(stretch.values, 1, keepdims=True) / measured[:, None]
            spreads.append(np.where(measured > 1, np.sqrt(np.nansum(centred**2, 1) / measured), np.nan))
    table, weight = np.array(spreads), np.array([len(stretch) for stretch in train], np.float64)[:, None]
    known = ~np.isnan(table)
    within = np.where(known, table * weight, 0).sum(0) / np.maximum((known * weight).sum(0), 1e-9)
    sd = np.where(within > 0, within, overall.sd).astype(np.float32)
    return ChannelScaler(channels, overall.mean, sd)


ROUNDINGS = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_MULTIPLES = 0.9  # share of values that must be multiples


def roundings(stretches: Sequence[Stretch], n_channels: int) -> tuple[float, ...]:
    """What most values of each channel are multiples of; 0 where there is no such number."""
    found = []
    for channel in range(n_channels):
        values = np.concatenate([stretch.values[channel] for stretch in stretches[:20]])
        values = values[~np.isnan(values)].astype(np.float64)
        fits = [
            step
            for step in ROUNDINGS
            if values.size and (np.abs(values / step - np.rint(values / step)) < 1e-3).mean() >= _MULTIPLES
        ]
        found.append(fits[0] if fits else 0.0)
    return tuple(found)


def deviation_settings(
    recordings: Recordings, scaler: ChannelScaler, per_day: float | None = None
) -> DeviationSettings:
    """Deviations for such recordings."""
    times, step = recordings.resolution.deviations, recordings.settings.step_seconds

    def course(bounds: tuple[tuple[float, float], ...]) -> Course:
        return Course(*((low / step, high / step) for low, high in bounds))

    return DeviationSettings(
        channels=scaler.channels,
        spread=tuple(float(sd) for sd in scaler.sd),
        rounding=roundings(recordings.stretches, len(scaler.channels)),
        highest=tuple(HIGHEST_SPO2 if name == "spo2" else np.inf for name in scaler.channels),
        per_step=(times.per_day if per_day is None else per_day) * step / 86_400,
        quick=course(times.quick),
        slow=course(times.slow),
        thermal=times.thermal / step,
        pulse_share=pulse_share(recordings.stretches, scaler.channels),
    )


def pulse_share(stretches: Sequence[Stretch], channels: tuple[str, ...]) -> float:
    """Where the mean pressure lies between diastolic and systolic, by least squares; a third where it is not known."""
    if not {"sbp", "dbp", "map"} <= set(channels):
        return 1 / 3
    values = np.concatenate([each.values for each in stretches[:20]], axis=1).astype(np.float64)
    systolic, diastolic, middle = (values[channels.index(name)] for name in ("sbp", "dbp", "map"))
    pulse, above = systolic - diastolic, middle - diastolic
    known = ~np.isnan(pulse + above)
    square = float((pulse[known] ** 2).sum())
    return float((pulse[known] * above[known]).sum()) / square if square > 0 else 1 / 3


def history_settings(recordings: Recordings) -> HistorySettings:
    """What the detector remembers of such recordings."""
    resolution = recordings.resolution
    return HistorySettings(
        len(recordings.channels), resolution.step_seconds, tuple(resolution.scales_seconds)
    )


def teaching(config: DetectorConfig, known: KnownEvents | None) -> str:
    """What teaches: `deviations`, `events` or `both`, as asked for or by how many events are known.

    Raises:
        ConfigError: Events shall teach, and none is known.
    """
    count = 0 if known is None else known.onset.size
    if config.taught_by == "auto":
        return "both" if count >= _SOME else "deviations"
    if config.taught_by != "deviations" and not count:
        raise ConfigError(
            f"detector.taught_by: {config.taught_by}, but there are no known events of training subjects; name a file "
            "of them in `events`, or set detector.taught_by=deviations"
        )
    return config.taught_by


def fit_detector(
    train: Recordings,
    scaler: ChannelScaler,
    config: DetectorConfig,
    seed: int,
    progress: Told = lambda _: None,
    tuning: Recordings | None = None,
    known: KnownEvents | None = None,
) -> tuple[Detector, list[dict[str, float]]]:
    """Learn from training recordings.

    Args:
        train: Recordings of training subjects.
        scaler: From `usual_spread`.
        config: Settings.
        seed: Of everything random.
        progress: Told `epoch`, `of` and the losses after each epoch.
        tuning: Recordings by whose loss the best epoch is chosen; those of training without them.
        known: Known events of training and tuning subjects; used as `config.taught_by` says.

    Returns:
        The detector in evaluation mode, and the losses of each epoch: `LOSSES` and `COVERED` are those of `tuning`.

    Raises:
        CaretraceError: A loss is no longer a number.
    """
    torch.manual_seed(seed)
    history = history_settings(train)
    detector = Detector(config, history.n_features, history.n_channels)
    learner = _Learner(detector, train, tuning or train, scaler, config, known, seed)
    epochs = int(np.clip(round(config.batches / learner.n_batches), _FEWEST_EPOCHS, _MOST_EPOCHS))
    descent = DescentConfig(
        seed=seed, epochs=epochs, patience=epochs, learning_rate=config.learning_rate, weight_decay=1e-3
    )
    log: list[dict[str, float]] = []

    def told(record: dict[str, float]) -> None:
        log.append(record | {"of": float(epochs), **learner.found})
        progress(log[-1])

    descend(detector, learner, descent, told)
    return detector, log


class _Learner:
    """Batches and losses; see `training.descent.Learner`."""

    def __init__(
        self,
        detector: Detector,
        train: Recordings,
        tuning: Recordings,
        scaler: ChannelScaler,
        config: DetectorConfig,
        known: KnownEvents | None,
        seed: int,
    ) -> None:
        self._detector, self._config = detector, config
        self._single = detector.backbone is None
        self._weights = torch.tensor(
            [config.sudden_weight, 1.0, config.forecast_weight, config.forecast_weight]
        )
        how = teaching(config, known)
        usual = deviation_settings(train, scaler, config.deviations_per_day)
        beside = dataclasses.replace(usual, per_step=usual.per_step * _BESIDE)
        deviations = {"events": None, "both": beside, "deviations": usual}[how]
        sudden = train.resolution.deviations.sudden / train.resolution.step_seconds
        shared = (scaler, history_settings(train), deviations, sudden, known if how != "deviations" else None)
        self._teacher = Teacher(train, *shared)
        steps = sum(map(len, train.stretches))
        kept = min(steps, KEPT if self._single else IN_WINDOWS)
        self.n_batches = min(config.batches, max(1, _VISITS * kept // config.batch_steps))
        rng = np.random.default_rng(seed + 1)
        material = self._material(Teacher(tuning, *shared), rng)
        self._tuning = [material.portion(config.batch_steps, rng) for _ in range(min(100, self.n_batches))]
        self.found: dict[str, float] = {}

    def _material(self, teacher: Teacher, rng: np.random.Generator) -> Steps | Windows:
        if self._single:
            return Steps(teacher, rng)
        return Windows(teacher, teacher.recordings.settings.length, rng)

    def batches(self, rng: np.random.Generator) -> Iterator[Portion]:
        """Deviations are drawn anew for every epoch."""
        material = self._material(self._teacher, rng)
        for _ in range(self.n_batches):
            yield material.portion(self._config.batch_steps, rng)

    def loss(self, portion: Portion) -> Tensor:
        """Both kinds of evidence, the forecast and the reconstruction."""
        return _losses(self._detector, portion)[: len(LOSSES)] @ self._weights

    def tuning_loss(self) -> float:
        """The same on recordings that are not learned from."""
        losses = torch.stack([_losses(self._detector, portion) for portion in self._tuning]).mean(0)
        self.found = dict(zip((*LOSSES, *COVERED), losses.tolist(), strict=True))
        # The reconstruction is linear and starts from 0: later is better for it, and it has no say in the epoch.
        return float(losses[: len(LOSSES) - 1] @ self._weights[:-1])


def _losses(detector: Detector, portion: Portion) -> Tensor:
    """`LOSSES`, the latter two negative log-likelihoods per value; and `COVERED`."""
    reading = detector(portion.features, portion.padding)
    real = ~portion.padding
    evidence = F.binary_cross_entropy_with_logits(
        reading.evidence[real], portion.targets[real], reduction="none"
    ).mean(0)
    measured = (~torch.isnan(portion.following) & real[..., None]).sum().clamp(min=1)
    expected = reading, detector.masked(portion.features, portion.following)
    misfits = [nll(each, portion.following).sum() / measured for each in expected]
    shares = [covered(each, portion.following) for each in expected]
    return torch.cat([evidence, torch.stack([*misfits, *shares])])
