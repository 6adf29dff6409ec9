"""Work that goes on beside requests."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import FileResponse

from caretrace.serve.jobs import Job, Jobs
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import GENERATE

router = APIRouter(tags=["jobs"])
Asker = Annotated[Caller, Depends(require(GENERATE))]
Number = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


@router.get("/jobs/{number}")
async def job(request: Request, _who: Asker, number: Number) -> dict[str, Any]:
    """How far a job is."""
    return _find(request, number).describe()


@router.get("/jobs/{number}/result", responses={200: {"content": {"application/zip": {}}}, 409: {}})
async def result(request: Request, _who: Asker, number: Number) -> FileResponse:
    """What a job made, as a zip file."""
    found = _find(request, number)
    if found.state != "done":
        raise HTTPException(409, f"the job is {found.state}; ask again when it is done")
    jobs: Jobs = request.app.state.jobs
    return FileResponse(jobs.file(found), media_type="application/zip", filename=f"synthetic-{found.id}.zip")


def _find(request: Request, number: str) -> Job:
    jobs: Jobs = request.app.state.jobs
    found = jobs.find(number)
    if found is None:
        raise HTTPException(404, "no such job, or its result was put away; ask for the work again")
    return found
