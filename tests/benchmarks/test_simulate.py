"""The benchmark of the virtual hospital: every job runs, is measured, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(tmp_path: Path, *options: str) -> tuple[dict[str, dict[str, float]], str]:
    command = [sys.executable, str(BENCHMARKS / "simulate.py"), *options, "--work", str(tmp_path)]
    done = subprocess.run(
        [*command, "--result", str(tmp_path / "result")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "result").read_text())
    assert found["threads"] == 1
    cases: dict[str, dict[str, float]] = {}
    for case in found["cases"]:
        cases.setdefault(case["case"], {})[case["unit"]] = case["ours"]
    assert not list(tmp_path.glob("bench-simulate-*")), "tables were left behind"
    return cases, done.stderr


def test_a_job_is_measured_at_two_sizes(tmp_path: Path) -> None:
    cases, said = bench(tmp_path, "--only", "histories", "--shrink", "1000")
    assert list(cases) == [
        "histories: 10 subjects",
        "histories: 100 subjects",
        "histories: processor time of 100 over 10 subjects",
        "histories: peak memory of 100 over 10 subjects",
    ]
    full = cases["histories: 100 subjects"]
    assert full["subjects per s of it"] == pytest.approx(100 / full["s of processor time"])
    assert full["MiB written"] > 0
    assert "of 60 s" not in said  # only the full size is held to it


@pytest.mark.slow
def test_every_job_runs(tmp_path: Path) -> None:
    cases, _ = bench(tmp_path, "--shrink", "1000")
    assert {name.partition(":")[0] for name in cases} == {"city", "stays", "vitals", "histories"}
    assert all(value > 0 for case in cases.values() for value in case.values())
