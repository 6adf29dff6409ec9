"""Gradient descent for models that bring their own batches: sequences of steps, windows of signals, histories.

`training.run.fit` feeds labelled samples to an ensemble of risk models, on one machine or many. What learns from
something else says how batches come about and what their loss is, and is fitted here in one process.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from caretrace.errors import CaretraceError, ConfigError


@dataclasses.dataclass(frozen=True)
class DescentConfig:
    """How a model is fitted.

    Args:
        seed: Of everything random.
        epochs: Passes over the training batches at most.
        patience: Epochs without a better tuning loss before it stops.
        learning_rate: Highest, of AdamW (Loshchilov and Hutter 2019).
        schedule: `cosine` rises over `warmup` and falls to 0; `plateau` halves after `plateau` epochs without a
            better tuning loss.
        warmup: Part of all batches over which `cosine` rises.
        plateau: Epochs, see `schedule`.
        weight_decay: Of AdamW; biases and norms are left alone.
        gradient_clip: Largest norm of a gradient.

    Raises:
        ConfigError: A number outside its range.
    """

    seed: int = 0
    epochs: int = 30
    patience: int = 5
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: float = 0.05
    plateau: int = 2
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "plateau"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, it must be at least 1")
        if not (self.learning_rate > 0 and self.gradient_clip > 0 and 0 <= self.warmup < 1):
            raise ConfigError("learning_rate and gradient_clip must be above 0, warmup in [0, 1)")
        if self.seed < 0 or self.weight_decay < 0:
            raise ConfigError(f"seed {self.seed} and weight_decay {self.weight_decay} must not be negative")


class Learner(Protocol):
    """What is learned from, and how well it is learned."""

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        ...

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """Training batches of one epoch; all that is random about them comes from `rng`."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """What is minimised, with gradients."""
        ...

    def tuning_loss(self) -> float:
        """Loss on what is not learned from; without gradients."""
        ...


def descend(
    model: nn.Module,
    learner: Learner,
    config: DescentConfig,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> list[dict[str, float]]:
    """Fit a model, and leave it with the weights of its best epoch, in evaluation mode.

    Args:
        model: Its parameters are fitted.
        learner: Batches and losses.
        config: How.
        progress: Told after each epoch.

    Returns:
        One record per epoch: `epoch`, mean `train_loss`, `tuning_loss`.

    Raises:
        CaretraceError: A loss is not a number, or there is nothing to learn from.
    """
    steps = config.epochs * learner.n_batches
    if not steps:
        raise CaretraceError("nothing to learn from: no training batch; take a larger dataset")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)
    rate = _Rate(optimiser, config, steps)
    log: list[dict[str, float]] = []
    best, since, weights = math.inf, 0, _copy(model)
    for epoch in range(config.epochs):
        model.train()
        losses = [
            _step(model, learner.loss(batch), optimiser, rate, config) for batch in learner.batches(rng)
        ]
        model.eval()
        with torch.no_grad():
            found = learner.tuning_loss()
        _require_finite(found, epoch)
        rate.after_epoch(found)
        log.append({"epoch": float(epoch), "train_loss": float(np.mean(losses)), "tuning_loss": found})
        progress(log[-1])
        since = 0 if found < best else since + 1
        if not since:
            best, weights = found, _copy(model)
        elif since >= config.patience:
            break
    model.load_state_dict(weights)
    model.eval()
    return log


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser: biases and norms are not drawn to 0."""
    wide = [p for p in model.parameters() if p.ndim > 1]
    flat = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": wide, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


class _Rate:
    """The learning rate, batch by batch and epoch by epoch."""

    def __init__(self, optimiser: torch.optim.Optimizer, config: DescentConfig, steps: int) -> None:
        self._cosine, self._plateau = None, None
        if config.schedule == "cosine":
            warm = max(1, round(steps * config.warmup))
            self._cosine = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: _cosine(at, warm, steps))
        else:
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, factor=0.5, patience=config.plateau
            )

    def after_batch(self) -> None:
        if self._cosine is not None:
            self._cosine.step()

    def after_epoch(self, loss: float) -> None:
        if self._plateau is not None:
            self._plateau.step(loss)


def _cosine(step: int, warm: int, steps: int) -> float:
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def _step(
    model: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, rate: _Rate, config: DescentConfig
) -> float:
    found = float(loss.detach())
    _require_finite(found, None)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    optimiser.step()
    rate.after_batch()
    return found


def _require_finite(loss: float, epoch: int | None) -> None:
    if not math.isfinite(loss):
        where = "training loss" if epoch is None else f"tuning loss of epoch {epoch}"
        raise CaretraceError(f"the {where} became {loss}; train again with a lower learning_rate")


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
