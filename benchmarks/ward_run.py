"""A vitals run with random weights, whose thresholds are crossed now and then: it costs what a trained one costs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from caretrace.apps.vitals.config import CONCEPTS, MONITOR, DetectorConfig, PolicyConfig, VitalsConfig
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.network import REASONS, Detector
from caretrace.apps.vitals.detector.scoring import Scorer
from caretrace.apps.vitals.drift import Reference
from caretrace.apps.vitals.model import Monitor
from caretrace.apps.vitals.policy import Thresholds
from caretrace.apps.vitals.task import Recordings
from caretrace.data.grid import ChannelScaler, GridSettings

CHANNELS = tuple(CONCEPTS.values())
MEAN = np.array([84, 96, 19, 122, 70, 88, 37], np.float32)
SD = np.array([6, 1, 3, 9, 6, 7, 0.3], np.float32)
# No delay, no joining: every crossing is an alarm, so that there are enough to time.
POLICY = PolicyConfig(
    sudden_delay_seconds=0.0,
    lasting_delay_seconds=0.0,
    clear_seconds=1.0,
    join_seconds=0.0,
    hysteresis=0.0,
)
CROSSED = 0.9  # quantile of the scores that is the threshold


def values(rng: np.random.Generator, n: int) -> np.ndarray:
    """Samples of all channels as a monitor shows them, [n, channel]."""
    drawn = MEAN + SD * rng.standard_normal((n, len(MEAN)))
    return np.round(np.minimum(drawn, [300, 100, 90, 300, 200, 250, 45]), 1)


def make_run(path: Path, step_seconds: float = 10.0, d_model: int = DetectorConfig().d_model) -> Path:
    """Write a run.

    Args:
        path: Folder; must not exist.
        step_seconds: Length of a step.
        d_model: Width of the network.
    """
    torch.manual_seed(0)
    resolution = dataclasses.replace(MONITOR, step_seconds=step_seconds)
    history = HistorySettings(len(CHANNELS), step_seconds, MONITOR.scales_seconds)
    settings = DetectorConfig(d_model=d_model)
    detector = Detector(settings, history.n_features, len(CHANNELS)).eval()
    scorer = Scorer(detector, ChannelScaler(CHANNELS, MEAN, SD), history, 60.0)
    rng = np.random.default_rng(0)
    per_step = max(1, round(step_seconds))
    drawn = [
        values(rng, 400 * per_step).reshape(400, per_step, -1).mean(1).T.astype(np.float32) for _ in range(40)
    ]
    scored = scorer.score(drawn)
    limits = {
        name: float(np.quantile(np.concatenate([each.scores[name][100:] for each in scored]), CROSSED))
        for name in REASONS
    }
    grid = GridSettings(CHANNELS, step_seconds, max_gap_seconds=resolution.max_gap_seconds)
    monitor = Monitor(
        config=VitalsConfig(design="evidence", detector=settings, policy=POLICY),
        design="evidence",
        like=Recordings(grid, resolution, [], known_after=step_seconds),
        scorer=scorer,
        document=None,
        thresholds={"evidence": Thresholds(limits, 0.0, 1.0, 1.0)},
        reference=Reference.of(CHANNELS, drawn, [each.residuals for each in scored]),
    )
    (path / "bundle").mkdir(parents=True)
    monitor.save(path / "bundle", {}, "# A ward for benchmarks\n\nRandom weights.\n")
    told = {"application": "vitals", "title": "random weights", "created_at": None, "source": "benchmark"}
    (path / "run.json").write_text(json.dumps(told), encoding="utf-8")
    return path
