"""Benchmarks of the synthetic histories' losses and of NNAA: what they cut is what they say, and they run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    patch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_subjects_are_cut_to_the_commonest_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    from caretrace.evaluation.histories import Histories

    bench = load("ablations", monkeypatch)
    # Codes 1 and 3 stay, as 0 and 1; the second subject's only visit and the third's first are left without any.
    h = Histories([50, 60, 70], [0, 1, 1], [1, 1, 2], [3, 1, 1, 2], [1, 2, 3, 0, 2, 3, 4], 5)
    cut = bench._cut(h, np.array([-1, 0, -1, 1, -1]), 3)
    assert cut.age.tolist() == [50, 70]
    assert cut.visit_count.tolist() == [1, 1]
    assert cut.code_count.tolist() == [2, 1]
    assert cut.code.tolist() == [0, 1, 1]


def test_rows_change_one_thing_and_are_compared_pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("ablations", monkeypatch)
    sizes = ["--subjects", "40", "--tuning", "20", "--held-out", "30", "--codes", "12", "--epochs", "1"]
    small = [*sizes, "--d-model", "8", "--threads", "1", "--rows", "whole", "pairs", "flat"]
    cases = bench.bench(bench.parser().parse_args(small))
    assert [case.case for case in cases] == ["everything", "without pairs", "flat"]
    assert cases[0].peers == {"worse than the first row": 0.0, "standard error": 0.0}
    for case in cases[1:]:
        assert case.peers["worse than the first row"] == pytest.approx(case.ours - cases[0].ours, abs=1e-6)
        assert case.peers["standard error"] > 0


def test_fresh_subjects_have_no_nnaa(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("nnaa", monkeypatch)
    cases = bench.bench(bench.parser().parse_args(["--subjects", "400"]))
    assert abs(cases[1].ours) < 5 * cases[2].ours
    assert cases[0].unit == "minutes"
