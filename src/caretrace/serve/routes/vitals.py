"""Vital signs as they are measured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel

from caretrace.serve.inputs import fhir, hl7
from caretrace.serve.live.intake import OverloadedError
from caretrace.serve.live.samples import CHANNELS, Batch
from caretrace.serve.live.wire import parse_batch
from caretrace.serve.security import Caller, caller, refuse, require
from caretrace.serve.store.log import BatchConflictError

if TYPE_CHECKING:
    from caretrace.serve.live.hub import Hub

router = APIRouter(tags=["vitals"])
_allowed = require("vitals")
DUPLICATE = "caretrace-duplicate"
# Content type → what reads it; anything else is read as JSON of our own.
READERS = {fhir.KIND: fhir.parse_bundle, hl7.KIND: hl7.parse_oru}
_AT_ONCE = 2000  # samples that are read within the event loop; larger batches go to a thread
_SAMPLE = {
    "type": "object",
    "required": ["subject_id", "time", "channel", "value"],
    "additionalProperties": False,
    "properties": {
        "subject_id": {"type": "integer", "format": "int64"},
        "time": {
            "oneOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
            "description": "ISO 8601 with a zone, or epoch seconds",
        },
        "channel": {"type": "string", "enum": list(CHANNELS)},
        "value": {"type": "number"},
    },
}
_EXAMPLE = {
    "batch_id": "gateway-7-000123",
    "samples": [{"subject_id": 17, "time": "2026-01-31T08:00:00Z", "channel": "hr", "value": 82.0}],
}
_SCHEMA = {
    "type": "object",
    "required": ["batch_id", "samples"],
    "additionalProperties": False,
    "properties": {
        "batch_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$"},
        "samples": {"type": "array", "minItems": 1, "items": _SAMPLE},
    },
}


class Taken(BaseModel):
    """A batch that is on the disk."""

    batch_id: str
    accepted: int


@router.post(
    "/vitals",
    response_model=Taken,
    responses={
        200: {"description": f"The batch is on the disk. `{DUPLICATE}: true` says that it was there before."},
        404: {"description": "Samples of another ward's patient."},
        409: {"description": "The batch id came before with other samples."},
        422: {"description": "The batch cannot be taken; the message names field and row."},
        503: {
            "description": "More than can be taken, or the store cannot be written; send the same batch again."
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _SCHEMA, "example": _EXAMPLE},
                fhir.KIND: {"schema": {"type": "object", "description": "A FHIR R4 Bundle of Observations."}},
                hl7.KIND: {"schema": {"type": "string", "description": "An HL7 v2 message, ORU^R01."}},
            },
        }
    },
)
async def post_vitals(request: Request) -> Response:
    """Keep a batch of samples; it is on the disk when this answers, and the same batch is never kept twice.

    By rows, or by columns of equal length (`subject_id`, `time`, `channel`, `value`), which are quicker; as a FHIR R4
    Bundle; or as an HL7 v2 message.
    """
    who = await _allowed(request, await caller(request))  # not by `Depends`, which costs as much as the rest
    hub: Hub = request.app.state.hub
    try:
        body = await request.body()
        kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
        batch = await _read(body, kind, hub.settings.most_samples)
        await check_wards(request, who, batch)
        accepted = await hub.accept(batch)
    except OverloadedError as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.retry_after)}) from None
    except BatchConflictError as error:
        raise HTTPException(409, str(error)) from None
    answer = orjson.dumps({"batch_id": accepted.batch_id, "accepted": accepted.accepted})
    headers = {DUPLICATE: "true"} if accepted.duplicate else None
    return Response(answer, media_type="application/json", headers=headers)


async def check_wards(request: Request, who: Caller, batch: Batch) -> None:
    """Who is bound to wards may send for their patients only, and for new ones if `unassigned` is among the wards.

    Raises:
        HTTPException: 404, one of them lies elsewhere.
    """
    if who.wards is None:
        return
    # Not above: a further worker loads no models, nor torch.
    from caretrace.serve.live.views import UNASSIGNED

    hub: Any = request.app.state.hub
    for subject in set(batch.subject.tolist()):
        if not who.sees(hub.ward_of(subject) or UNASSIGNED):
            raise await refuse(request, who, "send vital signs", subject_id=subject)


async def _read(body: bytes, kind: str, most: int) -> Batch:
    read = READERS.get(kind, parse_batch)
    if read is parse_batch and len(body) < _AT_ONCE * 100:
        return parse_batch(body, most)
    return await asyncio.to_thread(read, body, most)
