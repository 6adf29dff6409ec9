"""The Application contract, and the two ways to keep it.

*Supervised*: the application says what it reads, which labels it needs and what its model is; training, judging,
predicting and explaining are written once, in this package. *Own*: it has no labels, or learns in a way of its own;
it brings `train` and `evaluate`, and whatever else it can do (`verbs` has the list). Everybody else calls `verbs`, and
need not know which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:  # choosing an application must not cost the seconds that torch takes
    import polars as pl
    from torch import nn

    from caretrace.application.run import Run
    from caretrace.data.inputs import Inputs
    from caretrace.data.samples import Preprocessor
    from caretrace.dataset import Dataset

# Told about each piece of work: (what is being done, pieces done, pieces in all or None).
Progress = Callable[[str, float, float | None], None]


def silent(what: str, done: float, total: float | None) -> None:
    """A `Progress` that tells nobody."""


class Application(Protocol):
    """What every folder of `apps/` provides, whichever way it is trained."""

    @property
    def name(self) -> str:
        """As in `APPS`."""
        ...

    @property
    def title(self) -> str:
        """A few words, for headings."""
        ...

    @property
    def summary(self) -> str:
        """What it does, one sentence."""
        ...

    @property
    def config_class(self) -> type[Any]:
        """Dataclass of the settings."""
        ...

    def limits(self, source: str) -> list[str]:
        """What a model of this application must not be used for, one plain sentence each."""
        ...


@runtime_checkable
class Supervised(Application, Protocol):
    """An application that learns from labels; its settings have a field `training`, a `TrainingConfig`."""

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


@runtime_checkable
class Own(Application, Protocol):
    """An application that is trained and judged in its own way."""

    def train(
        self, dataset: Dataset, config: Any, path: Path, *, resume: bool, progress: Progress
    ) -> dict[str, Any]:
        """Learn from training subjects, stop by tuning subjects, write the run folder.

        Args:
            dataset: MEDS dataset; held-out subjects are not read.
            config: Settings, an instance of `config_class`.
            path: The run folder to make, or to go on with.
            resume: Go on with an interrupted run, or say why that cannot be done (`ConfigError`).
            progress: Told about each piece of work.

        Returns:
            What stands in `run.json`: all of `run.describe`, and `tuning`, a flat mapping of figures.
        """
        ...

    def evaluate(
        self,
        run: Run,
        dataset: Dataset | None,
        *,
        split: str | None,
        replicates: int,
        seed: int,
        progress: Progress,
    ) -> dict[str, Any]:
        """Judge a run on subjects it has never seen.

        Args:
            run: The run.
            dataset: Another dataset; None is the one it was trained on.
            split: Which subjects; None for all.
            replicates: Bootstrap replicates, where there is a bootstrap.
            seed: Of whatever is random.
            progress: Told about each piece of work.

        Returns:
            The shape of `caretrace evaluate --json` (`verbs.SHAPE`); more keys may stand beside. It is written to
            `evaluation/evaluation.json` for the application.
        """
        ...
