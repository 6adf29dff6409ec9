"""SLURM takes the host away: write a checkpoint, ask to be queued again, go on from there.

SLURM sends SIGUSR1 some time before (`#SBATCH --signal=USR1@120`). Lightning's own answer writes the checkpoint
from within the signal handler, wherever the training happens to be; half an optimizer step would be
in it, and the resumed run would end with other weights. Ours notes the signal and acts between two steps.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator

from caretrace.errors import CaretraceError
from caretrace.training.processes import Processes

_JOB = re.compile(r"[0-9]+(_[0-9]+)?")


class Requeue:
    """Whether SLURM wants the host back, and what to do then.

    Args:
        processes: Of which the first one speaks to SLURM.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._asked = False
        self._stepping = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the signal while the block runs, where SLURM started this.

        Outside of steps there is nothing to save, and the job is queued again at once.
        """
        if self.processes.launcher != "slurm":
            yield
            return
        before = signal.signal(signal.SIGUSR1, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Within the block, the training looks at `asked` between steps."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False

    def asked(self) -> bool:
        """Whether any process was told to make room; every one must ask."""
        return self.processes.launcher == "slurm" and self.processes.any(self._asked)

    def leave(self) -> None:
        """Ask SLURM to queue the job again, once the checkpoint is written, and stop.

        Raises:
            CaretraceError: Always.
        """
        self._queue()
        raise CaretraceError(
            "SLURM takes this host back: a checkpoint is written and the job is queued again; it goes on by itself"
        )

    def _note(self, *_: object) -> None:
        self._asked = True
        if not self._stepping:
            self._queue()

    def _queue(self) -> None:
        if not self.processes.main:
            return
        env = os.environ
        job = env.get("SLURM_JOB_ID", "")
        if "SLURM_ARRAY_JOB_ID" in env:
            job = f"{env['SLURM_ARRAY_JOB_ID']}_{env.get('SLURM_ARRAY_TASK_ID', '')}"
        if not _JOB.fullmatch(job):
            raise CaretraceError(f"SLURM_JOB_ID is {job!r}: no job to queue again; start again with --resume")
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)  # noqa: S603, S607
        if done.returncode:
            raise CaretraceError(
                f"`scontrol requeue {job}` failed ({done.stderr.strip()}); the checkpoint is written: "
                "start again with --resume"
            )
