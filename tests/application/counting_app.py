"""The smallest application without labels: it learns how many measurements a subject has."""

import dataclasses
from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.application import Progress
from caretrace.application.run import Run, describe
from caretrace.config import to_dict
from caretrace.dataset import Dataset
from caretrace.files import write_json


@dataclasses.dataclass(frozen=True)
class CountingConfig:
    """Settings."""

    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Counting:
    """An `Own` application."""

    name: str = "counting"
    title: str = "Measurements, counted"
    summary: str = "Counts measurements."
    config_class: type[Any] = CountingConfig

    def train(
        self, dataset: Dataset, config: CountingConfig, path: Path, *, resume: bool, progress: Progress
    ) -> dict[str, Any]:
        run = Run(path)
        run.start(describe(self.name, self.title, dataset, None, to_dict(config), config.seed), dataset)
        progress("counting", 1, 2)
        run.bundle.mkdir()
        write_json(run.bundle / "count.json", {"per_subject": per_subject(dataset, schema.TRAIN)})
        run.update(tuning={"per_subject": per_subject(dataset, schema.TUNING)})
        return run.read()

    def evaluate(self, run: Run, dataset: Dataset | None, **asked: Any) -> dict[str, Any]:
        value = per_subject(dataset or run.dataset(), asked["split"])
        figure = {"value": value, "low": value - 1, "high": value + 1}
        return {
            "application": self.name,
            "split": asked["split"],
            "n_subjects": 5,
            "n": 5,
            "metrics": {"per_subject": figure},
            "comparators": {"none": {"per_subject": figure}},
            "paired": {},
            "gates": {"per_subject": {"passed": False, "value": value, "bound": 0.0}},
        }

    def explain(self, run: Run, *, subject: int | None, progress: Progress) -> dict[str, Any]:
        columns = ["subject", "measurements"]
        return {
            "heading": "Why so many",
            "columns": columns,
            "rows": [[subject, "many"]],
            "limits": ["None."],
        }

    def limits(self, source: str) -> list[str]:
        return ["For nothing."]


def per_subject(dataset: Dataset, split: str) -> float:
    """Mean number of measurements."""
    frame = dataset.scan(split).collect()
    return frame.height / frame[schema.SUBJECT_ID].n_unique()
