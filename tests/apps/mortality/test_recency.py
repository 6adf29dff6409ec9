"""Several landmarks per stay: labels, weights, and the trajectory that comes out."""

import numpy as np
import polars as pl
import pytest
import torch

from caretrace import schema
from caretrace.application.predictor import Predictor
from caretrace.application.run import Run
from caretrace.application.tasks import find_task
from caretrace.application.train import train
from caretrace.application.trajectory import Course, trajectory
from caretrace.apps import load_application
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.model import MortalityModel
from caretrace.apps.mortality.recency import Recency
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.data.inputs import collect_inputs
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError

from ...tiny import QUICK
from .test_model import samples

APPLICATION = load_application("mortality")
TASK = "in_icu_death_trajectory"


def labels(dataset: Dataset, task: str) -> pl.DataFrame:
    return build_labels(dataset, find_task(APPLICATION, dataset, task)).frame


@pytest.fixture(scope="module")
def run(tiny_dataset, tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "landmarks"
    settings = load(MortalityConfig, None, [*QUICK, "landmark_half_life_hours=12"])
    train(APPLICATION, Dataset(tiny_dataset), settings, path, task=TASK)
    return Run(path)


def test_a_landmark_of_the_trajectory_is_the_task_of_that_hour(tiny_dataset):
    dataset = Dataset(tiny_dataset)
    every = labels(dataset, TASK)
    for hour in (24, 48):
        single = labels(dataset, f"in_icu_death_{hour}h")
        assert len(single) > 100
        assert every.join(single, on=every.columns, how="semi").equals(single)


def test_a_landmark_is_the_hours_since_admission(tiny_dataset):
    dataset = Dataset(tiny_dataset)
    inputs = collect_inputs(dataset, labels(dataset, TASK))
    assert set(inputs.hours_since_admission().tolist()) <= {12.0, 24.0, 36.0, 48.0, 72.0}
    assert len(set(inputs.hours_since_admission().tolist())) >= 4


def test_a_half_life_earlier_counts_half():
    train_samples = samples([1, 1, 1])
    object.__setattr__(train_samples, "hours_since_admission", np.array([12, 24, 48], np.float32))
    weighting = Recency(12.0)
    weights = weighting.fit(train_samples)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(2.0)
    assert weights[2] / weights[1] == pytest.approx(4.0)
    unknown = weighting(torch.tensor([torch.nan, 48.0]))
    assert float(unknown[0]) == float(unknown[1])


def test_the_loss_is_weighted_and_the_ablation_is_not():
    its = samples([5] * 8)
    object.__setattr__(its, "hours_since_admission", np.array([12, 72] * 4, np.float32))
    batch, outcome = its.batch(range(8)), torch.from_numpy(its.outcomes)

    def model(half_life):
        torch.manual_seed(0)
        settings = MortalityConfig(d_model=16, landmark_half_life_hours=half_life, level_hours=())
        made = MortalityModel(settings, n_codes=7, n_types=11, n_static=3).eval()
        made.prepare(its)
        return made

    plain, weighted = model(None), model(12.0)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(plain(batch), outcome, reduction="none")
    expected = (loss * weighted.recency(batch.hours_since_admission)).mean()
    torch.testing.assert_close(weighted.loss(batch, outcome), expected)
    torch.testing.assert_close(plain.loss(batch, outcome), loss.mean())
    assert not torch.isclose(expected, loss.mean())


def test_the_scale_of_the_weights_survives_a_bundle(run):
    member = Predictor.from_pretrained(APPLICATION, run.bundle).members[0]
    assert float(member.recency.latest_hours) == 48.0  # nobody here stays a day after hour 72
    assert float(member.recency.mean) < 1.0


def test_a_half_life_must_be_positive():
    with pytest.raises(ConfigError, match="landmark_half_life_hours: got 0"):
        MortalityConfig(landmark_half_life_hours=0)


# --- trajectories ---------------------------------------------------------------------------------


def test_a_trajectory_at_the_landmarks(run, tiny_dataset, tmp_path):
    found = trajectory(APPLICATION, run, Dataset(tiny_dataset), tmp_path / "t.parquet")
    assert found.equals(pl.read_parquet(tmp_path / "t.parquet"))
    assert set(found["hours_since_admission"].to_list()) <= {12.0, 24.0, 36.0, 48.0, 72.0}
    assert found.group_by(schema.SUBJECT_ID).len()["len"].max() > 2
    assert (found["low"] <= found["risk"]).all()
    assert (found["risk"] <= found["high"]).all()
    assert (found["low"] < found["high"]).all()


def test_a_trajectory_every_few_hours_meets_the_one_at_the_landmarks(run, tiny_dataset, tmp_path):
    dataset = Dataset(tiny_dataset)
    coarse = trajectory(APPLICATION, run, dataset, tmp_path / "a.parquet", Course(4))
    fine = trajectory(APPLICATION, run, dataset, tmp_path / "b.parquet", Course(4, every_hours=4.0))
    hours = fine["hours_since_admission"].to_list()
    assert hours == [4.0 * n for n in range(1, len(hours) + 1)]
    assert max(hours) == max(coarse["hours_since_admission"].to_list())
    both = coarse.join(fine, on=[schema.SUBJECT_ID, schema.PREDICTION_TIME])
    assert len(both) == len(coarse)
    assert np.allclose(both["risk"].to_numpy(), both["risk_right"].to_numpy(), atol=1e-6)


def test_whom_nobody_knows_has_no_trajectory(run, tiny_dataset, tmp_path):
    with pytest.raises(CohortError, match="subject 999999 has no label"):
        trajectory(APPLICATION, run, Dataset(tiny_dataset), tmp_path / "t.parquet", Course(999_999))
    with pytest.raises(ConfigError, match="--every 0"):
        Course(every_hours=0)
