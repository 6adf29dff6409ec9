"""Who read, changed or was denied what."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from caretrace.serve.security import Caller, record, require
from caretrace.serve.security.audit import Audit
from caretrace.serve.security.roles import AUDIT

router = APIRouter(tags=["audit"])


@router.get("/audit")
async def audit(
    request: Request,
    who: Annotated[Caller, Depends(require(AUDIT))],
    after: Annotated[int, Query(ge=0, le=2**62, description="Number of the last entry that is known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Entries, oldest first, and whether the chain of their hashes is whole."""
    kept: Audit = request.app.state.audit
    await record(request, who, "read audit")
    entries, intact = await asyncio.gather(
        asyncio.to_thread(kept.entries, after, limit), asyncio.to_thread(kept.intact)
    )
    return {"entries": entries, "intact": intact, "last": kept.last}
