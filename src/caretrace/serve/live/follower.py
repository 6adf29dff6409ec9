"""Subjects who come and go, each followed step by step; steps of different subjects are scored side by side.

What the detector remembers of a subject lies in one row of each array; a step gathers the rows it is about, runs the
network once for all of them, and puts the rows back. So a subject's scores do not depend on who else is there (but
for rounding: a matrix product of more rows may add in another order).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caretrace.apps.vitals.detector.history import History
from caretrace.apps.vitals.detector.network import REASONS, Reading, surprise
from caretrace.apps.vitals.detector.scoring import SURPRISE, Scorer
from caretrace.errors import ConfigError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
SCORES = (*REASONS, SURPRISE)


class Follower:
    """What a detector remembers of many subjects.

    Args:
        scorer: A fitted detector.

    Raises:
        ConfigError: Its backbone remembers more with every step, so that a stay would not fit.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._history = History(scorer.history, 0)
        self._state = _Cells(scorer)
        channels = len(scorer.scaler.channels)
        self._mean, self._log_scale = torch.zeros(0, channels), torch.zeros(0, channels)
        self._begun = np.zeros(0, bool)
        self._trailing = np.zeros(0)

    def grow(self, slots: int) -> None:
        """Make room for so many subjects."""
        history = History(self._scorer.history, slots)
        for name, (array, axis) in self._history.memory().items():
            _head(history.memory()[name][0], axis, array.shape[axis])[...] = array
        self._history = history
        self._state.grow(slots)
        more = slots - len(self._begun)
        self._mean = torch.cat([self._mean, self._mean.new_zeros(more, self._mean.shape[1])])
        self._log_scale = torch.cat(
            [self._log_scale, self._log_scale.new_zeros(more, self._log_scale.shape[1])]
        )
        self._begun = np.concatenate([self._begun, np.zeros(more, bool)])
        self._trailing = np.concatenate([self._trailing, np.zeros(more)])

    def reset(self, slots: IntArray) -> None:
        """A recording begins: nothing is remembered of these subjects."""
        for array, axis in self._history.memory().values():
            np.moveaxis(array, axis, 0)[slots] = 0
        self._state.reset(torch.from_numpy(slots))
        self._begun[slots], self._trailing[slots] = False, 0

    @torch.no_grad()
    def step(self, slots: IntArray, values: FloatArray) -> FloatArray:
        """One more step of some subjects.

        Args:
            slots: [row], different ones.
            values: [row, channel] in the channels' units; NaN where nothing was measured.

        Returns:
            [row, score], in the order of `SCORES`.
        """
        scaler, rows = self._scorer.scaler, torch.from_numpy(slots)
        scaled = ((values - scaler.mean) / scaler.sd).astype(np.float32)
        features = torch.from_numpy(self._history.advance(scaled[..., None], slots)[..., 0])
        reading, state = self._scorer.detector.step(features, self._state.gather(rows))
        self._state.scatter(rows, state)
        loss = np.where(self._begun[slots], self._surprise(rows, scaled), 0.0)
        decay = self._scorer.decay
        self._trailing[slots] = (1 - decay) * loss + decay * self._trailing[slots]
        self._mean[rows], self._log_scale[rows] = reading.mean, reading.log_scale
        self._begun[slots] = True
        return np.column_stack([reading.evidence.numpy(), self._trailing[slots]]).astype(np.float32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What must be kept to go on after a restart."""
        return {
            **{f"history.{name}": array.copy() for name, (array, _) in self._history.memory().items()},
            **{f"state.{n}": cell.numpy().copy() for n, cell in enumerate(self._state.cells)},
            "mean": self._mean.numpy().copy(),
            "log_scale": self._log_scale.numpy().copy(),
            "begun": self._begun.astype(np.uint8),
            "trailing": self._trailing.copy(),
        }

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from there; there must be room for as many subjects as there were."""
        for name, (array, _) in self._history.memory().items():
            array[...] = arrays[f"history.{name}"]
        for n, cell in enumerate(self._state.cells):
            cell.copy_(torch.from_numpy(arrays[f"state.{n}"].copy()))
        self._mean = torch.from_numpy(arrays["mean"].copy())
        self._log_scale = torch.from_numpy(arrays["log_scale"].copy())
        self._begun, self._trailing = arrays["begun"].astype(bool), arrays["trailing"].copy()

    def _surprise(self, rows: Tensor, scaled: FloatArray) -> npt.NDArray[np.float64]:
        mean, log_scale, now = self._mean[rows], self._log_scale[rows], torch.from_numpy(scaled)
        before = Reading(mean[:, None], mean[:, None].repeat(1, 2, 1), log_scale[:, None].repeat(1, 2, 1))
        found = surprise(before, torch.stack([now, now], 1))[:, 1].sum(-1)
        return np.asarray(found.numpy(), np.float64)


class _Cells:
    """The state of a backbone, one row per subject, whatever it is made of."""

    def __init__(self, scorer: Scorer) -> None:
        width = scorer.history.n_features
        two, three = (_after_a_step(scorer, n, width) for n in (2, 3))
        again = scorer.detector.step(torch.zeros(2, width), two)[1]
        self._axes = []
        for small, large, later in zip(_leaves(two), _leaves(three), _leaves(again), strict=True):
            differ = [i for i, (a, b) in enumerate(zip(small.shape, large.shape, strict=True)) if a != b]
            if len(differ) != 1 or small.shape != later.shape:
                raise ConfigError(
                    "this detector's backbone remembers more with every step, so a stay would not fit into memory; "
                    "serve a run with detector.backbone gru, lstm, mamba or mamba2"
                )
            self._axes.append(differ[0])
        self._like = two
        # [slot, …]: the subjects' axis comes first, and a recording begins with zeros.
        self.cells = [
            leaf.new_zeros(0, *leaf.movedim(axis, 0).shape[1:])
            for leaf, axis in zip(_leaves(two), self._axes, strict=True)
        ]

    def grow(self, slots: int) -> None:
        self.cells = [
            torch.cat([each, each.new_zeros(slots - len(each), *each.shape[1:])]) for each in self.cells
        ]

    def reset(self, rows: Tensor) -> None:
        for each in self.cells:
            each[rows] = 0

    def gather(self, rows: Tensor) -> Any:
        pairs = zip(self.cells, self._axes, strict=True)
        return _filled(self._like, iter([cell[rows].movedim(0, axis).contiguous() for cell, axis in pairs]))

    def scatter(self, rows: Tensor, state: Any) -> None:
        for cell, axis, leaf in zip(self.cells, self._axes, _leaves(state), strict=True):
            cell[rows] = leaf.movedim(axis, 0)


@torch.no_grad()
def _after_a_step(scorer: Scorer, rows: int, width: int) -> Any:
    return scorer.detector.step(torch.zeros(rows, width), None)[1]


def _leaves(tree: Any) -> list[Tensor]:
    """The tensors of a state, in order; none of a detector that keeps its past in the features alone."""
    if tree is None:
        return []
    if isinstance(tree, Tensor):
        return [tree]
    if dataclasses.is_dataclass(tree):
        tree = [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    return [leaf for part in tree for leaf in _leaves(part)]


def _filled(like: Any, leaves: Iterator[Tensor]) -> Any:
    """A state built like another, of other tensors."""
    if like is None:
        return None
    if isinstance(like, Tensor):
        return next(leaves)
    if dataclasses.is_dataclass(like) and not isinstance(like, type):
        parts = {f.name: _filled(getattr(like, f.name), leaves) for f in dataclasses.fields(like)}
        return type(like)(**parts)
    return type(like)(_filled(part, leaves) for part in like)


def _head(array: npt.NDArray[Any], axis: int, count: int) -> npt.NDArray[Any]:
    return array[(slice(None),) * axis + (slice(count),)]
