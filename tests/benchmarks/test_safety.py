"""The safety benchmarks: from nothing to a table beside the oracle, and on from where a call was stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import safety
import safety_false
import safety_lengths
import safety_oracle
import safety_table

from caretrace.hospital.operations import OperationsConfig

TINY = [
    "block_days=5", "batches=2", "batch=4", "most_pathways=800", "window_hours=48", "descent.epochs=1",
    "model.d_model=8", "model.d_category=2", "model.d_head=4",
]  # fmt: skip


@pytest.mark.slow
def test_a_table_beside_comparators_and_the_oracle(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(safety, "CITY", OperationsConfig(size=0.2, start="2023-01-02"))
    given = [
        "--work",
        str(tmp_path),
        "--days",
        "22",
        "--seeds",
        "0",
        "1",
        "--branches",
        "2",
        "--oracle-hourly",
        "7",
        "9",
        "--replicates",
        "20",
        "--vary-staffing",
    ]
    options = safety.parser().parse_args([*given, "--set", *TINY])
    cases = safety.bench(options)
    assert {"boosted_trees", "linear", "holt_winters"} <= set(cases[0].peers)
    text = (tmp_path / "figures.md").read_text(encoding="utf-8")
    for words in (
        "crisis_8_h_auroc",
        "delay_coverage",
        "| fatigue_r2 |",
        "| crisis_24_h |",
        "share of",
        "from a crisis",
    ):
        assert words in text, words
    said = text.split("false warnings in 8 h")
    assert len(said) == 3
    assert "| oracle |" in said[2]
    assert (tmp_path / "raw-11" / "truth" / "trials.parquet").exists()
    assert not (tmp_path / "raw-12" / "truth" / "trials.parquet").exists()
    # What the oracle says happened is what the audits of the dataset say.
    table, chances = (
        pl.read_parquet(next(tmp_path.glob("oracle-12-48-*-2-1-8-24.parquet"))),
        pl.read_parquet(tmp_path / "chances-0-city-12.parquet"),
    )
    first = table["hour_time"].min()
    asked = table.filter(pl.col("horizon_hours") == 8).with_columns(
        hour=(pl.col("hour_time") - first) / 3600 + 48
    )
    both = asked.join(chances, on=["hour", "site"]).filter(pl.col("crisis_8_h").is_not_nan())
    assert len(both)
    assert (both["level"] == both["crisis_8_h"]).all()
    # Called again, nothing is fitted anew.
    monkeypatch.setattr(safety, "fit_ensemble", None)
    assert safety.bench(options) == cases
    # Stopped between fitting and judging, it goes on with judging.
    (tmp_path / "seed-1-city-12.json").unlink()
    assert safety.bench(options) == cases
    lengths = safety_lengths.parser().parse_args(
        ["--work", str(tmp_path), "--days", "22", "--lengths", "32", "--backbones", "gru", "--batches", "4", "--tokens",
         "128", "--d-model", "8", "--replicates", "20"]
    )  # fmt: skip
    rows = safety_lengths.bench(lengths)
    assert {case.case.split(",")[0] for case in rows} >= {"boosted trees", "gru 32"}
    capsys.readouterr()


def test_every_hour_is_judged_once_with_half_a_window_before_it():
    steps = pl.DataFrame({"sequence": np.repeat([0, 1], [100, 37]), "hour": [*range(100), *range(37)]})
    judged = safety.Sequences("hospital", steps.with_columns(pl.col("hour").cast(pl.Float64)), (), (), ())
    seen = np.zeros(137, int)
    for ends, first in safety_lengths._stretches(judged, 20):
        for end, begin in zip(ends, first, strict=True):
            own = 0 if end < 100 else 100
            assert begin == own or begin - max(own, end - 19) >= 9
            seen[begin : end + 1] += 1
    assert (seen == 1).all()


def test_precision_is_that_of_the_warnings_that_reach_four_of_five():
    crisis = np.array([True] * 5 + [False] * 5)
    said = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.65, 0.5, 0.4, 0.3, 0.2])
    assert safety_oracle.precision(crisis, said) == pytest.approx(4 / 5)


def test_a_figure_over_seeds_says_mean_and_range():
    assert safety_table.over_seeds([2.0, 3.0, 4.0]) == "3.00 (2.00–4.00)"
    assert safety_table.over_seeds([2.0, 2.0]) == "2.00"
    assert safety_table.over_seeds([None, 1.0]) == "1.00"
    assert safety_table.over_seeds([None, None]) == ""


def test_false_warnings_are_told_apart_by_how_near_a_crisis_was():
    level, said = np.zeros(100), np.zeros(100)
    level[[50, 51, 52, 53, 54]] = 3
    level[80] = 2
    said[[47, 50, 51, 52, 53, 80, 90]] = 1.0  # one three hours before, one strained, one out of nothing
    steps = pl.DataFrame(
        {"site": "H01", "hour": np.arange(100.0), "crisis_8_h": level, "ours crisis_8_h": said}
    )
    found = safety_false.false_warnings(steps, "ours")
    assert found["all"] == pytest.approx(3 / 100 * 168)
    assert found["far"] == pytest.approx(2 / 100 * 168)
    assert found["strained"] == pytest.approx(1 / 3)


def test_the_oracle_is_beside_ours_at_the_hours_it_was_asked_for():
    rng = np.random.default_rng(0)
    hour = np.repeat(np.arange(60.0), 4)
    site = np.tile(["H01", "H02", "H03", "H04"], 60)
    crisis = rng.random(240) < 0.2
    level = np.where(crisis, 3, 0)
    levels = {f"p{k}": np.zeros(240) for k in range(5)}
    table = pl.DataFrame(
        {"hour": hour, "site": site, "horizon_hours": 8, "level": level, **levels}
    ).with_columns(p3=pl.Series(crisis * 0.9), p0=pl.Series(1 - crisis * 0.9))
    noise = pl.Series(crisis + rng.normal(0, 1, 240))
    chances = pl.DataFrame(
        {"hour": hour, "site": site, "crisis_8_h": level.astype(float), "caretrace crisis_8_h": noise,
         "boosted_trees crisis_8_h": -noise}
    )  # fmt: skip
    found = safety_oracle.against(table, [chances])["crisis_8_h"]
    assert found["oracle"] == found["oracle precision"] == 1.0
    assert found["caretrace"] == pytest.approx(found["kept"])
    assert found["caretrace"] == pytest.approx(1 - found["boosted_trees"])
    assert 0.5 < found["kept low"] < found["kept"] < found["kept high"] < 1
    assert (found["hours"], found["crises"]) == (240, crisis.sum())
    nothing = safety_oracle.against(table.with_columns(level=pl.lit(0)), [chances])["crisis_8_h"]
    assert np.isnan(nothing["kept"])
    assert np.isnan(nothing["kept low"])
