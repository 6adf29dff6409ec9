"""The oracle of `caretrace bench safety`: what somebody would foresee who saw everything, beside what we do.

Kept in the folder of the benchmark, a file per city. Intervals resample the hours that were asked for, all hospitals
of an hour together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from cases import say
from numpy.typing import NDArray
from safety_table import OURS

from caretrace.apps.safety import comparators
from caretrace.apps.safety.finishing import CRISIS_LEVEL, RECALL
from caretrace.apps.safety.hospital_steps import CRISIS
from caretrace.apps.safety.sequences import HOUR, Sequences
from caretrace.evaluation.discrimination import auroc
from caretrace.hospital.operations import OperationsConfig
from caretrace.hospital.operations.oracle import crisis_oracle

ORACLE = "oracle"
WHO = (ORACLE, OURS, comparators.TREES)
_FIRST_LANDMARK = 48
_DRAWS = 500

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def ask(
    work: Path, city: OperationsConfig, seed: int, hours: Sequence[int], branches: int, ahead: Sequence[int]
) -> pl.DataFrame:
    """Chances of the levels after each of these hours, kept in the folder."""
    asked = f"{hours[0]}-{hours[-1]}-{len(hours)}"
    file = work / f"oracle-{seed}-{asked}-{branches}-{'-'.join(map(str, ahead))}.parquet"
    if not file.exists():
        say(f"asking the oracle at {len(hours)} hours")
        crisis_oracle(city, seed, hours, branches, ahead).write_parquet(file)
    table = pl.read_parquet(file)
    first = pl.col("hour_time").min()
    return table.with_columns(hour=(pl.col("hour_time") - first) / 3600 + hours[0])


def spread(days: int, step: int, ahead: Sequence[int]) -> list[int]:
    """Every `step`-th hour of the days; a step without a common divisor with 24 visits every hour of the day."""
    return list(range(_FIRST_LANDMARK, 24 * days - max(ahead), step))


def keep_chances(file: Path, hospital: Sequences, models: dict[str, dict[str, Floats]]) -> None:
    """Chance of a crisis, by hour and hospital, of ours and the trees: what the oracle is compared with."""
    columns = {
        f"{model} {target}": models[model][target][:, CRISIS_LEVEL:].sum(1)
        for model in (OURS, comparators.TREES)
        for target in CRISIS
    }
    hospital.steps.select(HOUR, "site", *CRISIS).with_columns(
        pl.Series(name, value) for name, value in columns.items()
    ).write_parquet(file)


def against(table: pl.DataFrame, chances: Sequence[pl.DataFrame]) -> dict[str, dict[str, float]]:
    """Target → figures of the oracle, of ours (mean over seeds) and of the trees, at the hours that were asked for.

    Args:
        table: From `ask`.
        chances: What `keep_chances` wrote, of each seed.
    """
    found = {}
    for hours in table["horizon_hours"].unique().sort().to_list():
        target = f"crisis_{hours}_h"
        asked = table.filter(pl.col("horizon_hours") == hours).with_columns(said=_reach())
        each = [_beside(asked, one, target) for one in chances]
        found[target] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return found


def beside(table: pl.DataFrame, chances: pl.DataFrame, hours: int) -> pl.DataFrame:
    """Chances of one seed at the hours that the oracle was asked for, and the oracle's."""
    said = _reach().alias(f"{ORACLE} crisis_{hours}_h")
    asked = table.filter(pl.col("horizon_hours") == hours).select("hour", "site", said)
    return chances.join(asked, on=["hour", "site"])


def _reach() -> pl.Expr:
    """The oracle's chance of a crisis."""
    return pl.sum_horizontal(f"p{level}" for level in range(CRISIS_LEVEL, 5))


def _beside(asked: pl.DataFrame, chances: pl.DataFrame, target: str) -> dict[str, float]:
    known = chances.drop_nulls(target).filter(pl.col(target).is_not_nan())
    both = asked.join(known, on=["hour", "site"])
    crisis = (both["level"] >= CRISIS_LEVEL).to_numpy()
    columns = ("said", f"{OURS} {target}", f"{comparators.TREES} {target}")
    said = np.stack([both[column].to_numpy() for column in columns])
    found = _figures(crisis, said)
    drawn = [_figures(crisis[rows], said[:, rows]) for rows in _resampled(both["hour"].to_numpy())]
    for name in list(found):
        there = [one[name] for one in drawn if not np.isnan(one[name])]
        low, high = np.percentile(there, [2.5, 97.5]) if there else (np.nan, np.nan)
        found |= {f"{name} low": float(low), f"{name} high": float(high)}
    return {**found, "hours": float(len(both)), "crises": float(crisis.sum())}


def _figures(crisis: Bools, said: Floats) -> dict[str, float]:
    """AUROC and precision of each, and how much of the oracle's AUROC is kept; none without a crisis."""
    if not crisis.any() or crisis.all():  # too few hours were asked for
        names = [*WHO, *(f"{name} precision" for name in WHO), "kept"]
        return dict.fromkeys(names, float("nan"))
    found = {name: auroc(crisis, one) for name, one in zip(WHO, said, strict=True)}
    found |= {f"{name} precision": precision(crisis, one) for name, one in zip(WHO, said, strict=True)}
    return {**found, "kept": found[OURS] / found[ORACLE]}


def _resampled(hour: Floats) -> list[NDArray[np.int64]]:
    """Rows of hours drawn with replacement."""
    _, place = np.unique(hour, return_inverse=True)
    rows = [np.flatnonzero(place == each) for each in range(int(place.max(initial=-1)) + 1)]
    rng = np.random.default_rng(0)
    return [
        np.concatenate([rows[each] for each in rng.integers(0, len(rows), len(rows))]) for _ in range(_DRAWS)
    ]


def precision(crisis: Bools, said: Floats) -> float:
    """Share of the warned hours that are right, where warnings reach `RECALL` of the crises."""
    reached = np.sort(said[crisis])[::-1][int(np.ceil(RECALL * crisis.sum())) - 1]
    return float(crisis[said >= reached].mean())
