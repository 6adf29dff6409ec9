"""The recommended configuration, small: three readings, every subject learned from."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.application.configs import find_config
from caretrace.application.predictor import Predictor, member_logits
from caretrace.application.run import Run
from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.evaluation import auroc

from ..tiny import QUICK

APPLICATION = load_application("mortality")
SMALL = [*QUICK, "training.members=3", "trees=30"]


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("cross_fit") / "run"
    config = load(APPLICATION.config_class, find_config(APPLICATION, Path("recommended")), SMALL)
    train(APPLICATION, Dataset(tiny_dataset), config, path)
    return Run(path)


def test_figures_are_of_all_subjects_by_members_that_left_them_out(run: Run) -> None:
    told = run.read()
    assert told["tuning"]["split"] == "cross_fitted"
    assert told["tuning"]["n"] == told["n_train"] + told["n_tuning"]
    # Those are the figures of predictions out of part, not of the ensemble that has seen everybody.
    labels = pl.read_parquet(run.labels / "labels.parquet")
    inputs = [
        APPLICATION.collect(run.dataset(), labels, split, lambda *_: None)
        for split in (schema.TRAIN, schema.TUNING)
    ]
    predictor = Predictor.from_pretrained(APPLICATION, run.bundle)
    logits = np.concatenate(
        [member_logits(predictor.members, predictor.preprocessor.transform(i)).mean(0) for i in inputs]
    )
    assert auroc(np.concatenate([i.outcomes for i in inputs]), logits) > told["tuning"]["auroc"]


def test_members_differ_in_every_reading(run: Run) -> None:
    members = Predictor.from_pretrained(APPLICATION, run.bundle).members
    for reading in ("level.weight", "trees.value", "head.2.weight"):
        tensors = [member.state_dict().get(reading) for member in members]
        if tensors[0] is not None:
            assert not any((tensors[0] == other).all() for other in tensors[1:])
    assert members[0].trees is not None


def test_the_card_says_how_subjects_were_used(run: Run) -> None:
    card = (run.bundle / "README.md").read_text(encoding="utf-8")
    assert "each member left out" in card
    assert "of both positive" in card
    assert "stopped and calibrated on" not in card
