"""Server-sent events: the ward as it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response

from caretrace.serve.live import metrics
from caretrace.serve.live.hub import Hub
from caretrace.serve.routes.ward import WardName
from caretrace.serve.security import Caller, record, refuse, require

router = APIRouter(tags=["stream"])
_LARGEST = 2**63 - 1


class EventStream(Response):
    """An answer without an end, which is broken off when the reader takes nothing any more.

    Args:
        chunks: What is sent.
        stall_seconds: How long the reader may take for one chunk.
    """

    def __init__(self, chunks: AsyncIterator[bytes], stall_seconds: float) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._chunks, self._stall = chunks, stall_seconds

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Send until the reader leaves, stalls, or the service ends."""
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await task

    async def _send(self, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        async with contextlib.aclosing(self._chunks) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(self._stall):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                except TimeoutError:
                    metrics.EVICTED.inc()
                    return  # the server closes the connection of an answer that was not finished


async def _left(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/stream",
    response_class=Response,
    responses={
        200: {
            "description": "Events `samples`, `scores`, `alarm` and `beat`, with rising ids.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        404: {"description": "A ward that is not under your eyes."},
    },
)
async def stream(
    request: Request,
    who: Annotated[Caller, Depends(require("read"))],
    ward: WardName = None,
    after: Annotated[
        int | None,
        Query(ge=0, le=_LARGEST, description="Id of the last event you have; `Last-Event-ID` says the same."),
    ] = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """The ward as it changes. Whoever comes back with the id of the last event misses none.

    Whoever comes back too late for that gets every open alarm first. A reader that takes nothing for long is cut off.
    """
    hub: Hub = request.app.state.hub
    if ward is not None and not who.sees(ward):
        raise await refuse(request, who, "read stream")
    if last_event_id is not None and after is None:
        if not last_event_id.isascii() or not last_event_id.isdigit() or int(last_event_id) > _LARGEST:
            raise HTTPException(422, "Last-Event-ID: give the id of an event, a whole number")
        after = int(last_event_id)
    await record(request, who, "read stream", must=False)
    wards = who.wards if ward is None else {ward}
    return EventStream(hub.events(after, wards), hub.settings.stall_seconds)
