"""One hospital's emergency department: triage, queues, places, physicians, boarding."""

from __future__ import annotations

import collections
import heapq
import math
from collections.abc import Callable
from typing import Any

from caretrace.hospital.operations.agenda import Agenda
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import Flow
from caretrace.hospital.operations.crisis import SUSTAINED_HOURS
from caretrace.hospital.operations.profiles import MAX_WAIT_MINUTES
from caretrace.hospital.operations.wards import Wards


class Site:
    """An emergency department and its state; `handed_over` is told when it has taken over from a crew.

    `shift` is what the staff on duty are like: sleepiness, overtime share, share of duties of 12 h or more,
    share burnt out. It is set with `nurses`, `physicians` and `outage` at the start of each hour.

    Args:
        number: Place in the list of hospitals.
        places: Treatment places.
        flow: Coefficients.
        agenda: Clock and agenda.
        wards: The beds behind it.
        done: Where cases go that have left.
    """

    def __init__(
        self, number: int, places: int, flow: Flow, agenda: Agenda, wards: Wards, done: list[Case]
    ) -> None:
        self.number = number
        self.places = places
        self.flow = flow
        self.agenda = agenda
        self.wards = wards
        wards.bed_ready = self.bed_ready
        self.done = done
        self.handed_over: Callable[[Any], None]
        self.nurses = self.physicians = 1
        self.shift: tuple[float, ...] = (5.0, 0.0, 0.0, 0.26)
        self.tired_factor = 1.0
        self.outage = False
        self.ward_nurses = 1
        self.patients = self.placed = self.seeing = self.ventilated = 0
        self.last_wait = 0.0
        self.for_place: list[tuple[int, int, Case]] = []
        self.for_physician: list[tuple[int, int, Case]] = []
        self.boarders: dict[int, Case] = {}
        self.held: dict[int, Case] = {}
        # What the last crisis levels rest on, one entry an hour; see `crisis.crisis_level`.
        self.recent: collections.deque[tuple[float, ...]] = collections.deque(maxlen=SUSTAINED_HOURS)

    def walk_in(self, event: Any) -> None:
        """Somebody comes through the door."""
        case = event.value
        self._arrive(case)
        self.agenda.after(case.triage_minutes, self.triaged, case)

    def brought(self, event: Any) -> None:
        """An ambulance is at the door; triage begins there and the crew waits until there is a place."""
        case = event.value
        self._arrive(case)
        self.held[case.number] = case
        case.triaged = case.arrived + min(case.triage_minutes, 5.0)
        self._seek_place(case)
        if case.number in self.held:
            self.agenda.after(self.flow.hold_limit, self.hold_over, case)

    def hold_over(self, event: Any) -> None:
        """A crew has waited long enough: the patient is handed over in the corridor and waits on."""
        if event.value.number in self.held:
            self._hand_over(event.value)

    def triaged(self, event: Any) -> None:
        """Triage is over."""
        case = event.value
        case.triaged = self.agenda.now
        self._seek_place(case)

    def give_up(self, event: Any) -> None:
        """A walk-in who is still without a place leaves unseen."""
        case = event.value
        if case.placed == case.placed:  # not NaN: has a place by now
            return
        self.for_place.remove((case.triage, case.number, case))
        heapq.heapify(self.for_place)
        case.departed = self.agenda.now
        self.patients -= 1
        self.done.append(case)

    def assessed(self, event: Any) -> None:
        """The physician's first assessment is over; diagnostics and treatment follow."""
        case = event.value
        self.seeing -= 1
        self.call_physicians()
        flow = self.flow
        ratio = self.placed / max(self.nurses, 1) / flow.nurse_reference
        pressure = min(len(self.for_place) / self.places, 1)
        minutes = (
            case.work_up_minutes
            * self.tired_factor
            * math.exp(
                flow.nurse_slowing * math.log2(max(ratio, 0.5))
                + flow.outage_slowing * self.outage
                + flow.surge_speed * pressure
            )
        )
        self.agenda.after(minutes, self.decided, case)

    def decided(self, event: Any) -> None:
        """Home, or a bed."""
        case = event.value
        case.decided = self.agenda.now
        if case.admitted:
            self.boarders[case.number] = case
            self.wards.request(case)
        else:
            self._depart(case)

    def bed_ready(self, case: Case) -> None:
        """There is a bed; the patient is handed over and moved."""
        case.bedded = self.agenda.now
        self.agenda.after(case.transfer_minutes, self.transferred, case)

    def transferred(self, event: Any) -> None:
        """The patient has left for the ward."""
        case = event.value
        del self.boarders[case.number]
        self._depart(case)

    def call_places(self) -> None:
        """Give free places to those who wait, the most urgent first."""
        while self.for_place and self.placed < self.places:
            self._take_place(heapq.heappop(self.for_place)[2])

    def call_physicians(self) -> None:
        """Send free physicians to those who wait, the most urgent first."""
        while self.for_physician and self.seeing < self.physicians:
            self._assess(heapq.heappop(self.for_physician)[2])

    def overdue(self) -> int:
        """Patients not yet seen who wait longer than their triage level allows."""
        now = self.agenda.now
        queues = (self.for_place, self.for_physician)
        return sum(
            now - case.arrived > MAX_WAIT_MINUTES[level - 1] for queue in queues for level, _, case in queue
        )

    def held_longer(self, minutes: float) -> int:
        """Ambulance crews that wait at the door for longer than `minutes`."""
        now = self.agenda.now
        return sum(now - case.arrived > minutes for case in self.held.values())

    def longest_boarding(self) -> float:
        """Hours since the decision to admit, of whoever boards longest; 0 without boarders."""
        first = next(iter(self.boarders.values()), None)
        return (self.agenda.now - first.decided) / 60 if first else 0.0

    def _arrive(self, case: Case) -> None:
        case.arrived = self.agenda.now
        case.site = self.number
        self.patients += 1
        self.ventilated += case.ventilated

    def _seek_place(self, case: Case) -> None:
        if self.placed < self.places or case.triage == 1:
            self._take_place(case)
        else:
            heapq.heappush(self.for_place, (case.triage, case.number, case))
            if case.triage >= 4 and not case.ambulance and not case.admitted:
                self.agenda.after(case.patience_minutes, self.give_up, case)

    def _take_place(self, case: Case) -> None:
        now = self.agenda.now
        self.placed += 1
        case.placed = now
        self.last_wait = now - case.arrived
        if case.number in self.held:
            self._hand_over(case)
        if case.triage == 1 or self.seeing < self.physicians:
            self._assess(case)
        else:
            heapq.heappush(self.for_physician, (case.triage, case.number, case))

    def _hand_over(self, case: Case) -> None:
        del self.held[case.number]
        self.agenda.after(case.handoff_minutes, self.handed_over, case)

    def _assess(self, case: Case) -> None:
        self.seeing += 1
        case.seen = self.agenda.now
        load = self.placed / max(self.nurses, 1)
        case.shift = (*self.shift, load, self.wards.busy / max(self.ward_nurses, 1))
        case.outage = self.outage
        self.agenda.after(case.assess_minutes * self.tired_factor, self.assessed, case)

    def _depart(self, case: Case) -> None:
        case.departed = self.agenda.now
        self.placed -= 1
        self.patients -= 1
        self.ventilated -= case.ventilated
        self.done.append(case)
        self.call_places()
