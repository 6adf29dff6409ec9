"""The answer where no served application explains; those that do bring their own route, which comes first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException

from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import EXPLAIN

router = APIRouter(tags=["explain"])


@router.post("/explain", include_in_schema=False)
async def nobody(_who: Annotated[Caller, Depends(require(EXPLAIN))]) -> None:
    """Say what is missing."""
    raise HTTPException(
        404, "no run that can be explained is served; start the service with one of mortality"
    )
