"""Gradient descent on batches of histories of similar length, stopped by tuning subjects.

Not `training.run.fit`: that feeds labelled samples to an ensemble of risk models under Lightning. What a generator
learns from are the histories themselves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from caretrace.apps.synth.codes.sequences import Records, lengths
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.histories import Ints


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How a generator is fitted.

    Args:
        seed: Of everything random.
        epochs: Passes over the training subjects at most.
        patience: Epochs without a better tuning loss before it stops.
        max_tokens: Tokens of a batch, padding included.
        learning_rate: Highest, of AdamW (Loshchilov and Hutter 2019); rises over `warmup` and falls as a cosine to 0.
        warmup: Part of the batches over which it rises.
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of a gradient.
    """

    seed: int = 0
    epochs: int = 30
    patience: int = 5
    max_tokens: int = 2048
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"fit.{name}: got {getattr(self, name)}, it must be at least 1")
        if not (self.learning_rate > 0 and self.gradient_clip > 0 and 0 <= self.warmup < 1):
            raise ConfigError("fit: learning_rate and gradient_clip must be above 0, warmup in [0, 1)")


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
        One record per epoch: `epoch`, `train_loss`, `tuning_loss`, nats per subject.

    Raises:
        CohortError: Nobody to learn from or to stop by.
    """
    if not len(train) or not len(tuning):
        raise CohortError(
            f"{len(train)} training and {len(tuning)} tuning subjects: give at least one of each"
        )
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    steps = config.epochs * max(1, len(list(batches(train, config.max_tokens, rng))))
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.AdamW(_groups(model, config.weight_decay), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _Schedule(steps, config.warmup))
    log: list[dict[str, float]] = []
    best, best_weights = math.inf, _copy(model)
    for epoch in range(config.epochs):
        model.train()
        total = 0.0
        for subjects in batches(train, config.max_tokens, rng):
            loss = learner.loss(learner.batch(train.take(subjects), rng))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(subjects)
        model.eval()
        found = tuning_loss(learner, tuning, config.max_tokens)
        log.append({"epoch": float(epoch), "train_loss": total / len(train), "tuning_loss": found})
        progress(log[-1])
        if found < best:
            best, best_weights = found, _copy(model)
        elif epoch - min(range(len(log)), key=lambda e: log[e]["tuning_loss"]) >= config.patience:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return log


@torch.no_grad()
def tuning_loss(learner: Learner, tuning: Records, max_tokens: int) -> float:
    """Mean loss per subject."""
    total = 0.0
    for subjects in batches(tuning, max_tokens, np.random.default_rng(0)):
        total += float(learner.tuning_loss(tuning.take(subjects))) * len(subjects)
    return total / len(tuning)


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


class _Schedule:
    """Factor of the learning rate at each step."""

    def __init__(self, steps: int, warmup: float) -> None:
        self._steps, self._warm = max(1, steps), max(1, round(steps * warmup))

    def __call__(self, step: int) -> float:
        if step < self._warm:
            return (step + 1) / self._warm
        done = (step - self._warm) / max(1, self._steps - self._warm)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Biases and norms are not drawn to 0."""
    wide = [p for p in model.parameters() if p.ndim > 1]
    flat = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": wide, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
