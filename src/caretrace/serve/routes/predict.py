"""The answer where no served application predicts; those that do bring their own route, which comes first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from caretrace.apps import APPS
from caretrace.errors import unknown_name
from caretrace.serve.desk import Desk
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import PREDICT

router = APIRouter(tags=["predict"])
# What predicts in another way than from records that are sent.
ELSEWHERE = {
    "vitals": "it follows samples as they come: POST /vitals, and GET /ward",
    "safety": "it follows hospitals: GET /board",
    "synth": "it draws subjects: POST /generate",
}


@router.post("/predict/{name}", include_in_schema=False)
async def nobody(
    request: Request,
    _who: Annotated[Caller, Depends(require(PREDICT))],
    name: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")],
) -> None:
    """Say what is served instead."""
    desk: Desk = request.app.state.desk
    if name not in APPS:
        raise HTTPException(404, unknown_name("application", name, APPS))
    if name in ELSEWHERE:
        raise HTTPException(404, f"{name} predicts in another way: {ELSEWHERE[name]}")
    desk.opened(name)
    raise HTTPException(404, f"{name} predicts nothing from records that are sent")
