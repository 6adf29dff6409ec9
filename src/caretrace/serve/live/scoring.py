"""The thread that scores: takes what is on the disk, works it into the ward, stores what came of it, then says so.

Alarms, machines, scored steps and the place in the log are stored in one transaction, before anybody hears of the
alarm. So after a kill the store says how far scoring came: what lies before is only remembered, what lies after is
scored again, with the same outcome, and nothing is lost or said twice.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from sqlalchemy import Connection

from caretrace.errors import CaretraceError, ResourceError
from caretrace.serve.live.grid import NEVER
from caretrace.serve.live.lifecycle import Outcome
from caretrace.serve.live.model import LiveModel
from caretrace.serve.live.samples import NOTHING, OURS
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.live.ward import Scored, Ward
from caretrace.serve.store import records
from caretrace.serve.store.columns import Samples, pack
from caretrace.serve.store.log import Entry, NewBatch
from caretrace.serve.store.store import (
    Store,
    read_scored,
    read_snapshot,
    write_scored,
    write_snapshot,
)

_LOG = logging.getLogger(__name__)
_PATIENCE = 30.0  # seconds for a commit
_CLOCKWORK = 1.0  # seconds between two looks at the clock
_MUCH = 500  # batches
_AGAIN = 1.0  # seconds until a ward that broke down is built again
Listener = Callable[[Ward, Outcome, Scored | None], None]


class Scoring:
    """Keeps a ward up to date with its log.

    Args:
        store: Where the log is, and where outcomes go.
        model: What the ward is watched with.
        settings: How.
        clock: The ward's clock, epoch seconds.
        heard: Told what happened, after it is stored; from this thread.
        ticked: Told once a second.
    """

    def __init__(
        self,
        store: Store,
        model: LiveModel,
        settings: LiveSettings,
        clock: Callable[[], float],
        heard: Listener,
        ticked: Callable[[Ward], None],
    ) -> None:
        self._store, self._model, self._settings = store, model, settings
        self._clock, self._heard, self._ticked = clock, heard, ticked
        self.ward = Ward(model, settings)
        self.speed = 1.0  # seconds of the ward's clock in one second
        self.trouble: str | None = "the ward is being rebuilt from the store"
        self._commands: deque[tuple[Callable[[Ward], Any], Future[Any]]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretrace-scoring", daemon=True)
        self._waiting = Outcome([], [], [])
        self._scored: list[Scored] = []
        self._stored = 0  # place in the log that the store knows of
        self._committed = self._snapshot_at = self._looked_at = 0.0

    def start(self) -> None:
        """Rebuild the ward, then follow the log."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def command(self, what: Callable[[Ward], Any]) -> Future[Any]:
        """Do something with the ward between two ticks; done when its outcome is on the disk."""
        future: Future[Any] = Future()
        self._commands.append((what, future))
        return future

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._recover()
                self.trouble = None
                while not self._stopping.wait(self._settings.tick_seconds):
                    self._tick()
                self._commit(snapshot=True)
            except Exception as error:  # noqa: BLE001 - see below
                # Whatever it was: a ward that stands still is worse. It is built again from what is stored.
                self.trouble = f"scoring broke down ({type(error).__name__}); the ward is being rebuilt"
                _LOG.exception("scoring broke down; the ward is rebuilt from the store")
                self._stopping.wait(_AGAIN)

    def _recover(self) -> None:
        ward = Ward(self._model, self._settings)
        self._waiting, self._scored = Outcome([], [], []), []
        position, snapshot, machines, alarms, steps = self._store.read(self._known)
        until = self._store.log.last
        if snapshot is not None:
            ward.restore(*snapshot)
        else:
            ward.seq = self._store.read(self._rebuild_from)
        for scored in steps:
            ward.remember(scored)
        read = 0
        for entries in self._store.log.read(ward.seq, min(position, until)):
            ward.take(entries, alarms=False)
            read += len(entries)
        ward.seq = max(ward.seq, position)
        ward.lifecycle.restore(machines, alarms, self._clock())
        ward.wake()
        self._stored, self.ward = position, ward
        for entries in self._store.log.read(ward.seq, until):
            ward.take(entries)
            read += len(entries)
        self._snapshot_at = time.monotonic()
        self._settle([], snapshot=read > _MUCH)  # so that the next restart need not read it again

    def _known(self, connection: Connection) -> tuple[Any, ...]:
        position = records.read_position(connection, records.SCORED_POSITION)
        snapshot = read_snapshot(connection, self._model.bundle, position)
        now = self._clock()
        states = ("active", "acknowledged")
        alarms = [
            *records.read_alarms(connection, states=states),
            *records.read_alarms(connection, states=("cleared",), since=now - 3600),
        ]
        rows = read_scored(connection, now - self._settings.history_hours * 3600, np.inf)
        width = len(self._model.channels)
        steps = [Scored(**row) for row in rows if row["values"].shape[1] == width]
        return position, snapshot, records.read_machines(connection), alarms, steps

    def _rebuild_from(self, connection: Connection) -> int:
        """Without a snapshot: the place from which on the log is read to remember what it says."""
        return self._store.log.first_since(connection, self._clock() - self._settings.rebuild_hours * 3600)

    def _tick(self) -> None:
        now = time.monotonic()
        self._take(self._store.log.take(self.ward.seq))
        answers = [(future, self._do(what)) for what, future in self._commanded()]
        if now - self._looked_at >= _CLOCKWORK:
            self._looked_at = now
            self._clockwork()
        self._settle(answers, snapshot=now - self._snapshot_at >= self._settings.snapshot_seconds)

    def _settle(self, answers: list[tuple[Future[Any], Any]], *, snapshot: bool) -> None:
        """Store what happened where it matters or is time, then say so."""
        snapshot = snapshot and self.ward.seq > 0
        outcome, scored = self.ward.lifecycle.take(), self.ward.take_scored()
        self._waiting = _joined(self._waiting, outcome)
        if scored is not None:
            self._scored.append(scored)
        error: ResourceError | None = None
        waited = time.monotonic() - self._committed
        late = waited >= self._settings.commit_seconds and self.ward.seq > self._stored
        if answers or self._waiting or late or snapshot:
            error = self._commit(snapshot=snapshot)
        if outcome or scored is not None:
            # Even if the store failed: an alarm that cannot be kept must still be heard.
            self._heard(self.ward, outcome, scored)
        for future, answer in answers:
            if isinstance(answer, Exception) or error is not None:
                future.set_exception(answer if isinstance(answer, Exception) else error)
            else:
                future.set_result(answer)

    def _take(self, entries: list[Entry]) -> None:
        fresh = [entry for entry in entries if entry.seq > self.ward.seq]
        if fresh and fresh[0].seq > self.ward.seq + 1:  # a commit that looked as if it had failed
            for missing in self._store.log.read(self.ward.seq, fresh[0].seq - 1):
                self.ward.take(missing)
        self.ward.take(fresh)

    def _commanded(self) -> list[tuple[Callable[[Ward], Any], Future[Any]]]:
        return [self._commands.popleft() for _ in range(len(self._commands))]

    def _do(self, what: Callable[[Ward], Any]) -> Any:
        try:
            return what(self.ward)
        except CaretraceError as error:
            return error

    def _commit(self, *, snapshot: bool) -> ResourceError | None:
        """Store what happened, all of it or nothing; what could not be stored waits for the next time."""
        waiting, scored, seq = self._waiting, self._scored, self.ward.seq
        arrays = self.ward.arrays() if snapshot else None

        def work(connection: Connection) -> None:
            records.write_alarms(connection, waiting.alarms, waiting.changes)
            records.write_machines(connection, waiting.machines)
            if scored:
                joined = Scored(*(np.concatenate(columns) for columns in zip(*scored, strict=True)))
                times = joined.step * self._model.step_seconds
                write_scored(connection, seq, (times.min(), times.max()), pack(joined._asdict()))
            records.write_position(connection, records.SCORED_POSITION, seq)
            if arrays is not None:
                write_snapshot(connection, seq, self._model.bundle, self._clock(), arrays)

        try:
            self._store.submit(work).result(_PATIENCE)
        except (CaretraceError, TimeoutError) as error:
            return ResourceError(str(error) or "the store does not answer")
        self._waiting, self._scored, self._stored = Outcome([], [], []), [], seq
        self._committed = time.monotonic()
        if snapshot:
            self._snapshot_at = self._committed
        return None

    def _clockwork(self) -> None:
        """What only time tells: silence, steps that nobody ends, subjects who are gone."""
        ward, now = self.ward, self._clock()
        slots = np.array(sorted(ward.slot_of.values()), np.int64)
        subjects = ward.subjects()
        silent_for = now - ward.recent.newest[slots]
        gone = silent_for > self._settings.gone_hours * 3600 * self.speed
        silent = silent_for > ward.quiet_limit(slots, self._settings.stale_seconds * self.speed)
        for subject, is_gone, is_silent in zip(
            subjects[slots].tolist(), gone.tolist(), silent.tolist(), strict=True
        ):
            if is_gone:
                ward.leave(subject, now)
            else:
                ward.lifecycle.silence(subject, now, is_silent)
        self._close(now)
        ward.lifecycle.tidy(now)
        self._ticked(ward)

    def _close(self, now: float) -> None:
        """Close steps whose time is over, where nothing arrives, by an entry in the log: a restart reads it again."""
        slots, newest = self.ward.grid.open_since()
        ends = np.asarray((newest + 1) * self._model.step_seconds + self._settings.late_seconds, np.float64)
        # What comes late as a whole (a backlog is sent) is no silence, however old it is.
        quiet = time.monotonic() - self.ward.recent.arrived[slots] > self._settings.grace_seconds
        over = (newest > NEVER) & (now > ends) & quiet
        if not over.any():
            return
        order = np.argsort(ends[over], kind="stable")
        who, when = self.ward.subjects()[slots[over]][order], ends[over][order]
        samples = Samples(who, when, np.full(len(who), NOTHING, np.int16), np.zeros(len(who), np.float32))
        self._store.writer.append(NewBatch(f"{OURS}close-{uuid.uuid4().hex}", time.time(), samples))


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """Two outcomes, one after the other: of alarms and machines the later word counts."""
    alarms = {alarm.id: alarm for alarm in [*first.alarms, *second.alarms]}
    machines = {(row.subject_id, row.reason): row for row in [*first.machines, *second.machines]}
    return Outcome(list(alarms.values()), [*first.changes, *second.changes], list(machines.values()))
