"""Ward labs know the past and the next ICU admission, and nothing after that."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from caretrace.hospital import HospitalConfig
from caretrace.hospital.labs import _ward_severity, report_labs
from caretrace.hospital.population import People, draw_people, plan_admissions
from caretrace.hospital.signals import observe
from caretrace.hospital.timeline import HOUR, Admissions, Stays, live

CONFIG = HospitalConfig(oracle_replicates=1)


@dataclasses.dataclass(frozen=True)
class World:
    people: People
    admissions: Admissions
    stays: Stays

    def labs(self, admissions: Admissions | None = None) -> pl.DataFrame:
        signals = observe(self.admissions, self.stays, 1.0, np.random.default_rng(1))
        admissions = admissions or self.admissions
        return report_labs(self.people, admissions, self.stays, signals, 1.0, np.random.default_rng(2))


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(5)
    people = draw_people(0, 1500, rng)
    plan = plan_admissions(people, CONFIG, rng)
    return World(people, *live(people, plan, CONFIG, rng, np.random.default_rng(0)))


def test_another_outcome_changes_no_lab_result(world: World) -> None:
    """Who dies is turned round, at the same time: not one byte of what was measured before may know."""
    other = dataclasses.replace(world.admissions, died=~world.admissions.died)
    assert world.labs(other).write_csv() == world.labs().write_csv()


def test_before_the_icu_nothing_after_it_is_known(world: World) -> None:
    """The rest of the stay, its end and a second stay are drawn anew: severity on the ward before is the same."""
    stays, frailty = world.stays, world.people.frailty[world.admissions.person]
    first = np.flatnonzero(stays.stay_id % 10 == 0)
    admission = np.repeat(stays.admission[first], 3)
    time = np.repeat(stays.begin[first], 3) - np.tile([1, 8, 40], len(first)) * HOUR
    severity = stays.severity.copy()
    severity[:, 1:] = np.where(np.isnan(severity[:, 1:]), np.nan, 3.0)
    second = stays.stay_id % 10 == 1
    assert second.sum() > 20
    severity[second, 0] = 4.0
    later = dataclasses.replace(
        stays,
        severity=severity,
        begin=np.where(second, stays.begin + 7 * HOUR, stays.begin),
        end=stays.end + 9 * HOUR,
    )
    before = _ward_severity(frailty, stays, admission, time)
    assert np.array_equal(before, _ward_severity(frailty, later, admission, time))
    assert before.std() > 0.2


def test_labs_before_the_icu_tell_no_more_than_the_state_at_its_door(world: World) -> None:
    """Given severity at ICU admission, age and frailty, those who will die soon look like those who will not."""
    stays, admissions, people = world.stays, world.admissions, world.people
    first = np.flatnonzero(stays.stay_id % 10 == 0)
    admission = stays.admission[first]
    ward = _ward_severity(people.frailty[admissions.person], stays, admission, stays.begin[first] - 6 * HOUR)
    soon = admissions.died[admission] & (admissions.discharge[admission] < stays.begin[first] + 48 * HOUR)
    assert soon.sum() > 20
    person = admissions.person[admission]
    known = np.column_stack(
        [np.ones(len(first)), stays.severity[first, 0], people.age[person], people.frailty[person]]
    )
    rest = ward - known @ np.linalg.lstsq(known, ward, rcond=None)[0]
    gap = rest[soon].mean() - rest[~soon].mean()
    assert abs(gap) < 4 * rest.std() / np.sqrt(soon.sum())


def test_the_ward_rises_to_the_icu_and_fades_after_it(world: World) -> None:
    stays, frailty = world.stays, world.people.frailty[world.admissions.person]
    ill = np.flatnonzero((stays.stay_id % 10 == 0) & (stays.severity[:, 0] > 2))
    admission = stays.admission[ill]
    path = [
        _ward_severity(frailty, stays, admission, stays.begin[ill] - hours * HOUR).mean()
        for hours in (48, 12, 1)
    ]
    assert path[0] < path[1] < path[2]
    after = [
        _ward_severity(frailty, stays, admission, stays.end[ill] + hours * HOUR).mean() for hours in (1, 96)
    ]
    assert after[0] > after[1]
