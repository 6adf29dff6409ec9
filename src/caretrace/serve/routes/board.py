"""The emergency board."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request

from caretrace.serve.desk import Desk
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import READ

router = APIRouter(tags=["board"])
SAFETY = "safety"


@router.get("/board", responses={404: {"description": "No run of safety is served."}})
async def board(
    request: Request,
    _who: Annotated[Caller, Depends(require(READ))],
    time: Annotated[dt.datetime | None, Query(description="UTC; the last hour by default.")] = None,
) -> dict[str, Any]:
    """Every hospital: NEDOCS, chance of a crisis by horizon with interval, drivers, response times."""
    desk: Desk = request.app.state.desk
    opened = desk.opened(SAFETY)
    if time is not None and not 1800 <= time.year <= 2300:
        raise HTTPException(422, f"time: year {time.year}; between 1800 and 2300")
    at = time.astimezone(dt.UTC).replace(tzinfo=None) if time is not None and time.tzinfo else time
    return {"hospitals": await desk.compute(lambda: opened.board(at))}
