"""What a benchmark reports, in the shape of `caretrace bench --json`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a benchmark.

    Args:
        case: What was done, on what, in words.
        unit: Unit of `ours` and of `peers`.
        ours: Our figure.
        peers: Theirs, by name.
        speedup: By peer, its time over ours for the same work.
        peak_mib: Most memory our processes held together, MiB; None where it was not measured.
    """

    case: str
    unit: str
    ours: float
    peers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    speedup: Mapping[str, float] = dataclasses.field(default_factory=dict)
    peak_mib: float | None = None


def run(
    bench: Callable[[argparse.Namespace], Sequence[Case]],
    parser: argparse.ArgumentParser,
    threads: Callable[[argparse.Namespace], int],
) -> int:
    """Run a benchmark with the options of the command line.

    With `--result FILE`, as `caretrace bench` calls it, threads and cases are written there as JSON;
    without it they are printed.

    Args:
        bench: The benchmark.
        parser: Its options.
        threads: How many threads it used.
    """
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [dataclasses.asdict(case) for case in bench(options)]
    content = json.dumps({"threads": threads(options), "cases": cases}, indent=2, allow_nan=False)
    if options.result is None:
        print(content)
    else:
        options.result.write_text(content, encoding="utf-8")
    return 0


def say(message: str) -> None:
    """A line for whoever waits, on standard error."""
    print(message, file=sys.stderr, flush=True)
