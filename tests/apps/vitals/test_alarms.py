import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.apps.vitals.alarms import AlarmMachine, AlarmSettings, raised
from caretrace.errors import ConfigError, InputError

SETTINGS = AlarmSettings(
    raise_at=5, clear_at=3, delay_seconds=3, clear_seconds=4, join_seconds=10, remind_seconds=8
)


def run(scores, settings=SETTINGS, machine=None):
    machine = machine or AlarmMachine(settings)
    found = machine.advance(np.arange(len(scores), dtype=float), np.array(scores, float))
    return [(each.alarm, each.time, each.state) for each in found]


def literal(scores, settings):
    """The diagram, one sample at a time, in the plainest words."""
    state, found, number, up, low, cleared = "quiet", [], -1, None, None, -math.inf
    for time, score in enumerate(scores):
        if math.isnan(score):
            continue
        if state == "pending" and score < settings.raise_at:
            state = "quiet"
        if state == "quiet" and score >= settings.raise_at:
            state, up = "pending", time
        if state == "pending" and time - up >= settings.delay_seconds:
            number += up - cleared > settings.join_seconds
            state, low = "active", None
            found.append((number, float(time), "active"))
            continue
        if state == "active":
            low = None if score >= settings.clear_at else time if low is None else low
            if low is not None and time - low >= settings.clear_seconds:
                state, cleared = "quiet", time
                found.append((number, float(time), "cleared"))
    return found


def test_short_trouble_is_not_heard():
    assert run([0, 9, 9, 9, 0, 0]) == []


def test_trouble_that_lasts_is_heard_once_and_ends_late():
    scores = [0, 9, 9, 9, 9, 9, 4, 4, 4, 1, 1, 1, 1, 1, 1]
    assert run(scores) == [(0, 4.0, "active"), (0, 13.0, "cleared")]


def test_a_dip_between_the_limits_does_not_clear():
    assert run([9] * 5 + [4] * 50) == [(0, 3.0, "active")]


def test_trouble_that_is_soon_back_is_the_same_alarm():
    again = [9] * 5 + [0] * 6 + [9] * 5
    assert run(again) == [(0, 3.0, "active"), (0, 9.0, "cleared"), (0, 14.0, "active")]
    later = [9] * 5 + [0] * 30 + [9] * 5
    assert [entry[0] for entry in run(later)] == [0, 0, 1]


def test_silence_of_the_sensor_neither_clears_nor_matures():
    nan = math.nan
    assert run([9, 9, nan, nan, nan, nan, nan]) == []
    assert run([9] * 5 + [0, nan, nan, nan, nan, nan, nan]) == [(0, 3.0, "active")]


def test_an_acknowledged_alarm_sounds_again_when_nothing_changed():
    machine = AlarmMachine(SETTINGS)
    assert run([9] * 5, machine=machine) == [(0, 3.0, "active")]
    (seen,) = machine.acknowledge(5.5, "nurse 7", "on my way")
    assert (seen.state, seen.by, seen.why) == ("acknowledged", "nurse 7", "on my way")
    found = machine.advance(np.arange(6, 20.0), np.full(14, 9.0))
    assert [(each.time, each.state) for each in found] == [(14.0, "active")]


def test_an_acknowledged_alarm_that_gets_better_clears_without_a_sound():
    machine = AlarmMachine(SETTINGS)
    run([9] * 5, machine=machine)
    machine.acknowledge(4.5, "nurse 7", "treated")
    found = machine.advance(np.arange(5, 30.0), np.zeros(25))
    assert [(each.time, each.state) for each in found] == [(9.0, "cleared")]


def test_nothing_to_acknowledge():
    with pytest.raises(InputError, match="the alarm is quiet"):
        AlarmMachine(SETTINGS).acknowledge(1.0, "nurse 7", "")


def test_only_the_first_sound_of_an_alarm_counts():
    machine = AlarmMachine(SETTINGS)
    found = machine.advance(np.arange(16.0), np.array([9.0] * 5 + [0] * 6 + [9] * 5))
    assert [(each.alarm, each.time) for each in raised(found)] == [(0, 3.0)]


scores = st.lists(st.sampled_from([0.0, 2.9, 3.0, 4.0, 5.0, 9.0, math.nan]), max_size=80)


@given(scores)
def test_is_the_literal_machine(values):
    assert run(values) == literal(values, SETTINGS)


@given(scores, st.lists(st.integers(1, 9), min_size=1))
def test_a_stream_gives_the_alarms_of_the_whole(values, cuts):
    machine, times = AlarmMachine(SETTINGS), np.arange(len(values), dtype=float)
    found, start, number = [], 0, 0
    while start < len(values):
        end = start + cuts[number % len(cuts)]
        found += machine.advance(times[start:end], np.array(values[start:end]))
        start, number = end, number + 1
    assert [(each.alarm, each.time, each.state) for each in found] == run(values)


def test_refuses_times_that_do_not_rise():
    machine = AlarmMachine(SETTINGS)
    machine.advance([1.0], [0.0])
    with pytest.raises(InputError, match=r"sample 0 at 1\.0 s does not come after"):
        machine.advance([1.0], [0.0])


def test_refuses_hysteresis_upside_down():
    with pytest.raises(ConfigError, match="clear_at at most raise_at"):
        AlarmSettings(raise_at=3, clear_at=5)
