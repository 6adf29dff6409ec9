"""A city's emergency care from the first to the last day, to a folder of raw tables with the truth apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from caretrace.config import to_dict
from caretrace.errors import ConfigError
from caretrace.files import whole_folder, write_json
from caretrace.hospital.operations import day_tables, tables
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.city import City
from caretrace.hospital.operations.config import OperationsConfig, parameters
from caretrace.hospital.operations.outcomes import draw_outcomes
from caretrace.hospital.operations.register import Register
from caretrace.hospital.operations.stream import StreamWriter, Writer

CHUNK_DAYS = 7  # days in memory; fixed, because it is part of what a seed means
SURVEY_CHUNKS = 13  # a staff survey each quarter

README = """# A simulated city's emergency care

Everything in this folder is simulated by caretrace; no real person is in here, and no figure from it says
anything about real patients or staff. The settings are in `simulation.json`. Times are UTC.

- `register` names every subject once: patients, hospitals (`site`) and staff, each with a number of its own kind.
- `sites`, `runs` (ambulances), `visits` (emergency departments), `handoffs`, `documentation`, `incidents`,
  `hours` (each hospital at the start of each hour), `audit` (its crisis level, 0 to 4, once the hour is over),
  `duties`, `sleepiness` (Karolinska scale, after a third of the duties), `staff_changes`, `survey`, `calendar`
  (one row per hospital concerned), `weather`.
- A time is known when it is reached: `discharge_time` and `status` at discharge, a `report_time` when reported,
  calendar entries beforehand only where `planned`. Cases that have not ended are not in the tables.

The folder `truth/` holds the answers and is never ingested: crisis levels, severity, sleepiness, burnout, the
chances of adverse events and death, every coefficient with its source (`parameters.parquet`), and what was tried
out when and where, if anything was (`trials.parquet`).
"""


def simulate_operations(
    out: Path,
    config: OperationsConfig,
    days: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> dict[str, int]:
    """Simulate a city's emergency care and its staff, and write tables and truth.

    The same arguments write the same bytes; a longer period repeats the whole weeks of a shorter one.

    Args:
        out: Folder to make; it appears whole or not at all.
        config: What to simulate.
        days: How long, after the warm-up.
        seed: 0 or more.
        progress: Called with the number of days done since the last call.

    Returns:
        Rows written, per file path relative to `out`.

    Raises:
        ConfigError: `days` or `seed` is out of range.
        OutputExistsError: `out` exists and is not an empty folder.
    """
    check_period(days, seed)
    with whole_folder(out) as folder:
        with StreamWriter(folder) as writer:
            write_operations(writer, config, days, seed, progress)
        write_json(folder / "simulation.json", to_dict(config) | {"days": days, "seed": seed})
        (folder / "README.md").write_text(README, encoding="utf-8")
    return dict(writer.rows)


def check_period(days: int, seed: int) -> None:
    """Refuse periods and seeds that make no sense.

    Raises:
        ConfigError: `days` or `seed` is out of range.
    """
    if not 1 <= days <= 36_525:
        raise ConfigError(f"days: got {days}; give a number from 1 to 36525")
    if seed < 0:
        raise ConfigError(f"seed: got {seed}; give 0 or a positive whole number")


def write_operations(
    writer: Writer,
    config: OperationsConfig,
    days: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> None:
    """As `simulate_operations`, to any writer that takes tables piece by piece."""
    city = City(config, seed)
    clock = tables.Clock(config, days)
    city.advance(24 * config.warm_up_days)
    city.done.clear()
    city.states.clear()
    city.reports.clear()
    register = Register()
    writer.add("register", register.opening(city))
    writer.add("sites", day_tables.site_table(city))
    writer.add("truth/parameters", pl.DataFrame(parameters(config)))
    if config.trials.running:
        writer.add("truth/trials", day_tables.trial_table(config, seed, days))
    for chunk, start in enumerate(range(0, days, CHUNK_DAYS)):
        _write_staff(writer, city, clock, survey=chunk % SURVEY_CHUNKS == 0)
        span = min(CHUNK_DAYS, days - start)
        city.advance(24 * span)
        _write_chunk(writer, city, clock, chunk, register)
        if progress is not None:
            progress(span)


def _write_staff(writer: Writer, city: City, clock: tables.Clock, survey: bool) -> None:
    rng = city.random("tables", 1_000_000 + city.day_number)
    for name, table in day_tables.staff_tables(city, clock, survey, rng).items():
        writer.add(name, table)


def _write_chunk(writer: Writer, city: City, clock: tables.Clock, chunk: int, register: Register) -> None:
    """Write what ended since the last call, and forget it."""
    cases: list[Case] = [case for case in city.done if case.began >= clock.begin]
    # By number, which is the order in which people came.
    cases.sort(key=lambda case: case.number)
    visits = [case for case in cases if case.site >= 0]
    runs = [case for case in cases if case.ambulance]
    outcomes = draw_outcomes(visits, city.config, city.random("outcomes", chunk)) if visits else None
    if outcomes is not None:
        register.bury(cases, {case.number for case, dead in zip(visits, outcomes.died, strict=True) if dead})
    writer.add("register", register.hired(city.reports, city))
    writer.add("register", register.people(cases))
    if runs:
        writer.add("runs", tables.run_tables(runs, clock))
    if outcomes is not None:
        rng, sites = city.random("tables", chunk), city.config.sites
        for name, table in tables.visit_tables(visits, outcomes, clock, sites, rng).items():
            writer.add(name, table)
    for group in (
        day_tables.hour_tables(city.states, clock, city.config.sites),
        day_tables.day_tables(city.reports, city, clock),
    ):
        for name, table in group.items():
            writer.add(name, table)
    city.done.clear()
    city.states.clear()
    city.reports.clear()
