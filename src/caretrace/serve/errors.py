"""Errors as answers: what the caller can mend is 422, what the service lacks is 503; nothing of a body is repeated."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from caretrace.errors import BundleError, CaretraceError, DatasetError, ResourceError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger("caretrace.serve")
_OURS = (BundleError, DatasetError, ResourceError)
_LATER = {"Retry-After": "5"}


def answer_errors(app: FastAPI) -> None:
    """Put the handlers into an application."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(CaretraceError, _told)
    app.add_exception_handler(SQLAlchemyError, _no_store)
    app.add_exception_handler(OSError, _no_resource)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Which field, and what is wrong with it; FastAPI would repeat the value, and fail if it is NaN."""
    assert isinstance(error, RequestValidationError)
    problems: list[dict[str, Any]] = [
        {"loc": list(each["loc"]), "msg": each["msg"], "type": each["type"]} for each in error.errors()[:20]
    ]
    return JSONResponse({"detail": problems}, 422)


async def _told(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, _OURS):
        log.error("%s: %s", _route(request), error)
        return JSONResponse(
            {"detail": "what the service needs for this cannot be used; its log says what"}, 503, _LATER
        )
    return JSONResponse({"detail": str(error)}, 422)


async def _no_store(request: Request, error: Exception) -> JSONResponse:
    log.error("%s: the store failed (%s)", _route(request), type(error).__name__)
    return JSONResponse(
        {"detail": "the store cannot be reached or written; nothing was kept, ask again"}, 503, _LATER
    )


async def _no_resource(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    log.error("%s: %s", _route(request), error.strerror or type(error).__name__)
    return JSONResponse({"detail": "the service's disk cannot be used; ask again"}, 503, _LATER)


def _route(request: Request) -> str:
    return str(getattr(request.scope.get("route"), "path", "(none)"))
