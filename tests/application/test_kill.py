"""A process that is killed without warning, or asked to stop, at a moment nobody chose."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from caretrace.application.train import train
from caretrace.apps import load_application
from caretrace.config import load
from caretrace.dataset import Dataset

from ..tiny import QUICK

# Enough epochs for the kill to hit the training itself.
SETTINGS = [*QUICK, "training.max_steps=100", "training.patience_steps=100"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "returned", "before_line", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, 40, ""),
        # Line 20 is within the first member: between members Lightning does not hold the signal.
        (signal.SIGTERM, 1, 20, "stopped by SIGTERM; the run goes on with --resume"),
    ],
    ids=["SIGKILL", "SIGTERM"],
)
def test_killed_at_a_random_moment_and_resumed_it_ends_with_the_same_bits(
    tiny_dataset, tmp_path, sent, returned, before_line, said
):
    application = load_application("mortality")
    config = load(application.config_class, None, SETTINGS)
    train(application, Dataset(tiny_dataset), config, tmp_path / "whole")

    run = tmp_path / "killed"
    arguments = ["train", "mortality", str(tiny_dataset), "--out", str(run), "--quiet"]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    code = "from caretrace.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = run / "metrics.jsonl"
    wanted = random.randrange(1, before_line)  # of 50 lines
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if metrics.exists() and metrics.read_text().count("\n") >= wanted:
            time.sleep(random.random() / 50)
            process.send_signal(sent)
            break
        time.sleep(0.002)
    _, error = process.communicate(timeout=60)
    assert process.returncode == returned, f"after line {wanted}: {error}"
    assert said in error
    assert not (run / "bundle").exists()

    train(application, Dataset(tiny_dataset), config, run, resume=True)
    where = f"killed after {wanted} epochs"
    assert metrics.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text(), where
    for part in ("model.safetensors", "calibration.json", "preprocessor.json", "metrics.json"):
        assert (run / "bundle" / part).read_bytes() == (tmp_path / "whole" / "bundle" / part).read_bytes(), (
            where
        )
    assert not list(run.rglob("*.partial")), "what the kill left behind is still there"
