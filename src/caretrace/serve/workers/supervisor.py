"""Starts a leader and further workers, starts again whoever dies, and ends all of them together."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from caretrace import errors
from caretrace.errors import CaretraceError
from caretrace.serve.server import SHUTDOWN_SECONDS, listen
from caretrace.serve.settings import ServeSettings
from caretrace.serve.workers.processes import READY, lead, work

log = logging.getLogger("caretrace.serve")
# Linux: children are forked from a process that has loaded the libraries and does nothing else, so that whoever dies is
# back before a new one would have loaded them. Elsewhere libraries do not bear a fork.
_START: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_LOADED = ["caretrace.serve.app", "caretrace.serve.workers.app"]
_UNKNOWN = 255  # how a process ended whose fork server died; it may still run
_LONGEST_PATH = 100  # of a socket, bytes; systems allow 104 or 108
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds before one that did not even start is started again


class _Child:
    """A process that is started again when it ends.

    Args:
        name: For the log.
        target: What runs in it; gets what it says `READY` to, then `args`.
        args: See there.
    """

    def __init__(self, name: str, target: Callable[..., None], *args: Any) -> None:
        self.name, self._target, self._args = name, target, args
        self.process: Any = None
        self.told: Connection | None = None
        self.ready = False
        self.error: CaretraceError | None = None
        self.due = 0.0  # when to start it, seconds of the steady clock
        self._failures = 0

    def start(self) -> None:
        """Start it."""
        self.told, theirs = _START.Pipe(duplex=False)
        settings, leader, *rest = self._args
        self.ready, self.error = False, None
        self.process = _START.Process(
            target=self._target, args=(settings, leader, theirs, *rest), name=f"caretrace {self.name}"
        )
        self.process.start()
        theirs.close()
        log.info("%s is process %d", self.name, self.process.pid)

    def hear(self) -> None:
        """What it says of itself."""
        assert self.told is not None
        try:
            kind, text = self.told.recv()
        except (EOFError, OSError):
            self._forget()
            return
        if (kind, text) == READY:
            self.ready, self._failures = True, 0
        else:
            self.error = getattr(errors, kind, CaretraceError)(text)

    def ended(self) -> None:
        """It is gone: say so, and when to start it again."""
        while self.told is not None and self.told.poll():
            self.hear()
        self._forget()
        self.process.join()
        if self.process.exitcode == _UNKNOWN:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        pause = 0.0 if self.ready else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        self._failures += not self.ready
        why = f": {self.error}" if self.error else ""
        log.error("%s ended (%s)%s; it is started again", self.name, self.process.exitcode, why)
        self.process, self.ready, self.due = None, False, time.monotonic() + pause

    def stop(self) -> None:
        """End it, by force if it does not."""
        if self.process is None:
            return
        self.process.terminate()
        self.process.join(SHUTDOWN_SECONDS + 5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._forget()
        self.process = None

    def _forget(self) -> None:
        if self.told is not None:
            self.told.close()
            self.told = None


def supervise(settings: ServeSettings, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Serve by several processes until interrupted.

    Args:
        settings: What was asked; `workers` says how many.
        sock: Where they listen, bound.
        ready: Called once all of them can work.

    Raises:
        CaretraceError: The leader or a worker could not be started at all.
    """
    with (
        _socket_path(settings.state) as leader,
        _interrupts() as interrupted,
        _sockets(sock, settings.workers - 1) as socks,
    ):
        _START.set_forkserver_preload(_LOADED)
        first = _Child("leader", lead, settings, leader)
        others = [
            _Child(f"worker {number}", work, settings, leader, each) for number, each in enumerate(socks, 1)
        ]
        try:
            first.start()
            _until_ready([first], interrupted)
            for child in others:
                child.start()
            _until_ready([first, *others], interrupted)
            if not _is_set(interrupted):
                ready()
            while not _is_set(interrupted):
                _watch([first, *others], interrupted)
        finally:
            for child in others:  # first, so that what they hand on is answered
                _signal(child)
            for child in [*others, first]:
                child.stop()


def _until_ready(children: list[_Child], interrupted: socket.socket) -> None:
    """The first start: what fails now is told, not tried again."""
    while not all(child.ready for child in children) and not _is_set(interrupted):
        _watch(children, interrupted, again=False)


def _watch(children: list[_Child], interrupted: socket.socket, *, again: bool = True) -> None:
    """Wait until something happens, and act on it."""
    now = time.monotonic()
    for child in children:
        if child.process is None and child.due <= now:
            child.start()
    waiting = [child.due - now for child in children if child.process is None]
    things: list[Any] = [interrupted]
    for child in children:
        things += [] if child.process is None else [child.process.sentinel]
        things += [] if child.told is None else [child.told]
    happened = wait(things, max(0.0, min(waiting)) if waiting else None)
    for child in children:
        if child.told in happened:
            child.hear()
        if child.process is not None and child.process.sentinel in happened:
            child.ended()
            if not again:
                raise child.error or CaretraceError(
                    f"the service's {child.name} did not start; its log says why"
                )


def _signal(child: _Child) -> None:
    if child.process is not None:
        child.process.terminate()


def _is_set(interrupted: socket.socket) -> bool:
    return bool(wait([interrupted], 0))


@contextlib.contextmanager
def _sockets(sock: socket.socket, workers: int) -> Iterator[list[socket.socket]]:
    """A socket for each worker. Linux deals out connections among them; who waits at one, often takes all at once.

    They stay open here, so that connections to a worker that died wait for it to be started again.
    """
    if sys.platform != "linux":
        yield [sock] * workers
        return
    host, port = sock.getsockname()[:2]
    sock.close()  # it had shown that the port was free
    with contextlib.ExitStack() as open_:
        yield [open_.enter_context(listen(host, port, beside=True)) for _ in range(workers)]


@contextlib.contextmanager
def _interrupts() -> Iterator[socket.socket]:
    """A socket that can be read once somebody has asked us to end."""
    reading, writing = socket.socketpair()

    def interrupt(_number: int, _frame: Any) -> None:
        with contextlib.suppress(OSError):
            writing.send(b"!")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with reading, writing:
            writing.setblocking(False)
            yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _socket_path(state: Path) -> Iterator[str]:
    """Path of the leader's socket: in the state folder, or in one with a shorter name."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, other = state.resolve() / "leader.sock", None
    if len(os.fsencode(path)) > _LONGEST_PATH:
        other = tempfile.mkdtemp(prefix="caretrace-")
        path = Path(other) / "leader.sock"
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
        if other is not None:
            shutil.rmtree(other, ignore_errors=True)
