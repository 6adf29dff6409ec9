"""Vital signs of a monitored ward, from one a second to one an hour, and what was wrong when, to the second.

    config = PhysiologyConfig(subjects=40, hours=24, step_seconds=1)
    recording = vitals_of(3, config)                        # one person, in memory
    recording.block.values                                  # [channel, sample], as shown; NaN: nothing shown
    recording.plan.events                                   # deteriorations, with onset and severity
    simulate_vitals(Path("raw"), config)                    # patients, vitals/ and truth/, streamed to disk

A channel is a person's own level, plus shared and private drives (`drives.py`), a daily wave, harmless
disturbances and deteriorations; artefacts and rounding come last. Every coefficient is assumed unless a source
stands beside it; several were set by hand next to the eICU demo (`likeness.py` compares). Pressures are those
of an arterial line: every channel has a value at every sample. Treatment and death do not occur.
"""

from caretrace.hospital.physiology.artefacts import ARTEFACTS, Artefacts
from caretrace.hospital.physiology.config import CHANNELS, KINDS, UNITS, PhysiologyConfig
from caretrace.hospital.physiology.deteriorations import DETERIORATIONS, Event, Kind
from caretrace.hospital.physiology.disturbances import DISTURBANCES, Disturbances
from caretrace.hospital.physiology.likeness import compare_hours, describe_hours, simulated_hours
from caretrace.hospital.physiology.monitor import Block, Plan, Recording, iter_blocks, plan_subject, vitals_of
from caretrace.hospital.physiology.people import FIRST_SUBJECT, Person
from caretrace.hospital.physiology.tables import simulate_vitals

__all__ = [
    "ARTEFACTS",
    "CHANNELS",
    "DETERIORATIONS",
    "DISTURBANCES",
    "FIRST_SUBJECT",
    "KINDS",
    "UNITS",
    "Artefacts",
    "Block",
    "Disturbances",
    "Event",
    "Kind",
    "Person",
    "PhysiologyConfig",
    "Plan",
    "Recording",
    "compare_hours",
    "describe_hours",
    "iter_blocks",
    "plan_subject",
    "simulate_vitals",
    "simulated_hours",
    "vitals_of",
]
