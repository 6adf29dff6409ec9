"""Gradient boosted trees (LightGBM) on tabularised measurements, averaged over a few seeds.

Missing values stay missing: trees send them down the better side. Each seed stops on its own when
log-loss on tuning samples has stopped falling. Stored as LightGBM's text models.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from caretrace.comparators.base import SETTINGS_FILE, Table, read_settings
from caretrace.errors import BundleError
from caretrace.files import whole_folder, write_json

KIND = "boosted_trees"

SEEDS = 5
MAX_TREES = 2000
PATIENCE = 100

# Chosen by five-fold cross-validation within set a of PhysioNet 2012 (one seed: AUROC .862, average
# precision .533); smaller feature fractions, other leaves and stronger penalties were no better.
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_child_samples": 20,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "feature_pre_filter": False,
    # The same numbers on every run and for every number of threads.
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class BoostedTrees:
    """The mean risk of LightGBM models that differ by seed.

    Attributes:
        names: The features it was fitted on.
        models: LightGBM text models, one per seed.
        trees: Number of trees each seed stopped at.
    """

    names: tuple[str, ...]
    models: tuple[str, ...]
    trees: tuple[int, ...]
    _boosters: list[Any] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def fit(cls, train: Table, tuning: Table, *, seed: int = 0, threads: int = 1) -> Self:
        """Fit on `train`, stop by log-loss on `tuning`.

        Args:
            train: Labelled samples.
            tuning: Labelled samples of other subjects.
            seed: First of the seeds.
            threads: Threads of LightGBM; the number does not change the result.

        Raises:
            CohortError: No labels, or labels of one class only.
            InputError: `tuning` has other features than `train`.
        """
        import lightgbm

        labels, tuning_labels = train.both_classes(f"{KIND} (train)"), tuning.both_classes(f"{KIND} (tuning)")
        tuning.same_features(train.names, KIND)
        fixed = {**PARAMETERS, "num_threads": threads}
        # Tiny training sets: leaves must be allowed to hold fewer samples than usual.
        fixed["min_child_samples"] = min(PARAMETERS["min_child_samples"], max(1, labels.size // 20))
        data = lightgbm.Dataset(train.values, labels.astype(np.float32), params=fixed, free_raw_data=False)
        held = lightgbm.Dataset(tuning.values, tuning_labels.astype(np.float32), reference=data)
        models, trees = [], []
        for number in range(seed, seed + SEEDS):
            booster = lightgbm.train(
                {**fixed, "seed": number},
                data,
                MAX_TREES,
                valid_sets=[held],
                callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
            )
            models.append(booster.model_to_string(num_iteration=booster.best_iteration))
            trees.append(int(booster.best_iteration))
        return cls(train.names, tuple(models), tuple(trees))

    def predict_proba(self, table: Table) -> npt.NDArray[np.float64]:
        """Mean risk of each sample over the seeds, [samples].

        Raises:
            InputError: Other features than it was fitted on.
            BundleError: A stored model cannot be read.
        """
        values = table.same_features(self.names, KIND)
        risks = [booster.predict(values, num_threads=1) for booster in self._ready()]
        return np.mean(np.asarray(risks, dtype=np.float64), axis=0)

    def save(self, folder: Path) -> None:
        """Write JSON settings and one text model per seed into a new folder.

        Raises:
            OutputExistsError: The folder is taken.
        """
        settings = {
            "kind": KIND,
            "names": list(self.names),
            "trees": list(self.trees),
            "sha256": [_digest(text) for text in self.models],
        }
        with whole_folder(folder) as partial:
            write_json(partial / SETTINGS_FILE, settings)
            for number, text in enumerate(self.models):
                (partial / f"trees-{number}.txt").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: A file is missing or damaged.
        """
        settings = read_settings(folder, KIND)
        try:
            trees = tuple(int(count) for count in settings["trees"])
            names = tuple(str(name) for name in settings["names"])
            models = tuple(
                (folder / f"trees-{number}.txt").read_text(encoding="utf-8") for number in range(len(trees))
            )
            digests = list(settings["sha256"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{folder}: damaged ({error}); train again") from None
        # LightGBM can end the whole process on a damaged text, so none may reach it.
        if digests != [_digest(text) for text in models]:
            raise BundleError(f"{folder}: a trees file is not what was saved; train again")
        loaded = cls(names, models, trees)
        loaded._ready()
        return loaded

    def describe(self) -> str:
        """One plain sentence for the report."""
        return (
            f"Boosted trees (LightGBM, mean of {len(self.models)} seeds, stopped on tuning at "
            f"{', '.join(map(str, self.trees))} trees) on {len(self.names)} tabular features."
        )

    def _ready(self) -> list[Any]:
        """The models, parsed once."""
        if not self._boosters:
            import lightgbm

            for number, text in enumerate(self.models):
                try:
                    booster = lightgbm.Booster(model_str=text)
                except lightgbm.basic.LightGBMError as error:
                    raise BundleError(f"{KIND}: model {number} is damaged ({error}); train again") from None
                if booster.num_feature() != len(self.names):
                    raise BundleError(f"{KIND}: model {number} belongs to other features; train again")
                self._boosters.append(booster)
        return self._boosters


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
