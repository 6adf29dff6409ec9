"""The application that uvicorn runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from caretrace import __version__
from caretrace.errors import ResourceError
from caretrace.serve.bundles import LoadedBundle, open_bundles
from caretrace.serve.desk import Desk
from caretrace.serve.errors import answer_errors
from caretrace.serve.inputs.mqtt import Listener
from caretrace.serve.jobs import Jobs
from caretrace.serve.limits.guard import Guard
from caretrace.serve.limits.load import Load
from caretrace.serve.live.hub import Hub
from caretrace.serve.reference import describe
from caretrace.serve.replay import Replay
from caretrace.serve.risks import Risks, foretelling
from caretrace.serve.routes import routers
from caretrace.serve.security.gate import Gate
from caretrace.serve.settings import ServeSettings
from caretrace.serve.store import open_store

PAGE = Path(__file__).parent / "page"
_SUMMARY = "Research use only, never a bedside device."


def create_app(settings: ServeSettings) -> FastAPI:
    """The service over some runs.

    Args:
        settings: What it is told.

    Raises:
        CaretraceError: A run, the store or the tokens cannot be used; the message says how to mend it.
    """
    _make(settings.state)
    gate = Gate(settings)
    bundles = open_bundles(settings.runs)
    replay = _replay(settings)
    app = FastAPI(
        title="caretrace",
        version=__version__,
        summary=_SUMMARY,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    state = app.state
    state.settings, state.gate, state.audit, state.bundles = settings, gate, gate.audit, bundles
    state.jobs = Jobs(settings.state / "jobs")
    state.desk = Desk(bundles, state.jobs, settings.limits)
    state.desk.open()  # whatever is damaged is said before anybody can ask
    state.replay = replay
    state.store, state.hub = _hub(bundles, settings, replay)
    state.risks = Risks(state.store, state.hub.clock, 1.0 if replay is None else replay.speed)
    state.load = Load(state.hub.settings.most_waiting, state.hub.overload, settings.limits.retry_seconds)
    for router in [*state.desk.routers(), *routers()]:  # an application's own route before the one for all
        app.include_router(router)
    describe(app)
    answer_errors(app)
    app.add_middleware(Guard, gate=gate, limits=settings.limits, load=state.load)
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _make(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ResourceError(
            f"{state} cannot be made ({error.strerror}); name a folder that can be written with --state"
        ) from None


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state, replaying = app.state, None
    listener = _listener(state.settings, state.hub)
    if state.hub is not None:
        await state.hub.start()
        if state.replay is not None:
            replaying = asyncio.create_task(
                state.replay.run(state.hub, foretelling(state.desk, state.risks, "mortality"))
            )
    if listener is not None:
        listener.start()
    try:
        yield
    finally:
        if replaying is not None:
            replaying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await replaying
        if listener is not None:
            await asyncio.to_thread(listener.stop)
        state.jobs.close()
        state.desk.close()
        if state.hub is not None:
            await state.hub.stop()


def _listener(settings: ServeSettings, hub: Any) -> Listener | None:
    """What listens to a broker; the broker keeps for it, under its name, what came while it was away."""
    if settings.mqtt is None or hub is None:
        return None
    name = hashlib.blake2b(str(settings.state.resolve()).encode(), digest_size=8).hexdigest()
    return Listener(settings.mqtt, hub, hub.settings.most_samples, f"caretrace-{name}")


def _replay(settings: ServeSettings) -> Replay | None:
    """What the demo plays, if a demo is served that says so."""
    return None if settings.demo is None else Replay.open(settings.demo)


def _hub(bundles: dict[str, LoadedBundle], settings: ServeSettings, replay: Replay | None) -> tuple[Any, Hub]:
    store = open_store(settings)
    if replay is None:
        return store, Hub(store, bundles, settings)
    return store, Hub(store, bundles, settings, clock=replay.clock, speed=replay.speed)
