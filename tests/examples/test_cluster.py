"""The SLURM script, with an `srun` that plays SLURM on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..tiny import QUICK

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "train.sbatch"
# Leaves out its own options, and starts what follows once per task, as SLURM would on one host.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do echo "$1" >> "$SRUN_LOG"; shift; done
export SLURM_STEP_ID=0 SLURM_NTASKS=$((SLURM_NNODES * SLURM_NTASKS_PER_NODE)) SLURM_NODEID=0
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || exit $?; done
"""
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "caretrace",
    "SLURM_NNODES": "1",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_CPUS_PER_TASK": "1",
}


def test_the_script_is_one_that_bash_understands():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    asked = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --requeue" in asked
    assert any("--signal=USR1@" in line for line in asked)


@pytest.mark.slow
def test_the_script_trains(tiny_dataset, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"srun": SRUN, "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    settings = [part for setting in (*QUICK, "training.members=1") for part in ("--set", setting)]
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tiny_dataset), str(tmp_path / "run"), *settings],
        env={**os.environ, **SLURM, "PATH": path, "SRUN_LOG": str(tmp_path / "options")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "bundle" / "manifest.json").is_file()
    assert done.stdout.count("tuning") == 1, "more than one process spoke"
    assert (tmp_path / "options").read_text().split() == ["--kill-on-bad-exit=1", "--wait=0"]
