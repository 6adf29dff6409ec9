"""Five-minute models beside ours, on the same steps: boosted trees on lagged features, linear models, tables.

`boosted trees` (LightGBM) and `linear` (logistic or least squares) read what stands at a step, and for hospitals what
stood some hours before. For crises there are also `nedocs`, which looks at the crowding score alone and lets it
persist, `season`, which knows hospital and hour of the week, and those of `seasonal`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from caretrace.apps.safety.hospital_steps import CRISIS, LEVELS
from caretrace.apps.safety.model import QUANTILES, SCALES
from caretrace.apps.safety.seasonal import fit_seasonal, frequencies, predict_seasonal
from caretrace.apps.safety.sequences import HOSPITAL, SEQUENCE, Sequences
from caretrace.errors import BundleError

Floats = NDArray[np.float64]

TREES, LINEAR, NEDOCS, SEASON = "boosted_trees", "linear", "nedocs", "season"
LAGS_HOURS = (1, 2, 3, 6, 12, 24)
LAGGED = (
    "STATE//patients", "STATE//waiting", "STATE//boarders", "STATE//nedocs", "STATE//crews_free", "overdue_per_place",
    "crews_held_per_place", "boarding_per_place", "in_department_per_place", "arrivals_last_hour", "last_level",
)  # fmt: skip
_TREES: dict[str, Any] = {
    "learning_rate": 0.06, "num_leaves": 31, "min_child_samples": 100, "feature_fraction": 0.5, "bagging_fraction": 0.8,
    "bagging_freq": 1, "lambda_l2": 1.0, "max_bin": 127, "verbosity": -1, "deterministic": True, "force_row_wise": True,
}  # fmt: skip
_MOST_TREES, _PATIENCE = 400, 25
_NEDOCS_BINS = 24
_HOURS_OF_WEEK = 168


@dataclasses.dataclass(frozen=True)
class Features:
    """Steps as a table.

    Args:
        values: `[step, feature]`, NaN where unknown; names of places are numbers in `categorical`.
        names: Of the features.
        categorical: Positions of features that are names.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    categorical: tuple[int, ...]


def features(sequences: Sequences, known: Mapping[str, tuple[str, ...]]) -> Features:
    """What a model without memory reads of each step.

    Args:
        sequences: Steps.
        known: Column → its names in training (`Scaling.categorical`).
    """
    columns = [pl.col(name).cast(pl.Float32) for name in sequences.numeric]
    if sequences.kind == HOSPITAL:
        columns += [
            pl.col(name).shift(lag).over(SEQUENCE).cast(pl.Float32).alias(f"{name}, {lag} h ago")
            for lag in LAGS_HOURS
            for name in LAGGED
            if name in sequences.numeric
        ]
    for name, seen in known.items():
        numbers = {value: number for number, value in enumerate(seen, start=1)}
        columns.append(pl.col(name).replace_strict(numbers, default=0, return_dtype=pl.Float32).fill_null(0))
    table = sequences.steps.select(columns)
    first = len(table.columns) - len(known)
    return Features(
        table.fill_null(np.nan).to_numpy().astype(np.float32),
        tuple(table.columns),
        tuple(range(first, len(table.columns))),
    )


@dataclasses.dataclass(frozen=True)
class Tree:
    """One booster, as LightGBM's text."""

    text: str

    @classmethod
    def fit(
        cls,
        train: tuple[Features, Floats],
        tuning: tuple[Features, Floats],
        objective: dict[str, Any],
        seed: int,
    ) -> Tree:
        """Grow trees until the tuning loss stops falling."""
        sets: list[lightgbm.Dataset] = []
        for table, target in (train, tuning):
            rows = ~np.isnan(target)
            sets.append(
                lightgbm.Dataset(
                    table.values[rows],
                    target[rows],
                    feature_name=[f"f{i}" for i in range(len(table.names))],
                    categorical_feature=list(table.categorical),
                    reference=sets[0] if sets else None,
                    params={"verbosity": -1, "max_bin": _TREES["max_bin"], "feature_pre_filter": False},
                )
            )
        booster = lightgbm.train(
            {**_TREES, **objective, "seed": seed, "feature_pre_filter": False},
            sets[0],
            _MOST_TREES,
            valid_sets=[sets[1]],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        return cls(booster.model_to_string(num_iteration=booster.best_iteration))

    def predict(self, table: Features) -> Floats:
        """`[step]`."""
        return np.asarray(_booster(self.text).predict(table.values), dtype=np.float64)


@functools.lru_cache(maxsize=128)
def _booster(text: str) -> lightgbm.Booster:
    """Reading a booster takes longer than asking it for a few hours, as the board does again and again."""
    return lightgbm.Booster(model_str=text)


def fit_trees(
    train: tuple[Sequences, Features], tuning: tuple[Sequences, Features], seed: int
) -> dict[str, dict[str, str]]:
    """Boosted trees for every target.

    Returns:
        Target → part → text of a booster. Parts are `level_1` … of crises, `quantile_0.1` … of delays, `share`.
    """
    found: dict[str, dict[str, str]] = {}
    for name in train[0].targets:
        target, other = _column(train[0], name), _column(tuning[0], name)
        if not _enough(target) or not _enough(other):
            continue
        found[name] = {}
        for part, change, objective in _parts(name):
            each = (train[1], change(target)), (tuning[1], change(other))
            found[name][part] = Tree.fit(*each, objective, seed).text
    return found


def predict_trees(models: Mapping[str, Mapping[str, str]], table: Features) -> dict[str, Floats]:
    """Target → `[step, …]`: probabilities of levels, quantiles, or shares."""
    found = {}
    for name, parts in models.items():
        each = {part: Tree(text).predict(table) for part, text in parts.items()}
        if name in CRISIS:
            found[name] = _levels(np.stack(list(each.values()), -1))
        elif "share" in each:
            found[name] = each["share"]
        else:
            found[name] = np.sort(np.stack(list(each.values()), -1), -1)
    return found


def fit_linear(train: tuple[Sequences, Features], seed: int) -> dict[str, dict[str, Any]]:
    """Logistic regression of each level, or ridge regression of a share; none for delays.

    Returns:
        Target → `mean`, `spread`, `weights` `[output, feature]`, `intercept` `[output]`, as lists.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in train[0].targets:
        target = _column(train[0], name)
        if name in SCALES or not _enough(target):
            continue
        rows = ~np.isnan(target)
        values = train[1].values[rows].astype(float)
        mean = np.nanmean(np.where(np.isnan(values).all(0), 0.0, values), 0)
        spread = np.maximum(np.nanstd(np.where(np.isnan(values).all(0), 0.0, values), 0), 1e-6)
        scaled = np.nan_to_num((values - mean) / spread)
        if name in CRISIS:
            fits = [_logistic(scaled, target[rows] >= level, seed) for level in range(1, LEVELS)]
        elif set(np.unique(target[rows])) <= {0.0, 1.0}:
            fits = [_logistic(scaled, target[rows] > 0, seed)]
        else:
            ridge = Ridge(alpha=1.0).fit(scaled, target[rows])
            fits = [(ridge.coef_, float(ridge.intercept_))]
        found[name] = {
            "mean": mean.tolist(),
            "spread": spread.tolist(),
            "weights": [weights.tolist() for weights, _ in fits],
            "intercept": [intercept for _, intercept in fits],
            "logistic": name in CRISIS or set(np.unique(target[rows])) <= {0.0, 1.0},
        }
    return found


def predict_linear(models: Mapping[str, Mapping[str, Any]], table: Features) -> dict[str, Floats]:
    """As `predict_trees`."""
    found = {}
    for name, model in models.items():
        scaled = np.nan_to_num((table.values.astype(float) - model["mean"]) / model["spread"])
        output = scaled @ np.asarray(model["weights"]).T + model["intercept"]
        if model["logistic"]:
            output = 1 / (1 + np.exp(-output))
        found[name] = _levels(output) if name in CRISIS else np.clip(output[:, 0], 0.0, 1.0)
    return found


def fit_tables(train: Sequences) -> dict[str, Any]:
    """How often each level followed a value of NEDOCS, and how often it holds in a hospital at an hour of the week."""
    nedocs = train.steps["STATE//nedocs"].to_numpy()
    edges = np.unique(np.nanquantile(nedocs, np.linspace(0, 1, _NEDOCS_BINS + 1)[1:-1]))
    sites = sorted(train.steps["site"].unique())
    bins = {NEDOCS: np.digitize(nedocs, edges), SEASON: _season(train, sites)}
    counts = {
        kind: {
            name: frequencies(
                place, _column(train, name), len(edges) + 1 if kind == NEDOCS else len(sites) * _HOURS_OF_WEEK
            ).tolist()
            for name in CRISIS
        }
        for kind, place in bins.items()
    }
    return {"edges": edges.tolist(), "sites": sites, "shares": counts, "seasonal": fit_seasonal(train)}


def predict_tables(tables: Mapping[str, Any], sequences: Sequences) -> dict[str, dict[str, Floats]]:
    """Model → target → `[step, level]`."""
    nedocs = np.digitize(sequences.steps["STATE//nedocs"].to_numpy(), tables["edges"])
    places = {NEDOCS: nedocs, SEASON: _season(sequences, tables["sites"])}
    found = {
        kind: {name: np.asarray(shares)[places[kind]] for name, shares in each.items()}
        for kind, each in tables["shares"].items()
    }
    return found | predict_seasonal(tables["seasonal"], sequences)


def save(
    folder: Path, trees: Mapping[str, Any], linear: Mapping[str, Any], tables: Mapping[str, Any]
) -> None:
    """Write the comparators of all kinds into an existing folder."""
    for name, value in ((TREES, trees), (LINEAR, linear), ("tables", tables)):
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """What `save` wrote, by name.

    Raises:
        BundleError: A file is missing or damaged.
    """
    try:
        return {
            name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in (TREES, LINEAR, "tables")
        }
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: comparators cannot be read ({error}); train again") from None


def _column(sequences: Sequences, name: str) -> Floats:
    return sequences.steps[name].cast(pl.Float64).to_numpy()


def _enough(target: Floats) -> bool:
    known = target[~np.isnan(target)]
    return len(known) >= 50 and len(np.unique(known)) > 1


def _parts(name: str) -> list[tuple[str, Any, dict[str, Any]]]:
    """(part, what becomes of the target, objective) of each booster of a target."""
    if name in CRISIS:
        return [(f"level_{level}", _reached(level), {"objective": "binary"}) for level in range(1, LEVELS)]
    if name in SCALES:
        return [
            (f"quantile_{q}", np.asarray, {"objective": "quantile", "alpha": q, "metric": "quantile"})
            for q in QUANTILES
        ]
    return [("share", np.asarray, {"objective": "cross_entropy"})]


def _reached(level: int) -> Any:
    return lambda target: np.where(np.isnan(target), np.nan, (target >= level).astype(float))


def _levels(reached: Floats) -> Floats:
    """Chances of reaching levels 1 to 4 → chances of the levels; never below 0."""
    reached = np.minimum.accumulate(reached, -1)
    whole = np.concatenate([np.ones((len(reached), 1)), reached, np.zeros((len(reached), 1))], -1)
    return -np.diff(whole, axis=-1)


def _logistic(values: Floats, outcome: NDArray[np.bool_], seed: int) -> tuple[Floats, float]:
    if outcome.all() or not outcome.any():
        return np.zeros(values.shape[1]), 20.0 if outcome.all() else -20.0
    fitted = LogisticRegression(C=0.1, max_iter=200, random_state=seed).fit(values, outcome)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _season(sequences: Sequences, sites: list[str]) -> NDArray[np.int64]:
    """Number of hospital and hour of the week; a hospital that is new has the numbers of the first."""
    number = {name: index for index, name in enumerate(sites)}
    site = sequences.steps["site"].replace_strict(number, default=0, return_dtype=pl.Int64).to_numpy()
    hour, day = (_turn(sequences, name, parts) for name, parts in (("hour", 24), ("weekday", 7)))
    return np.asarray(site * _HOURS_OF_WEEK + day * 24 + hour, dtype=np.int64)


def _turn(sequences: Sequences, name: str, parts: int) -> NDArray[np.int64]:
    """Which part of a circle a sine and a cosine point at."""
    sine, cosine = (sequences.steps[f"{name}_{part}"].to_numpy() for part in ("sin", "cos"))
    return np.rint(np.arctan2(sine, cosine) / (2 * np.pi) * parts).astype(np.int64) % parts
