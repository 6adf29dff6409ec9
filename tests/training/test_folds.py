"""Cross-fitting: who leaves out whom."""

import dataclasses

import numpy as np
import pytest

from caretrace.errors import ConfigError
from caretrace.training.config import TrainingConfig
from caretrace.training.folds import Folds

from ..apps.mortality.test_level import samples

MEMBERS = 5


@pytest.fixture
def folds() -> Folds:
    its = samples()
    outcomes = (np.arange(len(its)) % 10 == 0).astype(np.float32)
    its = dataclasses.replace(its, outcomes=outcomes)
    return Folds.draw(its, np.arange(len(its)) // 3, members=MEMBERS, seed=0)


def test_every_sample_is_left_out_once_and_no_subject_is_divided(folds: Folds) -> None:
    sizes = [len(folds.of(member)[1]) for member in range(MEMBERS)]
    assert sum(sizes) == len(folds.samples)
    for subject in range(len(folds.samples) // 3):
        assert len(set(folds.left_out_by[3 * subject : 3 * subject + 3])) == 1
    for member in range(MEMBERS):
        learned, out = folds.of(member)
        assert len(learned) + len(out) == len(folds.samples)


def test_outcomes_are_shared_out_evenly(folds: Folds) -> None:
    positives = [int(folds.of(member)[1].outcomes.sum()) for member in range(MEMBERS)]
    assert max(positives) - min(positives) <= 1


def test_a_sample_is_judged_by_the_member_that_left_it_out(folds: Folds) -> None:
    logits = np.repeat(np.arange(MEMBERS, dtype=float)[:, None], len(folds.samples), axis=1)
    np.testing.assert_array_equal(folds.unseen(logits), folds.left_out_by)


def test_the_same_seed_gives_the_same_parts(folds: Folds) -> None:
    subjects = np.arange(len(folds.samples)) // 3
    again, other = (Folds.draw(folds.samples, subjects, members=MEMBERS, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.left_out_by, folds.left_out_by)
    assert (other.left_out_by != folds.left_out_by).any()


@pytest.mark.parametrize("change", [{"members": 1}, {"stream": True}])
def test_what_cannot_be_cross_fitted_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="cross_fit"):
        TrainingConfig(cross_fit=True, **change)
