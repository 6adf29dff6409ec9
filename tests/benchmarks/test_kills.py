"""The benchmark of kills, with few of them; CARETRACE_KILLS=20 asks for more."""

import os
from pathlib import Path

import pytest

from ..tiny import QUICK

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_moments_it_ends_with_the_same_bits(tiny_dataset, tmp_path, monkeypatch, processes):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from kills import survive

    kills = int(os.environ.get("CARETRACE_KILLS", "2"))
    settings = (*QUICK, "training.max_steps=240", "training.patience_steps=240", "training.batch_size=8")
    struck, differ = survive(
        tiny_dataset, tmp_path, kills, seed=os.getpid(), processes=processes, settings=settings
    )
    assert len(struck) == kills
    assert not differ, struck
    assert not list(tmp_path.rglob("*.partial"))
