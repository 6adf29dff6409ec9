"""The linear reading against scikit-learn's own solution of the same problem."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from caretrace.apps.mortality.level import LevelReading
from caretrace.data.samples import Samples

N_CODES, N_STATIC, SPREAD = 5, 2, 0.5


def samples(seed: int = 0, n: int = 300) -> Samples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 20, n)
    total = int(lengths.sum())
    value, static = rng.random(total, dtype=np.float32), rng.normal(size=(n, N_STATIC)).astype(np.float32)
    return Samples(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        code=rng.integers(1, N_CODES, total),
        numeric_value=value,
        numeric_mask=rng.random(total) < 0.8,
        event_type=np.zeros(total, dtype=np.int64),
        time_hours=-np.concatenate([np.sort(rng.uniform(0, 48, k))[::-1] for k in lengths]).astype(
            np.float32
        ),
        static=static,
        outcomes=(static[:, 0] + rng.normal(size=n) > 0.5).astype(np.float32),
    )


@pytest.fixture
def solved() -> tuple[LevelReading, Samples]:
    reading = LevelReading(n_codes=N_CODES, n_static=N_STATIC, windows_hours=(48.0,), spread=SPREAD)
    its = samples()
    reading.solve(its)
    return reading, its


def test_the_solution_is_that_of_scikit_learn(solved: tuple[LevelReading, Samples]) -> None:
    reading, its = solved
    batch = its.batch(np.arange(len(its)))
    features = torch.cat([reading.summary(batch), batch.static], -1).double().numpy()
    # Its C is the variance of the prior: both minimise log-loss + |w|^2 / (2 spread^2).
    other = LogisticRegression(C=SPREAD**2, tol=1e-10, max_iter=5000).fit(features, its.outcomes)
    np.testing.assert_allclose(reading(batch).numpy(), other.decision_function(features), atol=2e-3)


def test_it_learned_the_feature_that_matters(solved: tuple[LevelReading, Samples]) -> None:
    reading, _ = solved
    assert reading.weight[-2] > 1.0
    assert reading.weight[-1].abs() < 0.5


def test_twice_gives_the_same_bits(solved: tuple[LevelReading, Samples]) -> None:
    reading, its = solved
    again = LevelReading(n_codes=N_CODES, n_static=N_STATIC, windows_hours=(48.0,), spread=SPREAD)
    again.solve(its)
    assert torch.equal(reading.weight, again.weight)


def test_a_tighter_prior_gives_smaller_coefficients(solved: tuple[LevelReading, Samples]) -> None:
    reading, its = solved
    tight = LevelReading(n_codes=N_CODES, n_static=N_STATIC, windows_hours=(48.0,), spread=SPREAD / 10)
    tight.solve(its)
    assert tight.weight.norm() < reading.weight.norm()
