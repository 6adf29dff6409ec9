"""The run folder of one training: what is in it, and whether it can be gone on with.

run.json           what was asked, of which data, with which versions
labels/            labels and attrition
preprocessor.json  fitted on training subjects
metrics.jsonl      one line per epoch
checkpoints/       best and last of every member
samples/           training samples on disk, with `training.stream`; not needed once the bundle is there
bundle/            what prediction needs
quality.json       the dataset's quality report
evaluation/        figures, curves and predictions, once `caretrace evaluate` has run
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caretrace import __version__, schema
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, DatasetError
from caretrace.files import read_json, refuse_existing, write_json

if TYPE_CHECKING:  # a page about a run needs no torch
    from caretrace.cohort import Labels
    from caretrace.data.samples import Preprocessor

_REPORTED = ("torch", "lightning", "lightgbm", "scikit-learn", "polars", "numpy", "meds")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def bundle(self) -> Path:
        """What prediction needs."""
        return self.path / "bundle"

    @property
    def labels(self) -> Path:
        """Labels the model was trained for."""
        return self.path / "labels"

    @property
    def evaluation(self) -> Path:
        """Held-out figures."""
        return self.path / "evaluation"

    @property
    def samples(self) -> Path:
        """Training samples on disk."""
        return self.path / "samples"

    @property
    def preprocessor(self) -> Path:
        """What was fitted on training subjects."""
        return self.path / "preprocessor.json"

    def read(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            BundleError: The folder is not a run.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise BundleError(
                f"{self.path} is not a run: run.json is missing; make one with `caretrace train`"
            )
        try:
            value = read_json(path)
        except ValueError as error:
            raise BundleError(f"{path} is damaged ({error}); train again") from None
        if not isinstance(value, dict):
            raise BundleError(f"{path} is damaged (not an object); train again")
        return value

    def dataset(self) -> Dataset:
        """The dataset the run was trained on.

        Raises:
            DatasetError: It is not there, or has changed since.
        """
        stored = self.read()
        dataset = Dataset(Path(stored["dataset"]))
        if dataset.fingerprint != stored["fingerprint"]:
            raise DatasetError(
                f"{dataset.path} is not what {self.path} was trained on (its fingerprint differs), so its held-out "
                "subjects may be training subjects now; train again, or name the dataset to judge on it regardless"
            )
        return dataset

    def update(self, **values: Any) -> None:
        """Add to `run.json`."""
        write_json(self.path / "run.json", {**self.read(), **values})

    def start(self, asked: dict[str, Any], dataset: Dataset) -> None:
        """Make the folder and write down what was asked, beside the dataset's quality report.

        Raises:
            OutputExistsError: The folder is taken.
        """
        refuse_existing(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if dataset.quality is not None:
            shutil.copyfile(dataset.path / schema.QUALITY_FILE, self.path / "quality.json")
        write_json(self.path / "run.json", asked)

    def keep(self, labels: Labels, preprocessor: Preprocessor) -> None:
        """Write down what a resumed run must find as it was; what is there stays."""
        if not self.labels.exists():
            labels.save(self.labels)
        if not self.preprocessor.exists():
            write_json(self.preprocessor, preprocessor.to_dict())

    def require_same(self, asked: dict[str, Any]) -> None:
        """Refuse to go on with a run that was asked something else.

        Raises:
            BundleError: Another version, dataset, task or setting; the message says which.
        """
        stored = self.read()
        old, new = stored["versions"]["caretrace"], asked["versions"]["caretrace"]
        if old != new:
            raise BundleError(
                f"{self.path} was begun with caretrace {old}, this is {new}: its checkpoints may mean something "
                f"else; install caretrace {old} to go on, or train anew into another folder"
            )
        for key in ("application", "fingerprint", "task", "config"):
            if stored[key] != asked[key]:
                raise BundleError(
                    f"{self.path} was begun with another {key} ({_first_difference(stored[key], asked[key])}); "
                    "give the same one to --resume, or train anew into another folder"
                )


def describe(
    application: str, title: str, dataset: Dataset, task: str | None, config: dict[str, Any], seed: int
) -> dict[str, Any]:
    """What `run.json` starts with, in every application.

    Args:
        application: Its name.
        title: Its title.
        dataset: What is learned from.
        task: Name of the task; None where nothing is labelled.
        config: Settings, as JSON has them.
        seed: Of the training.
    """
    return {
        "application": application,
        "title": title,
        "source": dataset.metadata.get("dataset_name", "unknown"),
        "dataset": str(dataset.path.resolve()),
        "fingerprint": dataset.fingerprint,
        "task": task,
        "seed": seed,
        "backbone": config.get("backbone"),
        "config": config,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {
            "caretrace": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _REPORTED},
        },
    }


def _first_difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                return f"{key}: {_first_difference(old.get(key), new.get(key))}"
    return f"then {old!r}, now {new!r}"
