"""Starting: one process, or one that leads and others that take batches."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from caretrace.serve.server import Server, configured, listen, log_without_patients
from caretrace.serve.settings import ServeSettings
from caretrace.serve.workers.supervisor import supervise

log = logging.getLogger("caretrace.serve")


def serve(settings: ServeSettings, ready: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        settings: What was asked.
        ready: Told the address once the port is taken.

    Raises:
        ResourceError: The port is taken or not allowed.
        CaretraceError: A run, the store or the tokens cannot be used.
    """
    sock = listen(settings.host, settings.port)  # first: a taken port is found before models are loaded
    log_without_patients()
    try:
        _serve(settings, sock, ready)
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        sock.close()


def _serve(settings: ServeSettings, sock: socket.socket, ready: Callable[[str], None]) -> None:
    port = sock.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}"
    if settings.workers > 1:
        supervise(settings, sock, lambda: ready(address))
        log.info("stopped")
        return
    from caretrace.serve.app import create_app  # models' libraries are loaded where models are

    Server(configured(create_app(settings), settings, port), lambda: ready(address)).run(sockets=[sock])
