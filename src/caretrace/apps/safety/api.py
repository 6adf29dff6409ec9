"""What the service asks of a run: the board of its hospitals."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from typing import Any

from caretrace.application.run import Run
from caretrace.apps.safety.board import Board, open_board
from caretrace.errors import DatasetError

log = logging.getLogger("caretrace.apps.safety")


class SafetyRun:
    """A run in memory; the city is read when somebody first looks, which takes seconds.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._board: Board | None = None
        self._latest: list[dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def board(self, time: dt.datetime | None = None) -> list[dict[str, Any]]:
        """Every hospital at a full hour, the last one by default; the shape is that of `Board.at`.

        Raises:
            ConfigError: The dataset does not reach that time.
            DatasetError: The dataset is not there.
        """
        with self._lock:
            if self._board is None:
                self._board = open_board(self._run, self._run.dataset())
            if time is not None:
                return self._board.at(time)
            if self._latest is None:
                self._latest = self._board.at()
            return self._latest


def open_run(run: Run) -> SafetyRun:
    """The run in memory."""
    try:
        run.dataset()
    except DatasetError as error:
        log.warning("the board cannot be shown: %s", error)
    return SafetyRun(run)
