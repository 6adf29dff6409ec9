import dataclasses
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace.apps.vitals import training
from caretrace.apps.vitals.config import CHARTED, MONITOR, DetectorConfig, GridConfig, VitalsConfig
from caretrace.apps.vitals.detector.deviations import PATTERNS, deviate
from caretrace.apps.vitals.detector.fitting import (
    deviation_settings,
    fit_detector,
    history_settings,
    pulse_share,
    roundings,
    teaching,
    usual_spread,
)
from caretrace.apps.vitals.detector.history import LEVEL, History, HistorySettings, longest
from caretrace.apps.vitals.detector.material import KnownEvents
from caretrace.apps.vitals.detector.network import (
    LASTING,
    SUDDEN,
    Detector,
    Expected,
    Reading,
    covered,
    residuals,
    surprise,
)
from caretrace.apps.vitals.detector.scoring import RECONSTRUCTION, SURPRISE, Scorer
from caretrace.apps.vitals.task import Recordings, grid_settings
from caretrace.apps.vitals.training import fit_monitor
from caretrace.config import load
from caretrace.data.grid import ChannelScaler, Stretch
from caretrace.errors import ConfigError
from caretrace.evaluation.detection import Events

CHANNELS = ("hr", "spo2", "resp")
HISTORY = HistorySettings(3, 10.0, (60.0, 600.0, 3600.0))


def calm(subjects=6, steps=900, seed=0, missing=0.05):
    """Signals that swing about each subject's own level."""
    rng = np.random.default_rng(seed)
    swing = rng.standard_normal((subjects, 3, steps)).astype(np.float32)
    for step in range(1, steps):
        swing[..., step] = 0.95 * swing[..., step - 1] + 0.3 * swing[..., step]
    level = np.array([80, 96, 18])[:, None] + rng.standard_normal((subjects, 3, 1)) * [[5], [1], [2]]
    values = (level + swing * np.array([[4], [1], [2]])).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def recordings(values):
    resolution = dataclasses.replace(
        MONITOR, length=128, stride=64, deviations=dataclasses.replace(MONITOR.deviations, per_day=20.0)
    )
    stretches = [Stretch(number, 0, each, 6) for number, each in enumerate(values)]
    return Recordings(grid_settings(GridConfig(), resolution, CHANNELS), resolution, stretches, 9.0)


@pytest.fixture(scope="module")
def scorer():
    train = recordings(calm())
    scaler = usual_spread(train.stretches, CHANNELS)
    config = DetectorConfig(d_model=16, batches=240, batch_steps=256)
    detector, log = fit_detector(train, scaler, config, seed=0)
    assert log[-1]["forecast"] < log[0]["forecast"]
    return Scorer(detector, scaler, history_settings(train), 60.0)


@given(
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    missing=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_history_taken_in_pieces_is_history_taken_whole(pieces, missing, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((2, 3, sum(pieces))).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    whole, parts = History(HISTORY, 2).advance(values), History(HISTORY, 2)
    cuts = np.split(values, np.cumsum(pieces)[:-1], axis=2)
    np.testing.assert_allclose(np.concatenate([parts.advance(cut) for cut in cuts], 2), whole, atol=1e-5)
    assert whole.shape[1] == HISTORY.n_features


def test_history_gives_the_steps_that_are_wanted_and_remembers_all():
    values = np.random.default_rng(1).standard_normal((2, 3, 60)).astype(np.float32)
    wanted = np.array([3, 20, 41])
    whole, some = History(HISTORY, 2), History(HISTORY, 2)
    features = whole.advance(values)
    np.testing.assert_array_equal(some.advance(values, kept=wanted), features[..., wanted])
    np.testing.assert_allclose(some.advance(values), whole.advance(values), atol=1e-6)


def test_history_forgets_missing_steps_and_looks_back_only():
    values = np.full((1, 3, 50), 2.0, np.float32)
    values[:, :, 10:20] = np.nan
    features = History(HISTORY).advance(values)
    level = features[0, 3 * 5 : 3 * 6]  # 0.3 times the second average
    np.testing.assert_allclose(level, 0.6, atol=1e-5)
    values[:, :, 30:] = 100.0
    np.testing.assert_array_equal(History(HISTORY).advance(values)[..., :30], features[..., :30])


@given(cut=st.integers(1, 100), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_stream_gives_what_a_stored_recording_gives(scorer, cut, seed):
    values = calm(subjects=3, steps=cut, seed=seed, missing=0.2)
    batch = scorer.score(list(values))
    stream = scorer.stream(3)
    for step in range(cut):
        now = stream.step(values[:, :, step])
        for subject in range(3):
            for reason, score in now.items():
                assert score[subject] == pytest.approx(batch[subject].scores[reason][step], abs=2e-4)


@pytest.mark.parametrize("backbone", ["none", "gru", "lstm", "mamba", "conv-lstm"])
def test_any_backbone_can_stand_in(backbone):
    config = DetectorConfig(backbone=backbone, d_model=8)
    detector = Detector(config, HISTORY.n_features, 3).eval()
    scaler = ChannelScaler(CHANNELS, np.array([80, 96, 18], np.float32), np.ones(3, np.float32))
    mine = Scorer(detector, scaler, HISTORY, 60.0)
    values = calm(subjects=2, steps=20)
    batch, stream = mine.score(list(values)), mine.stream(2)
    for step in range(20):
        now = stream.step(values[:, :, step])
        for reason in ("lasting", SURPRISE, RECONSTRUCTION):
            assert now[reason][1] == pytest.approx(batch[1].scores[reason][step], abs=1e-4)


def test_what_won_on_tuning_stands_in_unless_a_backbone_is_named():
    """Monitors need no backbone, charts do better with one; `auto` is told by the recordings."""
    nobody = Events(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    quick = ["document.fitted=false", "detector.batches=4", "detector.d_model=8", "detector.batch_steps=64"]
    train = recordings(calm(subjects=2, steps=300))
    for resolution, named, wanted in (
        (MONITOR, "auto", "none"),
        (dataclasses.replace(train.resolution, backbone="gru"), "auto", "gru"),
        (CHARTED, "lstm", "lstm"),
    ):
        config = load(VitalsConfig, None, [*quick, f"detector.backbone={named}"])
        own = dataclasses.replace(
            train, resolution=dataclasses.replace(train.resolution, backbone=resolution.backbone)
        )
        fitted = fit_monitor(config, own, own, nobody, None, lambda *_: None)
        assert fitted.found["backbone"] == fitted.monitor.config.detector.backbone == wanted
        assert (fitted.monitor.scorer.detector.backbone is None) == (wanted == "none")
    assert CHARTED.backbone == "gru"


def test_the_future_does_not_change_a_score(scorer):
    values = calm(subjects=1, steps=300, seed=5)
    changed = values.copy()
    changed[:, :, 200:] += 30
    before, after = scorer.score(list(values))[0], scorer.score(list(changed))[0]
    for reason in before.scores:
        np.testing.assert_allclose(after.scores[reason][:200], before.scores[reason][:200], atol=1e-5)
        assert np.abs(after.scores[reason][200:] - before.scores[reason][200:]).max() > 0.1


def test_what_gets_worse_scores_above_what_does_not(scorer):
    values = calm(subjects=8, steps=900, seed=9)
    worse = values.copy()
    worse[:, 0, 450:] += 40
    worse[:, 1, 450:] -= 8
    worse[:, 2, 450:] += 12
    quiet = [each.scores for each in scorer.score(list(values))]
    loud = [each.scores for each in scorer.score(list(worse))]
    for subject in range(8):
        assert loud[subject]["lasting"][470:600].mean() > quiet[subject]["lasting"][470:600].mean() + 1
        assert loud[subject]["sudden"][452:458].max() > quiet[subject]["sudden"][452:458].max() + 1


def test_a_reconstruction_cannot_see_the_value_it_is_asked_for(scorer):
    """Nor the newest course of its channel: only the average over the longest scale and the spread about it."""
    masked, history = scorer.detector.masked, scorer.history
    before, values = torch.randn(5, history.n_features), torch.randn(5, 3)
    middle, level = len(history.scales_seconds) + 1, len(history.scales_seconds) + 2
    for channel in range(3):
        others = [each for each in range(3) if each != channel]
        changed, newest = values.clone(), before.clone()
        changed[:, channel] = torch.tensor([9.0, -9.0, float("nan"), 0.0, 1.0])
        newest[:, channel : history.n_features - 1 - 3 : 3] += (
            1.0  # all but the slow spread and the time so far
        )
        newest[:, middle * 3 + channel] += 1 / LEVEL - 1  # as much as keeps the longest average
        plain, other = masked(before, values), masked(newest, changed)
        torch.testing.assert_close(other.mean[:, channel], plain.mean[:, channel], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other.log_scale[:, channel], plain.log_scale[:, channel])
        assert (other.mean[:, others] - plain.mean[:, others]).abs().max() > 1e-3
        longer = before.clone()
        longer[:, level * 3 + channel] += LEVEL
        assert (masked(longer, values).mean - plain.mean)[:, channel].abs().max() > 1e-3


def test_the_longest_average_is_read_from_the_features():
    values = np.random.default_rng(2).standard_normal((2, 3, 400)).astype(np.float32)
    features = torch.from_numpy(History(HISTORY, 2).advance(values)).transpose(1, 2)
    decay = np.exp(-10.0 / 3600)
    weights = decay ** np.arange(399, -1, -1)
    np.testing.assert_allclose(longest(features, 3)[:, -1], values @ weights / weights.sum(), atol=1e-4)


def test_expectations_are_calibrated():
    """Nine in ten values of others lie in the central 90 % of what was expected of them, by both readings."""
    train = recordings(calm(subjects=60, steps=400))
    scaler, history = usual_spread(train.stretches, CHANNELS), history_settings(train)
    config = DetectorConfig(d_model=8, batches=500, batch_steps=256, deviations_per_day=0.5)
    detector, _ = fit_detector(train, scaler, config, seed=0)
    scaled = np.stack([scaler.transform(each) for each in calm(subjects=60, steps=400, seed=11)])
    features = torch.from_numpy(History(history, 60).advance(scaled)).transpose(1, 2)
    following = torch.from_numpy(scaled).transpose(1, 2)[:, 1:]
    with torch.no_grad():
        reading = detector(features, torch.zeros(features.shape[:2], dtype=torch.bool))
        forecast = Expected(reading.mean[:, :-1], reading.log_scale[:, :-1])
        reconstruction = detector.masked(features[:, :-1], following)
    assert covered(forecast, following) == pytest.approx(0.9, abs=0.05)
    assert covered(reconstruction, following) == pytest.approx(0.9, abs=0.05)
    assert covered(forecast._replace(log_scale=forecast.log_scale - 1), following) < 0.7


def test_a_slow_drift_surprises_a_reconstruction_and_no_forecast(scorer):
    values = calm(subjects=8, steps=900, seed=4)
    drifting = values.copy()
    drifting[:, 0, 300:] += np.linspace(0, 30, 600)
    quiet, loud = (
        {
            name: np.mean([each.scores[name][-100:] for each in scorer.score(list(shown))])
            for name in (SURPRISE, RECONSTRUCTION)
        }
        for shown in (values, drifting)
    )
    assert loud[RECONSTRUCTION] - quiet[RECONSTRUCTION] > 1.0
    assert loud[RECONSTRUCTION] - quiet[RECONSTRUCTION] > 2 * (loud[SURPRISE] - quiet[SURPRISE])


def test_what_raises_alarms_is_chosen_on_deviations_of_tuning_subjects_alone(monkeypatch):
    """`auto` takes the score that finds most of what was put into tuning recordings; nobody's truth changes that."""
    asked = []

    def volume(truth, scores, window, owner):
        asked.append(len(owner))
        return types.SimpleNamespace(pr=[0.1, 0.2, 0.3, 0.4, 0.2, 0.3][len(asked) - 1])

    monkeypatch.setattr(training, "volumes", volume)
    quick = ["document.fitted=false", "detector.batches=4", "detector.d_model=8", "detector.batch_steps=64"]
    learned, tuned = recordings(calm(subjects=2, steps=900)), recordings(calm(subjects=3, steps=700, seed=1))
    nobody = Events(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    designs = []
    for events in (nobody, Events(np.array([0]), np.array([100.0]), np.array([900.0]))):
        fitted = fit_monitor(load(VitalsConfig, None, quick), learned, tuned, events, None, lambda *_: None)
        designs.append(fitted.monitor.design)
        assert fitted.found["design"] == designs[-1]
        assert set(fitted.monitor.thresholds) == {"evidence", "likelihood", "reconstruction"}
    assert designs == ["reconstruction", "evidence"]
    assert asked == [3 * 700] * 6


def test_surprise_is_the_likelihood_of_a_student_t():
    reading = Reading(torch.zeros(1, 3, 2), torch.full((1, 3, 1), 0.5), torch.full((1, 3, 1), 0.2))
    values = torch.tensor([[[1.0], [2.0], [float("nan")]]])
    expected = -torch.distributions.StudentT(4.0, 0.5, float(np.exp(0.2))).log_prob(torch.tensor(2.0))
    assert surprise(reading, values)[0, 1, 0] == pytest.approx(float(expected), rel=1e-5)
    assert surprise(reading, values)[0, [0, 2], 0].tolist() == [0.0, 0.0]
    assert residuals(reading, values)[0, 1, 0] == pytest.approx(1.5 / np.exp(0.2), rel=1e-5)


def drawn(channels=CHANNELS, rounding=1.0, n=20):
    """Deviations in a body that stands still at 80, 97, 18 and so on."""
    level = np.array([80, 97, 18, 120, 60, 80])[: len(channels), None]
    values = np.repeat(level, 5000, axis=1).astype(np.float32)
    stretch = Stretch(0, 0, values, 6)
    found = dataclasses.replace(recordings(values[None]), stretches=[stretch])
    scaler = ChannelScaler(channels, level[:, 0].astype(np.float32), np.full(len(channels), 4, np.float32))
    often = dataclasses.replace(
        deviation_settings(found, scaler), per_step=1e-3, rounding=(rounding,) * len(channels)
    )
    return values, [deviate(values, often, 15, np.random.default_rng(number)) for number in range(n)]


def test_deviations_lie_where_they_say():
    values, found = drawn()
    for each in found:
        np.testing.assert_array_equal(each.values[:, ~each.during], values[:, ~each.during])
        inside = np.zeros(5000, bool)
        for onset, end in zip(each.onset, each.end, strict=True):
            inside[int(onset) : int(np.ceil(end))] = True
        assert not (each.during & ~inside).any()
        assert not (each.sudden & ~inside).any()
    together = np.concatenate([each.values for each in found], 1)
    assert together[1].max() <= 100
    assert together[1].min() < 90


def test_a_deviation_betrays_itself_by_its_course_alone():
    """The fault: values between those a monitor shows, or pressures that no body has, tell what was put in."""
    _, found = drawn()
    for each in found:
        np.testing.assert_array_equal(each.values, np.rint(each.values))
    _, pressures = drawn(("hr", "spo2", "resp", "sbp", "dbp", "map"), rounding=0.0)
    for each in pressures:
        systolic, diastolic, middle = each.values[3:]
        np.testing.assert_allclose(middle - 80, ((systolic - 120) + 2 * (diastolic - 60)) / 3, atol=1e-4)


def test_the_mean_pressure_lies_where_it_lies_in_the_recordings():
    rng = np.random.default_rng(0)
    diastolic = rng.normal(60, 5, 400)
    systolic = diastolic + rng.normal(50, 5, 400)
    body = np.stack([systolic, diastolic, diastolic + 0.28 * (systolic - diastolic)]).astype(np.float32)
    body[:, 7] = np.nan
    assert pulse_share([Stretch(0, 0, body, 3)], ("sbp", "dbp", "map")) == pytest.approx(0.28, abs=1e-4)
    assert pulse_share([Stretch(0, 0, body[:2], 2)], ("sbp", "dbp")) == pytest.approx(1 / 3)


def test_channels_of_a_deviation_move_together():
    """The fault: every channel drawn by itself looks like nobody who gets worse; most go as a pattern says."""
    assert sum(pattern.weight for pattern in PATTERNS.values()) == pytest.approx(1.0)
    values, found = drawn(n=60)
    moved = []
    for each in found:
        for onset, end in zip(each.onset, each.end, strict=True):
            inside = slice(int(onset), int(np.ceil(end)))
            moved.append((each.values[:, inside].mean(1) - values[:, inside].mean(1))[:3])
    table = np.array(moved)
    falling = table[table[:, 1] < -3]  # saturation falls, so breathing quickens mostly
    assert len(falling) > 20
    assert (falling[:, 2] > 0).mean() > 0.6
    assert (table[:, 2] < 0).any()  # but may slow


# --- who teaches -----------------------------------------------------------------------------------


def known(onsets, sudden=0.0):
    at = np.array(onsets, np.float64)
    return KnownEvents(np.arange(len(at)), at, at + 600, at + sudden)


def test_known_events_teach_where_there_are_enough():
    config = DetectorConfig()
    assert teaching(config, None) == "deviations"
    assert teaching(config, known([0.0] * 9)) == "deviations"
    assert teaching(config, known([0.0] * 10)) == "both"
    assert teaching(DetectorConfig(taught_by="events"), known([0.0])) == "events"
    with pytest.raises(ConfigError, match="known events"):
        teaching(DetectorConfig(taught_by="events"), None)


def test_targets_are_those_of_the_subject_and_the_time():
    found = known([100.0, 5000.0], sudden=200.0).targets(0, np.arange(0, 1000, 100.0))
    np.testing.assert_array_equal(found[:, LASTING], [0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(found[:, SUDDEN], [0, 0, 1, 1, 0, 0, 0, 0, 0, 0])
    assert not known([100.0]).targets(7, np.arange(0, 1000, 100.0)).any()


def test_a_detector_taught_by_events_finds_what_no_deviation_looks_like():
    """Channel 2 falls alone and a little in every event: only somebody who is told can know that this matters."""
    values = calm(subjects=24, steps=600, seed=3)
    onsets = np.arange(24) * 9.0 + 300.0
    for subject, onset in enumerate(onsets.astype(int)):
        values[subject, 2, onset:] -= 4
    train = recordings(values)
    times = onsets * 10 + 9.0
    truth = KnownEvents(np.arange(24), times, np.full(24, 1e5), times)
    scaler = usual_spread(train.stretches, CHANNELS)
    apart = {}
    for taught in ("events", "deviations"):
        config = DetectorConfig(d_model=16, batches=150, batch_steps=256, taught_by=taught)
        detector, _ = fit_detector(train, scaler, config, seed=0, known=truth)
        scored = Scorer(detector, scaler, history_settings(train), 60.0).score(list(values))
        inside = [
            each.scores["lasting"][int(at) + 60 :].mean() for each, at in zip(scored, onsets, strict=True)
        ]
        outside = [each.scores["lasting"][: int(at)].mean() for each, at in zip(scored, onsets, strict=True)]
        apart[taught] = np.mean(inside) - np.mean(outside)
    assert apart["events"] > 1.0
    assert apart["events"] > apart["deviations"] + 0.5


def test_the_truth_is_not_looked_at_when_deviations_teach():
    train = recordings(calm(subjects=4, steps=300))
    scaler = usual_spread(train.stretches, CHANNELS)
    config = DetectorConfig(d_model=8, batches=10, batch_steps=64, taught_by="deviations")
    blind, _ = fit_detector(train, scaler, config, seed=0)
    told, _ = fit_detector(train, scaler, config, seed=0, known=known([50.0] * 4, 300.0))
    for one, other in zip(blind.parameters(), told.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_a_monitor_rounds_to_is_found():
    rng = np.random.default_rng(0)
    whole, tenths, rough = (
        np.rint(rng.normal(80, 9, 500)),
        np.round(rng.normal(37, 1, 500), 1),
        rng.normal(5, 1, 500),
    )
    stretch = Stretch(0, 0, np.stack([whole, tenths, rough]).astype(np.float32), 1)
    assert roundings([stretch], 3) == (1.0, 0.1, 0.0)
