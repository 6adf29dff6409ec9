import numpy as np
import pytest

from caretrace.apps.vitals.alarms import raised
from caretrace.apps.vitals.config import MONITOR, DetectorConfig, PolicyConfig
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.network import REASONS, Detector
from caretrace.apps.vitals.detector.scoring import Scorer
from caretrace.apps.vitals.policy import Scores, Thresholds, raise_alarms
from caretrace.apps.vitals.streaming import WardStream
from caretrace.data.grid import ChannelScaler
from caretrace.errors import InputError

CHANNELS = ("hr", "spo2")
POLICY = PolicyConfig(
    sudden_delay_seconds=10.0,
    lasting_delay_seconds=30.0,
    clear_seconds=60.0,
    join_seconds=0.0,
    hysteresis=0.1,
)


@pytest.fixture(scope="module")
def scorer():
    history = HistorySettings(2, 10.0, MONITOR.scales_seconds)
    detector = Detector(DetectorConfig(d_model=8), history.n_features, 2).eval()
    scaler = ChannelScaler(CHANNELS, np.array([80, 97], np.float32), np.array([8, 2], np.float32))
    return Scorer(detector, scaler, history, 60.0)


def test_a_stream_raises_the_alarms_that_a_stored_recording_raises(scorer):
    rng = np.random.default_rng(0)
    values = (np.array([80, 97])[:, None] + 8 * rng.standard_normal((5, 2, 600))).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    stored = [each.scores for each in scorer.score(list(values))]
    limits = {name: float(np.quantile([each[name] for each in stored], 0.6)) for name in REASONS}
    thresholds = Thresholds(limits, 0.0, 1.0, 1.0)
    times = np.arange(600) * 10.0
    ward = WardStream(scorer, thresholds, POLICY, range(5))
    heard = {name: [] for name in REASONS}
    for step, time in enumerate(times):
        _, happened = ward.step(time, values[:, :, step])
        for subject, reason, transition in happened:
            heard[reason].append((subject, transition))
    for reason, limit in limits.items():
        expected = raise_alarms(
            [Scores(i, times, each) for i, each in enumerate(stored)], {reason: limit}, POLICY
        )
        found = sorted(
            (who, alarm.time)
            for who in range(5)
            for alarm in raised([each for subject, each in heard[reason] if subject == who])
        )
        assert found == list(zip(expected.subject.tolist(), expected.time.tolist(), strict=True))
        assert len(found) > 1


def test_an_alarm_can_be_acknowledged_and_strangers_are_told(scorer):
    ward = WardStream(scorer, Thresholds({"sudden": -1e6}, 0.0, 1.0, 1.0), POLICY, [7])
    values = np.array([[80, 97]], np.float32)
    ward.step(0.0, values)
    _, happened = ward.step(10.0, values)
    assert [(each.subject, each.transition.state) for each in happened] == [(7, "active")]
    assert ward.acknowledge(7, "sudden", 12.0, "nurse", "seen")[0].state == "acknowledged"
    with pytest.raises(InputError, match="nobody watches subject 8"):
        ward.acknowledge(8, "sudden", 13.0, "nurse", "seen")
    with pytest.raises(InputError, match="2 rows for 1 subjects"):
        ward.step(20.0, np.repeat(values, 2, axis=0))
