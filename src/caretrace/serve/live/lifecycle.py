"""The alarms of the ward: machines that rest unless there is trouble, and the alarms that they raised.

Everything that happens is collected until it is taken to be stored, so that what the store knows and what was said
aloud never differ. An alarm's id is computed from whose it is, what for and since when: the same samples give the same
id, after a crash, too, and nothing can be raised twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from typing import NamedTuple

from caretrace.apps.vitals.alarms import AlarmMachine, AlarmSettings, Transition
from caretrace.errors import InputError
from caretrace.serve.live import wording
from caretrace.serve.live.model import LiveModel
from caretrace.serve.store.records import Alarm, Change, MachineRow

PHYSIOLOGICAL, TECHNICAL = "physiological", "technical"
PROBE_OFF, FLAT, STALE = "probe_off", "flat", "stale"
_OPEN = ("active", "acknowledged")
_SINCE_CLEARED = 3600.0  # seconds that an alarm which is over stays in view
# A sensor's trouble is a fact, not a score: no delay beyond the one in its limit, and the same alarm when it is back.
_SENSOR = AlarmSettings(raise_at=1.0, clear_at=1.0, delay_seconds=0.0, clear_seconds=10.0, join_seconds=300.0)
_SILENCE = dataclasses.replace(_SENSOR, clear_seconds=0.0)


class Key(NamedTuple):
    """Which machine.

    Args:
        subject: Whose.
        reason: What for; a sensor's machine names its channel, too: `probe_off:spo2`.
    """

    subject: int
    reason: str


class Outcome(NamedTuple):
    """What happened since the last time somebody asked.

    Args:
        alarms: As they are now.
        changes: In order.
        machines: Those that moved, as they are now.
    """

    alarms: list[Alarm]
    changes: list[Change]
    machines: list[MachineRow]

    def __bool__(self) -> bool:
        return bool(self.alarms or self.changes or self.machines)


class Lifecycle:
    """Machines and alarms of the ward.

    Args:
        model: What the ward is watched with.
    """

    def __init__(self, model: LiveModel) -> None:
        self._model = model
        self._machines: dict[Key, AlarmMachine] = {}
        self._alarm_of: dict[Key, str] = {}  # and the number that the machine gives it:
        self._number_of: dict[Key, int] = {}
        self.alarms: dict[str, Alarm] = {}  # open, and over for less than an hour
        self._touched: dict[str, None] = {}
        self._changes: list[Change] = []
        self._moved: dict[Key, None] = {}

    def awake(self, subject: int, reason: str) -> bool:
        """Whether a machine is not at rest."""
        return (
            Key(subject, reason) in self._machines and self._machines[Key(subject, reason)].state != "quiet"
        )

    def of_subject(self, subject: int) -> list[Alarm]:
        """Alarms of a subject that are open or have been over for less than an hour; newest first."""
        found = [alarm for alarm in list(self.alarms.values()) if alarm.subject_id == subject]
        return sorted(found, key=lambda alarm: alarm.raised, reverse=True)

    def pending(self, subject: int) -> bool:
        """Whether something is about to become an alarm."""
        return any(
            self._machines[key].state == "pending"
            for reason in self._model.alarms
            if (key := Key(subject, reason)) in self._machines
        )

    def score(self, subject: int, reason: str, time: float, score: float, since: float) -> None:
        """A score of a model; `since` is when the recording began."""
        self._advance(Key(subject, reason), time, score, since)

    def sensor(self, subject: int, reason: str, channel: str, time: float, trouble: bool) -> None:
        """Whether a sensor is in trouble."""
        self._advance(Key(subject, f"{reason}:{channel}"), time, float(trouble), None)

    def silence(self, subject: int, now: float, silent: bool) -> None:
        """Whether nothing comes of a subject, by the ward's clock."""
        self._advance(Key(subject, STALE), now, float(silent), None)

    def begin(self, subject: int) -> None:
        """A new recording of a subject begins: what was only pending is forgotten."""
        for reason in self._model.alarms:
            key = Key(subject, reason)
            if key in self._machines and self._machines[key].state == "pending":
                self._machines[key].forget()
                self._moved[key] = None

    def gone(self, subject: int, now: float) -> None:
        """Nobody expects anything of a subject any more: its alarms are over."""
        for key in [key for key in self._machines if key.subject == subject]:
            alarm = self._alarm_of.get(key)
            if alarm is not None and self.alarms[alarm].state in _OPEN:
                over = Transition(0, now, "cleared", math.nan, why="no data of this subject any more")
                self._note(self.alarms[alarm], over)
            del self._machines[key]
            self._alarm_of.pop(key, None)
            self._moved[key] = None

    def acknowledge(self, alarm_id: str, now: float, by: str, why: str) -> Alarm:
        """Somebody has seen an alarm.

        Raises:
            InputError: There is no such alarm, or it is not active.
        """
        machine, alarm = self._open(alarm_id)
        [transition] = machine.acknowledge(now, by, why)
        return self._acted(alarm, transition, None)

    def snooze(self, alarm_id: str, now: float, until: float, by: str, why: str) -> Alarm:
        """Somebody has seen an alarm and will come back to it.

        Raises:
            InputError: There is no such alarm, it is over, or the time has passed.
        """
        machine, alarm = self._open(alarm_id)
        [transition] = machine.snooze(now, until, by, why)
        return self._acted(alarm, transition, until)

    def take(self) -> Outcome:
        """What happened since the last call."""
        outcome = Outcome(
            [self.alarms[name] for name in self._touched],
            self._changes,
            [self._row(key) for key in self._moved],
        )
        self._touched, self._changes, self._moved = {}, [], {}
        return outcome

    def restore(self, machines: Iterable[MachineRow], alarms: Iterable[Alarm], now: float) -> None:
        """Go on from what the store knows; alarms of a model that is not served any more are over."""
        self.alarms = {alarm.id: alarm for alarm in alarms}
        for row in machines:
            key = Key(row.subject_id, row.reason)
            settings = self._settings(key)
            if settings is not None and row.memory is not None:
                self._machines[key] = AlarmMachine.recalled(settings, row.memory)
                if row.alarm_id is not None and row.alarm_id in self.alarms:
                    self._alarm_of[key] = row.alarm_id
                    self._number_of[key] = int(row.memory["number"] or 0)
        watched = set(self._alarm_of.values())
        for alarm in list(self.alarms.values()):
            if alarm.state in _OPEN and alarm.id not in watched:
                over = Transition(0, now, "cleared", math.nan, why="another model watches now")
                self._note(alarm, over)

    def tidy(self, now: float) -> None:
        """Let go of machines at rest, and of alarms that have been over for long."""
        for key, machine in list(self._machines.items()):
            memory = machine.memory()
            cleared = memory["cleared"]
            joined = isinstance(cleared, float) and now - cleared <= machine.settings.join_seconds
            if machine.state == "quiet" and not joined and key not in self._moved:
                del self._machines[key]
                self._alarm_of.pop(key, None)
                self._moved[key] = None
        kept = set(self._alarm_of.values())
        for name, alarm in list(self.alarms.items()):
            over = alarm.state not in _OPEN and now - alarm.changed > _SINCE_CLEARED
            if over and name not in self._touched and name not in kept:
                del self.alarms[name]

    def _advance(self, key: Key, time: float, score: float, since: float | None) -> None:
        machine = self._machines.get(key)
        if machine is None:
            settings = self._settings(key)
            if settings is None or not score >= settings.raise_at:
                return
            machine = self._machines[key] = AlarmMachine(settings)
        if time <= machine.last:  # a clock that stands still says nothing new
            return
        before = machine.memory()
        for transition in machine.advance([time], [score]):
            self._heard(key, transition, since)
        if machine.memory() != before:
            self._moved[key] = None

    def _heard(self, key: Key, transition: Transition, since: float | None) -> None:
        known = self._alarm_of.get(key)
        if known is not None and self._number_of[key] == transition.alarm:
            self._note(self.alarms[known], transition)
            return
        alarm = self._new(key, transition, since)
        self._alarm_of[key], self._number_of[key] = alarm.id, transition.alarm
        self._note(alarm, transition)

    def _new(self, key: Key, transition: Transition, since: float | None) -> Alarm:
        reason, _, channel = key.reason.partition(":")
        physiological = reason in self._model.alarms
        settings = self._settings(key) or _SENSOR
        onset = round(transition.time * 1e6)
        name = hashlib.blake2b(f"{key.subject}|{key.reason}|{onset}".encode(), digest_size=10).hexdigest()
        return Alarm(
            id=name,
            subject_id=key.subject,
            reason=reason,
            kind=PHYSIOLOGICAL if physiological else TECHNICAL,
            state="active",
            raised=transition.time,
            changed=transition.time,
            score=float(transition.score) if physiological else None,
            threshold=settings.raise_at if physiological else None,
            words=wording.alarm_words(reason, channel, transition.score, settings.raise_at),
            by=None,
            why=None,
            snoozed_until=None,
            bundle=self._model.bundle,
            policy=self._model.policy(reason) if physiological else wording.as_json(settings),
            since=since,
        )

    def _note(self, alarm: Alarm, transition: Transition) -> None:
        score = None if math.isnan(transition.score) or alarm.kind == TECHNICAL else float(transition.score)
        changed = dataclasses.replace(
            alarm,
            state=transition.state,
            changed=transition.time,
            by=transition.by or alarm.by,
            why=transition.why or alarm.why,
            snoozed_until=None,
        )
        self.alarms[alarm.id] = changed
        self._touched[alarm.id] = None
        self._changes.append(
            Change(
                alarm.id,
                transition.time,
                transition.state,
                score,
                transition.by or None,
                transition.why or None,
            )
        )

    def _acted(self, alarm: Alarm, transition: Transition, until: float | None) -> Alarm:
        self._note(alarm, transition)
        if until is not None:
            self.alarms[alarm.id] = dataclasses.replace(self.alarms[alarm.id], snoozed_until=until)
            self._changes[-1] = dataclasses.replace(self._changes[-1], state="snoozed")
        self._moved[self._key_of(alarm.id)] = None
        return self.alarms[alarm.id]

    def _open(self, alarm_id: str) -> tuple[AlarmMachine, Alarm]:
        alarm = self.alarms.get(alarm_id)
        if alarm is None or alarm.state not in _OPEN:
            said = "not known" if alarm is None else alarm.state
            raise InputError(f"alarm {alarm_id[:40]} is {said}; only an open alarm can be answered")
        return self._machines[self._key_of(alarm_id)], alarm

    def _key_of(self, alarm_id: str) -> Key:
        return next(key for key, name in self._alarm_of.items() if name == alarm_id)

    def _settings(self, key: Key) -> AlarmSettings | None:
        reason = key.reason.partition(":")[0]
        if reason == STALE:
            return _SILENCE
        return _SENSOR if reason in (PROBE_OFF, FLAT) else self._model.alarms.get(reason)

    def _row(self, key: Key) -> MachineRow:
        machine = self._machines.get(key)
        memory = None if machine is None else machine.memory()
        return MachineRow(key.subject, key.reason, self._alarm_of.get(key), memory)
