"""Risks for records that are sent, by any application that learned from labels."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request

from caretrace import schema
from caretrace.apps import APPS
from caretrace.errors import unknown_name
from caretrace.serve.desk import Desk
from caretrace.serve.records import PARQUET, Predictions, Records, inlined, read_records
from caretrace.serve.risks import Risks
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import PREDICT

if TYPE_CHECKING:
    from caretrace.application.answering import RiskRun

router = APIRouter(tags=["predict"])
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Bundle = Annotated[str | None, Query(pattern=NAME, description="Which run, where several are served.")]
# What predicts in another way than from records that are sent.
ELSEWHERE = {
    "vitals": "it follows samples as they come: POST /vitals, and GET /ward",
    "safety": "it follows hospitals: GET /board",
    "synth": "it draws subjects: POST /generate",
}


@router.post(
    "/predict/{name}",
    response_model=Predictions,
    responses={404: {"description": "No such run is served."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": inlined(Records)},
                PARQUET[0]: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def predict(
    request: Request,
    who: Annotated[Caller, Depends(require(PREDICT))],
    name: Annotated[str, Path(pattern=NAME, description="Which application.")],
    bundle: Bundle = None,
    prediction_time: Annotated[dt.datetime | None, Query(description="For a Parquet body.")] = None,
    keep: Annotated[
        bool,
        Query(
            description="Show these risks at the subjects' beds, with their age, until later ones are kept."
        ),
    ] = False,
) -> Any:
    """Risks for records: MEDS rows as JSON, or as Parquet with `?prediction_time=`.

    `low` and `high` are where two standard deviations of the ensemble's members end: how far they disagree, not how
    often the outcome falls between; null for a single member. With `?keep=true` risks are stored before they are told.
    """
    desk: Desk = request.app.state.desk
    opened = _opened(desk, name, bundle)
    body = await request.body()
    kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    rows, time = await desk.compute(lambda: read_records(body, kind, prediction_time))
    subjects = rows[schema.SUBJECT_ID].unique().sort().to_list()
    if not keep:
        await desk.reads(request, f"predict {name}", subjects)
        return await desk.compute(lambda: opened.predict(rows, time))
    risks: Risks = request.app.state.risks
    risks.within(time)
    await desk.reads(request, f"predict and keep {name}", subjects, kept=True)
    found = await desk.compute(lambda: opened.predict(rows, time))
    source = name, desk.named(name, bundle).id
    return found | {"kept": await risks.keep(found["predictions"], time, source, who.who)}


def _opened(desk: Desk, name: str, bundle: str | None) -> RiskRun:
    """The run that is asked.

    Raises:
        HTTPException: 404, there is none, or it predicts in another way.
    """
    from caretrace.application.answering import RiskRun

    if name not in APPS:
        raise HTTPException(404, unknown_name("application", name, APPS))
    if name in ELSEWHERE:
        raise HTTPException(404, f"{name} predicts in another way: {ELSEWHERE[name]}")
    opened = desk.opened(name, bundle)
    if not isinstance(opened, RiskRun):
        raise HTTPException(404, f"{name} predicts nothing from records that are sent")
    return opened
