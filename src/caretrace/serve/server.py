"""uvicorn, with our protocol, and a log without patients."""

from __future__ import annotations

import functools
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from caretrace.errors import ResourceError
from caretrace.serve.limits.protocol import BoundedProtocol
from caretrace.serve.settings import ServeSettings

_KEEP_ALIVE_SECONDS = 10
_TURN = 0.0005  # seconds
SHUTDOWN_SECONDS = 10


class Server(uvicorn.Server):
    """A server that says when it is ready, and when it begins to end.

    Args:
        config: Of uvicorn.
        ready: Called once it listens.
        ending: Called before it waits for answers that are not whole.
    """

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then say so."""
        # Two or three threads serve each batch: with the usual 5 ms for a turn, each step may wait as long.
        sys.setswitchinterval(_TURN)
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, then end."""
        if self._ending is not None:
            self._ending()
        await super().shutdown(sockets=sockets)


def configured(app: FastAPI, settings: ServeSettings, port: int) -> uvicorn.Config:
    """Settings of uvicorn where callers come in: our bounds on a connection."""
    return plain(
        app,
        host=settings.host,
        port=port,
        http=functools.partial(BoundedProtocol, limits=settings.limits, load=app.state.load),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


def plain(app: Any, **more: Any) -> uvicorn.Config:
    """Settings of uvicorn everywhere: no access log, which would name patients.

    Args:
        app: What answers.
        more: Further settings.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        **more,
    )


def listen(host: str, port: int, *, beside: bool = False) -> socket.socket:
    """A socket that listens.

    Args:
        host: Address.
        port: 0 takes a free one.
        beside: Whether others of this service listen there, too; the system deals out connections among them.

    Raises:
        ResourceError: The port is taken, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ResourceError(
            f"{host} port {port} cannot be listened on ({error.strerror}); stop what listens there, or choose another "
            "port with --port (0 takes a free one)"
        ) from None
    return sock


def log_without_patients() -> None:
    """Our own log at INFO, everybody else's at WARNING, all on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("caretrace").setLevel(logging.INFO)
