"""`training.stream`: from the dataset to the bundle with the training samples on disk."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.streaming import sample_of, stored
from caretrace.application.tasks import find_task
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.data.samples import Preprocessor
from caretrace.data.store import SampleStore
from caretrace.dataset import Dataset

from ..tiny import QUICK

APPLICATION = load_application("mortality")


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return Dataset(tiny_dataset)


@pytest.fixture(scope="module")
def labels(dataset):
    return build_labels(dataset, find_task(APPLICATION, dataset, None)).frame


def test_written_file_by_file_the_samples_are_those_of_memory(dataset, labels, tmp_path):
    inputs = APPLICATION.collect(dataset, labels, schema.TRAIN, lambda done, total: None)
    preprocessor = Preprocessor.fit(inputs, static_prefixes=(), min_samples=2, max_measurements=50)
    told = []
    store = stored(
        APPLICATION, dataset, labels, preprocessor, tmp_path / "samples", 4, lambda *what: told.append(what)
    )
    whole = preprocessor.transform(inputs)
    files = dataset.files(schema.TRAIN)
    assert told[-1] == ("writing samples", len(files), len(files))
    assert len(store) == len(whole)
    assert store.unknown_codes == whole.unknown_codes

    def shape(samples, row):
        batch = samples.batch([row])
        return tuple(batch.code[0].tolist()), tuple(batch.time_hours[0].tolist()), batch.static[0].tolist()[0]

    found = [
        shape(shard, row)
        for lane in range(4)
        for shard in [store.read_shard(lane, 0)]
        for row in range(len(shard))
    ]
    assert sorted(found) == sorted(shape(whole, row) for row in range(len(whole)))
    again = stored(
        APPLICATION, dataset, labels, preprocessor, store.path, 4, lambda *what: pytest.fail("wrote")
    )
    assert again == store


def test_the_sample_in_memory_is_drawn_by_subject_and_leaves_other_splits_alone(dataset, labels):
    split = labels.join(dataset.splits, on=schema.SUBJECT_ID)
    some = sample_of(dataset, labels, 50, seed=0).join(dataset.splits, on=schema.SUBJECT_ID)
    count = {name: len(some.filter(pl.col(schema.SPLIT) == name)) for name in schema.SPLITS}
    whole = {name: len(split.filter(pl.col(schema.SPLIT) == name)) for name in schema.SPLITS}
    assert count[schema.TRAIN] == 50
    assert count[schema.TUNING] == whole[schema.TUNING]
    assert sample_of(dataset, labels, 50, seed=0).equals(some.select(labels.columns))
    assert not sample_of(dataset, labels, 50, seed=1).equals(some.select(labels.columns))
    assert sample_of(dataset, labels, 10**6, seed=0).equals(labels)


def test_one_lane_in_one_window_trains_the_same_weights_as_memory(dataset, tmp_path):
    settings = (*QUICK, "training.members=1")
    config = load(APPLICATION.config_class, None, settings)
    train(APPLICATION, dataset, config, tmp_path / "memory")
    streamed = dataclasses.replace(
        config, training=dataclasses.replace(config.training, stream=True, lanes=1)
    )
    found = train(APPLICATION, dataset, streamed, tmp_path / "disk")
    assert found["n_train"] == len(SampleStore.open(tmp_path / "disk" / "samples"))
    for part in ("metrics.jsonl", "bundle/model.safetensors", "bundle/calibration.json"):
        assert (tmp_path / "disk" / part).read_bytes() == (tmp_path / "memory" / part).read_bytes(), part


def test_a_small_sample_in_memory_is_enough_to_begin(dataset, tmp_path):
    config = load(
        APPLICATION.config_class,
        None,
        (*QUICK, "training.members=1", "training.stream=true", "training.stream_sample=60"),
    )
    found = train(APPLICATION, dataset, config, tmp_path / "run")
    assert found["n_train"] == 120
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["train_loss"] for line in lines]).all()
