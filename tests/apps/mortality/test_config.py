"""Settings that cannot be are refused, with what is allowed."""

import math

import pytest

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.config import load
from caretrace.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step_hours": -1.0}, r"step_hours -1\.0 must not be negative"),
        ({"step_hours": math.nan}, "step_hours nan must not be negative"),
        ({"lookback_hours": 0.0}, r"lookback_hours 0\.0 must be positive"),
        ({"d_model": 10, "pooling_heads": 4}, "d_model 10 must be a multiple of pooling_heads 4"),
        ({"pooling_heads": 0}, "pooling_heads: got 0, it must be at least 1"),
        ({"d_model": 0}, "d_model: got 0, it must be at least 1"),
        ({"n_layers": -1}, "n_layers: got -1, it must be at least 1"),
        ({"n_bins": 0}, "n_bins: got 0"),
        ({"max_measurements": 0}, "max_measurements: got 0"),
        ({"forget_hours": 0.0}, "forget_hours: got 0"),
        ({"dropout": 1.0}, r"dropout: got 1\.0, it must be at least 0 and below 1"),
        ({"code_dropout": -0.1}, r"code_dropout: got -0\.1"),
        ({"level_hours": (24.0, 0.0)}, r"level_hours \[24\.0, 0\.0\] and level_spread 0.25 must be positive"),
        ({"level_spread": 0.0}, r"level_spread 0\.0 must be positive"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        MortalityConfig(**values)


def test_a_misspelt_setting_gets_the_nearest():
    with pytest.raises(ConfigError, match="unknown setting 'bacbone': did you mean 'backbone'"):
        load(MortalityConfig, None, ["bacbone=gru"])
    with pytest.raises(
        ConfigError, match=r"unknown setting 'training\.member': did you mean 'training\.members'"
    ):
        load(MortalityConfig, None, ["training.member=3"])
