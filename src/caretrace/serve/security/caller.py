"""The identity behind a request as every route gets it, and what routes write into the audit."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from caretrace.errors import ResourceError
from caretrace.serve.security.audit import Audit, Entry
from caretrace.serve.security.roles import MATRIX


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        who: Name of the token; `local` on a loopback address without tokens.
        role: `viewer`, `clinician` or `admin`.
        wards: Wards they may see; None for all.
    """

    who: str
    role: str
    wards: frozenset[str] | None = None

    def may(self, action: str) -> bool:
        """Whether the role allows an action of `roles.MATRIX`."""
        return self.role in MATRIX[action]

    def sees(self, ward: str | None) -> bool:
        """Whether they may know of a ward's patients."""
        return self.wards is None or ward in self.wards


async def record(
    request: Request,
    who: Caller,
    what: str,
    *,
    subject_id: int | None = None,
    outcome: str = "done",
    must: bool = True,
) -> None:
    """Write into the audit, before the answer is given.

    Args:
        request: The request.
        who: Who asks.
        what: In a few words, such as `read bed`; no value of a patient.
        subject_id: Whose data it is about.
        outcome: `done` or `denied`.
        must: Answer 503 if it cannot be written; else (alarms) it is written as soon as it can.

    Raises:
        HTTPException: 503, the audit cannot be written.
    """
    await _write(request, [Entry(who.who, what, subject_id, outcome)], must=must)


async def record_all(
    request: Request, who: Caller, what: str, subjects: Sequence[int], *, must: bool = True
) -> None:
    """The same for several subjects at once.

    Raises:
        HTTPException: 503, the audit cannot be written.
    """
    await _write(request, [Entry(who.who, what, subject) for subject in dict.fromkeys(subjects)], must=must)


def sees_subject(request: Request, who: Caller, subject_id: int) -> bool:
    """Whether somebody may know of a subject; who is bound to wards, only of who lies there."""
    if who.wards is None:
        return True
    hub = request.app.state.hub
    return hub is not None and who.sees(hub.ward_of(subject_id))


async def _write(request: Request, entries: list[Entry], *, must: bool) -> None:
    audit: Audit = request.app.state.audit
    try:
        await asyncio.to_thread(audit.append, *entries, must=must)
    except ResourceError:
        raise HTTPException(
            503,
            "the audit cannot be written, so nothing about patients is shown; alarms go on. Tell whoever runs this",
            {"Retry-After": "10"},
        ) from None


async def refuse(request: Request, who: Caller, what: str, *, subject_id: int | None = None) -> HTTPException:
    """The answer to who asks for another ward's patient: 404, as if there were none, and an entry in the audit."""
    await record(request, who, what, subject_id=subject_id, outcome="denied", must=False)
    return HTTPException(
        404, "nobody of this number is under your eyes; check the number, or ask for the ward"
    )


async def caller(request: Request) -> Caller:
    """Who asks; the guard has looked already.

    Raises:
        HTTPException: 401, nobody valid.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    address = request.client.host if request.client else "unknown"
    await record(request, Caller(address, "viewer"), f"enter {_route(request)}", outcome="denied", must=False)
    raise HTTPException(
        401,
        "no valid token; send one as `Authorization: Bearer …`, made with `caretrace token add`",
        {"WWW-Authenticate": "Bearer"},
    )


Who = Annotated[Caller, Depends(caller)]


def require(action: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that lets pass only who may do `action`; the others get 403, and an entry in the audit."""
    if action not in MATRIX:
        raise KeyError(action)

    async def allowed(request: Request, who: Who) -> Caller:
        if not who.may(action):
            await record(request, who, f"{action} {_route(request)}", outcome="denied", must=False)
            roles = " or ".join(sorted(MATRIX[action]))
            raise HTTPException(403, f"a {who.role} may not do this ({action}); a token of {roles} may")
        return who

    return allowed


def _route(request: Request) -> str:
    """The route without what stands in its address."""
    route = request.scope.get("route")
    return f"{request.method} {getattr(route, 'path', '')}".strip()
