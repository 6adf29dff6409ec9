"""`predict` along a stay, and named configurations, as a person meets them."""

import numpy as np
import polars as pl


def test_predict_writes_a_trajectory_and_attention(caretrace, tiny_dataset, tiny_run, tmp_path):
    found = caretrace(
        *("predict", tiny_run, tiny_dataset, "--out", tmp_path / "p.parquet", "--subject", 4),
        *("--trajectory", tmp_path / "t.parquet", "--every", 6, "--attention", tmp_path / "a.npz", "--json"),
    ).json
    course = pl.read_parquet(tmp_path / "t.parquet")
    assert found["trajectory_rows"] == len(course) == 4  # hours 6, 12, 18, 24
    assert course["subject_id"].unique().to_list() == [4]
    assert found["attention"]["samples"] == 1
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert "pooling" in stored


def test_options_that_go_together(caretrace, tiny_dataset, tiny_run, tmp_path):
    out = ("predict", tiny_run, tiny_dataset, "--out", tmp_path / "p.parquet")
    alone = caretrace(*out, "--every", 6)
    assert alone.code == 2
    assert "--every and --subject go with --trajectory" in " ".join(alone.err.split())
    whose = caretrace(*out, "--attention", tmp_path / "a.npz")
    assert whose.code == 2
    assert "needs --subject" in " ".join(whose.err.split())
    assert not (tmp_path / "p.parquet").exists()


def test_a_configuration_by_name(caretrace, tiny_dataset, tmp_path):
    wrong = caretrace("train", "mortality", tiny_dataset, "--out", tmp_path / "run", "--config", "clinical")
    assert wrong.code == 1
    assert "clinical-longformer" in wrong.err
    # Its texts are asked for before anything is written: this dataset has none.
    silent = caretrace(
        *("train", "mortality", tiny_dataset, "--out", tmp_path / "run"),
        *("--config", "clinical-longformer", "--set", "text=tfidf"),
    )
    assert silent.code == 1
    assert "no training subject has a text" in " ".join(silent.err.split())
    assert not (tmp_path / "run").exists()
