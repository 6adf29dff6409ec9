"""Work that takes longer than a request: one at a time, with progress, its result a file to fetch."""

from __future__ import annotations

import dataclasses
import logging
import re
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from caretrace.application import Progress
from caretrace.errors import CaretraceError
from caretrace.files import write_json

log = logging.getLogger("caretrace.serve")
ID = re.compile(r"[0-9a-f]{16}")
# A work makes a folder and says in a mapping what is in it.
Work = Callable[[Path, Progress], dict[str, Any]]
MOST_WAITING = 8
MOST_KEPT = 50


class FullError(Exception):
    """Too many jobs wait."""


@dataclasses.dataclass
class Job:
    """One piece of work.

    Args:
        id: 16 hexadecimal digits.
        what: In a few words.
        by: Who asked.
        asked: What was asked, as JSON.
        state: `waiting`, `running`, `done` or `failed`.
        progress: 0 to 1.
        result: What was made, or why nothing was.
        began: Epoch seconds.
    """

    id: str
    what: str
    by: str
    asked: dict[str, Any]
    state: str = "waiting"
    progress: float = 0.0
    result: dict[str, Any] | None = None
    began: float = dataclasses.field(default_factory=time.time)

    def describe(self) -> dict[str, Any]:
        """What `GET /jobs/{id}` says."""
        found = {
            "id": self.id, "state": self.state, "progress": round(self.progress, 3), "what": self.what,
            "result": self.result, "asked": self.asked,
        }  # fmt: skip
        return found | ({"url": f"jobs/{self.id}/result"} if self.state == "done" else {})


class Jobs:
    """Jobs and their results in a folder; the oldest results go when there are too many.

    Args:
        folder: Made when the first job begins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "caretrace-jobs")

    def begin(self, what: str, by: str, asked: dict[str, Any], work: Work) -> Job:
        """Put work into the queue.

        Args:
            what: In a few words.
            by: Who asks.
            asked: What is asked, as JSON.
            work: Makes the folder it is given; its progress is told.

        Raises:
            FullError: Too many wait already.
        """
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= MOST_WAITING:
            raise FullError
        job = Job(secrets.token_hex(8), what, by, asked)
        self._jobs[job.id] = job
        self._forget()
        self._thread.submit(self._run, job, work)
        return job

    def find(self, number: str) -> Job | None:
        """The job with an id, or None."""
        return self._jobs.get(number)

    def all(self) -> list[Job]:
        """Every job that is still known, newest first."""
        return list(reversed(self._jobs.values()))

    def file(self, job: Job) -> Path:
        """The result of a job that is done: a zip file."""
        return self._folder / f"{job.id}.zip"

    def close(self) -> None:
        """Wait for the job that runs; those that wait are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job, work: Work) -> None:
        job.state = "running"
        folder = self._folder / job.id

        def progress(_what: str, done: float, total: float | None) -> None:
            if total:
                job.progress = min(1.0, done / total)

        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            result = work(folder, progress)
            write_json(folder / "request.json", job.asked)
            shutil.make_archive(str(self._folder / job.id), "zip", folder)
            result.pop("out", None)  # a place on our disk is nobody's business
            job.result, job.progress, job.state = result, 1.0, "done"
        except CaretraceError as error:
            job.result, job.state = {"why": str(error)}, "failed"
        except OSError as error:
            job.result, job.state = {"why": f"the disk cannot be used ({error.strerror})"}, "failed"
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, and the next job must run
            log.error("job %s: %s", job.what, type(error).__name__)  # noqa: TRY400 - its text may name a patient
            job.result, job.state = {"why": "a fault of the service; it is written in its log"}, "failed"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _forget(self) -> None:
        for number in list(self._jobs)[:-MOST_KEPT]:
            if self._jobs[number].state in ("done", "failed"):
                self.file(self._jobs.pop(number)).unlink(missing_ok=True)
