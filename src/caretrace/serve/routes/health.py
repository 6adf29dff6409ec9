"""Whether the service lives, and whether it can work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"description": "Something is missing; `why` says what."}})
async def ready(request: Request) -> JSONResponse:
    """Everything that requests need is there; 503 says what is missing."""
    hub = request.app.state.hub
    why: list[str] = [] if hub is None else list(hub.ready())
    audit = await asyncio.to_thread(request.app.state.audit.why_not)
    why += [] if audit is None else [audit]
    return JSONResponse({"ready": not why, "why": why}, 503 if why else 200)


@router.get("/metrics")
async def metrics() -> Response:
    """Counters for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
