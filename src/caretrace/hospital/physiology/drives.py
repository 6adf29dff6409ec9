"""What moves the signs of somebody stable: shared drives and private ones, each an Ornstein-Uhlenbeck process.

A drive has unit variance and one time constant; a channel is its person's level plus the drives times gains.
The step between samples is exact (`a = exp(-step / time constant)`, `y' = a y + sqrt(1 - a²) z`), so a drive
sampled every hour is the drive sampled every second, looked at 3600 times less often.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from caretrace.hospital.physiology.config import CHANNELS, DAY, DBP, HR, RESP, SBP, SPO2, TEMP
from caretrace.hospital.physiology.people import LEVEL, Person

Floats = NDArray[np.float32]

MINUTE, HOUR = 60.0, 3600.0
THERMAL = 0.55  # sd of slow temperature swings, °C; set by hand next to the eICU demo
HR_PER_DEGREE = 7.2  # bpm per °C; Jensen et al., Acute Med 2019 (4,493 acute admissions)
RESP_PER_DEGREE = 1.4  # breaths/min per °C; the same


@dataclasses.dataclass(frozen=True)
class Drive:
    """One latent process.

    Args:
        name: What it stands for.
        seconds: Time constant; 0 for noise that is new at every sample.
        gains: What one standard deviation adds to each channel, in the channel's unit.
    """

    name: str
    seconds: float
    gains: dict[int, float]


# Time constants are assumed; gains were set by hand next to the eICU demo's spreads and correlations.
# The order is part of what a seed means: append before "beat", never reorder.
DRIVES = (
    Drive("sympathetic tone", 14 * HOUR, {HR: 4.5, RESP: 0.4, SBP: 6.5, DBP: 4.2}),
    Drive("arousal", 9 * MINUTE, {HR: 3.2, RESP: 0.7, SBP: 4.5, DBP: 2.8, SPO2: -0.2}),
    Drive("work of breathing", 9 * HOUR, {RESP: 0.9, SPO2: -0.25, HR: 0.8}),
    Drive("breathing pattern", 20 * MINUTE, {RESP: 2.9, SPO2: -0.1, HR: 0.4}),
    Drive(
        "thermal", 20 * HOUR, {TEMP: THERMAL, HR: HR_PER_DEGREE * THERMAL, RESP: RESP_PER_DEGREE * THERMAL}
    ),
    Drive("vascular, slow", 14 * HOUR, {SBP: 9.0, DBP: 4.6}),
    Drive("vascular, fast", 25 * MINUTE, {SBP: 9.0, DBP: 5.5, HR: -0.4}),
    Drive("pulse pressure", 40 * MINUTE, {SBP: 6.5, DBP: -2.0}),
    Drive("heart, slow", 20 * HOUR, {HR: 6.8}),
    Drive("heart, fast", 50.0, {HR: 1.6, SBP: 0.8}),
    Drive("oxygenation, slow", 12 * HOUR, {SPO2: 1.5}),
    Drive("oxygenation, fast", 25 * MINUTE, {SPO2: 2.0}),
    Drive("chest", 14 * HOUR, {RESP: 2.6}),
    Drive("breath to breath", 20.0, {RESP: 1.2}),
    Drive("diastole", 30 * MINUTE, {DBP: 7.5}),
    Drive("pulse by pulse", 6.0, {SBP: 1.5, DBP: 1.0, SPO2: 0.3}),
    Drive("beat", 0.0, {HR: 0.8}),  # also the irregular pulse of an arrhythmia
    Drive("interference", 5.0, {}),  # what artefacts are made of
)
BEAT, INTERFERENCE = len(DRIVES) - 2, len(DRIVES) - 1

# A daily wave: amplitude, and hour of the top. Assumed; smaller than in the healthy, as in wards with light
# and care at night.
CIRCADIAN = {HR: (2.5, 15.0), RESP: (0.5, 15.0), SBP: (3.5, 17.0), DBP: (2.2, 16.0), TEMP: (0.18, 17.5),
             SPO2: (0.25, 14.0)}  # fmt: skip


class DriveBank:
    """The drives of one person, block after block; blocks join without a seam.

    Args:
        person: Whose.
        rng: Stream `noise`.
        step_seconds: Time between samples.
    """

    def __init__(self, person: Person, rng: np.random.Generator, step_seconds: int) -> None:
        self._person, self._rng, self._step = person, rng, step_seconds
        self._decay = [np.float32(np.exp(-step_seconds / d.seconds)) if d.seconds else None for d in DRIVES]
        # A breath or a pressure swings in proportion to its level; that also makes it skewed, as real ones are.
        relative = [
            person.level[c] / LEVEL[c] if c in (RESP, SBP, DBP) else 1.0 for c in range(len(CHANNELS))
        ]
        self._swing = [float(person.lability * factor) for factor in relative]
        self._last = rng.standard_normal(len(DRIVES), np.float32)  # stationary from the first sample on

    def block(self, count: int) -> Floats:
        """The next `count` samples of every drive, `[drive, sample]`, unit variance."""
        # Drawn sample by sample, so that the length of a block cannot matter.
        noise = self._rng.standard_normal((count, len(DRIVES)), np.float32)
        out = np.ascontiguousarray(noise.T)
        for i, decay in enumerate(self._decay):
            if decay is None:
                continue
            fresh = np.sqrt(np.float32(1) - decay * decay)
            state = np.array([decay * self._last[i]], np.float32)
            out[i], _ = lfilter([fresh], np.array([1, -decay], np.float32), out[i], zi=state)
            self._last[i] = out[i, -1]
        return out

    def signs(self, drives: Floats, first_second: int) -> Floats:
        """Levels, drives and the daily wave together, `[channel, sample]`, channels in their units.

        Args:
            drives: From `block`.
            first_second: Of the block, since the recording began.
        """
        count = drives.shape[1]
        second = self._person.start + first_second + np.arange(count) * self._step
        angle = (second % DAY) * (2 * np.pi / DAY)
        cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        out = np.repeat(self._person.level[:, None], count, axis=1)
        for i, drive in enumerate(DRIVES):
            for channel, gain in drive.gains.items():
                out[channel] += drives[i] * np.float32(gain * self._swing[channel])
        for channel, (amplitude, top) in CIRCADIAN.items():
            phase = top / 24 * 2 * np.pi
            out[channel] += np.float32(amplitude * np.cos(phase)) * cosine
            out[channel] += np.float32(amplitude * np.sin(phase)) * sine
        return out
