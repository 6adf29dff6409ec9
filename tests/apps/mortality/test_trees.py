"""The trees in tensors against LightGBM's own predictions, and what a model with them can be asked."""

import dataclasses
import sys

import lightgbm
import numpy as np
import pytest
import torch

from caretrace.apps.mortality import trees
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.explanation import MortalityScore, ensemble_score
from caretrace.apps.mortality.model import MortalityModel
from caretrace.apps.mortality.trees import TreeReading
from caretrace.data.samples import Samples
from caretrace.errors import ConfigError
from caretrace.explain.gradients import integrated_gradients
from caretrace.explain.removal import removal
from caretrace.explain.scores import GradedScore, row, score_once, score_without
from caretrace.schema import EventType

from .test_level import N_CODES, N_STATIC, samples

N_TREES = 20


def grown(its: Samples, n_trees: int = N_TREES) -> TreeReading:
    torch.manual_seed(0)
    reading = TreeReading(n_codes=N_CODES, windows_hours=(24.0, 6.0), n_trees=n_trees)
    reading.solve(its)
    return reading


def test_they_say_what_lightgbm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[lightgbm.Booster] = []
    fit = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *given: kept.append(fit(*given)) or kept[-1])
    its, others = samples(), samples(seed=1)
    reading = grown(its)
    for each in (its, others):
        batch = each.batch(np.arange(len(each)))
        expected = kept[0].predict(np.concatenate(list(reading._blocks(each))), raw_score=True)
        np.testing.assert_allclose(reading(batch).numpy(), expected, atol=1e-5)


def test_they_learned_what_matters_and_repeat_themselves() -> None:
    its, others = samples(n=1000), samples(seed=1)
    reading, again = grown(its, 100), grown(its, 100)
    logit = reading(others.batch(np.arange(len(others)))).numpy()
    assert np.corrcoef(logit, others.static[:, 0])[0, 1] > 0.7
    assert all(
        torch.equal(a, b)
        for a, b in zip(reading.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_sample_that_counts_for_nothing_is_not_learned_from() -> None:
    its = samples()
    flipped = dataclasses.replace(its, outcomes=np.concatenate([its.outcomes[:150], 1 - its.outcomes[150:]]))
    counts = (np.arange(len(its)) < 150).astype(np.float32)
    batch = its.batch(np.arange(150))
    found = []
    for each in (its, flipped):
        torch.manual_seed(0)
        reading = TreeReading(n_codes=N_CODES, windows_hours=(24.0,), n_trees=N_TREES)
        reading.solve(each, counts)
        found.append(reading(batch))
    torch.testing.assert_close(found[0], found[1])


def test_a_float32_lies_on_the_same_side_of_the_rounded_threshold() -> None:
    for threshold in (0.1, 0.3, 1 / 3, -0.7, 0.5):
        rounded = np.float32(trees._below(threshold))
        for value in (
            rounded,
            np.nextafter(rounded, np.float32(2)),
            np.nextafter(rounded, np.float32(-2)),
        ):
            assert (value <= rounded) == (float(value) <= threshold)


def test_a_split_on_whether_a_value_is_there_at_all_takes_every_value() -> None:
    assert trees._below(sys.float_info.max) == np.finfo(np.float32).max


@pytest.fixture(scope="module")
def model() -> MortalityModel:
    torch.manual_seed(0)
    config = dataclasses.replace(MortalityConfig(), trees=N_TREES, d_model=16)
    made = MortalityModel(config, n_codes=N_CODES, n_types=len(EventType), n_static=N_STATIC)
    made.prepare(samples())
    return made.eval()


def test_the_trees_are_one_of_three_readings(model: MortalityModel) -> None:
    its = samples()
    batch = its.batch(np.arange(9))
    with torch.no_grad():
        assert model.level is not None
        assert model.trees is not None
        expected = (model.course(batch) + model.level(batch) + 2 * model.trees(batch)) / 4
        torch.testing.assert_close(model(batch), expected)


def test_weights_alone_bring_them_back(model: MortalityModel) -> None:
    config = dataclasses.replace(MortalityConfig(), trees=N_TREES, d_model=16)
    other = MortalityModel(config, n_codes=N_CODES, n_types=len(EventType), n_static=N_STATIC).eval()
    other.load_state_dict(model.state_dict())
    batch = samples(seed=2).batch(np.arange(9))
    torch.testing.assert_close(other(batch), model(batch))


def test_removal_explains_them_and_gradients_refuse(model: MortalityModel) -> None:
    score = ensemble_score([model])
    assert not isinstance(score, GradedScore)
    its = samples(seed=3)
    number = int(np.argmax(np.diff(its.offsets)))
    sample = row(its.batch(np.array([number])), 0)
    credit = removal(score, sample).credit
    width = sample.code.shape[1]
    expected = score_once(score, sample) - score_without(score, sample, np.eye(width, dtype=bool))
    np.testing.assert_allclose(credit, expected, atol=1e-4)
    with pytest.raises(ConfigError, match="gradient"):
        integrated_gradients(score, sample)


def test_without_trees_gradients_are_offered() -> None:
    made = MortalityModel(MortalityConfig(), n_codes=N_CODES, n_types=len(EventType), n_static=N_STATIC)
    assert isinstance(ensemble_score([made]), MortalityScore)


@pytest.mark.parametrize("change", [{"trees": -1}, {"trees_weight": 0.0}, {"trees_hours": (0.0,)}])
def test_settings_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="trees"):
        dataclasses.replace(MortalityConfig(), **change)
