"""A process that is killed without warning while it ingests: the dataset is absent or whole, never partial."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caretrace import schema
from caretrace.dataset import Dataset
from caretrace.hospital import HospitalConfig, simulate

KILLS = 20
# The CLI's own entry point; `caretrace` itself may not be on the path.
COMMAND = [sys.executable, "-c", "from caretrace.cli import main; main()"]


def start(raw: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = ["ingest", "hospital", str(raw), str(out), "--quiet", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, env=environment)


def working_since(process: subprocess.Popen[bytes], out: Path, before: set[Path]) -> float:
    """When the process made its partial folder: imports, most of its time, are over then."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if set(partials(out)) - before:
            return time.monotonic()
        time.sleep(0.002)
    raise AssertionError("the process made no partial folder")


def partials(out: Path) -> list[Path]:
    return list(out.parent.glob(f".{out.name}.*"))


def content(dataset: Path) -> dict[str, bytes]:
    """Every file of a dataset; when it was made is the one thing that may differ."""
    found = {
        str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*") if path.is_file()
    }
    described = json.loads(found[str(schema.DATASET_FILE)])
    del described["created_at"]
    return {**found, str(schema.DATASET_FILE): json.dumps(described).encode()}


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_target_is_absent_or_whole(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    simulate(raw, HospitalConfig(subjects=60, seed=3, oracle_replicates=2))
    process = start(raw, tmp_path / "expected")
    began = working_since(process, tmp_path / "expected", set())
    assert process.wait(timeout=120) == 0
    working_seconds = time.monotonic() - began
    expected = content(tmp_path / "expected")
    assert sum(map(len, expected.values())) > 200_000  # there was something to write

    rng = random.Random(57)
    absent = whole = 0
    # Spread over the whole of the work, a little beyond its end, in no order: each process starts over
    # what the last one left behind.
    moments = [(number + rng.random()) / KILLS * 1.05 for number in range(KILLS)]
    rng.shuffle(moments)
    for number, moment in enumerate(moments):
        process = start(raw, out)
        began = working_since(process, out, set(partials(out)))
        assert len(partials(out)) == 1, "what the last kill left behind is still there"
        time.sleep(max(0.0, began + moment * working_seconds - time.monotonic()))
        process.kill()
        killed = process.wait(timeout=60) != 0
        if out.exists():
            whole += 1
            assert content(out) == expected, f"partial after a kill at {moment:.2f} of the work"
            Dataset(out)
            assert not killed or not partials(out)
            if not killed:  # the machine is faster by now: aim again
                working_seconds = min(working_seconds, time.monotonic() - began)
            shutil.rmtree(out)
        else:
            absent += 1
            assert killed
            assert len(partials(out)) == 1
        if number % 5 == 4:
            process = start(raw, out)
            assert process.wait(timeout=120) == 0, "a rerun after a kill failed"
            assert content(out) == expected
            assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "out", "raw"]
            shutil.rmtree(out)
    assert absent >= KILLS // 2, f"{absent} kills hit the work, {whole} came after it: this run tested little"
