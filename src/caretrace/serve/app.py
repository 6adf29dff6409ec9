"""The application that uvicorn runs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from caretrace import __version__
from caretrace.errors import ResourceError
from caretrace.serve.bundles import open_bundles
from caretrace.serve.desk import Desk
from caretrace.serve.errors import answer_errors
from caretrace.serve.jobs import Jobs
from caretrace.serve.limits.guard import Guard
from caretrace.serve.reference import describe
from caretrace.serve.routes import routers
from caretrace.serve.security.gate import Gate
from caretrace.serve.settings import ServeSettings

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
    for router in [*state.desk.routers(), *routers()]:  # an application's own route before the one for all
        app.include_router(router)
    describe(app)
    answer_errors(app)
    app.add_middleware(Guard, gate=gate, limits=settings.limits)
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
    if state.hub is not None:
        await state.hub.start()
        if state.replay is not None:
            replaying = asyncio.create_task(state.replay.run(state.hub))
    try:
        yield
    finally:
        if replaying is not None:
            replaying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await replaying
        state.jobs.close()
        state.desk.close()
        if state.hub is not None:
            await state.hub.stop()


def _replay(settings: ServeSettings) -> Any:
    """What the demo plays, if a demo is served that says so."""
    if settings.demo is None or importlib.util.find_spec("caretrace.serve.replay") is None:
        return None
    return importlib.import_module("caretrace.serve.replay").Replay.open(settings.demo)


def _hub(bundles: Any, settings: ServeSettings, replay: Any) -> tuple[Any, Any]:
    if not (Path(__file__).parent / "live" / "hub.py").is_file():
        return None, None
    store = importlib.import_module("caretrace.serve.store").open_store(settings)
    hub = importlib.import_module("caretrace.serve.live.hub").Hub
    return store, hub(
        store, bundles, settings, **({} if replay is None else {"clock": replay.clock, "speed": replay.speed})
    )
