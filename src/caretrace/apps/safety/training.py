"""From a dataset to a run: scaling, ensemble, calibration and comparators, all of training and tuning blocks."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run, describe
from caretrace.apps.safety import comparators
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.finishing import Finish
from caretrace.apps.safety.learning import fit_ensemble, predict
from caretrace.apps.safety.lending import with_lent
from caretrace.apps.safety.model import SafetyModel
from caretrace.apps.safety.reading import Kinds, read_splits
from caretrace.apps.safety.sequences import HOSPITAL, Scaling, Sequences
from caretrace.config import from_dict, to_dict
from caretrace.dataset import Dataset
from caretrace.errors import BundleError
from caretrace.files import refuse_existing, whole_folder
from caretrace.training.bundle import read_bundle, write_bundle

Floats = NDArray[np.float64]

NAME = "safety"
OURS, NETWORK = "caretrace", "network"
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
        finishes: Kind → what is done to what the network says.
    """

    config: SafetyConfig
    scalings: dict[str, Scaling]
    members: list[SafetyModel]
    comparators: dict[str, dict[str, Any]]
    finishes: dict[str, Finish] = dataclasses.field(default_factory=dict)


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
    parts = with_lent(read_splits(dataset, config, (schema.TRAIN, schema.TUNING), progress))
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
    others = fit_comparators(learned, tuned, scalings, config, progress)
    fitted = finish(Fitted(config, scalings, members, others), tuned)
    seconds = {
        "fit": round(fitted_at - began, 1),
        "comparators": round(time.perf_counter() - fitted_at, 1),
    }
    counts = {
        f"n_{split}": {kind: len(each) for kind, each in kinds.items()} for split, kinds in parts.items()
    }
    return save_run(path, fitted, dataset, title, log, {**counts, "seconds": seconds})


def save_run(
    path: Path,
    fitted: Fitted,
    dataset: Dataset,
    title: str,
    log: list[dict[str, float]],
    told: dict[str, Any],
) -> dict[str, Any]:
    """Write a run folder, whole or not at all.

    Args:
        path: The folder to make.
        fitted: What was learned.
        dataset: From what.
        title: For headings.
        log: Records of the epochs.
        told: What else `run.json` shall say.
    """
    config = fitted.config
    with whole_folder(path) as folder:
        run = Run(folder)
        run.start(describe(NAME, title, dataset, None, to_dict(config), config.descent.seed), dataset)
        _save(run.bundle, fitted, dataset)
        lines = "".join(json.dumps(record) + "\n" for record in log)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        run.update(
            backbone=config.model.backbone,
            n_parameters=sum(p.numel() for p in fitted.members[0].parameters()),
            tuning={"loss": min(record["tuning_loss"] for record in log)},
            shares={kind: each.share for kind, each in fitted.finishes.items()},
            **told,
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
    finishes = {kind: Finish.from_dict(value) for kind, value in bundle.parts["finishes"].items()}
    return Fitted(config, scalings, members, others, finishes)


def predict_all(fitted: Fitted, kinds: Kinds) -> dict[str, dict[str, dict[str, Floats]]]:
    """Kind → model → target → `[step, …]`.

    Ours is `caretrace`; `network` is what it says before other readings are mixed in and chances are set right.
    Then every comparator that has the target.
    """
    return {kind: predict_one(fitted, sequences) for kind, sequences in kinds.items()}


def predict_one(fitted: Fitted, sequences: Sequences) -> dict[str, dict[str, Floats]]:
    """As `predict_all`, of one kind."""
    readings = readings_of(fitted, sequences)
    each = {OURS: finished(fitted, sequences.kind, readings), **readings}
    if sequences.kind == HOSPITAL:
        each |= comparators.predict_tables(fitted.comparators[HOSPITAL]["tables"], sequences)
    return each


def foresee(fitted: Fitted, sequences: Sequences) -> dict[str, Floats]:
    """Target → what our model says at each step, without any comparator."""
    return finished(fitted, sequences.kind, readings_of(fitted, sequences))


def readings_of(
    fitted: Fitted,
    sequences: Sequences,
    rows: NDArray[np.int64] | None = None,
    targets: Iterable[str] | None = None,
) -> dict[str, dict[str, Floats]]:
    """Network, trees and linear models → target → what each says.

    Args:
        fitted: The models.
        sequences: Steps of one kind; the network reads all of them.
        rows: Steps that are asked for; None for all.
        targets: What is asked for; None for all.
    """
    kind, wanted = sequences.kind, set(targets or sequences.targets)
    network = predict(fitted.members, fitted.scalings[kind].apply(sequences))
    if kind == HOSPITAL:
        crisis = network.pop("crisis")
        network |= {name: crisis[:, number] for number, name in enumerate(sequences.targets)}
    # What this run learned from, though steps may by now hold more.
    known = dataclasses.replace(sequences, numeric=tuple(fitted.scalings[kind].numeric))
    table = comparators.features(known, fitted.scalings[kind].categorical)
    if rows is not None:
        network = {name: each[rows] for name, each in network.items()}
        table = dataclasses.replace(table, values=table.values[rows])
    trees, linear = (
        {name: each for name, each in fitted.comparators[kind][which].items() if name in wanted}
        for which in (comparators.TREES, comparators.LINEAR)
    )
    return {
        NETWORK: {name: each for name, each in network.items() if name in wanted},
        comparators.TREES: comparators.predict_trees(trees, table),
        comparators.LINEAR: comparators.predict_linear(linear, table),
    }


def finish(fitted: Fitted, tuned: Kinds) -> Fitted:
    """The same models with readings mixed and chances set right, as tuning blocks ask for."""
    finishes = {}
    for kind, sequences in tuned.items():
        if kind in fitted.scalings:
            readings = readings_of(fitted, sequences)
            if not fitted.config.blend:
                readings = {NETWORK: readings[NETWORK]}
            finishes[kind] = Finish.fit(sequences, readings, seed=fitted.config.descent.seed)
    return dataclasses.replace(fitted, finishes=finishes)


def finished(fitted: Fitted, kind: str, readings: dict[str, dict[str, Floats]]) -> dict[str, Floats]:
    """What our model says, from what its readings say; the network alone where nothing was fitted on tuning blocks."""
    return fitted.finishes[kind].apply(readings) if kind in fitted.finishes else readings[NETWORK]


def fit_comparators(
    learned: Kinds,
    tuned: Kinds,
    scalings: dict[str, Scaling],
    config: SafetyConfig,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Kind → name → what each comparator learned."""
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
        "finishes": {kind: each.to_dict() for kind, each in fitted.finishes.items()},
    }
    with whole_folder(folder) as target:
        for kind, each in fitted.comparators.items():
            place = target / COMPARATORS / kind
            place.mkdir(parents=True)
            comparators.save(place, each[comparators.TREES], each[comparators.LINEAR], each["tables"])
        card = CARD.format(source=dataset.metadata.get("dataset_name", "an unnamed dataset"))
        states = [member.state_dict() for member in fitted.members]
        write_bundle(target, NAME, parts, states, {"README.md": card})
