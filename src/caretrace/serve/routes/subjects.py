"""Subjects of a run's cohort: their risks, and the course of one of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request

from caretrace.serve.desk import Desk
from caretrace.serve.security import Caller, record, refuse, require, sees_subject
from caretrace.serve.security.roles import SUBJECTS

router = APIRouter(tags=["subjects"])
Reader = Annotated[Caller, Depends(require(SUBJECTS))]
Application = Annotated[str, Query(pattern=r"^[a-z0-9_-]{1,40}$", description="Which application's run.")]
MORTALITY = "mortality"


@router.get("/subjects", responses={404: {}, 503: {}})
async def subjects(
    request: Request,
    who: Reader,
    app: Application = MORTALITY,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[dict[str, Any]]:
    """Held-out subjects with the highest risks; empty where the run was not evaluated."""
    opened = _risks(request, app)
    desk: Desk = request.app.state.desk
    found = await desk.compute(lambda: opened.subjects(limit))
    seen = [each for each in found if sees_subject(request, who, each["subject_id"])]
    await record(request, who, f"list subjects of {app}")
    return seen


@router.get("/subjects/{subject_id}/timeline", responses={404: {}, 503: {}})
async def timeline(
    request: Request,
    who: Reader,
    subject_id: Annotated[int, Path(ge=-(2**63), lt=2**63)],
    app: Application = MORTALITY,
) -> dict[str, Any]:
    """What happened to a subject, what each measurement did to the risk, and how the risk went."""
    opened = _risks(request, app)
    desk: Desk = request.app.state.desk
    if not sees_subject(request, who, subject_id):
        raise await refuse(request, who, "read timeline", subject_id=subject_id)
    await record(request, who, "read timeline", subject_id=subject_id)
    found: dict[str, Any] = await desk.compute(lambda: opened.timeline(subject_id))
    return found


def _risks(request: Request, app: str) -> Any:
    opened = request.app.state.desk.opened(app)
    if not hasattr(opened, "timeline"):
        raise HTTPException(404, f"{app} has no risks of subjects; mortality has")
    return opened
