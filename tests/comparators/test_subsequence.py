import numpy as np
import pytest

from caretrace.comparators.monitoring import NAMES, build_monitoring
from caretrace.comparators.subsequence import METHODS, Subsequence, _apart, _Shapes, _standardised
from caretrace.errors import CohortError, ConfigError

CHANNELS = ("hr", "spo2")


def waves(n=12, steps=600, seed=0):
    """Two channels that swing once in 20 steps."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 20, (n, 1, 1))
    wave = np.sin((np.arange(steps) + phase) * 2 * np.pi / 20)
    noise = 0.1 * rng.standard_normal((n, 2, steps))
    return (np.array([80, 96])[:, None] + np.array([5, 1])[:, None] * (wave + noise)).astype(np.float32)


def strange(steps=600):
    """From step 300 to 340 the swing stops and the level moves."""
    values = waves(1, steps, seed=7)[0]
    values[0, 300:340], values[1, 300:340] = 105, 90
    return values


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_the_window_that_differs(method):
    model = Subsequence(method, 20).fit(list(waves()))
    score = model.score(strange())
    assert score.shape == (600,)
    assert np.isfinite(score).all()
    assert score[320:340].mean() > np.quantile(np.r_[score[:300], score[400:]], 0.99)


@pytest.mark.parametrize("name", NAMES)
def test_no_score_looks_ahead(name):
    model = build_monitoring(name, CHANNELS, 60.0, window_seconds=1200.0)
    model.fit(list(waves()))
    values = strange()
    changed = values.copy()
    changed[:, 250:] = np.nan
    one = build_monitoring(name, CHANNELS, 60.0, window_seconds=1200.0) if name == "random" else model
    np.testing.assert_allclose(one.score(changed)[:250], model.score(values)[:250], rtol=1e-5, atol=1e-6)
    assert np.isfinite(model.score(changed)).all()


def test_missing_values_and_short_recordings_are_scored():
    model = Subsequence("sub-pca", 20).fit(list(waves()))
    values = waves(1, 8)[0]
    values[0, 3] = np.nan
    assert np.isfinite(model.score(values)).all()
    assert model.score(values).shape == (8,)
    with pytest.raises(CohortError, match="20 steps"):
        Subsequence("sub-pca", 20).fit([values])
    with pytest.raises(ConfigError, match="did you mean 'sub-pca'"):
        Subsequence("sub-pcaa", 20)


def test_the_shape_distance_is_blind_to_shift_and_size():
    wave = np.sin(np.arange(32) * 2 * np.pi / 16)[None, None].astype(np.float32)
    bump = np.exp(-((np.arange(32) - 16) ** 2) / 8.0)[None, None].astype(np.float32)
    shifted = np.roll(bump, 3, axis=-1)
    assert _apart(_standardised(3 * bump + 7), _standardised(bump))[0, 0] == pytest.approx(0, abs=1e-5)
    near, far = (
        _apart(_standardised(shifted), _standardised(bump)),
        _apart(_standardised(wave), _standardised(bump)),
    )
    assert near[0, 0] < 0.1 < far[0, 0]


def test_k_shape_centres_are_the_shapes_there_are():
    rng = np.random.default_rng(0)
    sine, ramp = np.sin(np.arange(32) / 5), np.linspace(-1, 1, 32)
    windows = np.stack([sine if i % 2 else ramp for i in range(60)]) + 0.05 * rng.standard_normal((60, 32))
    model = _Shapes(0)
    model.fit(windows[:, None].astype(np.float32))
    for shape in (sine, ramp):
        assert _apart(_standardised(shape[None, None].astype(np.float32)), model._centres).min() < 0.03
