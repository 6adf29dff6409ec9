"""Five ways to get worse: when each begins and ends to the second, and what it does to every channel.

An event is a ramp: 0 up to and including its onset, rising from the next second on to 1 at its peak, then level,
then falling from `turn` to 0 at its end. A channel answers once the ramp passes its reserve (a bleeding
patient's pressure holds for a while, the heart rate does not).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.physiology.config import CHANNELS, DBP, HR, RESP, SBP, SPO2, TEMP, PhysiologyConfig

Floats = NDArray[np.float32]

MINUTE, HOUR = 60, 3600
THERMAL_SECONDS = 2 * HOUR  # temperature takes at least this long to follow; assumed
GAP_SECONDS = (6 * HOUR, 24 * HOUR)  # least, and mean beyond it, from an end to the next onset; assumed
SEVERITY = (0.6, 1.2)  # uniform between; assumed
RESPONSE_SPREAD = 0.25  # log sd of how strongly a channel answers in one event; assumed


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one kind of deterioration looks.

    Args:
        effects: Change of each channel at severity 1, in the channel's unit.
        reserve: Share of the ramp at which a channel begins to answer (0 unless listed).
        abrupt: Share of events with an abrupt course.
        abrupt_rise: Shortest and longest rise of an abrupt event, seconds.
        gradual_rise: The same of a gradual one.
        irregular: Random change of the heart rate from beat to beat at severity 1, bpm (sd).
    """

    effects: dict[int, float]
    reserve: dict[int, float]
    abrupt: float
    abrupt_rise: tuple[int, int]
    gradual_rise: tuple[int, int]
    irregular: float = 0.0


# Sizes, reserves and times are assumed. Signs and rough thresholds follow SIRS and qSOFA for sepsis (HR > 90,
# RR > 20, 38 °C; SBP <= 100 late) and ATLS for bleeding (class II: HR > 100 at normal pressure; III: falls).
DETERIORATIONS = {
    "sepsis": Kind({HR: 34, SPO2: -4, RESP: 10, SBP: -36, DBP: -18, TEMP: 1.8}, {SBP: 0.35, DBP: 0.3, SPO2: 0.4},
                   0.0, (20, 120), (2 * HOUR, 8 * HOUR)),
    "hypoxia": Kind({HR: 18, SPO2: -14, RESP: 8, SBP: 9, DBP: 4}, {HR: 0.2, SBP: 0.3},
                    0.8, (20, 120), (20 * MINUTE, 90 * MINUTE)),
    "bleeding": Kind({HR: 44, SPO2: -2, RESP: 8, SBP: -46, DBP: -20, TEMP: -0.3}, {SBP: 0.3, DBP: 0.4, SPO2: 0.6},
                     0.4, (60, 300), (30 * MINUTE, 4 * HOUR)),
    "arrhythmia": Kind({HR: 58, SPO2: -2, RESP: 3, SBP: -22, DBP: -8}, {SPO2: 0.5},
                       0.9, (1, 10), (20 * MINUTE, 60 * MINUTE), irregular=12.0),
    "respiratory failure": Kind({HR: 20, SPO2: -11, RESP: 14, SBP: 8, DBP: 4}, {SPO2: 0.15, HR: 0.1},
                                0.15, (60, 300), (HOUR, 6 * HOUR)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Event:
    """One deterioration; times are whole seconds since the recording began.

    Args:
        kind: One of `KINDS`.
        course: "abrupt" or "gradual".
        severity: Factor on the effects of its kind.
        onset: Last second without effect.
        peak: When the full effect is reached.
        turn: When recovery begins.
        end: First second without effect again; may lie after the recording.
        response: How strongly each channel answers, `[channel]`, about 1.
    """

    kind: str
    course: str
    severity: float
    onset: int
    peak: int
    turn: int
    end: int
    response: tuple[float, ...]


def plan_events(config: PhysiologyConfig, prone: float, rng: np.random.Generator) -> list[Event]:
    """The deteriorations of one person that begin within the recording, in order.

    Drawn one after the other, so that a longer recording begins with the events of the shorter one.

    Args:
        config: Settings.
        prone: Uniform number of the person.
        rng: Stream `deteriorations`.
    """
    events: list[Event] = []
    if prone >= config.share_deteriorating:
        return events
    onset = int(rng.uniform(HOUR, config.first_onset_hours * HOUR))
    while onset < config.seconds:
        events.append(_draw(config.kinds, onset, rng))
        onset = events[-1].end + GAP_SECONDS[0] + int(rng.exponential(GAP_SECONDS[1]))
    return events


def _draw(kinds: Sequence[str], onset: int, rng: np.random.Generator) -> Event:
    name = kinds[int(rng.integers(len(kinds)))]
    kind = DETERIORATIONS[name]
    abrupt = bool(rng.random() < kind.abrupt)
    rise = kind.abrupt_rise if abrupt else kind.gradual_rise
    # Assumed: an abrupt event is treated sooner and recovers faster.
    level, fall = ((600, HOUR), (300, 1800)) if abrupt else ((HOUR, 6 * HOUR), (1800, 2 * HOUR))
    peak = onset + int(rng.integers(rise[0], rise[1] + 1))
    turn = peak + int(rng.integers(*level))
    return Event(
        kind=name,
        course="abrupt" if abrupt else "gradual",
        severity=float(rng.uniform(*SEVERITY)),
        onset=onset,
        peak=peak,
        turn=turn,
        end=turn + int(rng.integers(*fall)),
        response=tuple(np.exp(rng.normal(0, RESPONSE_SPREAD, len(CHANNELS))).tolist()),
    )


def ramp(event: Event, second: NDArray[np.int64], channel: int | None = None) -> Floats:
    """How far an event has gone, 0 to 1, `[sample]`; temperature follows with its own inertia.

    Args:
        event: Which.
        second: Seconds since the recording began, `[sample]`.
        channel: Whose reserve counts; `None` for the latent ramp itself.
    """
    rise = event.peak - event.onset
    if channel == TEMP:
        rise = max(rise, THERMAL_SECONDS)
    up = (second - event.onset) / rise
    down = (event.end - second) / (event.end - event.turn)
    share = np.clip(np.minimum(up, down), 0, 1).astype(np.float32)
    reserve = DETERIORATIONS[event.kind].reserve.get(channel, 0.0) if channel is not None else 0.0
    if reserve:
        share = np.maximum(share - np.float32(reserve), 0) / np.float32(1 - reserve)
    return share


def worsen(
    signs: Floats, beat: Floats, events: Sequence[Event], first_second: int, step_seconds: int
) -> Floats:
    """Add the events' effects to `signs` in place.

    Args:
        signs: `[channel, sample]`, in the channels' units.
        beat: Unit noise of the pulse, `[sample]`.
        events: Of this person.
        first_second: Of the block.
        step_seconds: Time between samples.

    Returns:
        The latent course, ramp times severity, `[sample]`; 0 where nothing is wrong.
    """
    count = signs.shape[1]
    course = np.zeros(count, np.float32)
    for event in events:
        begin = max((event.onset - first_second) // step_seconds + 1, 0)
        stop = min(-(-(event.end - first_second) // step_seconds), count)
        if begin >= stop:
            continue
        span = slice(begin, stop)
        second = first_second + np.arange(begin, stop, dtype=np.int64) * step_seconds
        kind = DETERIORATIONS[event.kind]
        latent = ramp(event, second)
        for channel, effect in kind.effects.items():
            size = np.float32(effect * event.severity * event.response[channel])
            signs[channel, span] += size * ramp(event, second, channel)
        if kind.irregular:
            signs[HR, span] += np.float32(kind.irregular * event.severity) * latent * beat[span]
        course[span] += np.float32(event.severity) * latent
    return course
