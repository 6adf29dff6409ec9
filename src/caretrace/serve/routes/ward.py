"""The ward, bed by bed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query, Request, Response

from caretrace.serve.live.hub import Hub
from caretrace.serve.routes.answers import LARGEST, SMALLEST, answer
from caretrace.serve.security import Caller, record, record_all, refuse, require

router = APIRouter(tags=["ward"])
Subject = Annotated[int, Path(ge=SMALLEST, le=LARGEST, description="Whose bed.", examples=[17])]
WardName = Annotated[
    str | None,
    Query(max_length=100, description="Name of a ward; without one, all you may see.", examples=["A"]),
]
_NAME = r"^[^\x00-\x1f\x7f]{1,100}$"


@router.get("/wards")
async def wards(request: Request, who: Annotated[Caller, Depends(require("read"))]) -> Response:
    """Wards and how many patients lie there."""
    hub: Hub = request.app.state.hub
    return answer(hub.wards(who.wards))


@router.get("/ward")
async def ward(
    request: Request, who: Annotated[Caller, Depends(require("read"))], ward: WardName = None
) -> Response:
    """The overview: every bed with its state, last values, scores, alarms, and the newest risk that was kept."""
    hub: Hub = request.app.state.hub
    if ward is not None and not who.sees(ward):
        raise await refuse(request, who, "read ward")
    found = hub.ward(ward, who.wards)
    risks = await request.app.state.risks.shown()
    for each in found["beds"]:
        each["risk"] = risks.get(each["subject_id"])
    await record_all(request, who, "read ward", [bed["subject_id"] for bed in found["beds"]], must=False)
    return answer(found)


@router.get(
    "/beds/{subject_id}", responses={404: {"description": "Nobody of this number is under your eyes."}}
)
async def bed(
    request: Request,
    who: Annotated[Caller, Depends(require("read"))],
    subject_id: Subject,
    hours: Annotated[float, Query(gt=0, le=72, description="How far back.")] = 2.0,
) -> Response:
    """The course of one patient: values, scores, thresholds, alarms, and the newest risk that was kept."""
    hub: Hub = request.app.state.hub
    lies_in = hub.ward_of(subject_id)
    if lies_in is None or not who.sees(lies_in):
        raise await refuse(request, who, "read bed", subject_id=subject_id)
    await record(request, who, "read bed", subject_id=subject_id)
    found = await hub.bed(subject_id, hours)
    risks = await request.app.state.risks.shown(subject_id)
    return answer(found | {"risk": risks.get(subject_id)})


@router.put(
    "/beds/{subject_id}", responses={404: {"description": "Nobody of this number is under your eyes."}}
)
async def place(
    request: Request,
    who: Annotated[Caller, Depends(require("place"))],
    subject_id: Subject,
    ward: Annotated[str, Body(pattern=_NAME, examples=["A"])],
    bed: Annotated[str | None, Body(pattern=_NAME, examples=["A-03"])] = None,
) -> Response:
    """Say where a patient lies from now on."""
    hub: Hub = request.app.state.hub
    lies_in = hub.ward_of(subject_id)
    if (lies_in is not None and not who.sees(lies_in)) or not who.sees(ward):
        raise await refuse(request, who, "place", subject_id=subject_id)
    try:
        placed = await hub.place(subject_id, bed, ward, who.who)
    except UnicodeError:
        raise HTTPException(422, "bed and ward: give text that can be written as UTF-8") from None
    await record(request, who, "place", subject_id=subject_id, must=False)
    return answer(placed)
