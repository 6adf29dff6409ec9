"""The application that uvicorn runs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from caretrace import __version__
from caretrace.serve.bundles import open_bundles
from caretrace.serve.routes import routers
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
    settings.state.mkdir(parents=True, exist_ok=True)
    bundles = open_bundles(settings.runs)
    app = FastAPI(
        title="caretrace",
        version=__version__,
        summary=_SUMMARY,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.bundles = bundles
    app.state.audit = None
    app.state.jobs = None
    app.state.store, app.state.hub = _hub(bundles, settings)
    for router in routers():
        app.include_router(router)
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub = app.state.hub
    if hub is not None:
        await hub.start()
    try:
        yield
    finally:
        if hub is not None:
            await hub.stop()


def _hub(bundles: Any, settings: ServeSettings) -> tuple[Any, Any]:
    if importlib.util.find_spec("caretrace.serve.live") is None:
        return None, None
    store = importlib.import_module("caretrace.serve.store").open_store(settings)
    return store, importlib.import_module("caretrace.serve.live.hub").Hub(store, bundles, settings)
