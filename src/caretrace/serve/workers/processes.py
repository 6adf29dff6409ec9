"""What runs in the leader's process, and in each further worker's."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from caretrace.errors import CaretraceError
from caretrace.serve.server import Server, configured, log_without_patients, plain
from caretrace.serve.settings import ServeSettings

READY = ("ready", "")
log = logging.getLogger("caretrace.serve")


def lead(settings: ServeSettings, leader: str, told: Connection) -> None:
    """Own the ward, and answer what workers hand on.

    Args:
        settings: Of the service.
        leader: Path of the socket to listen on.
        told: Hears `READY`, or the kind and the text of an error.
    """

    def serve() -> None:
        from caretrace.serve.app import create_app
        from caretrace.serve.workers.forward import Told

        app = create_app(settings)  # first: the socket belongs to whoever owns the store
        # Bounds are kept by the workers' connections and by the guard.
        config = plain(Told(app), http="httptools")
        with _socket(leader) as sock:
            Server(config, lambda: told.send(READY)).run(sockets=[sock])

    _run(serve, told)


def work(settings: ServeSettings, leader: str, told: Connection, sock: socket.socket) -> None:
    """Take batches, and hand the rest on.

    Args:
        settings: Of the service.
        leader: Path of the leader's socket.
        told: Hears `READY`, or the kind and the text of an error.
        sock: Where to listen.
    """

    def serve() -> None:
        from caretrace.serve.workers.app import create_worker

        app = create_worker(settings, leader)
        config = configured(app, settings, sock.getsockname()[1])
        Server(config, lambda: told.send(READY), app.state.forward.end_streams).run(sockets=[sock])

    _run(serve, told)


def _run(serve: Callable[[], None], told: Connection) -> None:
    log_without_patients()
    _end_with_parent()
    try:
        serve()
    except KeyboardInterrupt:
        return
    except CaretraceError as error:
        told.send((type(error).__name__, str(error)))
        sys.exit(1)


def _socket(path: str) -> socket.socket:
    """A socket that only this user can reach."""
    Path(path).unlink(missing_ok=True)
    sock, before = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    return sock


def _end_with_parent() -> None:
    """Whoever would start us again is gone: end, too, so that another service can own the store."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        log.warning("the process that watched over this one is gone; ending")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="caretrace-parent", daemon=True).start()
