"""Synthetic subjects on request, and what the last ones were like."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, Field

from caretrace.application.verbs import Draw, generate
from caretrace.serve.bundles import of_application
from caretrace.serve.desk import Desk
from caretrace.serve.jobs import FullError
from caretrace.serve.security import Caller, record, require
from caretrace.serve.security.roles import GENERATE, READ

router = APIRouter(tags=["generate"])
SYNTH = "synth"


class Wanted(BaseModel):
    """Which subjects to draw."""

    model_config = {
        "extra": "forbid",
        "json_schema_extra": {"examples": [{"n": 100, "age": 70, "sex": "F", "format": "meds", "seed": 1}]},
    }

    n: Annotated[int, Field(ge=1, le=1_000_000, description="How many; the service sets a limit.")]
    age: Annotated[int | None, Field(ge=0, le=120, description="Years, of all; null as in training.")] = None
    sex: Annotated[Literal["F", "M"] | None, Field(description="Of all; null as in training.")] = None
    format: Literal["meds", "mimic-iii", "fhir", "omop"] = "meds"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="The same seed draws the same subjects.")] = 0


@router.post("/generate", status_code=202, responses={404: {}, 503: {}})
async def wanted(
    request: Request, who: Annotated[Caller, Depends(require(GENERATE))], wish: Wanted
) -> dict[str, str]:
    """Draw synthetic subjects: a job, whose result is a zip file. Nobody in it exists."""
    desk: Desk = request.app.state.desk
    bundle = of_application(desk.bundles, SYNTH)
    if bundle is None:
        raise HTTPException(404, "no run of synth is served; start the service with one")
    if wish.n > desk.limits.generated:
        raise HTTPException(422, f"n: {wish.n:,} subjects; at most {desk.limits.generated:,} at once")
    draw = Draw(wish.n, wish.format, wish.seed, wish.age, wish.sex)
    await record(request, who, f"generate {wish.n} synthetic subjects")
    try:
        job = desk.jobs.begin(
            f"{wish.n:,} synthetic subjects as {wish.format}",
            who.who,
            wish.model_dump(),
            lambda folder, progress: generate(bundle.app, bundle.run, folder, draw, progress=progress),
        )
    except FullError:
        raise HTTPException(503, "too many jobs wait; ask again", {"Retry-After": "30"}) from None
    return {"job": job.id}


@router.get("/cohort")
async def cohort(request: Request, _who: Annotated[Caller, Depends(require(READ))]) -> dict[str, Any]:
    """The jobs, and what subjects drawn from the generator look like; null where none is served."""
    desk: Desk = request.app.state.desk
    summary = None
    if desk.has(SYNTH):
        opened = desk.opened(SYNTH)
        summary = await desk.compute(opened.summary)
    jobs = await asyncio.to_thread(desk.jobs.all)
    return {"jobs": [job.describe() for job in jobs], "summary": summary}
