"""Alarms: heard, answered, looked up, computed again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query, Request, Response

from caretrace.errors import InputError
from caretrace.serve.live.hub import Hub
from caretrace.serve.live.views import UNASSIGNED
from caretrace.serve.routes.answers import answer
from caretrace.serve.routes.ward import WardName
from caretrace.serve.security import Caller, record, record_all, refuse, require
from caretrace.serve.store.records import Alarm

router = APIRouter(tags=["alarms"])
AlarmId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,40}$", description="Of `GET /alarms`.")]
Why = Annotated[
    str,
    Body(
        embed=True, min_length=1, max_length=500, description="For the history.", examples=["seen, suction"]
    ),
]
_NO_ALARM: dict[int | str, dict[str, Any]] = {404: {"description": "No such alarm under your eyes."}}
_NOT_OPEN: dict[int | str, dict[str, Any]] = {
    **_NO_ALARM,
    409: {"description": "The alarm cannot be answered any more."},
}


@router.get("/alarms")
async def alarms(
    request: Request,
    who: Annotated[Caller, Depends(require("read"))],
    ward: WardName = None,
    state: Annotated[
        Literal["active", "acknowledged", "cleared"] | None, Query(description="Only these.")
    ] = None,
    since: Annotated[dt.datetime | None, Query(description="Only those that changed since then.")] = None,
) -> Response:
    """Alarms, the newest first."""
    hub: Hub = request.app.state.hub
    moment = None if since is None else _epoch(since)
    found = await hub.alarms(ward, state, moment, who.wards)
    await record_all(request, who, "read alarms", [alarm["subject_id"] for alarm in found], must=False)
    return answer({"alarms": found})


@router.get("/alarms/{alarm_id}", responses=_NO_ALARM)
async def alarm(
    request: Request, who: Annotated[Caller, Depends(require("read"))], alarm_id: AlarmId
) -> Response:
    """One alarm with what it rests on; it is computed again, and says whether it came out again."""
    hub: Hub = request.app.state.hub
    known = await _visible(request, who, alarm_id, "read alarm")
    await record(request, who, "read alarm", subject_id=known.subject_id)
    return answer(await hub.reproduction(known))


@router.get("/alarms/{alarm_id}/history", responses=_NO_ALARM)
async def history(
    request: Request, who: Annotated[Caller, Depends(require("read"))], alarm_id: AlarmId
) -> Response:
    """What happened to an alarm, and who did it."""
    hub: Hub = request.app.state.hub
    known = await _visible(request, who, alarm_id, "read alarm history")
    await record(request, who, "read alarm history", subject_id=known.subject_id)
    return answer({"history": await hub.history(alarm_id)})


@router.post("/alarms/{alarm_id}/acknowledge", responses=_NOT_OPEN)
async def acknowledge(
    request: Request, who: Annotated[Caller, Depends(require("acknowledge"))], alarm_id: AlarmId, why: Why
) -> Response:
    """Somebody has seen an alarm; it sounds again if the trouble lasts for a quarter of an hour."""
    hub: Hub = request.app.state.hub
    return await _answered(
        request, who, alarm_id, "acknowledge alarm", why, lambda: hub.acknowledge(alarm_id, who.who, why)
    )


@router.post("/alarms/{alarm_id}/snooze", responses=_NOT_OPEN)
async def snooze(
    request: Request,
    who: Annotated[Caller, Depends(require("snooze"))],
    alarm_id: AlarmId,
    why: Why,
    minutes: Annotated[float, Body(gt=0, le=240, description="Silent for so long.", examples=[15])],
) -> Response:
    """Somebody comes back to an alarm later; until then it is silent, and then sounds again if the trouble lasts."""
    hub: Hub = request.app.state.hub
    return await _answered(
        request, who, alarm_id, "snooze alarm", why, lambda: hub.snooze(alarm_id, minutes, who.who, why)
    )


async def _answered(
    request: Request, who: Caller, alarm_id: str, what: str, why: str, change: Callable[[], Awaitable[Any]]
) -> Response:
    """Change an alarm that who asks may see, and write down who did; an alarm is answered without the audit, too."""
    known = await _visible(request, who, alarm_id, what)
    _writable(why)
    try:
        changed = await change()
    except InputError as error:
        raise HTTPException(409, str(error)) from None
    await record(request, who, f"{what} {alarm_id}", subject_id=known.subject_id, must=False)
    return answer(changed)


async def _visible(request: Request, who: Caller, alarm_id: str, what: str) -> Alarm:
    hub: Hub = request.app.state.hub
    known = await hub.alarm(alarm_id)
    if known is None:
        raise HTTPException(404, "no such alarm; `GET /alarms` lists those there are")
    if not who.sees(hub.ward_of(known.subject_id) or UNASSIGNED):
        raise await refuse(request, who, what, subject_id=known.subject_id)
    return known


def _epoch(moment: dt.datetime) -> float:
    if moment.tzinfo is None:
        raise HTTPException(422, "since: give a time with its zone, such as 2026-01-31T08:00:00Z")
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):
        raise HTTPException(422, "since: give a time from 1970 on") from None


def _writable(why: str) -> None:
    """A lone surrogate or a NUL is JSON, but no database takes it."""
    try:
        why.encode()
    except UnicodeError:
        raise HTTPException(422, "why: give text that can be written as UTF-8") from None
    if "\x00" in why:
        raise HTTPException(422, "why: give text without NUL")
