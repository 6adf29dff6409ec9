import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.report import render_dataset_page, summarise_dataset

from .pages import Page


def plain(dataset: Dataset) -> pl.DataFrame:
    return dataset.scan().collect()


def test_counts_equal_a_plain_count(dataset: Dataset) -> None:
    summary, rows = summarise_dataset(dataset), plain(dataset)
    assert summary["measurements"] == rows.height == 11
    assert summary["subjects"] == 5
    assert summary["subjects_without_measurements"] == 1
    assert summary["static_measurements"] == rows[schema.TIME].null_count() == 1
    assert summary["codes"] == rows[schema.CODE].n_unique()
    assert summary["splits"] == {
        "train": {"subjects": 3, "measurements": 9},
        "tuning": {"subjects": 1, "measurements": 0},
        "held_out": {"subjects": 1, "measurements": 2},
    }
    assert summary["event_types"] == {"vital": 8, "other": 2, "demographic": 1}
    assert summary["quarantine"] == {"vitals.parquet": 2}


def test_each_code_equals_a_plain_computation(dataset: Dataset) -> None:
    rows = plain(dataset)
    top = summarise_dataset(dataset)["top_codes"]
    assert [row["code"] for row in top][:2] == ["HR//bpm", "TEMP//C"]
    for row in top:
        mine = rows.filter(pl.col(schema.CODE) == row["code"])
        values = mine[schema.NUMERIC_VALUE].drop_nulls().to_numpy()
        assert row["count"] == mine.height
        assert row["subjects"] == mine[schema.SUBJECT_ID].n_unique()
        assert row["share_with_value"] == len(values) / mine.height
        for name, q in (("p01", 0.01), ("median", 0.5), ("p99", 0.99)):
            expected = float(np.quantile(values, q, method="inverted_cdf")) if len(values) else None
            assert row[name] == (pytest.approx(expected, rel=5e-4) if expected is not None else None)


def test_births_do_not_stretch_records(dataset: Dataset) -> None:
    summary = summarise_dataset(dataset)
    assert summary["time"] == {"first": "2020-01-01 00:00:00", "last": "2020-01-16 00:00:00"}
    days = summary["record_days"]  # 3, 0.5, 0 and 10
    assert days["median"] == 1.75
    assert days["max"] == 10
    assert sum(days["counts"]) == 4


def test_only_the_most_frequent_codes_are_described(dataset: Dataset) -> None:
    assert [row["code"] for row in summarise_dataset(dataset, codes=1)["top_codes"]] == ["HR//bpm"]


def test_progress_counts_every_reading(dataset: Dataset) -> None:
    seen: list[str] = []
    summarise_dataset(dataset, advance=lambda _amount, name: seen.append(name))
    assert len(seen) == 2 * len(dataset.files())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.inf, math.nan]), min_size=1, max_size=60)
)
def test_percentiles_are_off_by_rounding_only(dataset: Dataset, values: list[float]) -> None:
    path = dataset.files("held_out")[0]
    pl.DataFrame(
        {
            schema.SUBJECT_ID: [4] * len(values),
            schema.TIME: pl.Series([None] * len(values), dtype=pl.Datetime("us")),
            schema.CODE: ["X"] * len(values),
            schema.NUMERIC_VALUE: pl.Series(values, dtype=pl.Float32),
            schema.TEXT_VALUE: pl.Series([None] * len(values), dtype=pl.String),
        }
    ).write_parquet(path)
    row = next(row for row in summarise_dataset(dataset)["top_codes"] if row["code"] == "X")
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        assert row["median"] is None
        return
    for name, q in (("p01", 0.01), ("median", 0.5), ("p99", 0.99)):
        assert row[name] == pytest.approx(float(np.quantile(kept, q, method="inverted_cdf")), rel=5.1e-4)


def test_an_empty_dataset_still_has_a_page(dataset: Dataset, tmp_path: Path) -> None:
    for path in dataset.files():
        path.unlink()
    summary = summarise_dataset(dataset)
    assert summary["measurements"] == 0
    assert summary["record_days"] is None
    Page(render_dataset_page(dataset, tmp_path / "page.html")).check()


def test_the_page_shows_the_numbers_and_escapes_names(dataset: Dataset, tmp_path: Path) -> None:
    page = Page(render_dataset_page(dataset, tmp_path / "page.html"))
    page.check()
    assert "<b>Note</b>" in page.text  # shown as text, not as a tag
    assert "tiny<i>" in page.text
    assert "Heart rate HR//bpm Vital 6 4 80.0 % 83.3 % 80 60 to 101 bpm" in page.text
    assert "vitals 13 11 2 15.4 % 11" in page.text
    assert "quarantine/vitals.parquet 2" in page.text


def test_a_dataset_of_another_tool_has_no_quality_report(dataset: Dataset, tmp_path: Path) -> None:
    (dataset.path / schema.QUALITY_FILE).unlink()
    dataset.codes.select(schema.CODE).write_parquet(dataset.path / schema.CODES_FILE)
    page = Page(render_dataset_page(Dataset(dataset.path), tmp_path / "page.html"))
    page.check()
    assert "no quality report" in page.text


def test_the_verb(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from caretrace.cli.inspect import command

    command(dataset.path, 3, tmp_path / "page.html", as_json=True, quiet=True)
    answer = json.loads(capsys.readouterr().out)
    assert answer["measurements"] == 11
    assert len(answer["top_codes"]) == 3
    assert (tmp_path / "page.html").is_file()
    command(dataset.path, 3, None, as_json=False, quiet=True)
    shown = capsys.readouterr().out
    assert "Heart rate" in shown
    assert "Raw tables" in shown
