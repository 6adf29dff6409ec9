"""The stays of the hospital: chunks of people, one after the other, to one folder of raw tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from caretrace.files import whole_folder
from caretrace.hospital import registry
from caretrace.hospital.config import Faults, HospitalConfig
from caretrace.hospital.cultures import grow_cultures
from caretrace.hospital.faults import spoil
from caretrace.hospital.labs import report_labs
from caretrace.hospital.orders import infuse, perform, prescribe
from caretrace.hospital.planting import plant
from caretrace.hospital.population import draw_people, plan_admissions
from caretrace.hospital.rules import draw_roles, log_hazards
from caretrace.hospital.signals import observe
from caretrace.hospital.timeline import live
from caretrace.hospital.treatments import Bedside, plan_treatments
from caretrace.hospital.truth import describe_path, describe_stays
from caretrace.hospital.vitals import chart_vitals
from caretrace.hospital.writer import TableWriter

CHUNK = 250  # people drawn together; fixed, because it is part of what a seed means
# Each part draws from a stream of its own, so that a change in one leaves the others as they were.
# The order is part of what a seed means: append, never reorder.
STREAMS = (
    "people", "plan", "course", "oracle", "signals", "treatments", "vitals", "labs", "prescriptions",
    "procedures", "infusions", "cultures", "registry", "rules", "faults",
)  # fmt: skip


def simulate(
    out: Path, config: HospitalConfig, progress: Callable[[float], None] | None = None
) -> dict[str, int]:
    """Simulate the stays of a hospital and write their raw tables and the truth behind them.

    People are drawn in chunks with seeds of their own: a larger `subjects` with the same seed repeats
    the same first people, and the same config writes the same bytes.

    Args:
        out: Folder to make; it appears whole or not at all.
        config: What to simulate; `parts` and what belongs to the other parts is ignored (`parts.py` writes all).
        progress: Called with the number of subjects done since the last call.

    Returns:
        Rows written, per file path relative to `out`.

    Raises:
        OutputExistsError: `out` exists and is not an empty folder.
    """
    with whole_folder(out) as folder:
        return write_stays(folder, config, progress)


def write_stays(
    folder: Path, config: HospitalConfig, progress: Callable[[float], None] | None = None
) -> dict[str, int]:
    """As `simulate`, into a folder that exists."""
    with TableWriter(folder, config) as writer:
        for chunk in range(-(-config.subjects // CHUNK)):
            wanted = min(CHUNK, config.subjects - chunk * CHUNK)
            for name, table in simulate_chunk(chunk, config).items():
                # The whole chunk is drawn and then cut, so that a smaller hospital is a prefix.
                last = chunk * CHUNK + wanted
                writer.add(name, registry.first_subjects(table, last))
            if progress is not None:
                progress(wanted)
        writer.finish()
    return dict(writer.rows)


def simulate_chunk(chunk: int, config: HospitalConfig) -> dict[str, pl.DataFrame]:
    """Every table of `CHUNK` people, times still in seconds since 1970 (UTC).

    Args:
        chunk: Number of the chunk, from 0.
        config: Settings; `subjects` is ignored here.

    Returns:
        Raw tables by name, and the truth under `truth/…`.
    """
    rng = {
        name: np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(chunk, i)))
        for i, name in enumerate(STREAMS)
    }
    people = draw_people(chunk * CHUNK, CHUNK, rng["people"])
    plan = plan_admissions(people, config, rng["plan"])
    roles = draw_roles(len(people.age), rng["rules"])
    planted = log_hazards(roles, config)
    admissions, stays = live(people, plan, config, rng["course"], rng["oracle"], planted)
    signals = observe(admissions, stays, config.noise, rng["signals"])
    diabetic = people.chronic[admissions.person[stays.admission], 0]
    treatments = plan_treatments(signals, diabetic, rng["treatments"])
    bedside = Bedside(people, admissions, stays, signals, treatments)
    tables = {
        "patients": registry.patients(people, admissions),
        "admissions": registry.admissions(people, admissions, stays, rng["registry"]),
        "icu_stays": registry.icu_stays(people, admissions, stays),
        "vitals": chart_vitals(people, admissions, stays, signals, treatments, config.noise, rng["vitals"]),
        "labs": report_labs(people, admissions, stays, signals, config.noise, rng["labs"]),
        "prescriptions": prescribe(bedside, rng["prescriptions"]),
        "procedures": perform(bedside, rng["procedures"]),
        "cultures": grow_cultures(bedside, rng["cultures"]),
        "infusions": infuse(bedside, rng["infusions"]),
        "truth/stays": describe_stays(people, admissions, stays),
        "truth/severity": describe_path(people, admissions, stays),
    }
    if config.faults != Faults():
        tables = spoil(tables, config.faults, rng["faults"])
    # Last, so that nothing is spoiled of what a rule is made of.
    return plant(tables, bedside, roles, config, rng["rules"]) if config.rules else tables
