"""Fit the detector: every epoch reads the training recordings with other deviations in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from caretrace.apps.vitals.config import DetectorConfig
from caretrace.apps.vitals.detector.deviations import HIGHEST_SPO2, Deviated, DeviationSettings, deviate
from caretrace.apps.vitals.detector.history import History, HistorySettings
from caretrace.apps.vitals.detector.network import LASTING, SUDDEN, Detector, surprise
from caretrace.apps.vitals.task import Recordings
from caretrace.data.grid import ChannelScaler, Stretch
from caretrace.errors import CaretraceError

FloatArray = npt.NDArray[np.float32]
Told = Callable[[dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class Portion:
    """Windows of the same number of steps; short ones are padded at the end.

    Args:
        features: [window, step, feature].
        values: [window, step, channel], standardised; NaN where nothing was measured.
        targets: [window, step, reason], 1 while a deviation is sudden, while it lasts.
        padding: [window, step], True where there is no step.
    """

    features: Tensor
    values: Tensor
    targets: Tensor
    padding: Tensor


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

    def steps(bounds: tuple[float, float]) -> tuple[float, float]:
        return bounds[0] / step, bounds[1] / step

    return DeviationSettings(
        channels=scaler.channels,
        spread=tuple(float(sd) for sd in scaler.sd),
        rounding=roundings(recordings.stretches, len(scaler.channels)),
        per_step=(times.per_day if per_day is None else per_day) * step / 86_400,
        quick_rise=steps(times.quick_rise),
        slow_rise=steps(times.slow_rise),
        hold=steps(times.hold),
        fall=steps(times.fall),
        highest=tuple(HIGHEST_SPO2 if name == "spo2" else np.inf for name in scaler.channels),
    )


def history_settings(recordings: Recordings) -> HistorySettings:
    """What the detector remembers of such recordings."""
    resolution = recordings.resolution
    return HistorySettings(
        len(recordings.channels), resolution.step_seconds, tuple(resolution.scales_seconds)
    )


def fit_detector(
    train: Recordings,
    scaler: ChannelScaler,
    config: DetectorConfig,
    seed: int,
    progress: Told = lambda _: None,
) -> tuple[Detector, list[dict[str, float]]]:
    """Learn from training recordings; their truth, if there is one, is not looked at.

    Args:
        train: Recordings of training subjects.
        scaler: From `usual_spread`.
        config: Settings.
        seed: Of everything random.
        progress: Told the mean losses after each epoch.

    Returns:
        The detector in evaluation mode, and the mean losses of each epoch.

    Raises:
        CaretraceError: The loss is no longer a number.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    history = history_settings(train)
    detector = Detector(config, history.n_features, history.n_channels)
    source = _Source(train, scaler, config)
    epochs = config.epochs or int(np.clip(round(config.batches / source.portions()), 2, 60))
    total = epochs * source.portions()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total)
    weights = torch.tensor([config.sudden_weight, 1.0, config.forecast_weight])
    names = ("sudden", "lasting", "forecast", "train_loss")
    log = []
    for epoch in range(epochs):
        sums = np.zeros(5)
        for portion in source.epoch(rng):
            losses = _losses(detector, portion)
            loss = losses @ weights
            if not torch.isfinite(loss):
                raise CaretraceError(
                    f"the loss became {loss.item()} in epoch {epoch}; lower detector.learning_rate"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
            optimizer.step()
            if schedule.last_epoch < total:
                schedule.step()
            sums += [*losses.tolist(), float(loss.detach()), 1.0]
        record = dict(zip(names, sums[:4] / max(sums[4], 1.0), strict=True))
        log.append(
            {
                "epoch": float(epoch),
                "of": float(epochs),
                **{name: float(value) for name, value in record.items()},
            }
        )
        progress(log[-1])
    return detector.eval(), log


def _losses(detector: Detector, portion: Portion) -> Tensor:
    """Cross-entropy of both kinds of evidence and the forecast's negative log-likelihood, [3]."""
    reading = detector(portion.features, portion.padding)
    real = ~portion.padding
    evidence = F.binary_cross_entropy_with_logits(
        reading.evidence[real], portion.targets[real], reduction="none"
    ).mean(0)
    measured = (~torch.isnan(portion.values) & real[..., None]).sum().clamp(min=1)
    return torch.cat([evidence, (surprise(reading, portion.values).sum() / measured)[None]])


class _Source:
    """Training recordings, group by group, each time with other deviations."""

    def __init__(self, train: Recordings, scaler: ChannelScaler, config: DetectorConfig) -> None:
        self._values = [stretch.values for stretch in train.stretches]
        self._scaler = scaler
        self._history = history_settings(train)
        self._deviations = deviation_settings(train, scaler, config.deviations_per_day)
        self._sudden = train.resolution.deviations.sudden / train.resolution.step_seconds
        self._length, self._size = train.settings.length, config.batch_size

    def portions(self) -> int:
        """Batches of an epoch, at most."""
        order = range(0, len(self._values), self._size)
        return sum(-(-self._windows(low) // self._size) for low in order)

    def _windows(self, low: int) -> int:
        group = self._values[low : low + self._size]
        return sum(len(values[0]) // self._length + 2 for values in group)

    def epoch(self, rng: np.random.Generator) -> Iterator[Portion]:
        """Every step once, in random order of windows."""
        order = rng.permutation(len(self._values))
        for low in range(0, len(order), self._size):
            yield from self._group([self._values[int(i)] for i in order[low : low + self._size]], rng)

    def _group(self, group: list[FloatArray], rng: np.random.Generator) -> Iterator[Portion]:
        rows = []
        for values in group:
            deviated = deviate(values, self._deviations, self._sudden, rng)
            scaled = self._scaler.transform(deviated.values)
            features = History(self._history).advance(scaled[None])[0]
            rows.append((features.T, scaled.T, _targets(deviated)))
        places = [
            (number, start)
            for number, values in enumerate(group)
            for start in range(-int(rng.integers(self._length)), values.shape[1], self._length)
        ]
        rng.shuffle(places)
        for low in range(0, len(places), self._size):
            cuts = [
                tuple(part[max(0, start) : start + self._length] for part in rows[number])
                for number, start in places[low : low + self._size]
            ]
            longest = max(len(cut[0]) for cut in cuts)
            yield Portion(
                features=_padded([cut[0] for cut in cuts], longest),
                values=_padded([cut[1] for cut in cuts], longest, np.nan),
                targets=_padded([cut[2] for cut in cuts], longest),
                padding=torch.arange(longest) >= torch.tensor([len(cut[0]) for cut in cuts])[:, None],
            )


def _targets(deviated: Deviated) -> FloatArray:
    """[step, reason]."""
    targets = np.zeros((len(deviated.during), 2), np.float32)
    targets[:, SUDDEN], targets[:, LASTING] = deviated.sudden, deviated.during
    return targets


def _padded(parts: list[FloatArray], length: int, filler: float = 0.0) -> Tensor:
    whole = np.full((len(parts), length, parts[0].shape[1]), filler, np.float32)
    for row, part in zip(whole, parts, strict=True):
        row[: len(part)] = part
    return torch.from_numpy(whole)
