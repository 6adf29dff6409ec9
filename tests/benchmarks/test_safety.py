"""The safety benchmarks: from nothing to a table beside the oracle, and on from where a call was stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import safety
import safety_lengths

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
        "--replicates",
        "20",
    ]
    options = safety.parser().parse_args([*given, "--set", *TINY])
    cases = safety.bench(options)
    assert {"boosted_trees", "linear", "holt_winters"} <= set(cases[0].peers)
    text = (tmp_path / "figures.md").read_text(encoding="utf-8")
    for words in ("crisis_8_h_auroc", "delay_coverage", "| fatigue_r2 |", "| crisis_24_h |", "share of"):
        assert words in text, words
    # What the oracle says happened is what the audits of the dataset say.
    table, chances = (
        pl.read_parquet(tmp_path / "oracle-12.parquet"),
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
    assert safety._precision(crisis, said) == pytest.approx(4 / 5)
