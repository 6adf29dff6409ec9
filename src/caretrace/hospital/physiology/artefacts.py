"""What goes wrong between a person and the number on the screen: motion, probe off, drop-out, flat line.

Artefacts strike sensors, and a sensor feeds one to three channels. Each is listed in the truth, once per channel.
Their lengths and sizes are assumed.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.physiology.chance import poisson_days
from caretrace.hospital.physiology.config import (
    CHANNELS,
    DBP,
    HR,
    MAP,
    RESP,
    SBP,
    SPO2,
    TEMP,
    PhysiologyConfig,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ARTEFACTS = ("motion", "probe off", "drop-out", "flat line")
MOTION, PROBE_OFF, DROP_OUT, FLAT_LINE = range(len(ARTEFACTS))
SHARES = (0.55, 0.20, 0.13, 0.12)  # of the kinds; assumed
ELECTRODES, OXIMETER, LINE, THERMOMETER = (HR, RESP), (SPO2,), (SBP, DBP, MAP), (TEMP,)
EVERYTHING = tuple(range(len(CHANNELS)))
# Which sensors a kind strikes, equally often. The oximeter on a finger is listed twice where it moves most.
SENSORS = (
    (OXIMETER, OXIMETER, ELECTRODES),
    (OXIMETER, OXIMETER, OXIMETER, THERMOMETER),
    (EVERYTHING,),
    (ELECTRODES, OXIMETER, LINE, THERMOMETER),
)
MEDIAN_SECONDS = (25.0, 150.0, 120.0, 300.0)
LENGTH_SPREAD = 0.8  # log sd
LONGEST_SECONDS = 3600
GARBAGE_SECONDS = 8  # a probe that comes off shows nonsense for this long, then nothing
ROOM = 24.0  # °C, what a loose thermometer cools down to
COOLING_SECONDS = 240.0


@dataclasses.dataclass(frozen=True)
class Artefacts:
    """Those of one person, in order of start; axes `[artefact]`.

    Args:
        kind: Position in `ARTEFACTS`.
        sensor: Position in `SENSORS[kind]`.
        start: First second struck, since the recording began.
        end: First second free again; may lie after the recording.
        size: Factor on how much motion disturbs, about 1.
    """

    kind: Ints
    sensor: Ints
    start: Ints
    end: Ints
    size: NDArray[np.float64]

    def channels(self, i: int) -> tuple[int, ...]:
        """The channels that artefact `i` strikes."""
        return SENSORS[self.kind[i]][self.sensor[i]]


def plan_artefacts(config: PhysiologyConfig, rng: np.random.Generator) -> Artefacts:
    """Those that begin within the recording; `rng` is the stream `artefacts`."""
    start, mark = poisson_days(rng, config.artefacts_per_hour, config.seconds, 5)
    kind = np.minimum(np.searchsorted(np.cumsum(SHARES), mark[:, 0], side="right"), len(SHARES) - 1)
    options = np.array([len(s) for s in SENSORS])[kind]
    # Two uniform numbers make one standard normal (Box and Muller 1958).
    normal = np.sqrt(-2 * np.log1p(-mark[:, 2])) * np.cos(2 * np.pi * mark[:, 3])
    length = np.array(MEDIAN_SECONDS)[kind] * np.exp(LENGTH_SPREAD * normal)
    return Artefacts(
        kind=kind.astype(np.int64),
        sensor=(mark[:, 1] * options).astype(np.int64),
        start=start,
        end=start + np.clip(np.rint(length), 2, LONGEST_SECONDS).astype(np.int64),
        size=0.5 + mark[:, 4],
    )


class Corruptor:
    """Applies one person's artefacts block by block; a flat line keeps its value from block to block.

    Args:
        plan: The artefacts.
        step_seconds: Time between samples.
    """

    def __init__(self, plan: Artefacts, step_seconds: int) -> None:
        self._plan, self._step = plan, step_seconds
        self._held: dict[tuple[int, int], np.float32] = {}

    def corrupt(self, signs: Floats, interference: Floats, first_second: int) -> None:
        """Change `signs` in place; NaN means the monitor shows nothing.

        Where artefacts overlap, a drop-out hides a loose probe, that a flat line, and that motion.

        Args:
            signs: `[channel, sample]`, in the channels' units.
            interference: Unit noise, `[sample]`.
            first_second: Of the block.
        """
        plan, count = self._plan, signs.shape[1]
        low = np.searchsorted(plan.start, first_second - LONGEST_SECONDS)
        high = np.searchsorted(plan.start, first_second + count * self._step)
        struck = low + np.argsort(_RANK[plan.kind[low:high]], kind="stable")
        for i in struck.tolist():
            begin = max(-(-(int(plan.start[i]) - first_second) // self._step), 0)
            stop = min(-(-(int(plan.end[i]) - first_second) // self._step), count)
            if begin < stop:
                self._strike(
                    i, signs[:, begin:stop], interference[begin:stop], first_second + begin * self._step
                )

    def _strike(self, i: int, signs: Floats, noise: Floats, first_second: int) -> None:
        """Change the struck samples of one block; `signs` is a view of just those."""
        kind, channels = int(self._plan.kind[i]), self._plan.channels(i)
        if kind == DROP_OUT:
            signs[list(channels)] = np.nan
        elif kind == FLAT_LINE:
            for channel in channels:
                held = self._held.setdefault((i, channel), signs[channel, 0])
                signs[channel] = held
                # The key leaves with the last sample, so that memory does not grow.
                if first_second + signs.shape[1] * self._step >= self._plan.end[i]:
                    del self._held[i, channel]
        elif kind == MOTION:
            size = np.float32(self._plan.size[i])
            if channels == OXIMETER:
                signs[SPO2] -= size * (3 + 6 * np.abs(noise))
            else:
                signs[HR] += size * (10 + 22 * noise)
                signs[RESP] += size * 9 * noise
        else:
            age = (first_second + np.arange(signs.shape[1]) * self._step - self._plan.start[i]).astype(
                np.float32
            )
            if channels == OXIMETER:
                loosening = (age < GARBAGE_SECONDS) & ~np.isnan(
                    signs[SPO2]
                )  # one that is off already stays silent
                signs[SPO2] = np.where(loosening, 72 + 9 * noise, np.float32(np.nan))
            else:
                cooled = np.exp(-age / np.float32(COOLING_SECONDS))
                signs[TEMP] = ROOM + (signs[TEMP] - ROOM) * cooled


_RANK = np.empty(len(ARTEFACTS), np.int64)  # what is applied later hides what came before
_RANK[[MOTION, FLAT_LINE, PROBE_OFF, DROP_OUT]] = range(len(ARTEFACTS))
