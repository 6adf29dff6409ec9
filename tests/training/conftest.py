"""A training small enough to be repeated many times, on real samples of the tiny dataset."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caretrace import schema
from caretrace.application.tasks import find_task
from caretrace.apps import load_application
from caretrace.cohort import build_labels
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Preprocessor, Samples
from caretrace.dataset import Dataset
from caretrace.training.config import TrainingConfig
from caretrace.training.run import METRICS_FILE, Progress, fit

# Four batches an epoch. Member 0 trains all twelve epochs, member 1 stops early; the learning rate of both
# falls on the way, and neither is best at its end.
CONFIG = TrainingConfig(
    members=2,
    max_steps=48,
    batch_size=32,
    learning_rate=0.02,
    gradient_clip=0.5,
    patience_steps=16,
    plateau_steps=1,
)


class Toy(nn.Module):
    """As little as a model can be: what was measured, how high, and dropout."""

    def __init__(self, n_codes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.level = nn.Embedding(n_codes, 8)
        self.slope = nn.Embedding(n_codes, 8)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(8, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 1)
        )

    def prepare(self, train: Samples) -> None:
        """Nothing to set without gradient steps."""

    def forward(self, batch: EventBatch) -> Tensor:
        each = self.level(batch.code) + self.slope(batch.code) * batch.numeric_value[..., None]
        summed = each.masked_fill(batch.padding_mask[..., None], 0.0).sum(1)
        return self.layers(summed / (~batch.padding_mask).sum(1, keepdim=True).clamp(min=1))[:, 0]

    def loss(self, batch: EventBatch, outcome: Tensor) -> Tensor:
        return self.tuning_loss(self(batch), outcome)

    def tuning_loss(self, logit: Tensor, outcome: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logit, outcome)


@dataclasses.dataclass(frozen=True)
class Training:
    """Everything `fit` needs; `training()` fits into a folder."""

    build: Callable[[], nn.Module]
    train: Samples
    tuning: Samples

    def __call__(
        self, run: Path, config: TrainingConfig = CONFIG, progress: Progress | None = None
    ) -> list[dict[str, torch.Tensor]]:
        run.mkdir(exist_ok=True)
        members = fit(self.build, self.train, self.tuning, config, run, progress)
        return [member.state_dict() for member in members]


def prepare_training(tiny: Path, dropout: float = 0.3) -> Training:
    application, dataset = load_application("mortality"), Dataset(tiny)
    labels = build_labels(dataset, find_task(application, dataset, None))
    train, tuning = (
        application.collect(dataset, labels.frame, split, lambda done, total: None)
        for split in (schema.TRAIN, schema.TUNING)
    )
    preprocessor = Preprocessor.fit(train, static_prefixes=(), min_samples=2, max_measurements=50)
    return Training(
        lambda: Toy(len(preprocessor.vocabulary), dropout),
        preprocessor.transform(train),
        preprocessor.transform(tuning),
    )


@pytest.fixture(scope="session")
def training(tiny_dataset: Path) -> Training:
    return prepare_training(tiny_dataset)


@pytest.fixture(scope="session")
def undisturbed(training: Training, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], str]:
    """Weights and metrics of a run that nobody interrupted."""
    run = tmp_path_factory.mktemp("undisturbed")
    weights = training(run)
    return weights, (run / METRICS_FILE).read_text()


def assert_same_bits(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / METRICS_FILE).read_text().splitlines()]
