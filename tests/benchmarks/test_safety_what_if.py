"""The what-if benchmark: several runs asked of the same cities, and on from where a call was stopped."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import safety_what_if

from caretrace.apps.safety.config import ModelConfig, SafetyConfig
from caretrace.apps.safety.training import train
from caretrace.dataset import Dataset
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.hospital.operations.config import VARIED
from caretrace.ingest import ingest
from caretrace.training.descent import DescentConfig

SMALL = OperationsConfig(size=0.2, start="2023-01-02")
TINY = SafetyConfig(
    block_days=5, batches=2, batch=4, most_pathways=800, window_hours=48, kinds=("hospital", "pathway"),
    model=ModelConfig(d_model=8, d_category=2, d_head=4), descent=DescentConfig(epochs=1),
)  # fmt: skip


@pytest.mark.slow
def test_runs_are_asked_of_the_same_cities_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(safety_what_if, "CITY", SMALL)
    varied = dataclasses.replace(SMALL, trials=dataclasses.replace(VARIED, block_days=5))
    simulate_operations(tmp_path / "raw", varied, 22, 1)
    ingest("hospital-operations", tmp_path / "raw", tmp_path / "data")
    runs = [tmp_path / "one", tmp_path / "other"]
    train(Dataset(tmp_path / "data"), TINY, runs[0], "Safety")
    shutil.copytree(runs[0], runs[1])
    given = ["--run", *map(str, runs), "--seeds", "5", "--days", "22", "--levers", "crews"]
    options = safety_what_if.parser().parse_args(given)
    cases = safety_what_if.bench(options)
    assert len(cases) == 2 * 4  # runs, outcomes
    told = [json.loads((run / "evaluation" / "what_if.json").read_text()) for run in runs]
    assert told[0] == told[1]
    assert told[0]["crews"]["outcomes"]["delay"]["simulated"]["value"] < 0
    # One city of one run is asked again, all others are remembered.
    asked = []
    city = safety_what_if._city
    monkeypatch.setattr(safety_what_if, "_city", lambda *given: (asked.append(given[2:]), city(*given))[1])
    (runs[1] / "evaluation" / "what_if-5-22-crews.json").unlink()
    assert safety_what_if.bench(options) == cases
    assert [(seed, plus.extra_ambulances) for seed, plus in asked] == [(5, 10)]
    capsys.readouterr()
