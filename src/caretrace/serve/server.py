"""uvicorn, with an end to headers that trickle, and a log without patients."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from caretrace.errors import ResourceError
from caretrace.serve.app import create_app
from caretrace.serve.settings import ServeSettings

log = logging.getLogger("caretrace.serve")
_KEEP_ALIVE_SECONDS = 10
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it, macOS has not
_UNTAKEN_MILLISECONDS = 30_000
_SHUTDOWN_SECONDS = 10


class BoundedProtocol(HttpToolsProtocol):
    """HTTP whose header must be whole within a time and a size; uvicorn leaves one open that trickles in.

    The clock starts with the connection, and again with the first byte of each later request.
    """

    header_seconds = 10.0
    header_bytes = 64 * 2**10

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first header."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and _USER_TIMEOUT is not None:  # who takes nothing for so long is gone
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _UNTAKEN_MILLISECONDS)
        self._clock: asyncio.TimerHandle | None = None
        self._header_size = 0
        self._in_header = True
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a header."""
        if self._in_header:
            if self._clock is None:
                self._wait()
            self._header_size += len(data)
        super().data_received(data)
        if self._in_header and self._header_size > self.header_bytes and not self.transport.is_closing():
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        """Keep a fragment, which no client sends, so that the guard sees it; the parser would drop it."""
        super().on_url(url.replace(b"#", b"%23"))

    def on_message_begin(self) -> None:
        """Another header begins."""
        if not self._in_header:
            self._in_header, self._header_size = True, 0
            self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header is whole."""
        self._in_header = False
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole; what comes next is a header, whenever it comes."""
        super().on_message_complete()
        self._in_header, self._header_size = True, 0

    def _wait(self) -> None:
        self._stop()
        self._clock = self.loop.call_later(self.header_seconds, self._too_late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_late(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.close()


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
    _Server(configured(create_app(settings), settings, port), lambda: ready(address)).run(sockets=[sock])


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then say so."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._ready()


def configured(app: Any, settings: ServeSettings, port: int) -> uvicorn.Config:
    """Settings of uvicorn: no access log, which would name patients, and our bounds."""
    bound(settings)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        http=BoundedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


def bound(settings: ServeSettings) -> None:
    """Give the protocol of this process its limits; uvicorn makes one per connection and tells it nothing."""
    BoundedProtocol.header_seconds = settings.limits.header_seconds
    BoundedProtocol.header_bytes = settings.limits.header_bytes


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ResourceError: The port is taken, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
