"""From sequences to batches, and from batches to a fitted ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caretrace.apps.safety.config import SHARE_OF_BATCH, SafetyConfig
from caretrace.apps.safety.model import QUANTILES, SCALES, SafetyModel, StepBatch, outputs_as_numbers
from caretrace.apps.safety.sequences import HOSPITAL, Arrays, Scaling
from caretrace.training.descent import descend

# Sequences at a time when predicting.
_TOGETHER = 256


def fit_ensemble(
    scalings: Mapping[str, Scaling],
    train: Mapping[str, Arrays],
    tuning: Mapping[str, Arrays],
    config: SafetyConfig,
    progress: Callable[[int, dict[str, float]], None] = lambda _member, _record: None,
) -> tuple[list[SafetyModel], list[dict[str, float]]]:
    """Fit every member.

    Args:
        scalings: Of every kind of sequence.
        train: Steps to learn from, by kind.
        tuning: Steps that say when to stop, by kind.
        config: Settings.
        progress: Told the number of the member and each epoch's record.

    Returns:
        The members in evaluation mode, and one record per member and epoch.
    """
    members, log = [], []
    for number in range(config.members):
        torch.manual_seed(config.descent.seed * 1_000 + number)
        model = SafetyModel(scalings, config.model, learned_weights=config.learned_weights)
        learner = _Learner(model, train, tuning, config, number)
        records = descend(model, learner, config.descent, lambda record, n=number: progress(n, record))  # type: ignore[misc]
        log += [{"member": float(number), **record} for record in records]
        members.append(model)
    return members, log


def predict(members: list[SafetyModel], arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Mean of the members at every step.

    Returns:
        Task → `[step, …]`: probabilities of levels, quantiles of minutes, or shares.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for first in range(0, len(arrays), _TOGETHER):
        chosen = np.arange(first, min(first + _TOGETHER, len(arrays)))
        batch = _padded(arrays, arrays.begins[chosen], arrays.begins[chosen + 1])
        with torch.no_grad():
            each = [outputs_as_numbers(member(batch)) for member in members]
        there = ~batch.padding_mask
        for task in members[0].tasks[arrays.kind]:
            mean = torch.stack([one[task] for one in each]).double().mean(0)
            found.setdefault(task, []).append(mean[there].numpy())
    return {task: np.concatenate(parts) for task, parts in found.items()}


class _Learner:
    """Batches with some sequences of every kind; judged by how much better than a constant each task is foreseen."""

    def __init__(
        self,
        model: SafetyModel,
        train: Mapping[str, Arrays],
        tuning: Mapping[str, Arrays],
        config: SafetyConfig,
        member: int,
    ) -> None:
        self.model, self.train, self.tuning, self.config, self.member = model, train, tuning, config, member
        # Only sequences with a target teach anything; a year has few surveys.
        self._useful = {kind: _with_targets(arrays) for kind, arrays in train.items()}
        self.n_batches = config.batches

    def batches(self, rng: np.random.Generator) -> Iterator[list[StepBatch]]:
        rng = np.random.default_rng([self.member, *rng.integers(0, 2**31, 2).tolist()])
        for _ in range(self.n_batches):
            yield [self._batch(kind, rng) for kind in self.train if len(self._useful[kind])]

    def _batch(self, kind: str, rng: np.random.Generator) -> StepBatch:
        arrays, count = self.train[kind], self.config.batch * SHARE_OF_BATCH[kind]
        chosen = rng.choice(self._useful[kind], count)
        begin, end = arrays.begins[chosen], arrays.begins[chosen + 1]
        if kind == HOSPITAL:  # a window anywhere in the block
            begin = begin + rng.integers(0, np.maximum(end - begin - self.config.window_hours, 0) + 1)
            end = np.minimum(end, begin + self.config.window_hours)
        return _padded(arrays, begin, end)

    def loss(self, batch: list[StepBatch]) -> Tensor:
        losses: dict[str, Tensor] = {}
        for part in batch:
            losses |= self.model.losses(part)
        total: Tensor = self.model.weights(losses)
        return total

    def tuning_loss(self) -> float:
        """Mean over the tasks of loss / loss of the best constant.

        With `stop_by_values`, weighed by the square root of how many values each task has: a survey of two hundred
        people, soon learned by heart, then does not stop what tens of thousands of hours still teach.
        """
        shares, weights = [], []
        for arrays in self.tuning.values():
            sums: dict[str, float] = {}
            values: dict[str, int] = {}
            for first in range(0, len(arrays), _TOGETHER):
                chosen = np.arange(first, min(first + _TOGETHER, len(arrays)))
                batch = _padded(arrays, arrays.begins[chosen], arrays.begins[chosen + 1])
                for task, loss in self.model.losses(batch).items():
                    known = _known(batch, self.model, task)
                    sums[task] = sums.get(task, 0.0) + float(loss) * known
                    values[task] = values.get(task, 0) + known
            shares += [total / _constant_loss(arrays, self.model, task) for task, total in sums.items()]
            weights += [np.sqrt(values[task]) if self.config.stop_by_values else 1.0 for task in sums]
        return float(np.average(shares, weights=weights))


def _padded(arrays: Arrays, begin: NDArray[np.int64], end: NDArray[np.int64]) -> StepBatch:
    """Stretches of steps side by side."""
    longest = int((end - begin).max())
    place = begin[:, None] + np.arange(longest)
    beyond = place >= end[:, None]
    place = np.where(beyond, 0, place)
    targets = np.where(beyond[..., None], np.float32(np.nan), arrays.targets[place])
    return StepBatch(
        arrays.kind,
        torch.from_numpy(np.where(beyond[..., None], np.float32(0), arrays.values[place])),
        torch.from_numpy(np.where(beyond[..., None], 0, arrays.names[place])),
        torch.from_numpy(beyond),
        torch.from_numpy(targets),
    )


def _with_targets(arrays: Arrays) -> NDArray[np.int64]:
    known = np.concatenate([[0], np.cumsum((~np.isnan(arrays.targets)).any(1))])
    return np.flatnonzero(known[arrays.begins[1:]] > known[arrays.begins[:-1]])


def _known(batch: StepBatch, model: SafetyModel, task: str) -> int:
    places = [model.columns[batch.kind].index(column) for column in model.tasks[batch.kind][task]]
    return int((~torch.isnan(batch.targets[..., places])).sum())


def _constant_loss(arrays: Arrays, model: SafetyModel, task: str) -> float:
    """Summed loss of the best constant: what a task costs before anything is learned."""
    columns = model.columns[arrays.kind]
    total = 0.0
    for name in model.tasks[arrays.kind][task]:
        value = arrays.targets[:, columns.index(name)].astype(float)
        value = value[~np.isnan(value)]
        if task == "crisis":
            share = np.unique(value, return_counts=True)[1] / max(1, len(value))
            total -= float(len(value) * (share * np.log(share)).sum())
        elif task in SCALES:
            levels = np.array(QUANTILES)
            scaled = SCALES[task][0](torch.from_numpy(value)).numpy()
            over = scaled[:, None] - np.quantile(scaled, levels)
            total += float(np.maximum(levels * over, (levels - 1) * over).mean(1).sum())
        else:
            mean = np.clip(value.mean(), 1e-6, 1 - 1e-6)
            total -= float((value * np.log(mean) + (1 - value) * np.log(1 - mean)).sum())
    return max(total, 1e-9)
