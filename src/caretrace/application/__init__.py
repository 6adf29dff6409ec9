"""The Application contract, and the verbs that every application gets by keeping it.

An application says what it reads, which labels it needs and what its model is; training, judging and
predicting are written once, here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # choosing a task must not cost the seconds that torch takes
    import polars as pl
    from torch import nn

    from caretrace.data.inputs import Inputs
    from caretrace.data.samples import Preprocessor
    from caretrace.dataset import Dataset

# Told about each piece of work: (what is being done, pieces done, pieces in all or None).
Progress = Callable[[str, float, float | None], None]


def silent(what: str, done: float, total: float | None) -> None:
    """A `Progress` that tells nobody."""


class Application(Protocol):
    """What one folder of `apps/` provides."""

    name: str
    title: str
    summary: str
    config_class: type[Any]

    @property
    def tasks(self) -> Path:
        """Folder of task files."""
        ...

    @property
    def task_order(self) -> tuple[str, ...]:
        """Names of the task files; the first whose predicates a dataset defines is the default."""
        ...

    def collect(
        self, dataset: Dataset, labels: pl.DataFrame, split: str | None, progress: Callable[[int, int], None]
    ) -> Inputs:
        """What the model may see before each label of a split."""
        ...

    def preprocess(self, train: Inputs, config: Any) -> Preprocessor:
        """Fit vocabulary, scaling and static features on training samples."""
        ...

    def model(self, preprocessor: Preprocessor, config: Any) -> nn.Module:
        """A fresh model that `training.module.TrainingModule` can train."""
        ...

    def limits(self, source: str) -> list[str]:
        """What a model of this application must not be used for, one plain sentence each."""
        ...
