"""Nothing after the prediction time, and nobody outside the training split, can reach a model.

Each promise is checked by changing what must not matter and comparing every bit of what models and
comparators read; each check is shown to turn red when the promise is broken on purpose.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace import schema
from caretrace.application.tasks import find_task
from caretrace.application.train import comparator_input
from caretrace.apps import load_application
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.cohort import build_labels
from caretrace.comparators import tabulate
from caretrace.comparators.tabular import TabularFeatures
from caretrace.data import inputs as inputs_module
from caretrace.data.inputs import Inputs, collect_inputs
from caretrace.data.samples import Preprocessor
from caretrace.dataset import Dataset

from ..tiny import START, hours, write_meds, write_tiny_dataset

PREDICTION_HOUR = 24.0


def read(train: Inputs, judged: Inputs) -> dict[str, Any]:
    """Everything a model or a comparator reads of `judged`, and everything fitted on `train`."""
    preprocessor = Preprocessor.fit(
        train, static_prefixes=("GENDER", "ICU_ADMISSION"), min_samples=1, max_measurements=20
    )
    batch = preprocessor.transform(judged).batch(np.arange(len(judged)))
    for_comparators = comparator_input(preprocessor, judged)
    features = TabularFeatures.fit(train.measurements, len(train), min_samples=1)
    table = tabulate(features, for_comparators.static_names, for_comparators)
    tensors = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {
        **tensors,
        "preprocessor": preprocessor.to_dict(),
        "features": features.to_dict(),
        "table": table.values,
        "outcomes": judged.outcomes,
        "measurements": judged.measurements,
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of the parts that are not the same to the last bit."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor):
            return np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
        if isinstance(a, np.ndarray):
            return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
        return a.equals(b) if isinstance(a, pl.DataFrame) else a == b

    return [name for name in one if not same(one[name], other[name])]


def move_the_cut(monkeypatch: pytest.MonkeyPatch, by_hours: float) -> None:
    """Break the promise: let measurements through that are later than the prediction time."""
    cut = inputs_module._precede

    def late(measurements: pl.LazyFrame, asked: pl.LazyFrame, lookback: float | None) -> pl.LazyFrame:
        return cut(measurements, asked.with_columns(pl.col("prediction_time") + hours(by_hours)), lookback)

    monkeypatch.setattr(inputs_module, "_precede", late)


# --- after the prediction time -------------------------------------------------------------------

CODES = ("LAB//a", "LAB//b", "DRUG//x", "ICU_ADMISSION//A", "ICU_ADMISSION//B", "MEDS_BIRTH")
value = st.one_of(st.none(), st.floats(-1e3, 1e3, width=32))
before = st.tuples(st.floats(-50, PREDICTION_HOUR), st.sampled_from(CODES), value)
after = st.tuples(
    st.floats(PREDICTION_HOUR, 200).filter(lambda hour: hours(hour) > hours(PREDICTION_HOUR)),
    st.sampled_from([*CODES, "LAB//never seen before"]),
    st.one_of(value, st.just(1e30)),
)


def at_hour_24(pasts: list, futures: list) -> dict[str, Any]:
    """What is read, at hour 24, of three subjects with these measurements before and after it."""
    rows: list = []
    for subject, (past, future) in enumerate(zip(pasts, futures, strict=True), start=1):
        rows.append((subject, None, "GENDER//F", None))
        rows.extend((subject, *each) for each in [*past, *future])
    labels = pl.DataFrame(
        {
            schema.SUBJECT_ID: [1, 2, 3],
            schema.PREDICTION_TIME: [START + hours(PREDICTION_HOUR)] * 3,
            schema.BOOLEAN_VALUE: [True, False, True],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset(write_meds(Path(folder) / "meds", rows, {1: "train", 2: "train", 3: "held_out"}))
        return read(*(collect_inputs(dataset, labels, split) for split in ("train", "held_out")))


three_pasts = st.lists(st.lists(before, max_size=6), min_size=3, max_size=3)
three_futures = st.lists(st.lists(after, max_size=6), min_size=3, max_size=3)


@settings(max_examples=40)
@given(three_pasts, three_futures, three_futures)
def test_what_happens_later_changes_no_bit_of_what_is_read(pasts, futures, other_futures):
    assert differences(at_hour_24(pasts, futures), at_hour_24(pasts, other_futures)) == []


def mortality(path: Path) -> dict[str, Any]:
    """What the mortality application reads of a dataset's held-out subjects, by its own way."""
    application, dataset = load_application("mortality"), Dataset(path)
    labels = build_labels(dataset, find_task(application, dataset, "in_icu_death_24h"))
    train, judged = (
        application.collect(dataset, labels.frame, split, lambda done, total: None)
        for split in ("train", "held_out")
    )
    found = read(train, judged)
    return {**found, "mortality": application.preprocess(train, MortalityConfig()).to_dict()}


@pytest.fixture(scope="module")
def clean_and_corrupt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("leak")
    return (
        write_tiny_dataset(folder / "clean", 80),
        write_tiny_dataset(folder / "corrupt", 80, corrupt_after_hours=PREDICTION_HOUR),
    )


def test_the_mortality_application_reads_nothing_after_its_hour(clean_and_corrupt):
    clean, corrupt = (mortality(path) for path in clean_and_corrupt)
    assert differences(clean, corrupt) == []


def test_the_check_turns_red_when_the_cut_is_moved(clean_and_corrupt, monkeypatch):
    move_the_cut(monkeypatch, by_hours=6)
    clean, corrupt = (mortality(path) for path in clean_and_corrupt)
    red = differences(clean, corrupt)
    assert {"code", "numeric_value", "time_hours", "table", "preprocessor", "mortality"} <= set(red)


def test_the_check_turns_red_when_values_are_corrupted_before_the_hour(tmp_path):
    """Otherwise a comparison of nothing with nothing would pass."""
    early = write_tiny_dataset(tmp_path / "early", 80, corrupt_after_hours=PREDICTION_HOUR - 3)
    clean = write_tiny_dataset(tmp_path / "clean", 80)
    assert "code" in differences(mortality(clean), mortality(early))


# --- outside the training split ------------------------------------------------------------------


def spoil(path: Path, split: str) -> None:
    """Values a thousand times as large and codes nobody has, for all subjects of a split."""
    for file in (path / "data" / split).glob("*.parquet"):
        frame = pl.read_parquet(file)
        ordinary = pl.col("code").str.contains("^(LAB|VITAL|DRUG|GENDER)//")
        frame.with_columns(
            pl.col("numeric_value") * 1000,
            pl.when(ordinary).then(pl.col("code") + "//spoilt").otherwise(pl.col("code")).alias("code"),
        ).write_parquet(file)


@pytest.mark.parametrize("splits", [("held_out",), ("tuning",), ("tuning", "held_out")])
def test_nothing_fitted_has_seen_anybody_but_training_subjects(tmp_path, splits):
    path = write_tiny_dataset(tmp_path / "tiny", 80)
    before = mortality(path)
    for split in splits:
        spoil(path, split)
    after = mortality(path)
    for fitted in ("preprocessor", "features", "mortality"):
        assert before[fitted] == after[fitted]
    assert ("code" in differences(before, after)) is ("held_out" in splits)


def test_the_check_turns_red_when_training_subjects_change(tmp_path):
    path = write_tiny_dataset(tmp_path / "tiny", 80)
    before = mortality(path)
    spoil(path, "train")
    assert {"preprocessor", "features", "mortality"} <= set(differences(before, mortality(path)))
