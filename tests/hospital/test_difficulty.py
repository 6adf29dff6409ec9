"""How hard the simulated mortality task is: above chance, below the oracle, and trend matters.

The figures in docs/hospital.md come from `pytest tests/hospital/test_difficulty.py -s`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from caretrace.hospital import HospitalConfig, simulate

LAST = [pl.col("value").last().alias("last")]


def summaries(hour: int) -> list[pl.Expr]:
    """What a reader of the chart could sum up by hand, trend included."""
    value, at = pl.col("value"), pl.col("hour")
    return [
        *LAST,
        value.mean().alias("mean"),
        value.min().alias("min"),
        value.max().alias("max"),
        (value.filter(at > hour - 6).mean() - value.filter(at < hour - 12).mean()).alias("trend"),
        pl.len().alias("count"),
    ]


def events(raw: Path) -> pl.DataFrame:
    """Every stay's measurements by hours since ICU admission, at the time they can be known."""

    def read(name: str) -> pl.DataFrame:
        return pl.read_csv(raw / f"{name}.csv", try_parse_dates=True, infer_schema_length=None)

    stays = read("icu_stays").select("stay_id", "admission_id", "in_time")
    labs = read("labs").join(stays.drop("in_time"), on="admission_id").rename({"result_time": "time"})
    pumps = read("infusions").rename({"start_time": "time", "fluid": "name", "rate": "value"})
    acts = read("procedures").rename({"start_time": "time", "procedure": "name"}).with_columns(value=1.0)
    columns = ["stay_id", "time", "name", "value"]
    rows = pl.concat([t.select(columns) for t in (read("vitals"), labs, pumps, acts)])
    hour = (pl.col("time") - pl.col("in_time")).dt.total_seconds() / 3600
    return rows.join(stays, on="stay_id").with_columns(hour=hour).sort("stay_id", "time")


def held_out_auroc(x: np.ndarray, y: np.ndarray, group: np.ndarray, boosted: bool) -> float:
    score = np.zeros(len(y))
    for train, test in GroupKFold(5).split(x, y, group):
        model = (
            LGBMClassifier(n_estimators=150, learning_rate=0.04, num_leaves=15, colsample_bytree=0.3,
                           n_jobs=1, verbose=-1, random_state=0)
            if boosted
            else make_pipeline(SimpleImputer(keep_empty_features=True, add_indicator=True), StandardScaler(),
                               LogisticRegression(C=0.003, max_iter=500))
        )  # fmt: skip
        score[test] = model.fit(x[train], y[train]).predict_proba(x[test])[:, 1]
    return float(roc_auc_score(y, score))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("difficulty") / "raw"
    simulate(folder, HospitalConfig(subjects=2000, seed=0))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("hour", [24, 48])
def test_models_stay_between_chance_and_the_oracle(raw: Path, hour: int) -> None:
    seen = events(raw).filter(pl.col("hour") <= hour)
    truth = pl.read_parquet(raw / "truth" / "stays.parquet").filter(
        pl.col("hours") > hour + 24
    )  # the task's gap
    y, group = truth["died_in_icu"].to_numpy(), truth["subject_id"].to_numpy()
    oracle = roc_auc_score(y, truth[f"oracle_icu_death_{hour}h"])
    figures = {}
    for name, parts in (("last", LAST), ("summary", summaries(hour))):
        long = seen.group_by("stay_id", "name", maintain_order=True).agg(*parts)
        wide = long.pivot(
            on="name", index="stay_id", values=[c for c in long.columns if c not in ("stay_id", "name")]
        )
        x = (
            truth.select("stay_id", "age")
            .join(wide, on="stay_id", how="left", maintain_order="left")
            .drop("stay_id")
        )
        for kind in ("logistic", "boosted") if hour == 24 else ("boosted",):
            figures[name, kind] = held_out_auroc(x.to_numpy().astype(float), y, group, kind == "boosted")
    print(
        f"\n{hour} h: {len(y)} stays kept by the task, {y.mean():.1%} die in the ICU, oracle AUROC {oracle:.3f}"
    )
    for (name, kind), value in figures.items():
        print(f"  {kind} model of {name} values: AUROC {value:.3f}")
    best = max(figures.values())
    assert 0.75 < best < 0.92
    assert best + 0.02 < oracle < 0.98
    assert figures["summary", "boosted"] > figures["last", "boosted"] + 0.02, "the trend no longer matters"
