"""The city's flow: people are neither lost nor made, time runs forward, the most urgent go first."""

import dataclasses
import datetime as dt
import itertools

import numpy as np
import pytest

from caretrace.errors import ConfigError
from caretrace.hospital.operations import Interventions, OperationsConfig, demand, parameters, profiles
from caretrace.hospital.operations.agenda import Agenda
from caretrace.hospital.operations.case import DURATIONS, MOMENTS, SETTLED, Case
from caretrace.hospital.operations.city import City
from caretrace.hospital.operations.config import Flow
from caretrace.hospital.operations.crisis import crisis_level, nedocs
from caretrace.hospital.operations.environment import (
    Environment,
    influenza_level,
    is_festival,
    public_holiday,
)

SMALL = OperationsConfig(size=0.2, start="2023-03-01")


@pytest.fixture(scope="module")
def city() -> City:
    out = City(SMALL, 3)
    out.advance(24 * 12)
    return out


def test_agenda_runs_in_order_and_lists_what_is_to_come():
    agenda, seen = Agenda(5.0), []

    def note(event: object) -> None:
        seen.append((agenda.now, event.value))

    for minutes, value in ((3.0, "b"), (1.0, "a"), (9.0, "d"), (3.0, "c")):
        agenda.after(minutes, note, value)
    agenda.run_until(10.0)
    assert seen == [(6.0, "a"), (8.0, "b"), (8.0, "c")]
    assert [(moment, value) for moment, _, value in agenda.pending()] == [(14.0, "d")]


def test_walk_ins_and_ambulances_together_have_the_published_shape():
    flow = Flow()
    for weekend in (False, True):
        walking = profiles.walk_ins(flow, 1.0, 10, weekend)
        brought = (
            flow.runs_per_year / 365 * flow.transported * profiles.week_factor(weekend, flow.weekend_calls)
        )
        late = profiles.HOURS_TO_ARRIVAL
        both = walking + brought * ((1 - late) * profiles.CALLS + late * np.roll(profiles.CALLS, 1))
        assert both / both.sum() == pytest.approx(profiles.ARRIVALS, abs=1e-9)
    share = profiles.ambulance_share(flow, 1.0, 10)
    mix = share * profiles.TRIAGE_AMBULANCE + (1 - share) * profiles.triage_walk_in(share)
    assert mix == pytest.approx(profiles.TRIAGE, abs=2e-3)


def test_week_factors_average_one():
    assert (5 * profiles.week_factor(False, 1.2) + 2 * profiles.week_factor(True, 1.2)) / 7 == pytest.approx(
        1
    )


@pytest.mark.parametrize(
    ("date", "name"),
    [
        (dt.date(2023, 4, 7), "Good Friday"),
        (dt.date(2024, 4, 1), "Easter Monday"),
        (dt.date(2023, 5, 18), "Ascension Day"),
        (dt.date(2025, 6, 9), "Whit Monday"),
        (dt.date(2023, 1, 1), "New Year"),
        (dt.date(2023, 4, 9), None),
        (dt.date(2023, 6, 8), None),
    ],
)
def test_public_holidays(date, name):
    assert public_holiday(date) == name


def test_one_festival_of_three_days_in_may_and_new_years_eve():
    for year in range(2020, 2030):
        days = [dt.date(year, 1, 1) + dt.timedelta(days=i) for i in range(365)]
        found = [day for day in days if is_festival(day) and day.month == 5]
        assert [day.weekday() for day in found] == [4, 5, 6]
        assert (found[-1] - found[0]).days == 2
    assert is_festival(dt.date(2023, 12, 31))


def test_influenza_comes_in_winter_and_each_seed_has_its_own():
    days = [dt.date(2023, 1, 1) + dt.timedelta(days=i) for i in range(365)]
    levels = np.array([influenza_level(day, 0) for day in days])
    assert levels.argmax() in range(15, 70)
    assert levels[150:300].max() < 1e-3
    assert not np.allclose(levels, [influenza_level(day, 1) for day in days])


def test_weather_and_events_do_what_they_should():
    flow = dataclasses.replace(Flow(), flood_rate=60.0, outage_rate=40.0)
    environment, rng = Environment(0, 3, flow), np.random.default_rng(0)
    days = [environment.next_day(dt.date(2023, 1, 1) + dt.timedelta(days=i), rng) for i in range(365)]
    kinds = {event.kind for day in days for event in day.events}
    assert {"public holiday", "festival", "influenza", "flood", "IT outage"} <= kinds
    january = np.mean([day.temperature.mean() for day in days[:31]])
    july = np.mean([day.temperature.mean() for day in days[181:212]])
    assert july > january + 12
    for day in days:
        for event in day.events:
            assert 0 <= event.first_hour < event.first_hour + event.hours <= 24
            if event.kind == "IT outage":
                assert day.outage[event.site, event.first_hour]
            if event.kind == "flood":
                assert day.drive[event.first_hour] >= np.exp(flow.drive_flood) - 1e-9
                assert day.date.month in {10, 11, 12, 1, 2, 3}


def test_nedocs_by_hand():
    # -20 + 85.8 * 30/25 + 600 * 5/500 + 13.4 * 2 + 0.93 * 6 + 5.64 * 1.5
    assert nedocs(30, 25, 5, 500, 2, 6, 1.5) == pytest.approx(-20 + 102.96 + 6 + 26.8 + 5.58 + 8.46)


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ((0.0, 0.0, 0.0, 0.9), 0),
        ((0.05, 0.0, 0.0, 0.9), 1),
        ((0.049, 0.149, 0.029, 0.351), 0),
        ((0.0, 0.25, 0.0, 0.9), 2),
        ((0.0, 0.0, 0.1, 0.9), 3),
        ((0.0, 0.0, 0.0, 0.04), 4),
        ((0.6, 0.2, 0.0, 0.9), 4),
    ],
)
def test_crisis_level_is_the_worst_of_its_thresholds(state, level):
    assert crisis_level(*state) == level


def test_moments_come_in_order(city):
    paths = [
        ("began", "dispatched", "on_scene", "left_scene", "arrived", "handed_over", "cleared"),
        ("arrived", "placed", "seen", "decided", "departed"),
        ("arrived", "triaged"),
        ("decided", "bedded", "departed", "discharged"),
    ]
    for case in city.done:
        for path in paths:
            moments = [getattr(case, name) for name in path]
            known = [m for m in moments if m == m]
            assert known == sorted(known), (case.number, path)


def test_everybody_who_came_is_somewhere(city):
    visits = [case for case in city.done if case.site >= 0]
    inside = sum(site.patients for site in city.sites)
    boarding = sum(len(site.boarders) for site in city.sites)
    in_queue = sum(len(site.for_place) for site in city.sites)
    pending = {id(v): v for *_, v in city.agenda.pending() if isinstance(v, Case)}
    waiting = [c for s in city.sites for q in (s.for_place, s.for_physician) for *_, c in q]
    waiting += [c for s in city.sites for c in s.boarders.values()]
    present = {
        c.number for c in [*pending.values(), *waiting] if c.arrived == c.arrived and c.departed != c.departed
    }
    assert len(present) == inside
    assert boarding + in_queue <= inside
    assert len({case.number for case in city.done}) == len(city.done)
    assert len(visits) > 2000


def test_places_beds_and_physicians_are_never_overdrawn(city):
    for site in city.sites:
        assert site.wards.busy <= site.wards.beds
        assert site.wards.intensive_busy <= site.wards.intensive_beds
    critical = {case.number for case in city.done if case.triage == 1}
    # Only those in immediate danger are treated without a free place.
    for state in city.states:
        assert state.placed - state.places <= len(critical)
    moments = sorted(
        [(c.placed, 1) for c in city.done if c.site == 0 and c.seen == c.seen and c.triage > 1]
        + [(c.departed, -1) for c in city.done if c.site == 0 and c.seen == c.seen and c.triage > 1]
    )
    assert max(itertools.accumulate(change for _, change in moments)) <= city.sites[0].places


def test_every_bed_taken_has_somebody_who_will_leave_it(city):
    leaving = {(id(action.__self__), action.__name__): 0 for _, action, _ in city.agenda.pending()}
    for _, action, _ in city.agenda.pending():
        leaving[id(action.__self__), action.__name__] += 1
    for site in city.sites:
        wards = site.wards
        assert wards.busy == leaving[id(wards), "bed_free"]
        intensive = sum(leaving.get((id(wards), name), 0) for name in ("intensive_over", "intensive_free"))
        assert wards.intensive_busy == intensive + len(wards.step_down)
        assert site.seeing == leaving.get((id(site), "assessed"), 0)


def test_the_more_urgent_wait_less(city):
    wait = [
        np.mean([c.seen - c.arrived for c in city.done if c.triage == t and c.seen == c.seen])
        for t in (2, 3, 4, 5)
    ]
    assert wait == sorted(wait)


def test_crews_busy_match_the_runs_under_way(city):
    under_way = {
        value.number
        for _, action, value in city.agenda.pending()
        if isinstance(value, Case) and action.__name__ in {"leave_scene", "brought", "handed_over", "clear"}
    }
    held = {n for site in city.sites for n in site.held}
    assert city.fleet.busy == len(under_way | held)


def test_drive_times_follow_the_square_root_law():
    flow = dataclasses.replace(Flow(), drive_spread=0.0, turnout_spread=0.0, call_spread=0.0)
    out = City(dataclasses.replace(SMALL, flow=flow), 0)
    out.advance(1)
    fleet = out.fleet
    case = next(
        c for c in demand.draw_day(out.config, out.day, 0.0, np.random.default_rng(0), 1) if c.ambulance
    )
    drives = []
    for busy in (0, round(fleet.crews * 0.75)):
        fleet.busy = busy
        fleet._dispatch(case)
        drives.append(
            (case.on_scene - case.dispatched - case.turnout_minutes * fleet.turnout_factor, case.free_share)
        )
    (first, many), (second, few) = drives
    assert second / first == pytest.approx((many / few) ** 0.5)


def test_cases_take_their_rows_in_order():
    row = dict(zip(SETTLED, range(len(SETTLED)), strict=True))
    times = dict(zip(DURATIONS, range(100, 100 + len(DURATIONS)), strict=True))
    case = Case(list(row.values()), list(times.values()))
    assert {name: getattr(case, name) for name in row} == row
    assert {name: getattr(case, name) for name in times} == times
    assert all(getattr(case, name) != getattr(case, name) for name in MOMENTS)
    assert case.copy().number == case.number


def test_same_person_same_age_and_sex(city):
    seen = {}
    for case in city.done:
        assert seen.setdefault(case.subject_id, (case.age, case.male)) == (case.age, case.male)
    assert len(seen) < len(city.done)


def test_demand_is_poisson_with_the_days_rate():
    rng, day = np.random.default_rng(0), City(SMALL, 0)
    day.advance(1)
    counts = [len(demand.draw_day(SMALL, day.day, 0.0, rng, 1)) for _ in range(200)]
    assert np.var(counts) / np.mean(counts) == pytest.approx(1, abs=0.35)


def test_more_crews_help_and_nothing_else_changes():
    base = City(SMALL, 5)
    more = City(dataclasses.replace(SMALL, interventions=Interventions(extra_ambulances=5)), 5)
    for one in (base, more):
        one.advance(24 * 6)
    calls = [{c.number: (c.began, c.drive_minutes, c.triage) for c in one.done} for one in (base, more)]
    shared = calls[0].keys() & calls[1].keys()
    assert len(shared) > 0.98 * len(calls[0])
    assert all(calls[0][n] == calls[1][n] for n in shared)
    late = [np.mean([c.on_scene - c.began > 8 for c in one.done if c.ambulance]) for one in (base, more)]
    assert late[1] < late[0] - 0.02


def test_one_more_nurse_per_shift_means_fewer_patients_each():
    base, more = (
        City(dataclasses.replace(SMALL, interventions=Interventions(extra_nurses=n)), 5) for n in (0, 1)
    )
    for one in (base, more):
        one.advance(24 * 4)
    nurses = [np.array([(s.nurses, s.ward_nurses) for s in one.states]).mean(0) for one in (base, more)]
    assert nurses[1][0] - nurses[0][0] == pytest.approx(1, abs=0.15)
    assert nurses[1][1] > nurses[0][1] + 10


def test_a_discharge_lounge_frees_beds_earlier():
    base, lounge = (
        City(dataclasses.replace(SMALL, interventions=Interventions(discharge_lounge=on)), 5)
        for on in (False, True)
    )
    assert lounge.sites[0].wards.idle_minutes == base.sites[0].wards.idle_minutes - 150
    for one in (base, lounge):
        one.advance(24 * 10)
    busy = [np.mean([s.ward_busy for s in one.states]) for one in (base, lounge)]
    assert busy[1] < busy[0]


def test_what_is_under_way_does_not_grow_with_time():
    one = City(SMALL, 1)
    sizes = []
    for _ in range(3):
        one.advance(24 * 10)
        one.done.clear()
        one.states.clear()
        one.reports.clear()
        sizes.append(len(one.agenda.pending()))
    assert sizes[2] < 1.15 * sizes[0]


def test_every_coefficient_names_its_source():
    rows = parameters()
    assert len(rows) == len({row.name for row in rows})
    assert all(row.unit and row.source for row in rows)
    published = [row for row in rows if not row.assumed]
    assert {"flow.crews_day", "flow.runs_per_year", "staff.death_load", "flow.drive_power"} <= {
        r.name for r in published
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 0.0}, "size"),
        ({"start": "yesterday"}, "start"),
        ({"warm_up_days": -1}, "warm_up_days"),
        ({"interventions": Interventions(extra_nurses=-1)}, "extra_nurses"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        OperationsConfig(**change)
