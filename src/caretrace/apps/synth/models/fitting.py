"""Batches of histories of similar length, for `training.descent`; tuning subjects say when to stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from caretrace.apps.synth.codes.sequences import Records, lengths
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.histories import Ints
from caretrace.training.descent import DescentConfig, descend


@dataclasses.dataclass(frozen=True)
class FitConfig(DescentConfig):
    """How a generator is fitted.

    Args:
        max_tokens: Tokens of a batch, padding included.

    Raises:
        ConfigError: A number outside its range.
    """

    max_tokens: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens: got {self.max_tokens}, it must be at least 1")


class Learner(Protocol):
    """What makes batches for a model and judges them."""

    def batch(self, records: Records, rng: np.random.Generator) -> Any:
        """Training batch of these subjects; what is random about it comes from `rng`."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Mean per subject."""
        ...

    def tuning_loss(self, records: Records) -> Tensor:
        """Mean per subject, of subjects that are not learned from."""
        ...


@dataclasses.dataclass(eq=False)
class _Histories:
    """Subjects as `training.descent` learns from them; as the methods of its `Learner` say."""

    learner: Learner
    train: Records
    tuning: Records
    max_tokens: int
    learned: float = 0.0  # sum of the losses of the subjects of this epoch

    @property
    def n_batches(self) -> int:
        return sum(1 for _ in batches(self.train, self.max_tokens, np.random.default_rng(0)))

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        self.learned = 0.0
        for subjects in batches(self.train, self.max_tokens, rng):
            yield len(subjects), self.learner.batch(self.train.take(subjects), rng)

    def loss(self, batch: tuple[int, Any]) -> Tensor:
        found = self.learner.loss(batch[1])
        self.learned += float(found.detach()) * batch[0]
        return found

    def tuning_loss(self) -> float:
        total = 0.0
        for subjects in batches(self.tuning, self.max_tokens, np.random.default_rng(0)):
            total += float(self.learner.tuning_loss(self.tuning.take(subjects))) * len(subjects)
        return total / len(self.tuning)


def fit(
    model: nn.Module,
    learner: Learner,
    train: Records,
    tuning: Records,
    config: FitConfig,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> list[dict[str, float]]:
    """Fit a model, and leave it with its best weights, in evaluation mode.

    Args:
        model: Its parameters are fitted.
        learner: Makes batches and losses of it.
        train: Subjects to learn from.
        tuning: Subjects that say when to stop.
        config: How.
        progress: Told after each epoch.

    Returns:
        One record per epoch: `epoch`, `train_loss` and `tuning_loss`, nats per subject (not per batch).

    Raises:
        CohortError: Nobody to learn from or to stop by.
        CaretraceError: A loss is not a number.
    """
    if not len(train) or not len(tuning):
        raise CohortError(
            f"{len(train)} training and {len(tuning)} tuning subjects: give at least one of each"
        )
    histories = _Histories(learner, train, tuning, config.max_tokens)

    def tell(record: dict[str, float]) -> None:
        record["train_loss"] = histories.learned / len(train)
        progress(record)

    return descend(model, histories, config, tell)


def batches(records: Records, max_tokens: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Places of subjects, in random batches of similar length, each subject once."""
    length = lengths(records.histories)
    order = np.argsort(length + rng.random(len(length)), kind="stable")
    cuts, widest, begin = [], 0, 0
    for place, subject in enumerate(order):
        widest = max(widest, int(length[subject]))
        if place > begin and widest * (place - begin + 1) > max_tokens:
            cuts.append(place)
            begin, widest = place, int(length[subject])
    parts = np.split(order, cuts)
    for number in rng.permutation(len(parts)):
        yield parts[number]
