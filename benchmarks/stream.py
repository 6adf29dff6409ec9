"""Score a ward's vital signs as they stream in: from a sample to its score, for 1,000 patients at 1 Hz.

    caretrace bench stream
    caretrace bench stream -- --patients 200 --seconds 60

Every second each patient's monitor sends one sample of seven channels. All samples of a second arrive together, the
worst case, and are scored in batches across patients, one after the other; a sample's latency is the time from its
arrival until its batch is scored. Weights are random: they cost what trained ones cost. The alarm logic is included.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from cases import Case, run, say

from caretrace.apps.vitals.config import CONCEPTS, MONITOR, DetectorConfig, PolicyConfig
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.network import Detector
from caretrace.apps.vitals.detector.scoring import Scorer
from caretrace.apps.vitals.policy import Thresholds
from caretrace.apps.vitals.streaming import WardStream
from caretrace.data.grid import ChannelScaler

BOUND_MS = 50.0  # p99 of sample to score
WARM_UP = 10  # seconds not counted


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--patients", type=int, default=1000)
    made.add_argument(
        "--seconds", type=int, default=120, help="seconds of the stream, played as fast as possible"
    )
    made.add_argument("--batches", type=int, nargs="*", default=[1000, 250, 50], help="patients per batch")
    made.add_argument("--threads", type=int, default=1)
    return made


def scorer() -> Scorer:
    """A detector at 1 Hz with random weights."""
    torch.manual_seed(0)
    channels = tuple(CONCEPTS.values())
    history = HistorySettings(len(channels), 1.0, MONITOR.scales_seconds)
    detector = Detector(DetectorConfig(), history.n_features, len(channels)).eval()
    mean = np.array([84, 97, 19, 122, 64, 82, 37], np.float32)
    sd = np.array([8, 2.4, 4.6, 16, 12, 12, 0.45], np.float32)
    return Scorer(detector, ChannelScaler(channels, mean, sd), history, 60.0)


def latencies(patients: int, size: int, seconds: int) -> np.ndarray:
    """Milliseconds from arrival to score of every sample, [second, patient]."""
    model, rng = scorer(), np.random.default_rng(0)
    starts = range(0, patients, size)
    limits = Thresholds({"sudden": 1.0, "lasting": 1.0}, 0.0, 1.0, 1.0)
    wards = [
        WardStream(model, limits, PolicyConfig(), range(low, min(low + size, patients))) for low in starts
    ]
    scaler = model.scaler
    taken = np.empty((seconds, patients))
    for second in range(seconds):
        shape = (patients, len(scaler.mean))
        values = (scaler.mean + scaler.sd * rng.standard_normal(shape)).astype(np.float32)
        arrived = time.perf_counter()
        for low, ward in zip(starts, wards, strict=True):
            ward.step(float(second), values[low : low + size])
            taken[second, low : low + size] = (time.perf_counter() - arrived) * 1e3
    return taken[WARM_UP:]


def bench(options: argparse.Namespace) -> list[Case]:
    """p50 and p99 of sample to score, by batch size."""
    torch.set_num_threads(options.threads)
    found = []
    for size in options.batches:
        taken = latencies(options.patients, size, options.seconds)
        for share in (50, 99):
            value = float(np.percentile(taken, share))
            what = f"{options.patients} patients at 1 Hz, batches of {size}, p{share} of sample to score"
            found.append(Case(what, "ms", value))
            say(f"{what}: {value:.1f} ms" + (" (bound 50)" if share == 99 else ""))
    return found


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
