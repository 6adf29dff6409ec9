"""SLURM takes the host back: with its variables and its `scontrol` played by the test."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caretrace.errors import CaretraceError
from caretrace.training.processes import Processes
from caretrace.training.requeue import Requeue

from ..tiny import QUICK

ROOT = Path(__file__).parents[2]
SETTINGS = (*QUICK, "training.members=1", "training.max_steps=160", "training.patience_steps=160")


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A `scontrol` that writes down what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    asked = tmp_path / "asked"
    script = folder / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return asked


def variables(rank: int, world: int, restarts: int) -> dict[str, str]:
    found = {
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": str(world),
        "SLURM_NTASKS_PER_NODE": str(world),
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "OMP_NUM_THREADS": "1",
    }
    return {**found, "SLURM_RESTART_COUNT": str(restarts)} if restarts else found


def job(dataset: Path, out: Path, world: int, restarts: int = 0) -> list[subprocess.Popen]:
    """What `srun` would start."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    arguments = ["train", "mortality", str(dataset), "--out", str(out), "--quiet", *settings]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "caretrace.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables(rank, world, restarts)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def wait(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
        return [(process.returncode, error) for process, error in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_told_to_leave_it_is_queued_again_and_ends_with_the_same_bits(
    tiny_dataset, tmp_path, scontrol, world
):
    assert wait(job(tiny_dataset, tmp_path / "whole", world)) == [(0, "")] * world
    out = tmp_path / "run"
    processes = job(tiny_dataset, out, world)
    lines = out / "metrics.jsonl"
    until = time.monotonic() + 90
    while not (lines.exists() and lines.read_text().count("\n") >= 3) and time.monotonic() < until:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.002)
    processes[-1].send_signal(signal.SIGUSR1)  # one process hears of it, all must leave
    for code, error in wait(processes):
        assert code == 1
        assert "SLURM takes this host back" in error
    assert scontrol.read_text() == "requeue 4711\n"
    assert not (out / "bundle").exists()
    assert 3 <= lines.read_text().count("\n") < 40

    assert (
        wait(job(tiny_dataset, out, world, restarts=1)) == [(0, "")] * world
    )  # the same command, no --resume
    for part in ("metrics.jsonl", "bundle/model.safetensors", "bundle/calibration.json"):
        assert (out / part).read_bytes() == (tmp_path / "whole" / part).read_bytes(), part


def test_outside_of_steps_it_is_queued_again_at_once(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    requeue = Requeue(Processes(launcher="slurm"))
    with requeue.listening():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert scontrol.read_text() == "requeue 12\n"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_job_of_an_array_is_named_as_slurm_names_it(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue = Requeue(Processes(launcher="slurm"))
    with requeue.listening(), requeue.stepping():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not scontrol.exists()
        assert requeue.asked()
        with pytest.raises(CaretraceError, match="goes on by itself"):
            requeue.leave()
    assert scontrol.read_text() == "requeue 12_3\n"


def test_scontrol_that_fails_is_told_with_the_remedy(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    script = scontrol.parent / "bin" / "scontrol"
    script.write_text("#!/bin/sh\necho job is gone >&2\nexit 1\n")
    with pytest.raises(CaretraceError, match=r"scontrol requeue 12.*job is gone.*--resume"):
        Requeue(Processes(launcher="slurm")).leave()
    monkeypatch.setenv("SLURM_JOB_ID", "; rm -rf")
    with pytest.raises(CaretraceError, match="no job to queue again"):
        Requeue(Processes(launcher="slurm")).leave()


def test_elsewhere_the_signal_is_left_alone():
    before = signal.getsignal(signal.SIGUSR1)
    requeue = Requeue(Processes())
    with requeue.listening():
        assert signal.getsignal(signal.SIGUSR1) == before
    assert not requeue.asked()
