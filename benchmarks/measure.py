"""Run a command on a few cores and say how long it took, how much memory its processes held, how much disk."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_INTERVAL = 0.05  # seconds between two looks at the memory
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one command needed.

    Args:
        seconds: Wall clock from start to exit, interpreter start and imports included.
        cpu_seconds: Processor time of the process and the descendants it waited for; far less than `seconds`
            times cores on a busy machine, whose figures are worth little.
        peak_mib: Largest sum of resident memory over the process and its descendants, in MiB. Pages shared by
            two processes count twice, so this is never too small but for peaks shorter than 50 ms.
        disk_mib: Largest size of the watched folder, in MiB, looked at once a second.
        code: Exit code; negative for a signal.
        output: Last lines of standard output and standard error.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    disk_mib: float
    code: int
    output: str


def measured(
    command: Sequence[str],
    *,
    log: Path,
    cores: int = 2,
    watch: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 7200,
) -> Measured:
    """Run `command` pinned to `cores` cores and watch it.

    Args:
        command: Program and arguments.
        log: File for its output.
        cores: Cores it may run on; the first ones this process may use.
        watch: Folder whose size is followed.
        environment: Variables on top of this process's.
        timeout_seconds: After that the command and its descendants are killed.

    Returns:
        The measurements, whatever the exit code.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    used = _cpu_of_children()
    began = time.perf_counter()
    peak = disk = 0
    next_look = began
    with log.open("wb") as sink:
        process = subprocess.Popen(
            list(command),
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        os.sched_setaffinity(process.pid, allowed)  # its interpreter has not begun to start threads
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            now = time.perf_counter()
            if watch is not None and now >= next_look:
                disk, next_look = max(disk, folder_bytes(watch)), now + 1
            if now - began > timeout_seconds:
                for pid in descendants(process.pid):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_INTERVAL)
        seconds = time.perf_counter() - began
    if watch is not None:
        disk = max(disk, folder_bytes(watch))
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
    cpu = _cpu_of_children() - used
    return Measured(seconds, cpu, peak / 2**20, disk / 2**20, process.returncode, "\n".join(last))


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants."""
    total = 0
    for each in descendants(pid):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):  # it has just ended
            continue
    return total


def descendants(pid: int) -> list[int]:
    """The process and every process below it."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += descendants(int(child))
    except OSError:  # it has just ended
        pass
    return found


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).stat().st_blocks * 512
            except OSError:
                continue
    return total
