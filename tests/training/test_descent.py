"""Gradient descent on batches of one's own: it learns, stops, keeps the best, and is repeatable."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caretrace.errors import CaretraceError, ConfigError
from caretrace.training.descent import DescentConfig, Learner, descend


class Line:
    """y = 2 x + 1 with noise, learned by a linear layer."""

    n_batches = 8

    def __init__(self, model: nn.Module, tuning: list[float] | None = None) -> None:
        self.model, self.given = model, iter(tuning) if tuning else None
        self.seen: list[float] = []

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.n_batches):
            x = torch.from_numpy(rng.normal(size=(32, 1)).astype(np.float32))
            self.seen.append(float(x[0, 0]))
            yield x, 2 * x + 1

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return ((self.model(batch[0]) - batch[1]) ** 2).mean()

    def tuning_loss(self) -> float:
        if self.given is not None:
            return next(self.given)
        x = torch.linspace(-1, 1, 9)[:, None]
        return float(self.loss((x, 2 * x + 1)))


def _fit(
    config: DescentConfig, tuning: list[float] | None = None
) -> tuple[nn.Module, Line, list[dict[str, float]]]:
    torch.manual_seed(1)
    model = nn.Linear(1, 1)
    learner: Learner = Line(model, tuning)
    return model, learner, descend(model, learner, config)  # type: ignore[return-value]


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_it_learns_and_is_repeatable(schedule: str) -> None:
    config = DescentConfig(epochs=20, learning_rate=0.1, schedule=schedule, weight_decay=0.0)  # type: ignore[arg-type]
    model, learner, log = _fit(config)
    again, second, _ = _fit(config)
    assert log[-1]["tuning_loss"] < 1e-3 < log[0]["tuning_loss"]
    assert not model.training
    assert learner.seen == second.seen
    assert torch.equal(model.weight, again.weight)  # type: ignore[arg-type]


def test_it_stops_after_patience_and_keeps_the_best_epoch() -> None:
    _, _, log = _fit(DescentConfig(epochs=10, patience=2), [3.0, 1.0, 2.0, 2.0, 0.0])
    assert [record["tuning_loss"] for record in log] == [3.0, 1.0, 2.0, 2.0]
    best, _, _ = _fit(DescentConfig(epochs=4, schedule="plateau"), [3.0, 1.0, 2.0, 2.0])
    two, _, _ = _fit(DescentConfig(epochs=2, schedule="plateau"), [3.0, 1.0])
    assert torch.equal(best.weight, two.weight)  # type: ignore[arg-type]


def test_the_rate_halves_on_a_plateau() -> None:
    slow, _, _ = _fit(DescentConfig(epochs=3, schedule="plateau", plateau=1, patience=9), [3.0, 3.0, 2.9])
    fast, _, _ = _fit(DescentConfig(epochs=3, schedule="plateau", plateau=9, patience=9), [3.0, 3.0, 2.9])
    assert torch.equal(slow.weight, fast.weight)  # type: ignore[arg-type]
    slow, _, _ = _fit(
        DescentConfig(epochs=4, schedule="plateau", plateau=1, patience=9), [3.0, 3.0, 3.0, 2.9]
    )
    fast, _, _ = _fit(
        DescentConfig(epochs=4, schedule="plateau", plateau=9, patience=9), [3.0, 3.0, 3.0, 2.9]
    )
    assert not torch.equal(slow.weight, fast.weight)  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_stops_it() -> None:
    with pytest.raises(CaretraceError, match="tuning loss of epoch 1 became nan"):
        _fit(DescentConfig(), [1.0, float("nan")])


def test_no_batch_is_an_error() -> None:
    model = nn.Linear(1, 1)
    learner = Line(model)
    learner.n_batches = 0
    with pytest.raises(CaretraceError, match="no training batch"):
        descend(model, learner, DescentConfig())


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"patience": 0}, {"learning_rate": 0.0}, {"warmup": 1.0}, {"seed": -1}]
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DescentConfig(**wrong)  # type: ignore[arg-type]
