"""Fixtures shared by every test."""

import os
from pathlib import Path

# Spinning OpenMP threads on busy cores run 10-90 times slower; tests are small, one thread is enough.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from .tiny import QUICK, write_tiny_dataset

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("caretrace", deadline=None)
settings.load_profile("caretrace")


@pytest.fixture(scope="session")
def caretrace_data() -> Path:
    """The folder with open real data; skips the test when CARETRACE_DATA does not name one."""
    folder = os.environ.get("CARETRACE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set CARETRACE_DATA to the folder with the open data to run this test")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MEDS dataset of 240 invented ICU stays in which a rising lactate precedes death; do not change it."""
    return write_tiny_dataset(tmp_path_factory.mktemp("meds") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the mortality application on `tiny_dataset`, evaluated; do not change it."""
    from caretrace.application.evaluate import evaluate
    from caretrace.application.run import Run
    from caretrace.application.train import train
    from caretrace.apps import load_application
    from caretrace.config import load
    from caretrace.dataset import Dataset

    application = load_application("mortality")
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train(application, Dataset(tiny_dataset), load(application.config_class, None, QUICK), path)
    evaluate(application, Run(path), replicates=100)
    return path
