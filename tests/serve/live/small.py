"""A monitor with random weights, and samples for it."""

import dataclasses

import numpy as np
import torch

from caretrace.apps.vitals.config import MONITOR, DetectorConfig, PolicyConfig
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.network import Detector
from caretrace.apps.vitals.detector.scoring import Scorer
from caretrace.apps.vitals.policy import alarm_settings
from caretrace.data.grid import ChannelScaler
from caretrace.serve.live.model import LiveModel
from caretrace.serve.live.samples import NUMBER, Batch
from caretrace.serve.store.columns import Samples
from caretrace.serve.store.log import Entry

CHANNELS = ("hr", "spo2", "resp")
MEAN, SD = np.array([84, 97, 19], np.float32), np.array([8, 1.5, 4], np.float32)
STEP, GAP = 10.0, 120.0
POLICY = PolicyConfig(
    sudden_delay_seconds=10.0,
    lasting_delay_seconds=30.0,
    clear_seconds=60.0,
    join_seconds=100.0,
    hysteresis=0.002,
)
START = 1_700_000_000.0


def scorer(backbone="gru"):
    torch.manual_seed(0)
    history = HistorySettings(len(CHANNELS), STEP, MONITOR.scales_seconds)
    detector = Detector(DetectorConfig(d_model=8, backbone=backbone), history.n_features, len(CHANNELS))
    return Scorer(detector.eval(), ChannelScaler(CHANNELS, MEAN, SD), history, 60.0)


def model(raise_at=None, backbone="gru"):
    limits = {"sudden": -0.235, "lasting": 0.122} if raise_at is None else raise_at
    return LiveModel(
        bundle="small@0",
        scorer=scorer(backbone),
        channels=tuple(NUMBER[name] for name in CHANNELS),
        step_seconds=STEP,
        max_gap_seconds=GAP,
        known_after=STEP,
        alarms={reason: alarm_settings(reason, limit, POLICY) for reason, limit in limits.items()},
    )


def recording(subjects=4, seconds=1200, seed=0, every=2.0):
    """Samples in order of time, with dropouts, a gap that ends a recording, and one that does not."""
    rng = np.random.default_rng(seed)
    parts = []
    for subject in range(subjects):
        when = START + subject * 3.3 + np.arange(0, seconds, every)
        when = when[(when < START + 300) | (when > START + 350 + 100 * (subject % 3))]
        for place, name in enumerate(CHANNELS):
            kept = when[rng.random(when.size) > 0.1]
            walk = MEAN[place] + SD[place] * np.cumsum(rng.normal(0, 0.3, kept.size))
            low, high = {"hr": (20, 250), "spo2": (60, 100), "resp": (4, 60)}[name]
            parts.append(
                Samples(
                    np.full(kept.size, 100 + subject),
                    kept,
                    np.full(kept.size, NUMBER[name], np.int16),
                    np.clip(walk, low, high).astype(np.float32),
                )
            )
    joined = Samples.joined(parts)
    return joined.take(np.argsort(joined.time, kind="stable"))


def entries(samples, cuts):
    """The same samples as entries of a log, cut at these places."""
    pieces = zip([0, *cuts], [*cuts, len(samples.time)], strict=True)
    kept = [samples.take(np.arange(low, high)) for low, high in pieces if high > low]
    return [Entry(seq, 0.0, part) for seq, part in enumerate(kept, start=1)]


def batch(samples, batch_id):
    return Batch(batch_id, *samples)


def alarm_key(alarm):
    return dataclasses.astuple(dataclasses.replace(alarm, score=None, words=""))
