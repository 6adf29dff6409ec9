"""One person's recording, block after block: drives, harmless disturbances, deteriorations, artefacts, rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from caretrace.errors import ConfigError
from caretrace.hospital.physiology.artefacts import Artefacts, Corruptor, plan_artefacts
from caretrace.hospital.physiology.chance import stream
from caretrace.hospital.physiology.config import CHANNELS, DBP, MAP, SBP, TEMP, PhysiologyConfig
from caretrace.hospital.physiology.deteriorations import Event, plan_events, worsen
from caretrace.hospital.physiology.disturbances import Disturbances, disturb, plan_disturbances
from caretrace.hospital.physiology.drives import BEAT, INTERFERENCE, DriveBank
from caretrace.hospital.physiology.people import Person, draw_person

Floats = NDArray[np.float32]

BLOCK = 16_384  # samples computed together; the values do not depend on it
# What the body (`clean`) and the screen can show, per channel in its unit; assumed.
LIMITS = ((15, 300), (30, 100), (0, 90), (30, 300), (10, 200), (15, 250), (20, 43))
PULSE_PRESSURE_MIN = 12  # mmHg; assumed
# Share of the pulse pressure that adds to the diastolic one to make the mean; between the textbook's one third
# and the eICU demo's .29.
MEAN_SHARE = 0.30


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything about one person that is fixed before the first sample."""

    person: Person
    events: list[Event]
    artefacts: Artefacts
    disturbances: Disturbances


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive samples of one person.

    Args:
        second: Since the recording began, `[sample]`.
        values: What the monitor shows, `[channel, sample]` in the order of `CHANNELS`, rounded as it does
            (whole numbers, temperature to 0.1 °C); NaN where it shows nothing.
        clean: The body itself: before artefacts and rounding, same axes; never NaN.
        course: Latent course of the deterioration, ramp times severity, `[sample]`; 0 when stable.
    """

    second: NDArray[np.int64]
    values: Floats
    clean: Floats
    course: Floats


@dataclasses.dataclass(frozen=True)
class Recording:
    """One person's whole recording; see `Plan` and `Block`."""

    plan: Plan
    block: Block


def plan_subject(subject: int, config: PhysiologyConfig) -> Plan:
    """What will happen to a person.

    Args:
        subject: Number of the person, from 0.
        config: Settings; `subjects` is ignored.

    Raises:
        ConfigError: `subject` is negative.
    """
    if subject < 0:
        raise ConfigError(f"subject: got {subject}; people are numbered from 0")
    person = draw_person(config.seed, subject)
    return Plan(
        person=person,
        events=plan_events(config, person.prone, stream(config.seed, subject, "deteriorations")),
        artefacts=plan_artefacts(config, stream(config.seed, subject, "artefacts")),
        disturbances=plan_disturbances(config, stream(config.seed, subject, "disturbances")),
    )


def iter_blocks(
    plan: Plan, subject: int, config: PhysiologyConfig, block_samples: int = BLOCK
) -> Iterator[Block]:
    """A recording as it grows; memory does not depend on its length.

    Args:
        plan: From `plan_subject`, with the same `subject` and `config`.
        subject: Number of the person, from 0.
        config: Settings.
        block_samples: Samples per block; changes nothing but memory and speed.
    """
    step = config.step_seconds
    bank = DriveBank(plan.person, stream(config.seed, subject, "noise"), step)
    corruptor = Corruptor(plan.artefacts, step)
    for first in range(0, config.samples, block_samples):
        count, begin = min(block_samples, config.samples - first), first * step
        drives = bank.block(count)
        signs = bank.signs(drives, begin)
        disturb(signs, plan.disturbances, begin, step)
        course = worsen(signs, drives[BEAT], plan.events, begin, step)
        _complete(signs)
        values = signs.copy()
        corruptor.corrupt(values, drives[INTERFERENCE], begin)
        _display(values)
        yield Block(begin + np.arange(count, dtype=np.int64) * step, values, signs, course)


def vitals_of(subject: int, config: PhysiologyConfig) -> Recording:
    """One person's whole recording in memory.

    Depends on the seed and `subject` alone, not on how many others there are; a longer recording begins with
    the shorter one.

    Args:
        subject: Number of the person, from 0.
        config: Settings; `subjects` is ignored.

    Raises:
        ConfigError: `subject` is negative.
    """
    plan = plan_subject(subject, config)
    blocks = list(iter_blocks(plan, subject, config))
    names = [field.name for field in dataclasses.fields(Block)]
    whole = Block(**{n: np.concatenate([getattr(b, n) for b in blocks], axis=-1) for n in names})
    return Recording(plan, whole)


def _complete(signs: Floats) -> None:
    """What follows from the rest: a diastole below the systole, the mean pressure, and the body's limits."""
    np.minimum(signs[DBP], signs[SBP] - np.float32(PULSE_PRESSURE_MIN), out=signs[DBP])
    signs[MAP] += signs[DBP] + np.float32(MEAN_SHARE) * (signs[SBP] - signs[DBP])
    _limit(signs)


def _display(values: Floats) -> None:
    """What the screen shows: within its limits, rounded; SpO2 stops at 100."""
    _limit(values)
    values[TEMP] *= 10
    np.rint(values, out=values)
    values[TEMP] /= 10


def _limit(signs: Floats) -> None:
    for channel in range(len(CHANNELS)):
        low, high = LIMITS[channel]
        np.clip(signs[channel], np.float32(low), np.float32(high), out=signs[channel])
