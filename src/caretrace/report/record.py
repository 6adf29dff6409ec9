"""A run folder as the report reads it: JSON only, every part but `run.json` optional."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.config import read_yaml
from caretrace.errors import BundleError
from caretrace.files import read_json
from caretrace.report.wording import finite

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
LABELS_DIR = "labels"
TASK_FILE = "labels/task.yaml"
EVALUATION_FILE = "evaluation/evaluation.json"
CURVES_FILE = "evaluation/curves.json"
QUALITY_FILE = "quality.json"
SUBGROUPS_FILE = "subgroups.json"
ABSTENTION_FILE = "evaluation/abstention.json"
EXPLANATIONS = "explain"

# Fewer positives than this give intervals too wide for any claim: sample-size guidance for external
# validation asks for at least 100 events (Vergouwe 2005, https://doi.org/10.1016/j.jclinepi.2004.06.017).
FEWEST_POSITIVES = 100

Json = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What lies in a run folder; None for a part that is not there.

    Args:
        path: The run folder.
        run: `run.json`.
        epochs: Rows of `metrics.jsonl`.
        attrition: `labels/attrition.json`.
        evaluation: `evaluation/evaluation.json`.
        curves: `evaluation/curves.json`.
        quality: `quality.json`, the data set's quality report.
        subgroups: `subgroups.json`.
        abstention: `evaluation/abstention.json`.
        task_description: `description` of `labels/task.yaml`.
    """

    path: Path
    run: Json
    epochs: list[Json]
    attrition: Json | None = None
    evaluation: Json | None = None
    curves: Json | None = None
    quality: Json | None = None
    subgroups: Json | None = None
    abstention: Json | None = None
    task_description: str = ""

    @property
    def comparators(self) -> Json:
        """Figures of each comparator."""
        return mapping(self.evaluation, "comparators")

    @property
    def model(self) -> str:
        """The trained model's name among the curves; its backbone when there are none."""
        for name in mapping(self.curves, "models"):
            if name not in self.comparators:
                return str(name)
        return str(self.run.get("backbone") or "model")

    @property
    def figures(self) -> dict[str, Json]:
        """Figures of every model, ours first."""
        if self.evaluation is None:
            return {}
        return {self.model: mapping(self.evaluation, "metrics"), **self.comparators}

    @property
    def positives(self) -> int | None:
        """Positive labels among those the figures were computed on, or None when nothing says it."""
        evaluation = self.evaluation or {}
        for key in ("n_positives", "positives"):
            if finite(evaluation.get(key)) is not None:
                return int(evaluation[key])
        prevalence, rows = finite((self.curves or {}).get("prevalence")), finite(evaluation.get("n"))
        return round(prevalence * rows) if prevalence is not None and rows is not None else None

    @property
    def too_few(self) -> bool:
        """Whether there are too few positives to judge the model."""
        return self.positives is not None and self.positives < FEWEST_POSITIVES


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        BundleError: The folder or its `run.json` is missing, or a part is not the JSON it should be.
    """
    if not (path / RUN_FILE).is_file():
        raise BundleError(
            f"{path}: {RUN_FILE} is missing, so this is not a run folder; "
            "point at the folder that `caretrace train APP DATASET --out RUN` wrote"
        )
    run = _object(path / RUN_FILE)
    assert run is not None
    return RunRecord(
        path=path,
        run=run,
        epochs=_lines(path / METRICS_FILE),
        attrition=_object(path / LABELS_DIR / schema.ATTRITION_FILE),
        evaluation=_object(path / EVALUATION_FILE),
        curves=_object(path / CURVES_FILE),
        quality=_object(path / QUALITY_FILE),
        subgroups=_object(path / SUBGROUPS_FILE),
        abstention=_object(path / ABSTENTION_FILE),
        task_description=_description(path / TASK_FILE),
    )


def mapping(value: Any, key: str) -> Json:
    """`value[key]` if that is a mapping, else an empty one."""
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _object(path: Path) -> Json | None:
    if not path.is_file():
        return None
    try:
        value = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{path}: not readable as JSON ({error}); make the run again or remove the file"
        ) from None
    if not isinstance(value, Mapping):
        raise BundleError(f"{path}: expected a JSON object, got a {type(value).__name__}; make the run again")
    return value


def _description(path: Path) -> str:
    if not path.is_file():
        return ""
    return " ".join(str(read_yaml(path).get("description") or "").split())


def _lines(path: Path) -> list[Json]:
    """Rows of a JSON-lines file; a last line cut short by a killed training is left out."""
    if not path.is_file():
        return []
    rows: list[Json] = []
    texts = [text for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
    for number, text in enumerate(texts, start=1):
        try:
            rows.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise BundleError(
                    f"{path}, line {number}: not readable as JSON ({error}); train again"
                ) from None
    return [row for row in rows if isinstance(row, Mapping)]
