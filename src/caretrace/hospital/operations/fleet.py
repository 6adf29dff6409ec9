"""The city's ambulances: calls, dispatch, scene, choice of hospital, handoff, back in service."""

from __future__ import annotations

import collections
from typing import Any

from caretrace.hospital.operations.agenda import Agenda
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import Flow
from caretrace.hospital.operations.site import Site


class Fleet:
    """Ambulance crews as one pool; the nearest free one is nearer the more are free.

    Instead of positions there is the square-root law: the drive grows with the inverse root of the number of
    free crews (Kolesar and Blum 1973).

    Args:
        flow: Coefficients.
        agenda: Clock and agenda.
        sites: The hospitals.
        done: Where cases go that were not taken to a hospital.
    """

    def __init__(self, flow: Flow, agenda: Agenda, sites: list[Site], done: list[Case]) -> None:
        self.flow = flow
        self.agenda = agenda
        self.sites = sites
        self.done = done
        self.crews = 1
        self.busy = 0
        self.drive_factor = 1.0
        self.turnout_factor = 1.0
        self.kss = 5.0
        self.waiting: collections.deque[Case] = collections.deque()

    @property
    def free_share(self) -> float:
        """Share of the crews on duty that are free, at least 0."""
        return max(self.crews - self.busy, 0) / max(self.crews, 1)

    def call(self, event: Any) -> None:
        """Somebody dials 112."""
        if self.busy < self.crews:
            self._dispatch(event.value)
        else:
            self.waiting.append(event.value)

    def leave_scene(self, event: Any) -> None:
        """Off to the hospital that costs least: nearest first, crowded ones count as farther away."""
        case = event.value
        best, least, extra = case.candidates[0], float("inf"), 0.0
        for number, detour in zip(case.candidates, case.detours, strict=True):
            site = self.sites[number]
            cost = detour + self.flow.divert_minutes * 10 * len(site.for_place) / site.places
            if cost < least:
                best, least, extra = number, cost, detour
        self.agenda.after(case.transport_minutes + extra, self.sites[best].brought, case)

    def handed_over(self, event: Any) -> None:
        """The department has taken over."""
        case = event.value
        case.handed_over = self.agenda.now
        self.agenda.after(case.clear_minutes, self.clear, case)

    def clear(self, event: Any) -> None:
        """The crew is free again; a case that goes to no hospital ends here."""
        case = event.value
        case.cleared = self.agenda.now
        self.busy -= 1
        if not case.transported:
            self.done.append(case)
        self.dispatch_waiting()

    def dispatch_waiting(self) -> None:
        """Send free crews to calls that wait."""
        while self.waiting and self.busy < self.crews:
            self._dispatch(self.waiting.popleft())

    def _dispatch(self, case: Case) -> None:
        flow, now = self.flow, self.agenda.now
        share = max(self.free_share, 1 / max(self.crews, 1))
        self.busy += 1
        case.free_share, case.crew_kss = share, self.kss
        case.dispatched = now + case.call_minutes
        drive = case.drive_minutes * self.drive_factor * (share / flow.drive_reference) ** flow.drive_power
        case.on_scene = case.dispatched + case.turnout_minutes * self.turnout_factor + drive
        end = case.on_scene + case.scene_minutes
        if case.transported:
            case.left_scene = end
            self.agenda.after(end - now, self.leave_scene, case)
        else:
            self.agenda.after(end - now, self.clear, case)
