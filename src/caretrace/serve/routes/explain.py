"""Why a risk is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request

from caretrace.serve.desk import Desk
from caretrace.serve.records import Question, rows_of, utc
from caretrace.serve.routes.predict import Bundle
from caretrace.serve.security import Caller, require
from caretrace.serve.security.roles import EXPLAIN

if TYPE_CHECKING:
    from caretrace.application.answering import RiskRun, Subject

router = APIRouter(tags=["explain"])


@router.post(
    "/explain", responses={404: {"description": "No such run is served, or another ward's patient."}}
)
async def explain(
    request: Request,
    _who: Annotated[Caller, Depends(require(EXPLAIN))],
    question: Question,
    bundle: Bundle = None,
) -> dict[str, Any]:
    """Why a subject has this risk: credit of every measurement, and whether the method is certified."""
    from caretrace.application.answering import RiskRun
    from caretrace.application.explain import Explainable

    desk: Desk = request.app.state.desk
    opened = desk.opened(question.app, bundle)
    if not isinstance(opened, RiskRun) or not isinstance(opened.application, Explainable):
        raise HTTPException(404, f"{question.app} has nothing to explain")
    subjects = [question.subject_id] if question.subject_id is not None else sorted(_subjects(question))
    if len(subjects) > 1:
        raise HTTPException(422, f"events: of {len(subjects)} subjects; explain one at a time")
    kept = question.subject_id is not None
    await desk.reads(request, f"explain {question.app}", subjects, kept=kept)
    return await desk.compute(lambda: opened.explain(_subject(opened, question), question.method))


def _subjects(question: Question) -> set[int]:
    return {event.subject_id for event in question.events or []}


def _subject(opened: RiskRun, question: Question) -> Subject:
    from caretrace.application.answering import Subject

    if question.subject_id is not None:
        return opened.subject(question.subject_id)
    assert question.events is not None
    assert question.prediction_time is not None
    return Subject(opened.inputs(rows_of(question.events), utc(question.prediction_time)), 0)
