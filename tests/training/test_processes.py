"""Two processes learn what one learns: real processes that talk to each other, on the same batches."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from caretrace.data.store import write_store
from caretrace.errors import ConfigError
from caretrace.training.config import TrainingConfig
from caretrace.training.processes import Processes, restarted, started

from ..tiny import QUICK
from .conftest import assert_same_bits, prepare_training, records
from .worker import TRAININGS, run

ROOT = Path(__file__).parents[2]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(*arguments: str) -> str:
    """Two processes on this machine; what they print on standard output."""
    done = subprocess.run(
        [sys.executable, *TWO, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tiny_dataset, tmp_path_factory):
    """Every training of the worker, by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    training = prepare_training(tiny_dataset, dropout=0.0)
    for out in (one, two):
        write_store(out / "store", [training.train], lanes=4, shard_samples=5)
    for name, config in TRAININGS.items():
        run(name, training, one, dataclasses.replace(config, strategy="auto"))
    launch("-m", "tests.training.worker", str(tiny_dataset), str(two), *TRAININGS)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_give_the_loss_curve_of_one(trained, name):
    one, two = (records(out / name) for out in trained)
    assert len(one) == len(two) > 1
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert theirs[key] == pytest.approx(value, abs=1e-5), key
    assert one[-1]["train_loss"] < one[0]["train_loss"] - 0.01, "nothing was learned, so nothing is compared"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_both_processes_end_with_the_same_weights(trained, name):
    first, second = (torch.load(trained[1] / f"{name}-{rank}.pt", weights_only=True) for rank in range(2))
    assert_same_bits(first, second)
    (alone,) = torch.load(trained[0] / f"{name}-0.pt", weights_only=True)
    for key, value in alone.items():
        torch.testing.assert_close(first[0][key], value, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_portions_leave_the_curve_as_it_is(trained):
    """The batch of 17 in three portions against the batch of 17 at once."""
    whole, portions = (records(trained[0] / name) for name in ("uneven", "portions"))
    for mine, theirs in zip(portions, whole[: len(portions)], strict=True):
        assert mine["tuning_loss"] == pytest.approx(theirs["tuning_loss"], abs=1e-5)
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)


@pytest.mark.slow
def test_the_command_line_of_the_cluster_page(tiny_dataset, tmp_path):
    """`torchrun … -m caretrace.cli train`: one run folder, one JSON object, one bundle."""
    out = tmp_path / "run"
    settings = [part for setting in (*QUICK, "training.members=1") for part in ("--set", setting)]
    arguments = ["train", "mortality", str(tiny_dataset), "--out", str(out), *settings, "--devices", "2"]
    printed = launch("-m", "caretrace.cli", *arguments, "--json", "--quiet")
    assert json.loads(printed)["n_train"] == 120
    assert (out / "bundle" / "manifest.json").is_file()
    assert len(records(out)) == 4
    assert not list(out.rglob("*.partial"))


def test_without_a_launcher_there_is_one_process(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert started() == Processes()
    assert not restarted()


def test_torchrun_says_who_this_is(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "TORCHELASTIC_RESTART_COUNT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert started() == Processes(5, 8, 4, "torchrun")
    assert started().nodes == 2
    assert restarted()


SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_slurm_says_who_this_is(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert started() == Processes(5, 8, 4, "slurm")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert started() == Processes()


def test_a_batch_script_without_srun_is_one_process(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_ID")
    assert started() == Processes()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            {"devices": 2},
            r"training\.devices: got 2, but 1 were started.*torchrun --nnodes=1 --nproc-per-node=2",
        ),
        ({"nodes": 3}, r"training\.nodes: got 3, but 1 were started.*--nnodes=3 --nproc-per-node=1"),
        ({"strategy": "fsdp"}, r"training\.strategy: fsdp .* only one was started"),
    ],
)
def test_settings_of_other_processes_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        Processes().require(TrainingConfig(**settings))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_half_precision_without_a_gpu_is_refused(training, tmp_path):
    with pytest.raises(ConfigError, match="16 needs a CUDA GPU; take bf16"):
        training(tmp_path / "run", TrainingConfig(precision=16))


def test_bfloat16_learns_about_the_same(training, undisturbed, tmp_path):
    training(tmp_path / "run", dataclasses.replace(TRAININGS["ddp"], precision="bf16"))
    losses = [record["tuning_loss"] for record in records(tmp_path / "run")]
    exact = [json.loads(line)["tuning_loss"] for line in undisturbed[1].splitlines()][: len(losses)]
    assert losses != exact
    assert np.abs(np.subtract(losses, exact)).max() < 0.05
