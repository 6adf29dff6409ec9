"""Risks at the beds: kept when somebody asks for it, shown with their age until newer ones come."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
from fastapi import HTTPException
from sqlalchemy.exc import SQLAlchemyError

from caretrace.errors import InputError, ResourceError
from caretrace.serve.clock import iso
from caretrace.serve.desk import Desk
from caretrace.serve.paired import Foretell
from caretrace.serve.store.risks import Risk, read_risks, write_risks
from caretrace.serve.store.store import Store

log = logging.getLogger("caretrace.serve")
# Assumed: a risk of the next days that knows nothing of the last six hours needs to be asked for again.
OLD_HOURS = 6.0
_AHEAD_SECONDS = 300.0  # how far a sender's clock may be ahead of the ward's


class Risks:
    """What is kept, and how the ward shows it.

    Nothing is remembered beside the store, so that several services on one store show the same; only where the store
    cannot be read, what was read last is shown again, with its age.

    Args:
        store: Where they are kept.
        clock: The ward's, epoch seconds.
        speed: Seconds of it in one second.
    """

    def __init__(self, store: Store, clock: Callable[[], float], speed: float = 1.0) -> None:
        self._store, self._clock, self._speed = store, clock, speed
        self._last: dict[int, Risk] = {}

    def within(self, moment: dt.datetime) -> None:
        """Refuse what would be known only later.

        Args:
            moment: For which is predicted; UTC, without zone.

        Raises:
            InputError: It lies ahead of the ward's clock.
        """
        now = self._clock()
        if _seconds(moment) > now + _AHEAD_SECONDS * self._speed:
            raise InputError(
                f"prediction_time: {moment.isoformat()}Z is ahead of the ward's clock, {iso(now, 'seconds')}; a risk "
                "that is kept is one for now or before"
            )

    async def keep(
        self,
        predictions: Sequence[Mapping[str, Any]],
        moment: dt.datetime,
        source: tuple[str, str],
        by: str,
        note: str | None = None,
    ) -> int:
        """Keep risks; they are on the disk when this returns. One for an earlier moment than is kept changes nothing.

        Args:
            predictions: As `RiskRun.predict` gives them.
            moment: For which all of them were predicted; UTC, without zone.
            source: Application and run.
            by: Who asks for it.
            note: What else must be said of them.

        Raises:
            ResourceError: They could not be stored.
        """
        app, bundle = source
        risks = [
            Risk(
                subject_id=each["subject_id"],
                app=app,
                time=_seconds(moment),
                risk=each["risk"],
                low=each["low"],
                high=each["high"],
                bundle=bundle,
                kept=time.time(),
                by=by,
                note=note,
            )
            for each in predictions
        ]
        await self._store.write(lambda connection: write_risks(connection, risks))
        return len(risks)

    async def shown(self, subject_id: int | None = None) -> dict[int, dict[str, Any]]:
        """Everybody's risk, or one subject's, as the routes show it."""
        try:
            found = await self._store.ask(lambda connection: read_risks(connection, subject_id))
        except SQLAlchemyError as error:
            log.warning("risks cannot be read (%s); the last ones are shown", type(error).__name__)
            found = self._last
        else:
            self._last = found if subject_id is None else self._last | found
        now = self._clock()
        return {subject: _view(each, now) for subject, each in found.items()}


def foretelling(desk: Desk, risks: Risks, application: str) -> Foretell | None:
    """What predicts by a served run and keeps the risks, for the replay of a demo; None without such a run."""
    if application not in desk.predicting():
        return None
    opened, source = desk.opened(application), (application, desk.named(application).id)

    async def keep(rows: pl.DataFrame, moment: dt.datetime, note: str) -> None:
        try:
            found = await desk.compute(lambda: opened.predict(rows, moment))
        except HTTPException as busy:
            raise ResourceError(str(busy.detail)) from None
        await risks.keep(found["predictions"], moment, source, "the demo's replay", note)

    return keep


def _view(risk: Risk, now: float) -> dict[str, Any]:
    age = max(0.0, now - risk.time)
    return {
        "value": risk.risk,
        "low": risk.low,
        "high": risk.high,
        "app": risk.app,
        "bundle": risk.bundle,
        "time": iso(risk.time, "seconds"),
        "age_seconds": round(age, 1),
        "old": age > OLD_HOURS * 3600,
        "old_after_seconds": OLD_HOURS * 3600,
        "note": risk.note,
    }


def _seconds(moment: dt.datetime) -> float:
    return moment.replace(tzinfo=dt.UTC).timestamp()
