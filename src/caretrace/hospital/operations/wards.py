"""Beds behind the emergency department: wards, intensive care, planned admissions, discharge."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

from caretrace.hospital.operations import profiles
from caretrace.hospital.operations.agenda import Agenda
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.demand import LONGEST_STAY_DAYS

DAY = 1440.0


class Wards:
    """The beds of one hospital; `bed_ready` is told of whoever has been given one.

    Args:
        config: The city.
        weight: The hospital's share of the city's patients.
        agenda: Clock and agenda.
        monday: Day number of a Monday, modulo 7.
    """

    def __init__(self, config: OperationsConfig, weight: float, agenda: Agenda, monday: int) -> None:
        self.flow = config.flow
        self.agenda = agenda
        self.monday = monday
        self.bed_ready: Callable[[Case], None]
        flow = config.flow
        admissions = profiles.daily_visits(flow, config.sites) * weight * ADMITTED
        self.planned_per_day = admissions * flow.elective_share
        emergency = admissions * mean_stay(flow.ward_days, flow.ward_spread)
        planned = self.planned_per_day * 5 / 7 * mean_stay(flow.elective_days, ELECTIVE_SPREAD)
        intensive = admissions * flow.intensive * mean_stay(flow.intensive_days, flow.intensive_spread)
        self.beds = math.ceil((emergency + planned) / flow.ward_occupancy)
        self.intensive_beds = math.ceil(intensive / flow.intensive_occupancy)
        self.set_lounge(config.interventions.discharge_lounge)
        self.busy = self.intensive_busy = 0
        self.waiting: collections.deque[Case] = collections.deque()
        self.intensive_waiting: collections.deque[Case] = collections.deque()
        self.step_down: collections.deque[Case] = collections.deque()

    def set_lounge(self, there: bool) -> None:
        """From now on, patients who are ready leave their bed for a lounge, or stay until they go."""
        lounge = self.flow.lounge_hours if there else 0.0
        self.idle_minutes = (self.flow.cleaning_hours - lounge) * 60

    def fill(self, rng: np.random.Generator) -> None:
        """Begin with beds taken as in the long run: what is left of stays met by chance."""
        flow = self.flow
        self.busy = round(self.beds * flow.ward_occupancy * 0.98)
        self.intensive_busy = round(self.intensive_beds * flow.intensive_occupancy)
        for n, median, spread, action in (
            (self.busy, flow.ward_days, flow.ward_spread, self.bed_free),
            (self.intensive_busy, flow.intensive_days, flow.intensive_spread, self.intensive_free),
        ):
            # A stay met by chance is drawn in proportion to its length, and met at a uniform point of it.
            stay = np.exp(np.log(median) + spread**2 + spread * rng.standard_normal(4 * n + 8))
            left = stay[stay < LONGEST_STAY_DAYS][:n]
            days = np.floor(left * rng.random(len(left)))
            hours = rng.choice(profiles.DISCHARGE_HOURS, len(left), p=profiles.DISCHARGE_SHARES)
            hours = hours + rng.random(len(left))
            for moment in (days * DAY + hours * 60).tolist():
                self.agenda.after(moment, action)

    def request(self, case: Case) -> None:
        """A patient in the emergency department needs a bed."""
        if case.intensive:
            if self.intensive_busy < self.intensive_beds:
                self._take_intensive(case)
            else:
                self.intensive_waiting.append(case)
        elif self.busy < self.beds:
            self._take(case)
            self.bed_ready(case)
        else:
            self.waiting.append(case)

    def bed_free(self, _event: Any) -> None:
        """A ward bed can be used again: intensive care hands over first, then whoever boards longest."""
        self.busy -= 1
        if self.busy >= self.beds:
            return
        if self.step_down:
            self._step_down(self.step_down.popleft())
        elif self.waiting:
            case = self.waiting.popleft()
            self._take(case)
            self.bed_ready(case)

    def intensive_free(self, _event: Any) -> None:
        """An intensive bed can be used again."""
        self.intensive_busy -= 1
        if self.intensive_waiting and self.intensive_busy < self.intensive_beds:
            self._take_intensive(self.intensive_waiting.popleft())

    def intensive_over(self, event: Any) -> None:
        """A patient no longer needs intensive care, and keeps the bed until a ward takes over."""
        case = event.value
        if self.busy < self.beds:
            self._step_down(case)
        else:
            self.step_down.append(case)

    def admit_planned(self, rng: np.random.Generator) -> None:
        """The morning's planned admissions, cut back when the hospital is full; some find no bed."""
        flow = self.flow
        taken = (self.busy + len(self.waiting) + len(self.step_down)) / self.beds
        open_share = min(max((1 - taken) / (1 - flow.cancel_above), 0), 1)
        wanted = int(rng.poisson(self.planned_per_day * open_share))
        n = min(wanted, max(self.beds - self.busy, 0))
        days = np.exp(np.log(flow.elective_days) + ELECTIVE_SPREAD * rng.standard_normal(n))
        hours = rng.choice(profiles.DISCHARGE_HOURS, n, p=profiles.DISCHARGE_SHARES) + rng.random(n)
        self.busy += n
        for stay, hour in zip(days.tolist(), hours.tolist(), strict=True):
            end = self._discharge(self.agenda.now + min(stay, LONGEST_STAY_DAYS) * DAY, hour, stays=False)
            self.agenda.after(self._until(end), self.bed_free)

    def _take(self, case: Case) -> None:
        self.busy += 1
        end = self._discharge(
            self.agenda.now + case.ward_days * DAY, case.discharge_hour, bool(case.stays_weekend)
        )
        case.discharged = end
        self.agenda.after(self._until(end), self.bed_free)

    def _take_intensive(self, case: Case) -> None:
        self.intensive_busy += 1
        hours = min(case.intensive_days, LONGEST_STAY_DAYS) * DAY
        case.discharged = self._discharge(
            self.agenda.now + hours + case.ward_days * DAY, case.discharge_hour, bool(case.stays_weekend)
        )
        self.agenda.after(hours, self.intensive_over, case)
        self.bed_ready(case)

    def _step_down(self, case: Case) -> None:
        self.busy += 1
        self.intensive_free(None)
        self.agenda.after(self._until(case.discharged), self.bed_free)

    def _until(self, discharge: float) -> float:
        """Minutes until the bed can be used again, at least a quarter of an hour."""
        return max(discharge + self.idle_minutes - self.agenda.now, 15.0)

    def _discharge(self, ready: float, hour: float, stays: bool) -> float:
        """When somebody goes who is ready on the day of `ready`: by day, and for some not at the weekend."""
        day = math.floor(ready / DAY)
        end = day * DAY + hour * 60
        if end < self.agenda.now + 240:
            day, end = day + 1, end + DAY
        weekday = (day - self.monday) % 7
        put_off = stays and weekday >= 5 and not self.waiting
        return end + (7 - weekday) * DAY if put_off else end


ELECTIVE_SPREAD = 0.7  # log; assumed
ADMITTED = 0.425  # share of arrivals, for sizing only; German MTS cohort


def mean_stay(median: float, spread: float) -> float:
    """Mean of a log-normal stay cut at the longest, in days, with what discharge by day adds."""
    mu, top = math.log(median), math.log(LONGEST_STAY_DAYS)
    whole = math.exp(mu + spread**2 / 2) * float(ndtr((top - mu - spread**2) / spread))
    return whole + LONGEST_STAY_DAYS * float(ndtr((mu - top) / spread)) + 0.2  # 0.2 d: assumed
