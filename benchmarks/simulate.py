"""Simulate a year of the city, 10,000 ICU subjects and 1,000 patient-days of 1 Hz vital signs: time and memory.

    caretrace bench simulate
    caretrace bench simulate -- --shrink 20 --only vitals

Every job runs as its own process, interpreter start and imports included, on one core, once at its full size and
once at a tenth of it (`--shrink`), and writes its tables to disk as `caretrace simulate` does. The figures that
count are of processor time: a clock also measures who else is on the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

from cases import Case, run, say
from measure import Measured, measured

SECONDS = 60.0  # of processor time that each full size may take


@dataclasses.dataclass(frozen=True)
class Job:
    """Something to simulate.

    Args:
        name: What we call it.
        unit: What its size counts.
        size: The full size.
        code: Python that does it; `{out}` and `{size}` are filled in.
    """

    name: str
    unit: str
    size: int
    code: str


JOBS = (
    Job(
        "city",
        "days",
        365,
        "from caretrace.hospital.operations import OperationsConfig, simulate_operations as simulate; "
        "simulate(Path({out!r}), OperationsConfig(), {size}, 0)",
    ),
    Job(
        "stays",
        "ICU subjects",
        10_000,
        "from caretrace.hospital import HospitalConfig, simulate; "
        "simulate(Path({out!r}), HospitalConfig(subjects={size}, icu_probability=1.0))",
    ),
    Job(
        "vitals",
        "patient-days at 1 Hz",
        1_000,
        "from caretrace.hospital.physiology import PhysiologyConfig, simulate_vitals as simulate; "
        "simulate(Path({out!r}), PhysiologyConfig(subjects={size}, hours=24, step_seconds=1))",
    ),
    Job(
        "histories",
        "subjects",
        100_000,
        "from caretrace.hospital.histories import simulate_histories as simulate; "
        "simulate(Path({out!r}), {size}, 0)",
    ),
)


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--only", nargs="*", choices=[job.name for job in JOBS], help="which jobs; all by default"
    )
    made.add_argument("--shrink", type=int, default=1, help="divide every size by this, for a quick look")
    made.add_argument("--work", type=Path, help="folder with 8 GB of space; a temporary one by default")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every job, at a tenth and in full."""
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(dir=options.work, prefix="bench-simulate-") as made:
        for job in JOBS:
            if options.only is None or job.name in options.only:
                cases += _growth(job, max(job.size // options.shrink, 10), Path(made))
    return cases


def _growth(job: Job, size: int, work: Path) -> list[Case]:
    small, full = max(size // 10, 1), size
    found = {each: _measured(job, each, work) for each in (small, full)}
    cases = [case for each in (small, full) for case in _cases(job, each, found[each])]
    times = found[full].cpu_seconds / found[small].cpu_seconds
    grown = found[full].peak_mib / found[small].peak_mib
    cases += [
        Case(f"{job.name}: processor time of {full:,} over {small:,} {job.unit}", "times", times),
        Case(f"{job.name}: peak memory of {full:,} over {small:,} {job.unit}", "times", grown),
    ]
    if full == job.size:
        inside = found[full].cpu_seconds <= SECONDS
        say(
            f"{job.name}: {found[full].cpu_seconds:.1f} of {SECONDS:.0f} s, {'inside' if inside else 'MISSED'}"
        )
    return cases


def _measured(job: Job, size: int, work: Path) -> Measured:
    out = work / "raw"
    code = "from pathlib import Path; " + job.code.format(out=str(out), size=size)
    one = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-c", code]
    found = measured(command, log=work / "log", cores=1, watch=out, environment=one)
    if found.code:
        raise RuntimeError(f"{job.name} ended with {found.code}: {found.output[-1500:]}")
    if not (out / "simulation.json").is_file() and not list(out.glob("*.csv")):
        raise RuntimeError(f"{job.name} wrote nothing to {out}")
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    shutil.rmtree(out)
    say(
        f"{job.name}: {size:,} {job.unit} in {found.cpu_seconds:.1f} s of processor time ({found.seconds:.1f} s "
        f"on the clock), {found.peak_mib:,.0f} MiB of memory, {written:,.0f} MiB written"
    )
    return dataclasses.replace(found, disk_mib=written)


def _cases(job: Job, size: int, found: Measured) -> list[Case]:
    name = f"{job.name}: {size:,} {job.unit}"
    return [
        Case(name, "s of processor time", found.cpu_seconds, peak_mib=found.peak_mib),
        Case(name, f"{job.unit} per s of it", size / found.cpu_seconds),
        Case(name, "MiB written", found.disk_mib),
    ]


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda _: 1))
