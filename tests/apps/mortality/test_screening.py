"""What is withheld has no say, what is kept is what explains, and without the screen a decoy gets credit."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.linear_model import LogisticRegression

from caretrace.application.configs import find_config
from caretrace.apps.mortality import screening
from caretrace.apps.mortality.application import APPLICATION
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.explanation import MortalityScore
from caretrace.apps.mortality.model import MortalityModel
from caretrace.apps.mortality.screening import Screen
from caretrace.config import load
from caretrace.data.samples import Samples
from caretrace.data.vocabulary import UNKNOWN
from caretrace.errors import ConfigError
from caretrace.explain.faithfulness import Case, decoy, gate, recovery
from caretrace.explain.gradients import integrated_gradients
from caretrace.explain.methods import METHODS
from caretrace.explain.removal import removal
from caretrace.explain.scores import row
from caretrace.explain.shuffling import shuffled
from caretrace.training.config import TrainingConfig
from caretrace.training.run import fit

CAUSE, TRAVELS, N_CODES, N_STATIC = 2, 3, 16, 2
STRENGTH = 0.25


def hospital(rule: str, seed: int = 0, n: int = 600) -> Samples:
    """Stays whose outcome a planted rule decides; the codes from 4 on are measured at random."""
    rng = np.random.default_rng(seed)
    first = rng.random(n) < (0.3 if rule in ("decoy", "redundant") else 0.6)
    chance = {"decoy": np.where(first, 0.9, 0.1), "redundant": first, "conjunctive": 0.6}[rule]
    second = rng.random(n) < chance
    died = {"decoy": first, "redundant": first | second, "conjunctive": first & second}[rule]
    codes, times, valued = [], [], []
    for stay in range(n):
        other = rng.integers(4, N_CODES, rng.integers(6, 16))
        planted = [code for code, there in ((CAUSE, first[stay]), (TRAVELS, second[stay])) if there]
        codes.append(rng.permutation(np.concatenate([other, np.array(planted, dtype=int)])))
        times.append(np.sort(rng.uniform(-23, -0.1, len(codes[-1]))))
        valued.append((codes[-1] > TRAVELS) & (rng.random(len(codes[-1])) < 0.7))
    code, mask = np.concatenate(codes).astype(np.int64), np.concatenate(valued)
    return Samples(
        offsets=np.concatenate([[0], np.cumsum([len(each) for each in codes])]).astype(np.int64),
        code=code,
        numeric_value=(rng.random(len(code)) * mask).astype(np.float32),
        numeric_mask=mask,
        event_type=code % 3,
        time_hours=np.concatenate(times).astype(np.float32),
        static=rng.normal(size=(n, N_STATIC)).astype(np.float32),
        outcomes=died.astype(np.float32),
    )


def screened(samples: Samples, strength: float = STRENGTH) -> Screen:
    screen = Screen(n_codes=N_CODES, windows_hours=(48.0,), strength=strength)
    screen.fit(samples)
    return screen


def config(**change) -> MortalityConfig:
    training = TrainingConfig(members=1, max_steps=120, batch_size=64)
    return MortalityConfig(
        d_model=8, n_bins=2, pooling_heads=2, lookback_hours=24.0, training=training, **change
    )


def build(settings: MortalityConfig) -> MortalityModel:
    return MortalityModel(settings, n_codes=N_CODES, n_types=11, n_static=N_STATIC)


def trained(settings: MortalityConfig, tuning: Samples, folder) -> MortalityModel:
    folder.mkdir()
    (member,) = fit(lambda: build(settings), hospital("decoy"), tuning, settings.training, folder)
    return member


@pytest.fixture(scope="module")
def with_screen(tmp_path_factory) -> MortalityModel:
    return trained(config(screen=STRENGTH), hospital("decoy", 1, 200), tmp_path_factory.mktemp("a") / "run")


@pytest.fixture(scope="module")
def without_screen(tmp_path_factory) -> MortalityModel:
    return trained(config(), hospital("decoy", 1, 200), tmp_path_factory.mktemp("b") / "run")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("rule", "kept"), [("decoy", [1, 0]), ("redundant", [1, 1]), ("conjunctive", [1, 1])]
)
def test_causes_are_kept_and_what_travels_with_one_is_not(rule: str, kept: list[int], seed: int) -> None:
    assert screened(hospital(rule, seed)).kept[[CAUSE, TRAVELS]].tolist() == kept


def test_a_cause_that_is_a_value_is_kept() -> None:
    its = hospital("decoy")
    where = np.flatnonzero((its.code == 7) & its.numeric_mask)
    stay = np.searchsorted(its.offsets, where, side="right") - 1
    value = its.numeric_value.copy()
    value[where] = np.abs(its.outcomes[stay] - 0.9 * value[where]).astype(np.float32)
    screen = screened(
        dataclasses.replace(its, numeric_value=value, code=np.where(its.code == CAUSE, 8, its.code))
    )
    assert screen.kept[7] == 1


def test_where_nothing_is_related_little_comes_in() -> None:
    """At the full penalty chance lets something through in one of twenty cohorts; here it is one of fifteen at most."""
    through = 0
    for seed in range(15):
        its = hospital("decoy", seed, 300)
        outcomes = (np.random.default_rng(100 + seed).random(len(its)) < 0.3).astype(np.float32)
        through += bool(screened(dataclasses.replace(its, outcomes=outcomes), 1.0).kept.any())
    assert through <= 3


def test_a_code_of_its_own_is_needed() -> None:
    its = hospital("decoy")
    unknown = dataclasses.replace(its, code=np.where(its.code == CAUSE, UNKNOWN, its.code))
    assert screened(unknown).kept[UNKNOWN] == 0


def test_the_lasso_is_that_of_scikit_learn() -> None:
    """With one statistic per code a group is one coefficient; its ridge and l1 together are an elastic net."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 12))
    features[:, 1] += features[:, 0]
    outcomes = (features[:, 0] + 0.5 * features[:, 2] + rng.normal(size=400) > 0).astype(float)
    groups = screening._Groups(scipy.sparse.csc_matrix(features), 12)
    problem = screening._Problem(groups, np.zeros((400, 0)), outcomes, np.ones(400))
    standard = (features - features.mean(0)) / features.std(0)
    for penalty in (0.02, 0.05, 0.1):
        both = penalty + screening._RIDGE
        net = LogisticRegression(
            C=1 / (400 * both), l1_ratio=penalty / both, solver="saga", tol=1e-8, max_iter=20_000
        )
        expected = net.fit(standard, outcomes).coef_[0] != 0
        assert problem.solve(penalty).tolist() == expected.tolist()
        assert 0 < expected.sum() < 12


def test_a_small_working_set_finds_the_same(monkeypatch) -> None:
    its = hospital("conjunctive", 0, 300)
    mistaken = np.random.default_rng(0).random(len(its)) < 0.1
    its = dataclasses.replace(its, outcomes=np.where(mistaken, 1 - its.outcomes, its.outcomes))
    everything = screened(its)
    monkeypatch.setattr(screening, "_WORKING_SET", 1)
    assert torch.equal(screened(its).kept, everything.kept)
    assert 2 < everything.kept.sum() < N_CODES - 2


def test_what_counts_for_nothing_has_no_say() -> None:
    its, wrong = hospital("decoy", 0, 400), hospital("decoy", 1, 400)
    wrong = dataclasses.replace(wrong, outcomes=1 - wrong.outcomes)
    weights = np.repeat([2.0, 0.0], 400)
    screen = Screen(n_codes=N_CODES, windows_hours=(48.0,), strength=STRENGTH)
    screen.fit(Samples.concat([its, wrong]), weights)
    assert screen.kept[[CAUSE, TRAVELS]].tolist() == [1, 0]


def test_what_is_withheld_has_no_say(with_screen: MortalityModel) -> None:
    its = hospital("decoy", 2, 50)
    withheld = with_screen.screen.kept.numpy()[its.code] == 0
    assert withheld.any()
    other = dataclasses.replace(
        its,
        numeric_value=np.where(withheld, 1 - its.numeric_value, its.numeric_value),
        code=np.where(withheld, TRAVELS, its.code),
        event_type=np.where(withheld, 5, its.event_type),
    )
    rows = np.arange(50)
    with torch.no_grad():
        assert torch.equal(with_screen(its.batch(rows)), with_screen(other.batch(rows)))


def test_what_is_withheld_gets_no_credit(with_screen: MortalityModel) -> None:
    its, score = hospital("decoy", 2, 20), MortalityScore([with_screen])
    for number in range(20):
        sample = row(its.batch(np.array([number])), 0)
        withheld = with_screen.screen.kept[sample.code[0]].numpy() == 0
        assert not integrated_gradients(score, sample).credit[withheld].any()
        np.testing.assert_allclose(removal(score, sample).credit[withheld], 0.0, atol=1e-6)


def cases(count: int = 25) -> list[Case]:
    its = hospital("decoy", 3, 200)
    found = []
    for number in np.flatnonzero(its.outcomes > 0.5)[:count]:
        sample = row(its.batch(np.array([number])), 0)
        code = sample.code[0].numpy()
        found.append(Case(sample, code == CAUSE, code == TRAVELS, np.zeros(len(code), bool)))
    return [case for case in found if case.planted.any()]


def decoy_gate(model: MortalityModel, method: str):
    score = MortalityScore([model])
    found = [(case, METHODS[method].run(score, case.sample).credit) for case in cases()]
    assert gate("recovery", float(np.mean([recovery(*each) for each in found]))).passed
    return gate("decoy", float(np.mean([decoy(*each) for each in found if each[0].decoy.any()])))


@pytest.mark.parametrize("method", ["removal", "integrated_gradients"])
def test_without_a_screen_the_decoy_gate_is_red(with_screen, without_screen, method: str) -> None:
    assert decoy_gate(with_screen, method).passed
    red = decoy_gate(without_screen, method)
    assert not red.passed
    assert red.value > 0.9


def test_only_training_subjects_are_looked_at(with_screen: MortalityModel, tmp_path) -> None:
    """The tuning samples of another hospital, where the decoy kills, change nothing that is fitted beforehand."""
    other = hospital("decoy", 5, 200)
    swapped = np.where(other.code == CAUSE, TRAVELS, np.where(other.code == TRAVELS, CAUSE, other.code))
    again = trained(config(screen=STRENGTH), dataclasses.replace(other, code=swapped), tmp_path / "run")
    assert torch.equal(again.screen.kept, with_screen.screen.kept)
    assert torch.equal(again.level.weight, with_screen.level.weight)


def test_the_screen_is_saved_and_shuffled_with_the_weights(with_screen: MortalityModel) -> None:
    loaded = build(config(screen=STRENGTH))
    loaded.load_state_dict(with_screen.state_dict())
    batch = hospital("decoy", 2, 8).batch(np.arange(8))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(batch), with_screen(batch))
    other = shuffled(with_screen, 0)
    assert not torch.equal(other.screen.kept, with_screen.screen.kept)
    assert other.screen.kept.sum() == with_screen.screen.kept.sum()


def test_a_copy_is_guarded_by_its_own_screen(with_screen: MortalityModel) -> None:
    other = copy.deepcopy(with_screen)
    other.screen.kept.data.fill_(0.0)
    its = hospital("decoy", 2, 20)
    batch = its.batch(np.arange(20))
    nothing = batch.without(torch.ones_like(batch.padding_mask))
    with torch.no_grad():
        assert torch.equal(other(batch), other(nothing))
        assert not torch.equal(with_screen(batch), with_screen(nothing))


def test_settings() -> None:
    named = load(MortalityConfig, find_config(APPLICATION, Path("explained")))
    assert named == dataclasses.replace(MortalityConfig(), screen=STRENGTH, forget_hours=48.0)
    assert build(config(screen=0.0)).screen is None
    assert build(config(screen=STRENGTH, step_hours=0.0)).screen is None
    with pytest.raises(ConfigError, match="screen: got -1"):
        config(screen=-1)
