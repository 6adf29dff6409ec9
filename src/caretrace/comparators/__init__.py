"""The models every application stands beside, on the same split and the same measurements.

To add one: a file with a class that follows `Comparator`, and a row in `COMPARATORS`; the contract
suite picks it up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from caretrace.comparators.base import Comparator, ComparatorInput, Table
from caretrace.comparators.boosted_trees import BoostedTrees
from caretrace.comparators.logistic import LogisticRegression
from caretrace.comparators.tabular import MAX_CODES, TabularFeatures
from caretrace.errors import BundleError, ConfigError, InputError, unknown_name
from caretrace.files import read_json, whole_folder, write_json

__all__ = [
    "COMPARATORS",
    "BoostedTrees",
    "Comparator",
    "ComparatorInput",
    "FittedComparators",
    "LogisticRegression",
    "Table",
    "TabularFeatures",
    "comparator",
    "fit_all",
]

COMPARATORS: dict[str, type[Comparator]] = {
    "logistic_regression": LogisticRegression,
    "boosted_trees": BoostedTrees,
}

INDEX_FILE = "comparators.json"

# Called with steps done, steps in all, and what comes next.
Progress = Callable[[int, int, str], None]


def comparator(name: str) -> type[Comparator]:
    """The class of a comparator.

    Raises:
        ConfigError: No such name; the message has the nearest one.
    """
    if name not in COMPARATORS:
        raise ConfigError(unknown_name("comparator", name, COMPARATORS))
    return COMPARATORS[name]


@dataclass(frozen=True)
class FittedComparators:
    """Fitted comparators and the features they share.

    Attributes:
        features: Which measurements become which columns.
        static_names: Static features, appended after them.
        models: {name: fitted comparator}.
    """

    features: TabularFeatures
    static_names: tuple[str, ...]
    models: Mapping[str, Comparator]

    def predict_all(
        self, inputs: ComparatorInput, progress: Progress | None = None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Risk of each sample by each comparator, {name: [samples]}.

        Args:
            inputs: Samples of any split; labels are not used.
            progress: Told about each step.

        Raises:
            InputError: Other static features than those fitted on.
        """
        table = tabulate(self.features, self.static_names, inputs)
        risks = {}
        for done, (name, model) in enumerate(self.models.items()):
            _tell(progress, done, len(self.models), name)
            risks[name] = model.predict_proba(table)
        _tell(progress, len(self.models), len(self.models), "")
        return risks

    def describe(self) -> dict[str, str]:
        """One plain sentence per comparator."""
        return {name: model.describe() for name, model in self.models.items()}

    def save(self, folder: Path) -> None:
        """Write an index and one folder per comparator, whole or not at all.

        Raises:
            OutputExistsError: The folder is taken.
        """
        index = {
            "features": self.features.to_dict(),
            "static_names": list(self.static_names),
            "models": list(self.models),
        }
        with whole_folder(folder) as partial:
            write_json(partial / INDEX_FILE, index)
            for name, model in self.models.items():
                model.save(partial / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: A file is missing or damaged.
            ConfigError: A comparator that this version does not know.
        """
        path = folder / INDEX_FILE
        try:
            index = read_json(path)
            features = TabularFeatures.from_dict(index["features"])
            static_names = tuple(str(name) for name in index["static_names"])
            models = {str(name): comparator(str(name)).load(folder / str(name)) for name in index["models"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: damaged ({error}); train again") from None
        return cls(features, static_names, models)


def fit_all(
    train: ComparatorInput,
    tuning: ComparatorInput,
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
    max_codes: int = MAX_CODES,
    progress: Progress | None = None,
) -> FittedComparators:
    """Fit comparators on the training split, with features and settings from training and tuning alone.

    Args:
        train: Labelled samples; the features are chosen on them.
        tuning: Labelled samples of other subjects, for penalties and early stopping.
        names: Which comparators; all by default.
        seed: The same seed gives the same bits.
        threads: Threads each may use.
        max_codes: Most codes that become features.
        progress: Told about each step: (steps done, steps in all, what comes next).

    Raises:
        ConfigError: An unknown comparator.
        CohortError: No labels, or labels of one class only.
        InputError: `tuning` has other static features than `train`.
    """
    kinds = {name: comparator(name) for name in (COMPARATORS if names is None else names)}
    _tell(progress, 0, len(kinds) + 1, "features")
    features = TabularFeatures.fit(train.events, train.n_samples, max_codes=max_codes)
    table, tuning_table = (tabulate(features, train.static_names, inputs) for inputs in (train, tuning))
    models: dict[str, Comparator] = {}
    for done, (name, kind) in enumerate(kinds.items(), start=1):
        _tell(progress, done, len(kinds) + 1, name)
        models[name] = kind.fit(table, tuning_table, seed=seed, threads=threads)
    _tell(progress, len(kinds) + 1, len(kinds) + 1, "")
    return FittedComparators(features, train.static_names, models)


def tabulate(features: TabularFeatures, static_names: tuple[str, ...], inputs: ComparatorInput) -> Table:
    """Measurements and static features as one table.

    Raises:
        InputError: Other static features than `static_names`.
    """
    if inputs.static_names != static_names:
        raise InputError(
            f"comparators: got static features {', '.join(inputs.static_names) or '(none)'}, "
            f"fitted on {', '.join(static_names) or '(none)'}; use the same preprocessing for every split"
        )
    values, names = features.transform(inputs.events, inputs.n_samples)
    static = np.where(np.isfinite(inputs.static), inputs.static, np.float32(np.nan)).astype(np.float32)
    labels = None if inputs.labels is None else inputs.labels.astype(np.bool_)
    return Table(np.hstack([values, static]), (*names, *(f"static|{name}" for name in static_names)), labels)


def _tell(progress: Progress | None, done: int, total: int, what: str) -> None:
    if progress is not None:
        progress(done, total, what)
