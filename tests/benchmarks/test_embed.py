"""The benchmark of the embedding store: both ways give the same vectors, and the figures have their shape."""

import argparse
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TEXTS = [f"Lactate: {value / 10} mmol/L abnormal" for value in range(40)]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_the_other_way_writes_a_file_per_text_with_the_same_vector(tmp_path):
    from embed import longformer, name_of, one_at_a_time

    from caretrace.data.text import PretrainedEncoder

    folder = longformer(tmp_path / "model", TEXTS, layers=1, width=64)
    done, seconds, processor_seconds = one_at_a_time(folder, TEXTS[:3], tmp_path / "npy", 60.0)
    assert done == len(list((tmp_path / "npy").iterdir())) == 3
    assert seconds > 0
    assert processor_seconds > 0
    written = np.stack([np.load(tmp_path / "npy" / name_of(text)) for text in TEXTS[:3]])
    np.testing.assert_allclose(written, PretrainedEncoder.load(folder).encode(TEXTS[:3]), atol=1e-4)
    assert np.abs(written[0] - written[1]).max() > 1e-2


def test_the_other_way_stops_in_time(tmp_path):
    from embed import longformer, one_at_a_time

    folder = longformer(tmp_path / "model", TEXTS, layers=1, width=64)
    done, _, _ = one_at_a_time(folder, TEXTS, tmp_path / "npy", 0.0)
    assert done <= 1


@pytest.mark.slow
def test_every_figure_is_there_without_any_data(monkeypatch):
    import embed

    monkeypatch.delenv("CARETRACE_DATA", raising=False)
    monkeypatch.setattr(embed, "LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(embed, "_wide_look_up", lambda folder: embed.Case("not here", "rows/s", 1.0))
    options = embed.parser().parse_args(["--layers", "1", "--peer-seconds", "0.2"])
    assert isinstance(options, argparse.Namespace)
    cases = embed.bench(options)
    assert [case.unit for case in cases] == ["texts/s", "texts/s", "cosine", "rows/s", "rows/s", "texts/s"]
    assert cases[2].ours >= 0.999
    assert list(cases[0].speedup) == list(cases[0].peers) == [embed.PEER]
    assert all(case.ours > 0 for case in cases)
