"""Recordings → scores per step: all at once, or one step after the other as a stream brings them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.signal import lfilter
from torch import Tensor

from caretrace.apps.vitals.detector.history import History, HistorySettings
from caretrace.apps.vitals.detector.network import REASONS, Detector, Reading, nll, residuals, surprise
from caretrace.data.grid import ChannelScaler

FloatArray = npt.NDArray[np.float32]
SURPRISE, RECONSTRUCTION = "surprise", "reconstruction"
_TOGETHER = 32  # recordings scored side by side


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the detector says of one recording.

    Args:
        scores: Reason → [step]; higher is worse.
        residuals: [channel, step], how many scales each value lies above its forecast; NaN where not measured.
    """

    scores: Mapping[str, FloatArray]
    residuals: FloatArray


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A fitted detector with what it needs to read raw values.

    Args:
        detector: In evaluation mode.
        scaler: In the order of the channels.
        history: What is remembered.
        trailing_seconds: Time constant of the running average of how badly forecast and reconstruction fail.
    """

    detector: Detector
    scaler: ChannelScaler
    history: HistorySettings
    trailing_seconds: float

    def score(self, recordings: Sequence[FloatArray]) -> list[Scored]:
        """Score whole recordings.

        Args:
            recordings: Each [channel, step] in the channels' units; NaN where nothing was measured.
        """
        found: list[Scored | None] = [None] * len(recordings)
        order = sorted(range(len(recordings)), key=lambda number: recordings[number].shape[1])
        for low in range(0, len(order), _TOGETHER):
            group = order[low : low + _TOGETHER]
            for number, scored in zip(group, self._group([recordings[i] for i in group]), strict=True):
                found[number] = scored
        return [each for each in found if each is not None]

    @torch.no_grad()
    def _group(self, group: list[FloatArray]) -> list[Scored]:
        length = max(values.shape[1] for values in group)
        padded = np.full((len(group), len(self.scaler.channels), length), np.nan, np.float32)
        for row, values in zip(padded, group, strict=True):
            row[:, : values.shape[1]] = self.scaler.transform(values)
        features = torch.from_numpy(History(self.history, len(group)).advance(padded)).transpose(1, 2)
        ends = torch.tensor([values.shape[1] for values in group])
        reading = self.detector(features.contiguous(), torch.arange(length) >= ends[:, None])
        shown = torch.from_numpy(padded).transpose(1, 2)
        apart = residuals(reading, shown).numpy()
        misfit = nll(self.detector.masked(features[:, :-1], shown[:, 1:]), shown[:, 1:])
        losses = {
            SURPRISE: surprise(reading, shown).sum(-1).numpy(),
            RECONSTRUCTION: F.pad(misfit.sum(-1), (1, 0)).numpy(),
        }
        evidence = reading.evidence.numpy()
        return [
            Scored(
                {
                    **{name: evidence[i, :end, place] for place, name in enumerate(REASONS)},
                    **{
                        name: Trailing(self.decay).advance(loss[i : i + 1, :end])[0]
                        for name, loss in losses.items()
                    },
                },
                apart[i, :end].T,
            )
            for i, end in enumerate(ends.tolist())
        ]

    @property
    def decay(self) -> float:
        """Weight of the past in the running averages of the losses."""
        return float(np.exp(-self.history.step_seconds / self.trailing_seconds))

    def stream(self, n_subjects: int) -> Stream:
        """Start to follow so many subjects at once."""
        return Stream(self, n_subjects)


class Trailing:
    """A running average with exponentially falling weights, from 0.

    Args:
        decay: Weight of the past.
        n_subjects: How many series.
    """

    def __init__(self, decay: float, n_subjects: int = 1) -> None:
        self._decay, self._last = decay, np.zeros(n_subjects)

    def advance(self, values: FloatArray) -> FloatArray:
        """Take [subject, step], one or many steps."""
        averages, _ = lfilter(
            [1 - self._decay],
            [1.0, -self._decay],
            values.astype(np.float64),
            zi=self._decay * self._last[:, None],
        )
        self._last = averages[:, -1]
        return np.asarray(averages, np.float32)


class Stream:
    """Subjects followed step by step, side by side; gives what `Scorer.score` gives.

    Args:
        scorer: A fitted detector.
        n_subjects: How many subjects.
    """

    def __init__(self, scorer: Scorer, n_subjects: int) -> None:
        self._scorer, self._state = scorer, None
        self._history = History(scorer.history, n_subjects)
        self._before: tuple[Reading, Tensor] | None = None
        self._trailing = {name: Trailing(scorer.decay, n_subjects) for name in (SURPRISE, RECONSTRUCTION)}

    @torch.no_grad()
    def step(self, values: FloatArray) -> dict[str, FloatArray]:
        """One more step of every subject.

        Args:
            values: [subject, channel] in the channels' units; NaN where nothing was measured.

        Returns:
            Reason → [subject].
        """
        scaler = self._scorer.scaler
        scaled = ((values - scaler.mean) / scaler.sd).astype(np.float32)
        features = torch.from_numpy(self._history.advance(scaled[..., None])[..., 0])
        reading, self._state = self._scorer.detector.step(features, self._state)
        scores = {name: reading.evidence[:, place].numpy() for place, name in enumerate(REASONS)}
        for name, loss in self._losses(torch.from_numpy(scaled)).items():
            scores[name] = self._trailing[name].advance(loss.sum(-1).numpy()[:, None])[:, 0]
        self._before = reading, features
        return scores

    def _losses(self, now: Tensor) -> dict[str, Tensor]:
        if self._before is None:
            return dict.fromkeys(self._trailing, torch.zeros_like(now))
        forecast, features = self._before
        masked = self._scorer.detector.masked(features, now)
        return {SURPRISE: nll(forecast, now), RECONSTRUCTION: nll(masked, now)}
