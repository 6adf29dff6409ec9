"""Medians of how long functions take, and memory that a function adds to a process."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def median_ms(work: Callable[[], object], *, repeats: int, budget_seconds: float) -> float:
    """Median milliseconds of a call, after one that does not count.

    Args:
        work: What to time.
        repeats: Calls at most.
        budget_seconds: No call is begun after this; what takes longer than that at once is timed once.
    """
    start = time.perf_counter()
    work()
    first = time.perf_counter() - start
    if first > budget_seconds:
        return 1e3 * first
    times = []
    while len(times) < repeats and (not times or time.perf_counter() - start < budget_seconds):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times)


def peak_mib() -> float:
    """Most memory this process has held so far, MiB."""
    if sys.platform == "linux":  # where getrusage counts what the parent process held, too
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
