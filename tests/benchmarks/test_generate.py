"""The benchmark of generators: it runs, and what it calls the same weights are the same weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("bench_generate", FOLDER / "generate.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_a_small_model_gone_wild_writes_nothing_impossible(bench: ModuleType) -> None:
    options = bench.parser().parse_args(["--million", "3000"])
    people, vocabulary = bench._population(1000, 0)
    cases = {case.case.partition(" among ")[0]: case for case in bench._million(people, vocabulary, options)}
    for what in ("codes of the other sex", "codes of another age", "codes twice in a visit"):
        assert cases[what].ours == 0
    without = "without masks, per million codes"
    assert cases["codes of the other sex"].peers[without] > 1000
    assert cases["codes of another age"].peers[without] > 1000


def test_the_peer_has_our_weights(bench: ModuleType) -> None:
    pytest.importorskip("transformers")
    people, vocabulary = bench._population(300, 0)
    generator = bench._generator(people, vocabulary, 16, 2)
    bench._neox(generator.model)  # refuses a peer whose hidden states are others
    weight = generator.model.backbone.layers[1].attention.query_key_value.weight
    assert weight.shape == (48, 16)


def test_masks_gain_likelihood_where_nothing_is_impossible(bench: ModuleType) -> None:
    people, vocabulary = bench._population(300, 0)
    generator = bench._generator(people, vocabulary, 16, 1)
    assert bench._likelihood(generator, people) >= 0
    assert np.isfinite(bench._likelihood(generator, people))


def test_what_masks_cost_is_measured_on_the_same_histories(bench: ModuleType) -> None:
    people, vocabulary = bench._population(300, 0)
    generator = bench._generator(people, vocabulary, 16, 1)
    options = bench.parser().parse_args(["--beside", "30", "--rounds", "1", "--subjects", "40"])
    assert -90 < bench._cost_of_masks(generator, options) < 1000  # a figure; the histories were compared
    rate, drawn = bench._speed(generator, options)
    assert rate > 0
    assert len(drawn) == 40
