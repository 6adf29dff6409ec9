"""From a dataset to a run: scaling, ensemble, calibration and comparators, all of training and tuning blocks."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run, describe
from caretrace.apps.safety import comparators
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.learning import fit_ensemble, predict
from caretrace.apps.safety.model import SafetyModel
from caretrace.apps.safety.reading import Kinds, read_splits
from caretrace.apps.safety.sequences import HOSPITAL, Scaling
from caretrace.config import from_dict, to_dict
from caretrace.dataset import Dataset
from caretrace.errors import BundleError
from caretrace.files import refuse_existing, whole_folder
from caretrace.training.bundle import read_bundle, write_bundle

NAME = "safety"
COMPARATORS = "comparators"
CARD = """# Safety model

*Research use only, never a bedside device. It foresees trouble of an organisation; it does not rank people.*

Learned from {source}. Staff-level outputs are aggregated to groups of at least five.
"""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a bundle holds.

    Args:
        config: Settings.
        scalings: Kind of sequence → how its steps become numbers.
        members: The ensemble.
        comparators: Kind → `boosted_trees`, `linear`, and for hospitals `tables`.
    """

    config: SafetyConfig
    scalings: dict[str, Scaling]
    members: list[SafetyModel]
    comparators: dict[str, dict[str, Any]]


def train(
    dataset: Dataset, config: SafetyConfig, path: Path, title: str, progress: Progress = silent
) -> dict[str, Any]:
    """Learn from the training blocks of a dataset, stop by the tuning blocks, and write the run.

    Args:
        dataset: MEDS dataset of a city, such as `hospital-operations` makes.
        config: Settings.
        path: The run folder to make; it appears whole or not at all.
        title: For headings.
        progress: Told about each piece of work.

    Returns:
        What `run.json` says.

    Raises:
        CaretraceError: Anything the user can mend; the message says how.
    """
    refuse_existing(path)
    began = time.perf_counter()
    parts = read_splits(dataset, config, (schema.TRAIN, schema.TUNING), progress)
    learned, tuned = parts[schema.TRAIN], parts[schema.TUNING]
    scalings = {kind: Scaling.fit(each) for kind, each in learned.items()}
    arrays = {
        split: {kind: scalings[kind].apply(each) for kind, each in kinds.items() if kind in scalings}
        for split, kinds in parts.items()
    }

    def tell(member: int, record: dict[str, float]) -> None:
        what = f"training member {member + 1} of {config.members}, tuning loss {record['tuning_loss']:.3f}"
        progress(what, record["epoch"] + 1, config.descent.epochs)

    members, log = fit_ensemble(scalings, arrays[schema.TRAIN], arrays[schema.TUNING], config, tell)
    fitted_at = time.perf_counter()
    others = _comparators(learned, tuned, scalings, config, progress)
    with whole_folder(path) as folder:
        run = Run(folder)
        run.start(describe(NAME, title, dataset, None, to_dict(config), config.descent.seed), dataset)
        _save(run.bundle, Fitted(config, scalings, members, others), dataset)
        lines = "".join(json.dumps(record) + "\n" for record in log)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        run.update(
            backbone=config.model.backbone,
            n_parameters=sum(p.numel() for p in members[0].parameters()),
            n_train={kind: len(each) for kind, each in learned.items()},
            n_tuning={kind: len(each) for kind, each in tuned.items()},
            tuning={"loss": min(record["tuning_loss"] for record in log)},
            seconds={
                "fit": round(fitted_at - began, 1),
                "comparators": round(time.perf_counter() - fitted_at, 1),
            },
        )
    return Run(path).read()


def load(run: Run) -> Fitted:
    """What a run holds.

    Raises:
        BundleError: Not a run of this application, or damaged.
    """
    found = run.read().get("application")
    if found != NAME:
        raise BundleError(f"{run.path} is a run of {found}; give a run of {NAME}")
    bundle = read_bundle(run.bundle)
    config = from_dict(SafetyConfig, bundle.parts["config"])
    scalings = {kind: Scaling.from_dict(value) for kind, value in bundle.parts["scalings"].items()}
    members = []
    for weights in bundle.members:
        model = SafetyModel(scalings, config.model, learned_weights=config.learned_weights)
        model.load_state_dict(weights)
        members.append(model.eval())
    others = {kind: comparators.read(run.bundle / COMPARATORS / kind) for kind in scalings}
    return Fitted(config, scalings, members, others)


def predict_all(fitted: Fitted, kinds: Kinds) -> dict[str, dict[str, dict[str, np.ndarray[Any, Any]]]]:
    """Kind → model → target → `[step, …]`: ours under `caretrace`, and every comparator that has the target."""
    found = {}
    for kind, sequences in kinds.items():
        scaling = fitted.scalings[kind]
        ours = predict(fitted.members, scaling.apply(sequences))
        if kind == HOSPITAL:
            crisis = ours.pop("crisis")
            ours |= {name: crisis[:, number] for number, name in enumerate(sequences.targets)}
        table = comparators.features(sequences, scaling.categorical)
        others = fitted.comparators[kind]
        each = {
            "caretrace": ours,
            comparators.TREES: comparators.predict_trees(others[comparators.TREES], table),
            comparators.LINEAR: comparators.predict_linear(others[comparators.LINEAR], table),
        }
        if kind == HOSPITAL:
            each |= comparators.predict_tables(others["tables"], sequences)
        found[kind] = each
    return found


def _comparators(
    learned: Kinds, tuned: Kinds, scalings: dict[str, Scaling], config: SafetyConfig, progress: Progress
) -> dict[str, dict[str, Any]]:
    found = {}
    for number, kind in enumerate(learned):
        progress(f"comparators: {kind}", number, len(learned))
        train = learned[kind], comparators.features(learned[kind], scalings[kind].categorical)
        tuning = tuned[kind], comparators.features(tuned[kind], scalings[kind].categorical)
        found[kind] = {
            comparators.TREES: comparators.fit_trees(train, tuning, config.descent.seed),
            comparators.LINEAR: comparators.fit_linear(train, config.descent.seed),
            "tables": comparators.fit_tables(learned[kind]) if kind == HOSPITAL else {},
        }
    progress("comparators: done", len(learned), len(learned))
    return found


def _save(folder: Path, fitted: Fitted, dataset: Dataset) -> None:
    parts = {
        "config": to_dict(fitted.config),
        "scalings": {kind: scaling.to_dict() for kind, scaling in fitted.scalings.items()},
    }
    with whole_folder(folder) as target:
        for kind, each in fitted.comparators.items():
            place = target / COMPARATORS / kind
            place.mkdir(parents=True)
            comparators.save(place, each[comparators.TREES], each[comparators.LINEAR], each["tables"])
        card = CARD.format(source=dataset.metadata.get("dataset_name", "an unnamed dataset"))
        states = [member.state_dict() for member in fitted.members]
        write_bundle(target, NAME, parts, states, {"README.md": card})
