import numpy as np
import pytest

from caretrace.apps.vitals.config import PolicyConfig
from caretrace.apps.vitals.drift import Reference
from caretrace.apps.vitals.judging import Truth, burden, crossings, load_at_recall, warning
from caretrace.apps.vitals.policy import Scores, choose_thresholds, raise_alarms
from caretrace.data.grid import Stretch
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.detection import DAY, Events

STEP = 60.0
CONFIG = PolicyConfig(
    false_alarms_per_day=1.0,
    sudden_delay_seconds=0.0,
    lasting_delay_seconds=120.0,
    clear_seconds=300.0,
    join_seconds=1800.0,
)
NOBODY = Events(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def noise(subjects=30, seed=0):
    """A day of scores without any event, in minutes."""
    rng = np.random.default_rng(seed)
    times = np.arange(1440) * STEP
    return [
        Scores(who, times, {"sudden": rng.standard_normal(1440), "lasting": rng.standard_normal(1440)})
        for who in range(subjects)
    ]


def watched(scores):
    return {each.subject: DAY for each in scores}


def test_thresholds_hold_the_rate_on_other_subjects():
    tuning, held = noise(), noise(seed=1)
    found = choose_thresholds(tuning, ("sudden", "lasting"), NOBODY, watched(tuning), CONFIG)
    assert found.tuning_rate == pytest.approx(1.0, abs=0.15)  # by a line, not by the count
    alarms = raise_alarms(held, found.raise_at, CONFIG)
    assert len(alarms.time) / len(held) == pytest.approx(1.0, rel=0.4)
    assert found.bound > found.tuning_rate  # what could be guaranteed is more than what was counted


def test_thresholds_let_no_more_through_on_others_than_on_tuning_subjects():
    """The fault: the lowest threshold that a few tuning alarms allow lies just above one that is not counted."""
    rng = np.random.default_rng(1)
    times = np.arange(100) * 864.0
    quick = {
        "sudden_delay_seconds": 0.0,
        "lasting_delay_seconds": 0.0,
        "clear_seconds": 0.0,
        "join_seconds": 0.0,
    }
    config = PolicyConfig(false_alarms_per_day=0.4, **quick)

    def people(count):
        return [
            Scores(who, times, {name: rng.standard_normal(100) for name in ("lasting", "sudden")})
            for who in range(count)
        ]

    rates = []
    for _ in range(40):
        tuning = people(10)
        found = choose_thresholds(tuning, ("lasting", "sudden"), NOBODY, watched(tuning), config)
        rates.append(len(raise_alarms(people(100), found.raise_at, config).time) / 100)
    assert np.mean(rates) == pytest.approx(0.4, rel=0.12)  # 0.46 when what was counted is believed


def test_alarms_within_known_events_are_not_counted_as_false():
    tuning = noise()
    for each in tuning:
        each.reasons["lasting"][600:700] = 9.0
    events = Events(np.arange(30), np.full(30, 600 * STEP), np.full(30, 700 * STEP))
    known = choose_thresholds(tuning, ("lasting",), events, watched(tuning), CONFIG)
    unknown = choose_thresholds(tuning, ("lasting",), NOBODY, watched(tuning), CONFIG)
    assert known.raise_at["lasting"] < unknown.raise_at["lasting"]


def test_reasons_that_come_together_are_one_alarm():
    quiet = np.full(1440, -5.0)
    both = {"sudden": quiet.copy(), "lasting": quiet.copy()}
    both["sudden"][100:110] = both["lasting"][105:140] = 5.0
    both["lasting"][800:830] = 5.0
    alarms = raise_alarms([Scores(7, np.arange(1440) * STEP, both)], {"sudden": 0.0, "lasting": 0.0}, CONFIG)
    assert alarms.time.tolist() == [100 * STEP, 802 * STEP]
    assert alarms.reason == ("sudden", "lasting")


def test_no_score_or_nobody_to_watch_is_told():
    with pytest.raises(ConfigError, match="no score"):
        choose_thresholds(noise(2), (), NOBODY, {0: DAY}, CONFIG)


# --- judging ---------------------------------------------------------------------------------------


def ward():
    """Two subjects: one gets worse abruptly at minute 100, one gradually at minute 200."""
    truth = Truth(
        Events(np.array([0, 1]), np.array([100, 200]) * STEP, np.array([160, 600]) * STEP),
        np.array([True, False]),
        "truth",
    )
    times = np.arange(1440) * STEP
    scores = []
    for who, begin in ((0, 101), (1, 260)):
        values = np.full(1440, -5.0)
        values[begin : begin + 40] = 5.0
        scores.append(Scores(who, times, {"sudden": values}))
    return truth, scores


def test_recall_and_delay_are_told_by_course():
    truth, scores = ward()
    alarms = raise_alarms(scores, {"sudden": 0.0}, CONFIG)
    figures = burden(truth, alarms, {0: DAY, 1: DAY}, CONFIG, 100, 0)
    assert figures["event_recall"]["value"] == 1.0
    assert figures["delay_median_abrupt"]["value"] == STEP
    assert figures["delay_median_gradual"]["value"] == 60 * STEP
    assert figures["false_alarms_per_patient_day"]["value"] == 0.0


def test_a_warning_comes_before_the_limit_is_crossed():
    truth, scores = ward()
    shown = np.full((2, 1440), 97.0, np.float32)
    shown[0] = 80
    late = shown.copy()
    late[1, 300:400] = 80  # saturation stays under 90 from minute 300 on
    stretches = [Stretch(0, 0, shown, 1), Stretch(1, 0, late, 1)]
    times = [each.times for each in scores]
    crossed = crossings(truth, stretches, times, ("hr", "spo2"), 600.0)
    assert np.isnan(crossed[0])
    assert crossed[1] == 310 * STEP
    alarms = raise_alarms(scores, {"sudden": 0.0}, CONFIG)
    assert warning(truth, alarms, crossed, 0.0, 100, 0) is None  # one event says nothing of a median
    twice = Truth(
        Events(
            *(np.repeat(part, 2) for part in (truth.events.subject, truth.events.onset, truth.events.end))
        ),
        np.repeat(truth.abrupt, 2),
        "truth",
    )
    found = warning(twice, alarms, np.repeat(crossed, 2), 0.0, 100, 0)
    assert found["value"] == 50 * STEP


def test_the_load_is_taken_at_a_recall_that_was_reached():
    truth, scores = ward()
    found = choose_thresholds(scores, ("sudden",), truth.events, {0: DAY, 1: DAY}, CONFIG)
    load, recall = load_at_recall(scores, found, truth, 1.0, 2.0, CONFIG)
    assert (load, recall) == (1.0, 1.0)
    _, missed = load_at_recall(scores[:1], found, truth, 1.0, 2.0, CONFIG)
    assert missed == 0.5


# --- drift ------------------------------------------------------------------------------------------


def recordings(seed, bias=0.0, noisier=1.0, n=30):
    rng = np.random.default_rng(seed)
    values = 96 + 2 * rng.standard_normal((n, 1, 1)) + bias + rng.standard_normal((n, 2, 200))
    return list(values.astype(np.float32)), list(
        (noisier * rng.standard_normal((n, 2, 200))).astype(np.float32)
    )


def test_a_shifted_sensor_is_flagged_and_an_equal_one_is_not():
    before = Reference.of(("hr", "spo2"), *recordings(0))
    assert before.compare(Reference.of(("hr", "spo2"), *recordings(1))).flagged == ()
    biased = before.compare(Reference.of(("hr", "spo2"), *recordings(2, bias=3.0)))
    assert biased.flagged == ("hr level", "spo2 level")
    noisy = before.compare(Reference.of(("hr", "spo2"), *recordings(3, noisier=2.0)))
    assert noisy.flagged == ("hr noise", "spo2 noise")
    assert Reference.from_dict(before.to_dict()).compare(before).flagged == ()
    with pytest.raises(CohortError, match="tuned on hr, spo2, got hr"):
        before.compare(Reference.of(("hr",), *recordings(1)))
