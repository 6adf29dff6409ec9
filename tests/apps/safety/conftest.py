"""One small city for all tests of safety."""

from __future__ import annotations

from pathlib import Path

import pytest

from caretrace.application.run import Run
from caretrace.apps.safety.config import ModelConfig, SafetyConfig
from caretrace.apps.safety.pathways import collect_episodes
from caretrace.apps.safety.reading import Kinds, read_whole
from caretrace.apps.safety.site_hours import SiteHours, collect_site_hours
from caretrace.apps.safety.training import train
from caretrace.dataset import Dataset
from caretrace.training.descent import DescentConfig

from .small_city import write_city


@pytest.fixture(scope="session")
def small_city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Raw tables with their truth, and the MEDS dataset of them."""
    folder = tmp_path_factory.mktemp("city")
    return folder / "raw", write_city(folder / "raw", folder / "data")


@pytest.fixture(scope="session")
def site_hours(small_city: tuple[Path, Path]) -> SiteHours:
    dataset = Dataset(small_city[1])
    return collect_site_hours(dataset, collect_episodes(dataset))


@pytest.fixture(scope="session")
def kinds(small_city: tuple[Path, Path]) -> Kinds:
    return read_whole(Dataset(small_city[1]), SafetyConfig())


@pytest.fixture(scope="session")
def run(small_city: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run of every kind of sequence."""
    config = SafetyConfig(
        block_days=5,
        window_hours=72,
        batch=4,
        batches=6,
        most_pathways=1500,
        model=ModelConfig(d_model=16, d_category=2, d_head=8),
        descent=DescentConfig(epochs=2, learning_rate=0.01),
    )
    path = tmp_path_factory.mktemp("safety") / "run"
    train(Dataset(small_city[1]), config, path, "Safety")
    return Run(path)
