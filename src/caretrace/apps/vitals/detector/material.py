"""What the detector learns from: steps or windows of recordings, with what was going on in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caretrace.apps.vitals.detector.deviations import DeviationSettings, deviate
from caretrace.apps.vitals.detector.history import History, HistorySettings
from caretrace.apps.vitals.detector.network import LASTING, REASONS, SUDDEN
from caretrace.apps.vitals.task import Recordings
from caretrace.data.grid import ChannelScaler, Stretch

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
# Steps of recordings that one draw looks at, and how many of them it keeps: neighbours in time say nearly the same,
# other subjects do not. Windows keep all.
LOOKED_AT, KEPT, IN_WINDOWS = 5_000_000, 500_000, 1_500_000


@dataclasses.dataclass(frozen=True)
class KnownEvents:
    """Events of training subjects that somebody knows.

    Args:
        subject: [event], whose.
        onset: [event], seconds since 1970.
        end: [event], seconds since 1970.
        sudden_until: [event], until when it counts as sudden; the onset where it never does.
    """

    subject: npt.NDArray[np.int64]
    onset: DoubleArray
    end: DoubleArray
    sudden_until: DoubleArray

    def targets(self, subject: int, times: DoubleArray) -> FloatArray:
        """[step, reason], 1 while an event is sudden, while it lasts."""
        found = np.zeros((len(times), len(REASONS)), np.float32)
        for event in np.flatnonzero(self.subject == subject):
            after = times > self.onset[event]
            found[after & (times <= self.end[event]), LASTING] = 1
            found[after & (times <= self.sudden_until[event]), SUDDEN] = 1
        return found


@dataclasses.dataclass(frozen=True)
class Portion:
    """A batch: windows of the same number of steps, or single steps as windows of one.

    Args:
        features: [window, step, feature].
        following: [window, step, channel], standardised values one step later; NaN where nothing was measured.
        targets: [window, step, reason], 1 while something is sudden, while it lasts.
        padding: [window, step], True where there is no step.
    """

    features: Tensor
    following: Tensor
    targets: Tensor
    padding: Tensor


class _Rows(NamedTuple):
    features: FloatArray  # [step, feature]
    following: FloatArray  # [step, channel]
    targets: FloatArray  # [step, reason]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Says what was going on in a recording.

    Args:
        recordings: Of one split.
        scaler: In whose units values are.
        history: What is remembered.
        deviations: How deviations are put in; None for none.
        sudden_steps: How long after its rise an abrupt deviation still counts as sudden.
        known: Known events; None for none.
    """

    recordings: Recordings
    scaler: ChannelScaler
    history: HistorySettings
    deviations: DeviationSettings | None
    sudden_steps: float
    known: KnownEvents | None

    def rows(self, stretch: Stretch, rng: np.random.Generator, share: float = 1.0) -> _Rows:
        """Features and truth of a recording, with deviations of its own in it.

        Args:
            stretch: A recording.
            rng: Which deviations and steps.
            share: Of the steps that are kept, at random; those that are sudden always are.
        """
        values, targets = stretch.values, np.zeros((len(stretch), len(REASONS)), np.float32)
        if self.known is not None:
            targets = self.known.targets(stretch.subject, self.recordings.times(stretch))
        if self.deviations is not None:
            found = deviate(values, self.deviations, self.sudden_steps, rng)
            values = found.values
            targets[found.sudden, SUDDEN] = targets[found.during, LASTING] = 1
        kept = np.flatnonzero((rng.random(len(stretch)) < share) | (targets[:, SUDDEN] > 0))
        scaled = self.scaler.transform(values)
        features = History(self.history).advance(scaled[None], kept=kept)[0].T
        following = np.concatenate([scaled[:, 1:], np.full_like(scaled[:, :1], np.nan)], 1)
        return _Rows(features, following.T[kept], targets[kept])

    def looked_at(self, limit: int, rng: np.random.Generator) -> list[Stretch]:
        """Recordings in random order, no more than hold `limit` steps."""
        found: list[Stretch] = []
        total = 0
        for number in rng.permutation(len(self.recordings.stretches)).tolist():
            stretch = self.recordings.stretches[number]
            if found and total + len(stretch) > limit:
                break
            found.append(stretch)
            total += len(stretch)
        return found


class Steps:
    """Single steps, some of each recording and all that are sudden; for a detector without a backbone.

    Args:
        teacher: Says what was going on.
        rng: Which recordings, deviations and steps.
    """

    def __init__(self, teacher: Teacher, rng: np.random.Generator) -> None:
        stretches = teacher.looked_at(LOOKED_AT, rng)
        share = KEPT / max(KEPT, sum(map(len, stretches)))
        parts = [teacher.rows(stretch, rng, share) for stretch in stretches]
        self._rows = [torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True)]

    def portion(self, steps: int, rng: np.random.Generator) -> Portion:
        """A batch of so many steps, drawn at random."""
        at = torch.from_numpy(rng.integers(0, len(self._rows[0]), steps))
        features, following, targets = (part[at][:, None] for part in self._rows)
        return Portion(features, following, targets, torch.zeros(steps, 1, dtype=torch.bool))


class Windows:
    """Windows of consecutive steps, for a backbone; short recordings are padded at the end.

    Args:
        teacher: Says what was going on.
        length: Steps of a window.
        rng: Which recordings and deviations.
    """

    def __init__(self, teacher: Teacher, length: int, rng: np.random.Generator) -> None:
        self._length = length
        self._rows = [teacher.rows(each, rng) for each in teacher.looked_at(IN_WINDOWS, rng)]
        sizes = np.array([len(rows.targets) for rows in self._rows], np.float64)
        self._chance = sizes / sizes.sum()

    def portion(self, steps: int, rng: np.random.Generator) -> Portion:
        """A batch of windows that hold about so many steps, drawn at random."""
        cuts: list[_Rows] = []
        for number in rng.choice(len(self._rows), max(1, steps // self._length), p=self._chance):
            rows = self._rows[int(number)]
            start = int(rng.integers(-self._length // 2, max(1, len(rows.targets) - self._length // 2)))
            span = slice(max(0, start), max(1, start + self._length))
            cuts.append(_Rows(*(part[span] for part in rows)))
        longest = max(len(each.targets) for each in cuts)
        return Portion(
            features=_padded([each.features for each in cuts], longest),
            following=_padded([each.following for each in cuts], longest, np.nan),
            targets=_padded([each.targets for each in cuts], longest),
            padding=torch.arange(longest) >= torch.tensor([len(each.targets) for each in cuts])[:, None],
        )


def _padded(parts: Sequence[FloatArray], length: int, filler: float = 0.0) -> Tensor:
    whole = np.full((len(parts), length, parts[0].shape[1]), filler, np.float32)
    for row, part in zip(whole, parts, strict=True):
        row[: len(part)] = part
    return torch.from_numpy(whole)
