"""A city's emergency care as one system that moves on by the hour, and that can be branched at any of them."""

from __future__ import annotations

import collections
import copy
import datetime as dt
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caretrace.hospital.operations import demand, profiles
from caretrace.hospital.operations.agenda import Agenda
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.crisis import HELD_MINUTES, crisis_level, nedocs
from caretrace.hospital.operations.environment import Day, Environment
from caretrace.hospital.operations.fleet import Fleet
from caretrace.hospital.operations.site import Site
from caretrace.hospital.operations.trials import Arm, arm_on, extra_staff, largest_arm
from caretrace.hospital.operations.wards import Wards
from caretrace.hospital.staff.roster import EARLY, LATE, NIGHT, NURSE, PARAMEDIC, PHYSICIAN
from caretrace.hospital.staff.safety import turnout_factor
from caretrace.hospital.staff.workforce import Duties, Turnover, Workforce, hire

# Each part draws from a stream of its own; the order is part of what a seed means: append, never reorder.
STREAMS = ("start", "environment", "demand", "staff", "wards", "branch", "outcomes", "tables")
DAY, HOUR = 1440.0, 60.0
Ints = NDArray[np.int64]


class State(NamedTuple):
    """One hospital at the start of an hour, and the city's ambulances, in true values."""

    hour: int
    site: int
    patients: int
    waiting: int
    placed: int
    places: int
    boarders: int
    ventilated: int
    longest_boarding_hours: float
    last_wait_hours: float
    nurses: int
    physicians: int
    ward_nurses: int
    ward_busy: int
    ward_beds: int
    intensive_busy: int
    intensive_beds: int
    overdue: int
    held: int
    held_late: int
    crews: int
    crews_busy: int
    calls_waiting: int
    nedocs: float
    level: int


class DayReport(NamedTuple):
    """What a day left behind for the tables."""

    number: int
    day: Day
    duties: Duties
    turnover: Turnover


class City:
    """The whole system: ambulances, hospitals, staff, weather; advanced an hour at a time.

    Nothing it does depends on anything but its configuration, its seed and its branch: the same three give the
    same history. Minutes and hours count from the start of the warm-up.

    Args:
        config: What to simulate.
        seed: Source of all chance.
    """

    def __init__(self, config: OperationsConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.branch_number = 0
        self.hour = 0
        self.first_date = config.first_day - dt.timedelta(days=config.warm_up_days)
        self.agenda = Agenda()
        self.done: list[Case] = []
        self.states: list[State] = []
        self.reports: list[DayReport] = []
        self.next_number = 1
        rng = self._rng("start", 0)
        sites = config.sites
        self.wanted = required_staff(config)
        groups = np.repeat([NURSE, PHYSICIAN, PARAMEDIC], [sites, sites, 1])
        self.staff: Workforce = hire(self.wanted, groups, config.staff, rng, extra_staff(largest_arm(config)))
        self.environment = Environment(seed, sites, config.flow)
        self.environment.demand = config.flow.demand_spread * float(rng.normal())
        self.environment.anomaly = 3.3 * float(rng.normal())
        self.sites = [self._build_site(i, w) for i, w in enumerate(profiles.site_weights(sites).tolist())]
        self.arm: Arm
        self.required: Ints
        self._set_arm(arm_on(config, seed, 0))
        for site in self.sites:
            site.wards.fill(rng)
        self.fleet = Fleet(config.flow, self.agenda, self.sites, self.done)
        for site in self.sites:
            site.handed_over = self.fleet.handed_over
        self.day: Day
        self.duties: Duties
        self.before: Duties | None = None
        self.ward_present = np.ones(sites)
        self.load = np.zeros((2 * sites + 1, 2))  # sums over the day: patients per nurse, share overdue

    @property
    def day_number(self) -> int:
        """Days since the start of the warm-up."""
        return self.hour // 24

    def advance(self, hours: int = 1) -> None:
        """Let some hours pass; the state at the start of each is noted in `states`."""
        for _ in range(hours):
            if self.hour % 24 == 0:
                self._begin_day()
            self._begin_hour()
            self._observe()
            self.hour += 1
            self.agenda.run_until(self.hour * HOUR)
            if self.hour % 24 == 0:
                self._end_day()

    def branch(self, number: int) -> City:
        """The same system now, with another future.

        Everything that has begun keeps its planned end; everything that has not begun is drawn anew: calls and
        walk-ins, service times, weather, outages, absences. What is known of a present patient (triage, whether
        a bed will be needed) and the season's influenza wave stay.

        Args:
            number: 1 or more; each gives another future.
        """
        other = copy.copy(self)
        other.branch_number = number
        other.agenda = Agenda(self.hour * HOUR)
        other.done, other.states, other.reports = [], [], []
        other.staff, other.environment = self.staff.branch(), self.environment.branch()
        other.load = self.load.copy()
        copies = _Copies()
        other.sites = [_copy_site(site, other, copies) for site in self.sites]
        other.fleet = _copy_fleet(self.fleet, other, copies)
        owners: dict[int, Any] = {id(self.fleet): other.fleet}
        for old, new in zip(self.sites, other.sites, strict=True):
            new.handed_over = other.fleet.handed_over
            owners |= {id(old): new, id(old.wards): new.wards}
        now = self.hour * HOUR
        for moment, action, value in self.agenda.pending():
            if action.__name__ in {"call", "walk_in"}:
                continue  # whoever has not come yet belongs to the future
            moved = getattr(owners[id(action.__self__)], action.__name__)  # type: ignore[attr-defined]
            other.agenda.after(moment - now, moved, copies.of(value) if isinstance(value, Case) else value)
        rng = other._rng("branch", self.hour)
        demand.redraw(self.config.flow, copies.all, rng)
        if self.hour % 24:
            other._schedule_demand(rng)
        return other

    def random(self, stream: str, day: int) -> np.random.Generator:
        """The generator of one stream on one day of this branch."""
        return self._rng(stream, day)

    def _rng(self, stream: str, day: int) -> np.random.Generator:
        key = (self.branch_number, STREAMS.index(stream), day)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def _build_site(self, number: int, weight: float) -> Site:
        flow = self.config.flow
        visits = profiles.daily_visits(flow, self.config.sites) * weight
        monday = (7 - self.first_date.weekday()) % 7
        wards = Wards(self.config, weight, self.agenda, monday)
        return Site(number, math.ceil(flow.places_per_visit * visits), flow, self.agenda, wards, self.done)

    def _begin_day(self) -> None:
        number, sites = self.day_number, self.config.sites
        date = self.first_date + dt.timedelta(days=number)
        self.day = self.environment.next_day(date, self._rng("environment", number))
        if self.config.trials.running:
            self._set_arm(arm_on(self.config, self.seed, number))
        rng = self._rng("staff", number)
        duties = self.staff.plan_day(number, self.day.influenza, rng)
        self.before = self.duties if number else duties
        self.duties = duties
        absence = self.config.staff.ward_absence
        self.ward_present = rng.beta(12 * (1 - absence), 12 * absence, sites)
        self._schedule_demand(self._rng("demand", number))
        self.load[:] = 0

    def _set_arm(self, arm: Arm) -> None:
        """From now on, staff and lounges as this arm has them."""
        self.arm, extra = arm, extra_staff(arm)
        self.required = self.wanted + extra
        self.staff.call_in(self.wanted, extra)
        for site in self.sites:
            site.wards.set_lounge(bool(arm.lounge[site.number]))

    def _schedule_demand(self, rng: np.random.Generator) -> None:
        """Put the day's calls and walk-ins on the agenda, those of hours gone by left out."""
        now = self.hour * HOUR
        midnight = self.day_number * DAY
        cases = demand.draw_day(self.config, self.day, midnight, rng, self.next_number)
        self.next_number += len(cases)
        doors = _doors(self, cases, rng)
        after, call = self.agenda.after, self.fleet.call
        for case, door in zip(cases, doors, strict=True):
            if case.began >= now:
                after(case.began - now, call if case.ambulance else self.sites[door].walk_in, case)

    def _begin_hour(self) -> None:
        hour, config = self.hour % 24, self.config
        shift = EARLY if 6 <= hour < 14 else LATE if 14 <= hour < 22 else NIGHT
        on_duty = self.before if hour < 6 and self.before is not None else self.duties
        for site in self.sites:
            nurse, physician = site.number, config.sites + site.number
            site.nurses = max(int(on_duty.present[nurse, shift]), 1)
            site.physicians = max(int(on_duty.present[physician, shift]), 1)
            site.shift = tuple(
                float(getattr(on_duty, name)[nurse, shift])
                for name in ("kss", "overtime", "long", "burnt_out")
            )
            site.tired_factor = math.exp(
                config.flow.fatigue_slowing * (site.shift[0] - config.staff.kss_reference)
            )
            site.outage = bool(self.day.outage[site.number, hour])
            planned = site.wards.beds / config.flow.ward_ratio * self.ward_present[site.number]
            extra = int(self.arm.nurses[site.number]) * math.ceil(site.wards.beds / 30)
            site.ward_nurses = max(round(planned) + extra, 1)
            if hour == 8 and not self.day.weekend:
                site.wards.admit_planned(self._rng("wards", self.day_number * 1000 + site.number))
            site.call_physicians()
        self._set_ambulances(hour)

    def _set_ambulances(self, hour: int) -> None:
        by_day = 7 <= hour < 19
        on_duty = self.before if hour < 7 and self.before is not None else self.duties
        shift, unit = EARLY if by_day else NIGHT, len(self.required) - 1
        fleet = self.fleet
        # Reserves cannot be staffed: never more crews than ambulances in the plan.
        fleet.crews = int(min(on_duty.present[unit, shift], self.required[unit, shift]) // 2)
        fleet.kss = float(on_duty.kss[unit, shift])
        fleet.turnout_factor = turnout_factor(fleet.kss, self.config.staff)
        fleet.drive_factor = float(self.day.drive[hour])
        fleet.dispatch_waiting()

    def _observe(self) -> None:
        fleet, n = self.fleet, self.config.sites
        reference = self.config.flow.nurse_reference
        for site in self.sites:
            state = self._state(site)
            self.states.append(state)
            share = state.overdue / max(state.patients, 1)
            self.load[[site.number, n + site.number]] += (site.placed / site.nurses - reference, share)
        # Assumed: crews busy twice as much weigh on paramedics as four more patients weigh on a nurse.
        extra = 4 * ((1 - fleet.free_share) / BUSY_REFERENCE - 1)
        self.load[2 * n] += (extra, sum(len(site.held) for site in self.sites) / max(fleet.crews, 1))

    def _state(self, site: Site) -> State:
        fleet, wards, places = self.fleet, site.wards, site.places
        boarders, overdue, held_late = len(site.boarders), site.overdue(), site.held_longer(HELD_MINUTES)
        boarding, wait = site.longest_boarding(), site.last_wait / 60
        beds = wards.beds + wards.intensive_beds
        site.recent.append((overdue / places, boarders / places, held_late / places, fleet.free_share))
        return State(
            hour=self.hour,
            site=site.number,
            patients=site.patients,
            waiting=len(site.for_place),
            placed=site.placed,
            places=places,
            boarders=boarders,
            ventilated=site.ventilated,
            longest_boarding_hours=boarding,
            last_wait_hours=wait,
            nurses=site.nurses,
            physicians=site.physicians,
            ward_nurses=site.ward_nurses,
            ward_busy=wards.busy,
            ward_beds=wards.beds,
            intensive_busy=wards.intensive_busy,
            intensive_beds=wards.intensive_beds,
            overdue=overdue,
            held=len(site.held),
            held_late=held_late,
            crews=fleet.crews,
            crews_busy=fleet.busy,
            calls_waiting=len(fleet.waiting),
            nedocs=nedocs(site.patients, places, boarders, beds, site.ventilated, boarding, wait),
            level=crisis_level(*np.mean(site.recent, axis=0).tolist()),
        )

    def _end_day(self) -> None:
        number = self.day_number - 1
        mean = self.load / 24
        rng = self._rng("staff", number + 500_000)
        turnover = self.staff.close_day(mean[:, 0], mean[:, 1], rng)
        self.reports.append(DayReport(number, self.day, self.duties, turnover))


BUSY_REFERENCE = 0.345  # share of crews busy, mean over the day; the model's own


def required_staff(config: OperationsConfig) -> Ints:
    """People wanted, without what is added, `[unit, shift]`.

    Units are the nurses of each site, the physicians of each site, and the ambulances.
    """
    flow, sites = config.flow, config.sites
    visits = profiles.daily_visits(flow, sites) * profiles.site_weights(sites)
    rows = []
    for day, night in ((flow.nurses_day, flow.nurses_night), (flow.physicians_day, flow.physicians_night)):
        by_day = np.maximum(np.ceil(day * visits), 2)
        rows += [np.column_stack([by_day, by_day, np.maximum(np.ceil(night * visits), 1)])]
    crews = [round(c * config.size) for c in (flow.crews_day, flow.crews_night)]
    return np.concatenate([*rows, [[2 * crews[0], 0, 2 * crews[1]]]]).astype(np.int64)


class _Copies(dict[int, Case]):
    """Copies of cases, each made once."""

    def of(self, case: Case) -> Case:
        if case.number not in self:
            self[case.number] = case.copy()
        return self[case.number]

    @property
    def all(self) -> list[Case]:
        return list(self.values())


def _copy_site(site: Site, city: City, copies: _Copies) -> Site:
    wards = copy.copy(site.wards)
    wards.agenda = city.agenda
    for name in ("waiting", "intensive_waiting", "step_down"):
        setattr(wards, name, collections.deque(copies.of(case) for case in getattr(site.wards, name)))
    other = copy.copy(site)
    other.agenda, other.wards, other.done, other.recent = city.agenda, wards, city.done, site.recent.copy()
    wards.bed_ready = other.bed_ready
    for name in ("for_place", "for_physician"):
        setattr(other, name, [(level, n, copies.of(case)) for level, n, case in getattr(site, name)])
    for name in ("boarders", "held"):
        setattr(other, name, {n: copies.of(case) for n, case in getattr(site, name).items()})
    return other


def _copy_fleet(fleet: Fleet, city: City, copies: _Copies) -> Fleet:
    other = copy.copy(fleet)
    other.agenda, other.sites, other.done = city.agenda, city.sites, city.done
    other.waiting = collections.deque(copies.of(case) for case in fleet.waiting)
    return other


def _doors(city: City, cases: list[Case], rng: np.random.Generator) -> list[int]:
    """The hospital each walk-in walks into, by size."""
    sites = city.config.sites
    doors: list[int] = rng.choice(sites, len(cases), p=profiles.site_weights(sites)).tolist()
    return doors
