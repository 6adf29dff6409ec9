"""Kill a training at random moments, again and again, and compare the weights it ends with, bit for bit.

    caretrace bench kills
    caretrace bench kills -- --kills 5 --processes 2

A small cohort is simulated and trained on once undisturbed, with checkpoints at the ends of epochs alone, and once
with checkpoints between batches and with SIGKILL (no process can answer it) at moments drawn from the time the
undisturbed training took: while data are read, within a batch, while a checkpoint is written, between members.
After each kill the same command goes on with `--resume`. Weights, metrics and calibration must be the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cases import Case, run, say
from measure import descendants

COMPARED = (
    "metrics.jsonl",
    "bundle/model.safetensors",
    "bundle/calibration.json",
    "bundle/preprocessor.json",
    "bundle/metrics.json",
)
SETTINGS = ("training.members=2", "d_model=16", "training.batch_size=16", "training.patience_steps=400")


def command(dataset: Path, out: Path, processes: int, settings: Sequence[str]) -> list[str]:
    """The training, by one process or by several."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        if processes > 1
        else []
    )
    pairs = [part for setting in settings for part in ("--set", setting)]
    train = ["train", "mortality", str(dataset), "--out", str(out), "--quiet", *pairs]
    return [sys.executable, *launcher, "-m", "caretrace.cli", *train]


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """One training."""
    return subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"OMP_NUM_THREADS": "1", **os.environ},
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a training that must end well."""
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"the training failed: {error.decode(errors='replace')[-2000:]}")


def survive(
    dataset: Path, folder: Path, kills: int, seed: int, processes: int = 1, settings: Sequence[str] = SETTINGS
) -> tuple[list[str], list[str]]:
    """Train undisturbed, and killed `kills` times.

    Returns:
        Where each kill struck, and the files that differ afterwards.
    """
    draw = random.Random(seed)
    whole = folder / "whole"
    began = time.monotonic()
    finish(start(command(dataset, whole, processes, settings)))
    lasted = time.monotonic() - began
    lines = _progress(whole)
    say(f"undisturbed: {lines} epochs in {lasted:.0f} s")
    struck: list[str] = []
    differ: set[str] = set()
    for number in itertools.count():
        killed = folder / f"killed-{number}"
        arguments = command(dataset, killed, processes, [*settings, "training.checkpoint_steps=3"])
        while len(struck) < kills:
            # One in four strikes at any time, reading and writing included; the others once it has trained on.
            anywhere = draw.random() < 0.25
            wanted = _progress(killed) + (0 if anywhere else draw.randrange(1, max(2, lines // kills)))
            process = _again(arguments, killed)
            while process.poll() is None and not anywhere and _progress(killed) < wanted:
                time.sleep(0.005)
            time.sleep(draw.random() * (min(15.0, lasted / 2) if anywhere else 0.2))
            if process.poll() is not None:  # it was faster; the next kill needs another training
                break
            _kill(process)
            struck.append(
                f"after {_progress(killed)} of {lines} epochs" + (", at any time" if anywhere else "")
            )
            say(f"kill {len(struck)} of {kills}: {struck[-1]}")
        finish(_again(arguments, killed))
        differ |= {name for name in COMPARED if (whole / name).read_bytes() != (killed / name).read_bytes()}
        if len(struck) >= kills:
            return struck, sorted(differ)
    raise AssertionError


def bench(options: argparse.Namespace) -> list[Case]:
    """Simulate, train, kill, compare."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        caretrace = [sys.executable, "-m", "caretrace.cli"]
        size = ["--subjects", str(options.subjects), "--seed", "1"]
        for arguments in (
            ["simulate", str(folder / "raw"), *size],
            ["ingest", "hospital", str(folder / "raw"), str(folder / "dataset")],
        ):
            subprocess.run([*caretrace, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        settings = [*SETTINGS, f"training.max_steps={options.steps}"]
        began = time.monotonic()
        struck, differ = survive(
            folder / "dataset", folder, options.kills, options.seed, options.processes, settings
        )
        minutes = (time.monotonic() - began) / 60
    say(f"{len(struck)} kills in {minutes:.1f} min; files that differ: {', '.join(differ) or 'none'}")
    if differ:
        raise SystemExit(1)
    named = f"{options.processes} processes" if options.processes > 1 else "one process"
    return [Case(f"SIGKILL survived with the same bits, {named}", "kills", float(len(struck)))]


def _again(arguments: Sequence[str], run: Path) -> subprocess.Popen[bytes]:
    """The training, from the start or from where it was killed."""
    return start([*arguments, "--resume"] if (run / "run.json").exists() else arguments)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # `torchrun` starts sessions of their own, which outlive it.
    for pid in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def _progress(out: Path) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    found = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    found.add_argument("--kills", type=int, default=20)
    found.add_argument("--processes", type=int, default=1, help="processes that train together")
    found.add_argument("--subjects", type=int, default=1500)
    found.add_argument("--steps", type=int, default=3000, help="batches per member")
    found.add_argument("--seed", type=int, default=0, help="of the moments")
    found.add_argument("--peers", help=argparse.SUPPRESS)
    return found


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.processes))
