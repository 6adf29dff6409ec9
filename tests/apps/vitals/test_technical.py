import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.apps.vitals.technical import (
    FLAT_LINE,
    IMPLAUSIBLE,
    PROBE_OFF,
    REASONS,
    ChannelLimits,
    SignalWatch,
    is_stale,
)
from caretrace.errors import ConfigError, InputError

LIMITS = {"hr": ChannelLimits(15.0, 300.0, off_seconds=3.0, flat_seconds=4.0)}
nan = float("nan")


def watch(*values, machine=None):
    machine = machine or SignalWatch(("hr",), 1.0, LIMITS)
    found = machine.advance(np.array([values], np.float32))
    return {reason: np.flatnonzero(found[reason][0]).tolist() for reason in REASONS}


def test_a_probe_is_off_when_nothing_came_for_long_enough():
    assert watch(80, nan, nan, nan, nan, 81)[PROBE_OFF] == [3, 4]


def test_a_probe_that_never_gave_a_value_is_off_too():
    assert watch(nan, nan, nan, nan)[PROBE_OFF] == [2, 3]


def test_a_flat_line_is_the_same_value_for_long_enough():
    assert watch(80, 81, 81, 81, 81, 81, 81, 82)[FLAT_LINE] == [5, 6]
    assert watch(80, 81, 81, 82, 82, 81, 81, 82)[FLAT_LINE] == []


def test_no_value_is_not_a_flat_line():
    assert watch(80, nan, nan, nan, nan, nan)[FLAT_LINE] == []
    assert watch(80, nan, nan, nan, nan, 80)[FLAT_LINE] == [5]  # it did come back to the very same value


def test_what_no_body_shows_is_implausible():
    assert watch(80, 0, 310, 300, 15)[IMPLAUSIBLE] == [1, 2]


values = st.lists(st.sampled_from([80.0, 81.0, 0.0, nan]), max_size=60)


@given(values, st.lists(st.integers(1, 7), min_size=1))
def test_a_stream_gives_what_the_whole_gives(samples, cuts):
    whole = SignalWatch(("hr",), 1.0, LIMITS).advance(np.array([samples], np.float32))
    machine, parts, start = SignalWatch(("hr",), 1.0, LIMITS), [], 0
    for number in range(len(samples) + 1):
        end = start + cuts[number % len(cuts)]
        parts.append(machine.advance(np.array([samples[start:end]], np.float32).reshape(1, -1)))
        start = end
    for reason in REASONS:
        joined = np.concatenate([part[reason] for part in parts], axis=1)
        assert joined.tolist() == whole[reason].reshape(1, -1).tolist()


def test_silence_is_told_by_the_clock():
    assert not is_stale(100.0, 110.0)
    assert is_stale(100.0, 110.1)


def test_refuses_channels_without_limits_and_values_without_channels():
    with pytest.raises(ConfigError, match="no limits for channel 'etco2'"):
        SignalWatch(("etco2",), 1.0)
    with pytest.raises(InputError, match="for 1 channels"):
        SignalWatch(("hr",), 1.0).advance(np.zeros((2, 3), np.float32))
    with pytest.raises(ConfigError, match="low below the high"):
        ChannelLimits(5.0, 5.0)


def test_a_few_samples_far_apart_that_agree_are_no_flat_line():
    limits = {"hr": ChannelLimits(15.0, 300.0, flat_seconds=120.0, flat_samples=10)}
    watch = SignalWatch(("hr",), 60.0, limits)
    flat = watch.advance(np.full((1, 14), 80.0, np.float32))["flat line"]
    assert np.flatnonzero(flat[0]).tolist() == [10, 11, 12, 13]
