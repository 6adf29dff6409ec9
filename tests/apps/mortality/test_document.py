"""The document's model: its shape, and that it cannot know when a stay ends."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from caretrace import schema
from caretrace.application.configs import find_config
from caretrace.application.run import Run
from caretrace.application.tasks import find_task
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.apps.mortality import document
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.document import DocumentModel, days_since_admission
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.data.text import TextReader, TfidfEncoder
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError
from caretrace.explain.methods import METHODS

from ...tiny import START
from .talking import write_talking_dataset

APPLICATION = load_application("mortality")
NAMED = find_config(APPLICATION, Path("clinical-longformer"))
SMALL = (
    *("text=tfidf", "d_model=16", "n_layers=2", "backbone_settings.n_heads=2", "pooling_heads=2"),
    *("backbone_settings.d_feed_forward=24", "training.max_steps=8", "training.batch_size=32"),
)


def config(*settings: str) -> MortalityConfig:
    return load(MortalityConfig, NAMED, [*SMALL, *settings])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return Dataset(write_talking_dataset(tmp_path_factory.mktemp("meds") / "talking", 80))


def built(dataset: Dataset, settings: MortalityConfig):
    """Samples of the held-out split as the model reads them, and the model."""
    labels = build_labels(dataset, find_task(APPLICATION, dataset, "in_icu_death_24h")).frame
    inputs = {
        split: APPLICATION.collect(dataset, labels, split, lambda done, total: None)
        for split in (schema.TRAIN, schema.HELD_OUT)
    }
    preprocessor = APPLICATION.preprocess(inputs[schema.TRAIN], settings)
    torch.manual_seed(0)
    return APPLICATION.model(preprocessor, settings).eval(), preprocessor.transform(inputs[schema.HELD_OUT])


# --- its shape ------------------------------------------------------------------------------------


def test_the_named_configuration_is_the_documents():
    settings = load(MortalityConfig, NAMED)
    assert settings.text == "yikuan8/Clinical-Longformer"
    reader = TextReader(Wide())
    made = DocumentModel(settings, n_static=7, texts=reader)
    assert [made.embedding.texts.width, made.embedding.type_and_time.in_features] == [768, 5 + 1]
    assert made.embedding.texts.project.out_features == 256
    assert len(made.backbone.layers) == 4
    layer = made.backbone.layers[0]
    assert (layer.attention.n_heads, layer.feed_forward[0].out_features) == (8, 512)
    assert made.pooling.query.shape == (4, 64)
    widths = [(part.in_features, part.out_features) for part in made.head if isinstance(part, nn.Linear)]
    assert widths == [(256 + 7, 256), (256, 128), (128, 1)]
    assert "LENGTH" not in " ".join(settings.static)


class Wide:
    """An encoder of the document's width that is never asked."""

    name, width, truncated, fingerprint = "wide", 768, 0, {}

    def encode(self, texts):
        raise AssertionError


def test_a_name_that_is_not_known_gets_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'clinical-longformer'"):
        find_config(APPLICATION, Path("clinical-longfromer"))
    assert find_config(APPLICATION, None) is None
    assert find_config(APPLICATION, Path("missing.yaml")) == Path("missing.yaml")


def test_without_texts_it_is_refused():
    with pytest.raises(ConfigError, match="reads nothing but texts, types and times"):
        config("text=none")


def test_a_setting_the_backbone_does_not_have_is_refused(dataset):
    with pytest.raises(ConfigError, match="unknown setting of transformer 'n_head': did you mean 'n_heads'"):
        built(dataset, config("backbone_settings.n_head=2"))


def test_sequences_of_any_length_and_padding(dataset):
    model, samples = built(dataset, config())
    with torch.inference_mode():
        together = model(samples.batch(np.arange(len(samples))))
        alone = torch.cat([model(samples.batch([row])) for row in range(len(samples))])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    many = TfidfEncoder.fit(["a b", "b c"] * 3, list(range(6)), width=2)
    assert many.width == 2
    long = samples.batch([0])
    wide = type(long)(
        **{
            name: value.repeat(1, 600) if value.ndim == 2 and name != "static" else value
            for name, value in vars(dataclasses.replace(long, time_hours=long.time_hours * 0)).items()
        }
    )
    with torch.inference_mode():
        assert torch.isfinite(model(wide)).all()


def test_every_parameter_learns(dataset):
    model, samples = built(dataset, config())
    model.train()
    model.loss(samples.batch(np.arange(16)), torch.from_numpy(samples.outcomes[:16])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


# --- what it must not know ------------------------------------------------------------------------


def everything_later_is_otherwise(frame: pl.DataFrame, split: str) -> pl.DataFrame:
    """After hour 24 other codes, values, texts and times; discharge and death a week later for everybody."""
    admission = pl.col(schema.TIME).filter(pl.col(schema.CODE).str.starts_with("ICU_ADMISSION")).first()
    late = pl.col(schema.TIME) > admission.over(schema.SUBJECT_ID) + pl.duration(hours=24)
    end = pl.col(schema.CODE).str.contains("DISCHARGE|DEATH")
    return frame.with_columns(
        pl.when(late & end)
        .then(pl.col(schema.TIME) + pl.duration(days=7))
        .otherwise(pl.col(schema.TIME))
        .alias(schema.TIME),
        pl.when(late & ~end)
        .then(pl.lit("LAB//creatinine"))
        .otherwise(pl.col(schema.CODE))
        .alias(schema.CODE),
        pl.when(late & ~end)
        .then(1e6)
        .otherwise(schema.NUMERIC_VALUE)
        .cast(pl.Float32)
        .alias(schema.NUMERIC_VALUE),
        pl.when(late).then(pl.lit("dead")).otherwise(schema.TEXT_VALUE).alias(schema.TEXT_VALUE),
    ).sort(schema.SUBJECT_ID, schema.TIME, nulls_last=False, maintain_order=True)


def read(path, change=None) -> tuple[torch.Tensor, torch.Tensor]:
    model, samples = built(Dataset(write_talking_dataset(path, 80, change)), config())
    batch = samples.batch(np.arange(len(samples)))
    with torch.inference_mode():
        return model.embedding(batch)[0], model(batch)


def test_nothing_after_the_prediction_time_reaches_it(tmp_path):
    before, other = read(tmp_path / "one"), read(tmp_path / "other", everything_later_is_otherwise)
    assert torch.equal(before[0], other[0])
    assert torch.equal(before[1], other[1])


def test_time_to_the_last_event_would_be_noticed(tmp_path, monkeypatch):
    """The fault of the document, reintroduced: time counted to the end of the record."""
    found = []
    for name, change in (("one", None), ("other", everything_later_is_otherwise)):
        path = write_talking_dataset(tmp_path / name, 80, change)
        end = Dataset(path).scan().select(pl.col(schema.TIME).max()).collect().item()
        days = (end - START).total_seconds() / 86_400
        monkeypatch.setattr(
            document, "days_since_admission", lambda batch, days=days: days_since_admission(batch) - days
        )
        model, samples = built(Dataset(path), config())
        with torch.inference_mode():
            found.append(model(samples.batch(np.arange(len(samples)))))
    assert not torch.equal(found[0], found[1])


def test_time_is_counted_from_admission_and_never_ahead(dataset):
    _, samples = built(dataset, config())
    batch = samples.batch(np.arange(len(samples)))
    days = torch.sinh(days_since_admission(batch))[~batch.padding_mask]
    assert float(days.max()) <= 1.0 + 1e-5  # the landmark is hour 24
    assert float(days.min()) == pytest.approx(0.0, abs=1e-5)
    unknown = dataclasses.replace(batch, hours_since_admission=torch.full((len(batch),), torch.nan))
    assert float(days_since_admission(unknown)[:, 0].abs().max()) == 0.0


# --- as a run -------------------------------------------------------------------------------------


def test_it_trains_predicts_and_is_explained(dataset, tmp_path):
    from caretrace.application.evaluate import evaluate, inputs_for, labels_for
    from caretrace.application.predictor import Predictor

    train(APPLICATION, dataset, config(), tmp_path / "run")
    run = Run(tmp_path / "run")
    evaluate(APPLICATION, run, replicates=20)
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    inputs = inputs_for(APPLICATION, dataset, labels_for(run, dataset), schema.HELD_OUT, lambda *_: None)
    sample = predictor.preprocessor.transform(inputs).batch([0])
    score = APPLICATION.score(predictor.members)
    assert len(score.members) == 1
    for method in ("removal", "integrated_gradients", "pooling", "rollout"):
        credit = METHODS[method].run(score, sample).credit
        assert len(credit) == sample.code.shape[1]
        assert np.isfinite(credit).all()
        assert credit.any()
