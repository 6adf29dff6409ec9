import numpy as np
import pytest

from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.detection import DAY, Events, alarm_burden, match, point_adjusted_f1


def events(*rows):
    subject, onset, end = zip(*rows, strict=True) if rows else ((), (), ())
    return Events(np.array(subject, np.int64), np.array(onset, float), np.array(end, float))


def test_the_first_alarm_within_an_event_gives_its_delay():
    found = match(events((1, 100, 200)), [1, 1], [130, 150])
    assert found.delay.tolist() == [30]
    assert found.false.tolist() == [False, False]


def test_an_alarm_of_another_subject_catches_nothing():
    found = match(events((1, 100, 200)), [2], [150])
    assert np.isnan(found.delay).all()
    assert found.false.tolist() == [True]


def test_warning_counts_only_within_what_is_allowed():
    assert match(events((1, 100, 200)), [1], [90], early=10).delay.tolist() == [-10]
    assert match(events((1, 100, 200)), [1], [89], early=10).false.tolist() == [True]


def test_an_alarm_may_belong_to_two_events():
    found = match(events((1, 100, 200), (1, 150, 300)), [1], [160])
    assert found.delay.tolist() == [60, 10]


def test_burden_by_hand():
    found = alarm_burden(
        events((1, 0, 60), (2, 0, 60), (2, 500, 600)),
        [1, 2, 2, 3],
        [30, 10, 300, 5],
        {1: DAY, 2: DAY, 3: 2 * DAY},
        replicates=50,
    )
    value = {name: entry["value"] for name, entry in found.items()}
    assert value == pytest.approx(
        {
            "event_recall": 2 / 3,
            "event_precision": 2 / 4,
            "false_alarms_per_patient_day": 2 / 4,
            "alarms_per_patient_day": 1.0,
            "delay_median": 10,
            "delay_p90": 30,
        }
    )
    for entry in found.values():
        assert entry["low"] <= entry["value"] <= entry["high"]


def test_intervals_resample_subjects_not_alarms():
    # All false alarms are one subject's: the interval must know that another ward may not have him.
    watched = dict.fromkeys(range(20), DAY)
    found = alarm_burden(events((0, 0, 10)), np.zeros(100, int), np.arange(100) + 1000.0, watched)
    rate = found["false_alarms_per_patient_day"]
    assert rate["low"] == 0
    assert rate["high"] >= 2 * rate["value"]


def test_longer_watching_lowers_the_rate():
    short = alarm_burden(events(), [1], [5.0], {1: DAY}, replicates=2)
    long = alarm_burden(events(), [1], [5.0], {1: 4 * DAY}, replicates=2)
    name = "false_alarms_per_patient_day"
    assert short[name]["value"] == 4 * long[name]["value"]
    assert np.isnan(short["event_recall"]["value"])


def test_random_flags_look_good_once_points_are_adjusted():
    rng = np.random.default_rng(0)
    labels = np.zeros(10_000, bool)
    for start in range(500, 10_000, 1_000):
        labels[start : start + 200] = True
    flagged = rng.random(10_000) < 0.03
    hits = (labels & flagged).sum()
    plain = 2 * hits / (labels.sum() + flagged.sum())
    assert plain < 0.1
    assert point_adjusted_f1(labels, flagged) > 0.9


def test_point_adjustment_by_hand():
    assert point_adjusted_f1([0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 0]) == pytest.approx(2 * 2 / (3 + 4))


def test_refuses_events_that_end_before_they_begin():
    with pytest.raises(CohortError, match=r"number 0 lasts from 5.0 to 4.0"):
        events((1, 5, 4))


def test_refuses_an_alarm_of_somebody_nobody_watched():
    with pytest.raises(CohortError, match="alarm 0: subject 9 was not watched"):
        alarm_burden(events(), [9], [1.0], {1: DAY})


def test_refuses_a_negative_warning():
    with pytest.raises(ConfigError, match="early: got -1"):
        match(events(), [], [], early=-1)
