"""A further worker: takes batches of vital signs by itself, and hands everything else on to the leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from caretrace.errors import CaretraceError
from caretrace.serve.clock import Clock
from caretrace.serve.errors import answer_errors
from caretrace.serve.limits.guard import VITALS, Guard
from caretrace.serve.limits.load import Load, sender_of
from caretrace.serve.live.intake import Intake
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.routes import vitals
from caretrace.serve.security.gate import Gate
from caretrace.serve.settings import ServeSettings
from caretrace.serve.store import join_store
from caretrace.serve.workers.forward import App, Forwarder, Message, Receive, Scope, Send


def create_worker(settings: ServeSettings, leader: str) -> FastAPI:
    """What a further worker answers.

    Args:
        settings: Of the service.
        leader: Path of the leader's socket.

    Raises:
        CaretraceError: The store or the tokens cannot be used.
    """
    gate, live = Gate(settings), LiveSettings()
    store = join_store(settings)
    app = FastAPI(lifespan=_lifespan, openapi_url=None)
    state = app.state
    state.settings, state.gate, state.audit, state.store = settings, gate, gate.audit, store
    state.hub = Intake(store, live, Clock(), live.most_behind)
    state.load = Load(live.most_waiting, state.hub.overload, settings.limits.retry_seconds)
    app.include_router(vitals.router)
    answer_errors(app)
    app.add_middleware(Guard, gate=gate, limits=settings.limits, load=state.load)
    most = 2 * settings.limits.in_flight + settings.limits.streams  # the leader refuses before that
    state.forward = Forwarder(leader, most)
    app.add_middleware(Front, gate=gate, forward=state.forward, load=state.load)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(app.state.store.close)


class Front:
    """Middleware that keeps what this worker can do, and hands on the rest.

    Kept is a batch whose sender may send for everybody: who may not is refused by the leader, which keeps the audit,
    and who is bound to wards needs to be compared with where patients lie.

    Args:
        app: What this worker does.
        gate: Who may come in.
        forward: Hands on.
        load: Told who the leader let wait, so that the next of their batches are turned away here.
    """

    def __init__(self, app: App, *, gate: Gate, forward: Forwarder, load: Load) -> None:
        self._app, self._gate, self._forward, self._load = app, gate, forward, load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, to whom it belongs."""
        if scope["type"] != "http" or self._may_send(scope):
            await self._app(scope, receive, send)
            return

        async def hear(message: Message) -> None:
            if message.get("status") == 429:
                self._wait(scope, dict(message["headers"]))
            await send(message)

        await self._forward(scope, receive, hear)

    def _wait(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        seconds = headers.get(b"retry-after", b"")
        if seconds.isdigit():
            sender = sender_of(dict(scope["headers"]).get(b"authorization"), scope.get("client"))
            self._load.wait(sender, int(seconds))

    def _may_send(self, scope: Scope) -> bool:
        if scope["path"] != VITALS or scope["method"] != "POST":
            return False
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization")
        if authorization is None and b"cookie" in headers:
            return False
        try:
            who = self._gate.identify(authorization and authorization.decode("latin-1"), None)
        except CaretraceError:  # tokens that cannot be read; the leader says so
            return False
        return who is not None and who.wards is None and who.may("vitals")
