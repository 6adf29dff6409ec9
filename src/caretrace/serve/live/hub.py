"""The live ward as the routes see it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from caretrace.errors import InputError
from caretrace.serve.clock import Clock, iso
from caretrace.serve.live import metrics, views
from caretrace.serve.live.broker import Broker
from caretrace.serve.live.intake import Intake
from caretrace.serve.live.lifecycle import Outcome
from caretrace.serve.live.model import LiveModel, live_model, without_model
from caretrace.serve.live.reproduction import nothing, reproduce, stored_course
from caretrace.serve.live.samples import Batch
from caretrace.serve.live.scoring import Scoring
from caretrace.serve.live.settings import LiveSettings
from caretrace.serve.live.views import UNASSIGNED
from caretrace.serve.live.ward import Scored, Ward
from caretrace.serve.store import records
from caretrace.serve.store.log import Accepted
from caretrace.serve.store.records import Alarm, Bed
from caretrace.serve.store.retention import retain
from caretrace.serve.store.store import Store

if TYPE_CHECKING:
    from caretrace.serve.bundles import LoadedBundle
    from caretrace.serve.settings import Retention, ServeSettings

_IDS = 1_000_000  # event ids reserved at a time
_FEW = 10_000
_LONGEST_HOURS = 72.0


class Hub:
    """The live ward.

    Args:
        store: Where everything is kept.
        bundles: What is served; the first of the vitals application watches the ward.
        settings: Of the service.
        live: Of the live ward.
        model: What watches, in the place of a bundle.
        clock: The ward's clock, epoch seconds, not going back; None is the wall's.
        speed: Seconds of it in one second; other than 1 where recordings are replayed.
    """

    def __init__(
        self,
        store: Store,
        bundles: Mapping[str, LoadedBundle],
        settings: ServeSettings | None = None,
        live: LiveSettings | None = None,
        model: LiveModel | None = None,
        *,
        clock: Callable[[], float] | None = None,
        speed: float = 1.0,
    ) -> None:
        self.store, self.settings = store, live or LiveSettings()
        self.clock = clock or Clock()
        self._retention: Retention | None = None if settings is None else settings.retention
        vitals = next((each for each in bundles.values() if each.app.name == "vitals"), None)
        if model is None:
            model = without_model() if vitals is None else live_model(vitals.id, vitals.run.bundle)
        self.model = model
        self.broker = Broker(self.settings.replayed_events, self._open_alarms)
        self._scoring = Scoring(store, model, self.settings, self._now, self._heard, self._ticked)
        self._places: dict[int, Bed] = {}
        self._told = self._retained = 0.0
        self._speed = self._scoring.speed = speed
        self._intake = Intake(store, self.settings, self._now, self.settings.most_unscored, speed)

    async def start(self) -> None:
        """Rebuild the ward from the store and follow it; `ready` says when it is there."""
        self.broker.attach(asyncio.get_running_loop())
        self._places = {bed.subject_id: bed for bed in await self.store.ask(records.read_beds)}
        first = await self.store.write(lambda connection: records.reserve_events(connection, _IDS))
        self.broker.reserve(first, _IDS)
        self._scoring.start()

    async def stop(self) -> None:
        """Finish, and close the store."""
        await asyncio.to_thread(self._scoring.stop)
        await asyncio.to_thread(self.store.close)

    def ready(self) -> list[str]:
        """Why the ward cannot be relied on; empty when it can."""
        return [why for why in (self._scoring.trouble, self.store.probe()) if why]

    def newest(self) -> float | None:
        """Time of the newest sample of anybody, epoch seconds; None where there is none."""
        newest = float(self._ward.recent.newest.max(initial=-math.inf))
        return newest if math.isfinite(newest) else None

    def overload(self) -> str | None:
        """Why another batch would be refused; None while it would be taken."""
        return self._intake.overload()

    async def accept(self, batch: Batch) -> Accepted:
        """Keep a batch; it is on the disk when this returns.

        Raises:
            OverloadedError: Too much is waiting.
            BadSampleError: Samples from the future.
            BatchConflictError: Its id came before with other samples.
            ResourceError: It cannot be stored.
        """
        return await self._intake.accept(batch)

    def ward_of(self, subject_id: int) -> str | None:
        """Where a subject lies; None where nobody has heard of it."""
        place = self._places.get(subject_id)
        if place is not None:
            return place.ward
        return UNASSIGNED if subject_id in self._ward.slot_of else None

    def wards(self, allowed: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Names of wards and how many lie there; `allowed` None is all."""
        counts: dict[str, int] = {}
        for subject in self._subjects():
            ward = self.ward_of(subject) or UNASSIGNED
            if allowed is None or ward in allowed:
                counts[ward] = counts.get(ward, 0) + 1
        return [{"ward": ward, "beds": n} for ward, n in sorted(counts.items())]

    def ward(self, ward: str | None = None, allowed: Collection[str] | None = None) -> dict[str, Any]:
        """The overview of a ward, or of all that are allowed."""
        now = self._now()
        beds = [
            views.overview(self._ward, subject, self._places.get(subject), now)
            for subject in self._subjects()
            if self._lies_in(subject, ward, allowed)
        ]
        beds.sort(key=lambda each: (each["ward"], each["bed"] or "", each["subject_id"]))
        replay = None if self._speed == 1.0 else {"speed": self._speed}
        return {
            "time": iso(now),
            "replay": replay,
            "thresholds": views.thresholds_view(self.model),
            "beds": beds,
        }

    async def bed(self, subject_id: int, hours: float = 2.0) -> dict[str, Any]:
        """The course of a subject.

        Raises:
            InputError: Nobody has heard of it, or too many hours.
        """
        if not 0 < hours <= _LONGEST_HOURS:
            raise InputError(f"hours: got {hours:g}; give a number above 0, at most {_LONGEST_HOURS:g}")
        ward = self._ward
        if self.ward_of(subject_id) is None:
            raise InputError(f"subject {subject_id}: nobody has heard of it")
        since = self._now() - hours * 3600
        slot = ward.slot_of.get(subject_id)
        if hours > self.settings.history_hours:
            course = await asyncio.to_thread(
                stored_course, self.store, self.model, subject_id, since, self._now()
            )
        elif slot is not None:
            course = ward.recent.course(slot, int(since // self.model.step_seconds))
        else:
            course = nothing(self.model)
        alarms = await self.store.ask(
            lambda connection: records.read_alarms(connection, subject_id=subject_id, since=since)
        )
        place = self._places.get(subject_id)
        return {
            **views.overview(ward, subject_id, place, self._now()),
            "time": iso(self._now()),
            **views.strips(ward, course),
            "alarms": [views.alarm_view(alarm, place) for alarm in alarms],
        }

    async def alarms(
        self,
        ward: str | None = None,
        state: str | None = None,
        since: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Alarms, the newest first."""
        states = None if state is None else (state,)
        found = await self.store.ask(
            lambda connection: records.read_alarms(connection, states=states, since=since)
        )
        return [self._view(each) for each in found if self._lies_in(each.subject_id, ward, allowed)]

    async def alarm(self, alarm_id: str) -> Alarm | None:
        """An alarm as the store knows it."""
        found = await self.store.ask(lambda connection: records.read_alarms(connection, ids=[alarm_id]))
        return found[0] if found else None

    async def reproduction(self, alarm: Alarm) -> dict[str, Any]:
        """An alarm with what is needed to compute it again, and whether it comes out again."""
        found = await asyncio.to_thread(reproduce, self.store, self.model, alarm)
        return {**self._view(alarm), "reproduction": found}

    async def history(self, alarm_id: str) -> list[dict[str, Any]]:
        """What happened to an alarm."""
        changes = await self.store.ask(lambda connection: records.read_changes(connection, alarm_id))
        return [views.change_view(change) for change in changes]

    async def acknowledge(self, alarm_id: str, who: str, why: str) -> dict[str, Any]:
        """Somebody has seen an alarm; on the disk when this returns.

        Raises:
            InputError: It is not active.
            ResourceError: It could not be stored.
        """
        return await self._act(lambda ward: ward.lifecycle.acknowledge(alarm_id, self._now(), who, why))

    async def snooze(self, alarm_id: str, minutes: float, who: str, why: str) -> dict[str, Any]:
        """Somebody has seen an alarm and comes back to it; on the disk when this returns.

        Raises:
            InputError: It is over.
            ResourceError: It could not be stored.
        """
        now = self._now()
        return await self._act(
            lambda ward: ward.lifecycle.snooze(alarm_id, now, now + minutes * 60, who, why)
        )

    async def place(self, subject_id: int, bed: str | None, ward: str, who: str = "") -> dict[str, Any]:
        """Say where a subject lies from now on."""
        placed = Bed(subject_id, bed, ward, self._now(), who)
        await self.store.write(lambda connection: records.write_beds(connection, [placed]))
        self._places[subject_id] = placed
        return {"subject_id": subject_id, "bed": bed, "ward": ward}

    def events(self, after: int | None, wards: Collection[str] | None = None) -> AsyncIterator[bytes]:
        """Server-sent events after an id; None for those from now on."""
        return self.broker.follow(after, wards)

    @property
    def _ward(self) -> Ward:
        return self._scoring.ward

    def _now(self) -> float:
        return self.clock()

    def _subjects(self) -> list[int]:
        return sorted({*list(self._ward.slot_of), *self._places})

    def _lies_in(self, subject: int, ward: str | None, allowed: Collection[str] | None) -> bool:
        here = self.ward_of(subject) or UNASSIGNED
        return (ward is None or here == ward) and (allowed is None or here in allowed)

    async def _act(self, what: Callable[[Ward], Alarm]) -> dict[str, Any]:
        alarm: Alarm = await asyncio.wrap_future(self._scoring.command(what))
        return self._view(alarm)

    def _view(self, alarm: Alarm) -> dict[str, Any]:
        return views.alarm_view(alarm, self._places.get(alarm.subject_id))

    def _open_alarms(self) -> Iterable[tuple[str, Any]]:
        for alarm in list(self._ward.lifecycle.alarms.values()):
            yield self.ward_of(alarm.subject_id) or UNASSIGNED, self._view(alarm)

    def _heard(self, ward: Ward, outcome: Outcome, scored: Scored | None) -> None:
        """From the scoring thread: tell everybody."""
        for alarm in outcome.alarms:
            metrics.ALARMS.labels(alarm.kind, alarm.state).inc()
            self.broker.publish("alarm", self._view(alarm), self.ward_of(alarm.subject_id) or UNASSIGNED)
        if scored is None or not ward.model.alarms:
            return
        rows = zip(scored.subject.tolist(), scored.scores, strict=True)
        self._publish("scores", {subject: views.scores_view(ward, row) for subject, row in rows})

    def _ticked(self, ward: Ward) -> None:
        """From the scoring thread, once a second."""
        changed = ward.recent.changed.nonzero()[0]
        ward.recent.changed[changed] = False
        subjects = ward.subjects()
        self._publish(
            "samples", {int(subjects[slot]): views.values_view(ward, int(slot)) for slot in changed.tolist()}
        )
        now = time.monotonic()
        if now - self._told >= self.settings.beat_seconds:
            self._told = now
            self.broker.publish("beat", {"time": iso(self._now())})
        if self.broker.left < _FEW:
            first = self.store.submit(lambda connection: records.reserve_events(connection, _IDS)).result(30)
            self.broker.reserve(first, _IDS)
        metrics.SUBJECTS.set(len(ward.slot_of))
        metrics.IMPLAUSIBLE.set(ward.counts.implausible)
        metrics.LATE.set(ward.grid.too_late)
        metrics.STEPS.set(ward.counts.steps)
        metrics.UNSCORED.set(self.store.log.unscored)
        metrics.LAST.set(self.store.log.last)
        metrics.READERS.set(self.broker.readers)
        if self._retention is not None and now - self._retained >= self.settings.retain_seconds:
            self._retained = now
            kept = self._retention
            self.store.submit(
                lambda connection: retain(
                    connection, time.time(), kept.samples_days, kept.scores_days, kept.alarms_days
                )
            )

    def _publish(self, kind: str, beds: Mapping[int, Any]) -> None:
        """One event per ward, so that a reader can be given the wards it may see."""
        wards: dict[str, dict[str, Any]] = {}
        for subject, value in beds.items():
            wards.setdefault(self.ward_of(subject) or UNASSIGNED, {})[str(subject)] = value
        moment = iso(self._now())
        for ward, found in wards.items():
            self.broker.publish(kind, {"time": moment, "ward": ward, "beds": found}, ward)
