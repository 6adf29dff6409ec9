"""A small simulated ward as a MEDS dataset, written in a second."""

from pathlib import Path

import numpy as np

from caretrace import schema
from caretrace.hospital.physiology.config import CHANNELS, PhysiologyConfig
from caretrace.hospital.physiology.monitor import vitals_of

from ...tiny import write_meds

STEP = 30
CODES = {
    "hr": "VITAL//heart_rate//bpm",
    "spo2": "VITAL//oxygen_saturation//%",
    "resp": "VITAL//respiratory_rate//breaths/min",
    "sbp": "VITAL//systolic_pressure//mmHg",
}
# A training of a few seconds.
QUICK = (
    "detector.batches=40",
    "detector.d_model=8",
    "document.max_windows=24",
    "document.pretrain_epochs=1",
    "grid.step_seconds=30",
    "grid.length=64",
)


def write_ward(path: Path, subjects: int = 16, hours: float = 10, seed: int = 0) -> Path:
    """Subjects 0, 1, 4, 5, … are `train`, 2, 6, … `tuning`, 3, 7, … `held_out`; hours count from 2020.

    Args:
        path: Folder to write.
        subjects: How many.
        hours: Length of each recording.
        seed: Of the simulation.
    """
    config = PhysiologyConfig(subjects=subjects, hours=hours, step_seconds=STEP, seed=seed)
    rows = []
    for subject in range(subjects):
        block = vitals_of(subject, config).block
        for channel, code in CODES.items():
            values = block.values[CHANNELS.index(channel)]
            rows += [
                (subject, second / 3600, code, float(value))
                for second, value in zip(block.second.tolist(), values.tolist(), strict=True)
                if not np.isnan(value)
            ]
    order = (schema.TRAIN, schema.TRAIN, schema.TUNING, schema.HELD_OUT)
    return write_meds(path, rows, {subject: order[subject % 4] for subject in range(subjects)})
