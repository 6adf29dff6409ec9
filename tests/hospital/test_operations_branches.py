"""Branches of the future: exact copies of the present, independent afterwards; the oracle made of them."""

import numpy as np
import pytest

from caretrace.errors import ConfigError
from caretrace.hospital.operations import OperationsConfig, crisis_oracle
from caretrace.hospital.operations.case import Case
from caretrace.hospital.operations.city import City

SMALL = OperationsConfig(size=0.2, start="2023-03-01")


@pytest.mark.parametrize("hour", [24 * 5, 24 * 5 + 15])
def test_branching_leaves_the_history_alone(hour):
    plain, branched = City(SMALL, 1), City(SMALL, 1)
    plain.advance(hour)
    branched.advance(hour)
    for number in (1, 2):
        branched.branch(number).advance(30)
    plain.advance(48)
    branched.advance(48)
    assert plain.states == branched.states
    assert [c.departed for c in plain.done if c.site >= 0] == [
        c.departed for c in branched.done if c.site >= 0
    ]


def test_a_branch_begins_with_the_same_present_and_what_is_under_way():
    city = City(SMALL, 1)
    city.advance(24 * 5 + 15)
    branch = city.branch(1)
    for old, new in zip(city.sites, branch.sites, strict=True):
        assert old.patients == new.patients
        assert [c.number for *_, c in sorted(old.for_place)] == [c.number for *_, c in sorted(new.for_place)]
        assert not {id(c) for *_, c in old.for_place} & {id(c) for *_, c in new.for_place}
        assert old.wards.busy == new.wards.busy
    assert city.fleet.busy == branch.fleet.busy

    def under_way(one: City) -> list[tuple[float, str, int | None]]:
        coming = {"call", "walk_in"}
        return [
            (round(moment, 6), action.__name__, value.number if isinstance(value, Case) else None)
            for moment, action, value in one.agenda.pending()
            if action.__name__ not in coming
        ]

    assert sorted(map(str, under_way(city))) == sorted(map(str, under_way(branch)))
    owners = {id(site) for site in city.sites} | {id(city.fleet)} | {id(site.wards) for site in city.sites}
    assert not any(id(action.__self__) in owners for _, action, _ in branch.agenda.pending())
    # The rest of the day is drawn anew: other people come, and none of them before now.
    coming = [
        moment for moment, action, _ in branch.agenda.pending() if action.__name__ in {"call", "walk_in"}
    ]
    assert coming
    assert min(coming) >= city.hour * 60


def test_a_branch_draws_anew_what_has_not_begun_and_nothing_else():
    city = City(SMALL, 1)
    city.advance(24 * 5 + 15)
    branch = city.branch(1)

    def cases(one: City) -> dict[int, Case]:
        coming = {"call", "walk_in"}
        return {
            v.number: v
            for _, a, v in one.agenda.pending()
            if isinstance(v, Case) and a.__name__ not in coming
        }

    before, after = cases(city), cases(branch)
    assert before.keys() == after.keys()
    assert len(before) > 20
    for number, case in before.items():
        copy = after[number]
        assert case.work_up_minutes != copy.work_up_minutes
        assert (case.triage, case.admitted, case.began, case.seen == case.seen) == (
            copy.triage,
            copy.admitted,
            copy.began,
            copy.seen == copy.seen,
        )


def test_branches_differ_and_the_same_branch_repeats():
    city = City(SMALL, 1)
    city.advance(24 * 5 + 9)
    one, again, other = city.branch(1), city.branch(1), city.branch(2)
    for branch in (one, again, other):
        branch.advance(24)
    assert one.states == again.states
    assert one.states != other.states
    assert one.states[0] == other.states[0]


def test_demand_in_branches_is_that_of_the_history():
    city, counts = City(SMALL, 2), []
    city.advance(24 * 4 + 10)
    for number in range(1, 13):
        branch = city.branch(number)
        first = branch.next_number
        branch.advance(24 * 2)
        counts.append(branch.next_number - first)
    city.advance(24 * 21)
    per_day = (city.next_number - 1) / (city.hour / 24)
    # The first day was drawn anew in part and the last begun: two more days' numbers were given.
    assert np.mean(counts) / 2 == pytest.approx(per_day, rel=0.12)


def test_the_oracle_ranks_and_is_calibrated():
    marks = range(30, 30 + 24 * 8, 7)
    table = crisis_oracle(SMALL, 4, marks, branches=8, horizons_hours=(1, 8))
    assert table.height == len(marks) * SMALL.sites * 2
    assert table.select([f"p{k}" for k in range(5)]).sum_horizontal().to_numpy() == pytest.approx(1)
    for horizon, least in ((1, 0.9), (8, 0.7)):
        rows = table.filter(table["horizon_hours"] == horizon)
        busy = (rows["level"] >= 1).to_numpy()
        p = 1 - rows["p0"].to_numpy()
        assert 0.05 < busy.mean() < 0.95
        pairs = p[busy][:, None] - p[~busy][None, :]
        assert np.mean((pairs > 0) + 0.5 * (pairs == 0)) > least
        assert p.mean() == pytest.approx(busy.mean(), abs=0.1)


def test_what_happened_is_what_the_history_says():
    table = crisis_oracle(SMALL, 4, [30, 50], branches=1, horizons_hours=(0, 3))
    city = City(SMALL, 4)
    city.advance(24 * SMALL.warm_up_days + 60)
    level = {(s.hour - 24 * SMALL.warm_up_days, s.site): s.level for s in city.states}
    zero = table["hour_time"].min() // 3600 - 30
    for row in table.iter_rows(named=True):
        hour = row["hour_time"] // 3600 - zero
        assert row["level"] == level[hour + row["horizon_hours"], int(row["site"][1:]) - 1]
        if row["horizon_hours"] == 0:
            assert row[f"p{row['level']}"] == 1


def test_oracle_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="branch"):
        crisis_oracle(SMALL, 0, [5], branches=0)
    with pytest.raises(ConfigError, match="landmarks"):
        crisis_oracle(SMALL, 0, [-1])
