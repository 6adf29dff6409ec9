"""Texts in the mortality model: read, kept in the bundle, learned from training subjects alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from caretrace import schema
from caretrace.application.evaluate import inputs_for, labels_for
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.application.tasks import find_task
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.model import MortalityModel
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.data import text as texts_module
from caretrace.data.text import TfidfEncoder, load_encoder
from caretrace.dataset import Dataset
from caretrace.errors import BundleError, ConfigError, DatasetError

from ...data.text.tiny_models import longformer
from ...tiny import QUICK
from .talking import write_talking_dataset

APPLICATION = load_application("mortality")


def config(*settings: str) -> MortalityConfig:
    return load(MortalityConfig, None, [*QUICK, "training.members=1", "text=tfidf", *settings])


def nobody(what: str, done: float, total: float | None) -> None:
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_talking_dataset(tmp_path_factory.mktemp("meds") / "talking"))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "talking"
    train(APPLICATION, dataset, config(), path)
    return Run(path)


def held_out(run: Run, dataset: Dataset):
    return inputs_for(APPLICATION, dataset, labels_for(run, dataset), schema.HELD_OUT, nobody)


# --- what goes in ---------------------------------------------------------------------------------


def test_every_measurement_with_a_text_has_its_vector(run, dataset):
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    inputs = held_out(run, dataset)
    samples = predictor.preprocessor.transform(inputs)
    reader = predictor.preprocessor.texts
    assert reader is not None
    said = inputs.measurements.filter(
        pl.col("hours_before").is_not_null() & (pl.col(schema.CODE) != schema.BIRTH)
    )[schema.TEXT_VALUE]
    assert ((samples.text_id >= 0) == said.is_not_null().to_numpy()).all()
    asked = np.flatnonzero(samples.text_id >= 0)[:50]
    expected = reader.encoder.encode([said[int(i)] for i in asked]).astype(np.float16)
    np.testing.assert_array_equal(reader.matrix[samples.text_id[asked]], expected)
    batch = samples.batch(np.arange(3))
    assert (batch.text_id[batch.padding_mask] == -1).all()
    assert (
        batch.text_id[~batch.padding_mask] == torch.from_numpy(samples.text_id[: samples.offsets[3]])
    ).all()


def test_a_text_moves_the_risk(run, dataset):
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    samples = predictor.preprocessor.transform(held_out(run, dataset))
    silent = dataclasses.replace(samples, text_id=np.full_like(samples.text_id, -1))
    moved = ~np.isclose(predictor.risks_of(samples), predictor.risks_of(silent), rtol=1e-4)
    assert moved.mean() > 0.9


def test_a_text_the_run_has_never_met_is_embedded_when_it_comes(run, tmp_path):
    def rename(frame: pl.DataFrame, split: str) -> pl.DataFrame:
        return frame.with_columns(pl.col(schema.TEXT_VALUE).str.replace("Lactate", "Lactate in plasma"))

    other = Dataset(write_talking_dataset(tmp_path / "other", 60, rename))
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    risks = predictor.risks(held_out(run, other))
    assert np.isfinite(risks).all()
    # And what was numbered before keeps its number.
    again = Predictor.from_pretrained(APPLICATION, run.bundle)
    np.testing.assert_array_equal(again.risks(held_out(run, other)), risks)


@pytest.mark.parametrize("step_hours", ["4", "0"])
def test_a_dropped_text_id_is_a_measurement_without_text(step_hours):
    made = model(config(f"step_hours={step_hours}", "code_dropout=0"))
    assert made.embedding.texts is not None


def model(settings: MortalityConfig) -> MortalityModel:
    reader = texts_module.TextReader(TfidfEncoder.fit(["one two", "two three"] * 3, list(range(6)), width=2))
    reader.ids(pl.Series(["one two", "three"]))
    return MortalityModel(settings, n_codes=5, n_types=11, n_static=2, texts=reader)


# --- the bundle -----------------------------------------------------------------------------------


def test_the_vectors_are_not_in_the_weights_and_the_encoder_is_in_the_bundle(run):
    bundle = run.bundle
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert {"text/encoder.json", "text/encoder.safetensors"} <= set(manifest["sha256"])
    members = Predictor.from_pretrained(APPLICATION, bundle).members
    assert not any("matrix" in name for name in members[0].state_dict())
    assert not list(bundle.rglob("*.arrow"))


def test_away_from_its_run_the_bundle_predicts_the_same(run, dataset, tmp_path):
    here = Predictor.from_pretrained(APPLICATION, run.bundle)
    here.save_pretrained(tmp_path / "elsewhere")
    there = Predictor.from_pretrained(APPLICATION, tmp_path / "elsewhere")
    inputs = held_out(run, dataset)
    np.testing.assert_array_equal(there.risks(inputs), here.risks(inputs))


def test_a_damaged_encoder_is_noticed(run, tmp_path):
    Predictor.from_pretrained(APPLICATION, run.bundle).save_pretrained(tmp_path / "bundle")
    path = tmp_path / "bundle" / "text" / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        Predictor.from_pretrained(APPLICATION, tmp_path / "bundle")


class Stop(Exception):
    pass


def test_interrupted_and_resumed_the_weights_are_the_same(run, dataset, tmp_path):
    def interrupt(what, done, total):
        if what.startswith("training") and done >= 2:
            raise Stop

    with pytest.raises(Stop):
        train(APPLICATION, dataset, config(), tmp_path / "run", progress=interrupt)
    train(APPLICATION, dataset, config(), tmp_path / "run", resume=True)
    for part in ("model.safetensors", "text/encoder.json", "text/encoder.safetensors"):
        assert (tmp_path / "run" / "bundle" / part).read_bytes() == (run.bundle / part).read_bytes(), part


def test_streamed_from_disk_texts_are_read_too(dataset, tmp_path):
    settings = config("training.stream=true", "training.lanes=1")
    train(APPLICATION, dataset, settings, tmp_path / "run")
    from caretrace.data.store import SampleStore

    read = SampleStore.open(tmp_path / "run" / "samples").read_shard(0, 0)
    assert (read.text_id >= 0).any()
    assert np.isfinite(read.hours_since_admission).all()


# --- leakage --------------------------------------------------------------------------------------


def others_speak_otherwise(frame: pl.DataFrame, split: str) -> pl.DataFrame:
    if split == schema.TRAIN:
        return frame
    return frame.with_columns(pl.lit("zebra quagga okapi").alias(schema.TEXT_VALUE))


def later_is_told_otherwise(frame: pl.DataFrame, split: str) -> pl.DataFrame:
    admission = pl.col(schema.TIME).filter(pl.col(schema.CODE).str.starts_with("ICU_ADMISSION")).first()
    late = pl.col(schema.TIME) > admission.over(schema.SUBJECT_ID) + pl.duration(hours=24)
    return frame.with_columns(
        pl.when(late).then(pl.lit("zebra quagga okapi")).otherwise(schema.TEXT_VALUE).alias(schema.TEXT_VALUE)
    )


def encoder_bytes(path: Path, change) -> bytes:
    """What is learned of the texts of a dataset, as it goes into the bundle."""
    changed = Dataset(write_talking_dataset(path / "meds", 80, change))
    labels = build_labels(changed, find_task(APPLICATION, changed, "in_icu_death_24h")).frame
    inputs = APPLICATION.collect(changed, labels, schema.TRAIN, lambda done, total: None)
    reader = APPLICATION.preprocess(inputs, config()).texts
    texts_module.save_encoder(reader.encoder, path / "text")
    return b"".join(file.read_bytes() for file in sorted((path / "text").iterdir()))


@pytest.mark.parametrize("change", [others_speak_otherwise, later_is_told_otherwise])
def test_the_encoder_learns_of_training_subjects_before_their_prediction_times_alone(tmp_path, change):
    assert encoder_bytes(tmp_path / "one", None) == encoder_bytes(tmp_path / "other", change)


@pytest.mark.parametrize("change", [others_speak_otherwise, later_is_told_otherwise])
def test_an_encoder_fitted_on_everyone_would_be_noticed(tmp_path, change, monkeypatch):
    """The fault, reintroduced: every text of the dataset, whoever's and whenever."""
    fitted = iter([tmp_path / "one" / "meds", tmp_path / "other" / "meds"])

    def fit_on_everyone(train, seed):
        everything = Dataset(next(fitted)).scan().filter(pl.col(schema.TEXT_VALUE).is_not_null()).collect()
        return TfidfEncoder.fit(
            everything[schema.TEXT_VALUE].to_list(), everything[schema.SUBJECT_ID].to_list(), seed=seed
        )

    monkeypatch.setattr(texts_module, "fit_on_inputs", fit_on_everyone)
    assert encoder_bytes(tmp_path / "one", None) != encoder_bytes(tmp_path / "other", change)


# --- settings -------------------------------------------------------------------------------------


def test_by_default_no_text_is_read(tiny_run):
    assert not (tiny_run / "bundle" / "text").exists()
    assert MortalityConfig().text == "none"
    assert Predictor.from_pretrained(APPLICATION, tiny_run / "bundle").preprocessor.texts is None


def test_a_dataset_without_texts_is_refused(tiny_dataset, tmp_path):
    with pytest.raises(DatasetError, match="no training subject has a text before a prediction time"):
        train(APPLICATION, Dataset(tiny_dataset), config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_vectors_may_be_kept_for_other_runs(dataset, tmp_path):
    settings = config(f"text_store={tmp_path / 'store'}", "training.max_steps=1")
    train(APPLICATION, dataset, settings, tmp_path / "run")
    assert list((tmp_path / "store").iterdir())
    assert not (tmp_path / "run" / "texts").exists()


def test_a_pretrained_encoder_by_folder(dataset, tmp_path):
    folder = longformer(tmp_path / "encoder")
    settings = config(f"text={folder}", "training.max_steps=1")
    train(APPLICATION, dataset, settings, tmp_path / "run")
    assert (
        json.loads((tmp_path / "run" / "bundle" / "text" / "encoder.json").read_text())["kind"]
        == "pretrained"
    )
    assert load_encoder(tmp_path / "run" / "bundle" / "text").name == str(folder)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="text: got nothing"):
        MortalityConfig(text=" ")
