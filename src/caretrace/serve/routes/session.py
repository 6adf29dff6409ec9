"""Who am I; and sessions, which stand for a token in a browser."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from caretrace.serve.security import Caller, Who, record
from caretrace.serve.security.gate import Gate, cookie_of, of_token
from caretrace.serve.security.roles import VIEWER
from caretrace.serve.security.sessions import COOKIE

router = APIRouter(tags=["session"])


class Login(BaseModel):
    """A token."""

    model_config = {"json_schema_extra": {"examples": [{"token": "caretrace_…"}]}}

    token: Annotated[str, Field(min_length=1, max_length=200)]


@router.get("/me")
async def me(who: Who, request: Request) -> dict[str, Any]:
    """Who the token stands for."""
    gate: Gate = request.app.state.gate
    return {
        "who": who.who,
        "role": who.role,
        "wards": None if who.wards is None else sorted(who.wards),
        "open": gate.open,
        "research_use_only": True,
    }


@router.post("/session")
async def begin(login: Login, request: Request, response: Response) -> dict[str, Any]:
    """Begin a session: the answer sets a cookie that scripts cannot read."""
    gate: Gate = request.app.state.gate
    token = gate.valid(login.token)
    if token is None:
        address = Caller(request.client.host if request.client else "unknown", VIEWER)
        await record(request, address, "begin a session", outcome="denied", must=False)
        raise HTTPException(401, "this token is not valid; it may be mistyped, expired or revoked")
    secret, expires = gate.sessions.begin(token, gate.clock())
    response.set_cookie(
        COOKIE,
        secret,
        max_age=max(0, int(expires - gate.clock())),
        httponly=True,
        samesite="strict",
        # Behind a proxy that speaks TLS only the page's own origin says so.
        secure=request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://"),
        path="/",
    )
    who = of_token(token)
    await record(request, who, "begin a session", must=False)
    return {"who": who.who, "role": who.role, "wards": None if who.wards is None else sorted(who.wards)}


@router.delete("/session", status_code=204)
async def end(request: Request, response: Response) -> None:
    """End the session; its cookie is worth nothing from now on."""
    gate: Gate = request.app.state.gate
    cookie = cookie_of(request.headers.get("cookie"))
    if cookie is not None:
        gate.sessions.end(cookie)
    response.delete_cookie(COOKIE, path="/")
