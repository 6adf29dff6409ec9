"""Staff: sleepiness as published, burnout that moves as it should, rosters that cover, effects of the right size."""

import numpy as np
import pytest

from caretrace.hospital.staff import burnout, fatigue, safety
from caretrace.hospital.staff.config import Staff
from caretrace.hospital.staff.parameters import parameter_table
from caretrace.hospital.staff.roster import NIGHT, OFF, PARAMEDIC
from caretrace.hospital.staff.workforce import Workforce, hire

SITES = 6
GROUPS = np.repeat([0, 1, 2], [SITES, SITES, 1])
REQUIRED = np.array([[8, 8, 5]] * SITES + [[5, 5, 2]] * SITES + [[60, 0, 40]])
UNITS = len(GROUPS)


def staff(seed: int = 0, extra: np.ndarray | None = None, **changes: float) -> Workforce:
    return hire(REQUIRED, GROUPS, Staff(**changes), np.random.default_rng(seed), extra)


def live(workforce: Workforce, days: int, load: float = 0.0, seed: int = 1) -> list:
    out = []
    for day in range(days):
        rng = np.random.default_rng((seed, day))
        out.append(workforce.plan_day(day, 0.0, rng))
        overdue = np.full(UNITS, workforce.c.overdue_reference)
        workforce.close_day(np.full(UNITS, load), overdue, rng)
    return out


def test_sleepiness_follows_the_published_formula():
    # S = 14 at 16.8 h: C is at its peak of 2.5 and U = -0.5 + 0.5 cos(2 pi (-3) / 12) = -0.5.
    expected = 9.68 - 0.46 * (14 + 2.5 - 0.5)
    assert fatigue.kss(np.array([14.0]), 16.8)[0] == pytest.approx(expected)
    assert fatigue.kss(np.array([2.4]), 4.8)[0] == 9  # kept on the scale


def test_alertness_falls_awake_and_recovers_asleep_without_a_jump_at_the_break():
    s = np.array([14.0])
    assert fatigue.awake(s, 10)[0] == pytest.approx(2.4 + 11.6 * np.exp(-0.353))
    below = np.array([8.0])
    to_break = (12.2 - 8.0) / (fatigue.RECOVERY * (12.2 - 14.3))
    assert fatigue.asleep(below, to_break)[0] == pytest.approx(12.2)
    around = fatigue.asleep(np.repeat(below, 2), np.array([to_break - 1e-6, to_break + 1e-6]))
    assert np.ptp(around) < 1e-5
    once = fatigue.asleep(below, 8.0)
    twice = fatigue.asleep(fatigue.asleep(below, 3.0), 5.0)
    assert twice == pytest.approx(once)
    assert once[0] < 14.3


def test_nights_are_sleepier_than_days():
    duties = live(staff(), 60)
    kss = np.mean([d.kss for d in duties], axis=0)
    assert kss[-1, NIGHT] > kss[-1, 0] + 0.5
    assert np.mean([d.kss[d.present > 0].mean() for d in duties]) == pytest.approx(
        Staff().kss_reference, abs=0.6
    )


def test_log_odds_become_exactly_that_on_the_latent_scale():
    from scipy.stats import norm

    shift = burnout.shift_for_log_odds(np.log(1.23), 0.26)
    moved = norm.sf(burnout.threshold(0.26) - shift)
    assert moved / (1 - moved) / (0.26 / 0.74) == pytest.approx(1.23)


def test_intent_to_leave_has_the_prevalence_asked_for():
    rng = np.random.default_rng(0)
    level, offer = rng.standard_normal(400_000), rng.random(400_000) < 0.1
    a = burnout.intent_intercept(0.33, 1.1, np.log(2), 0.1)
    p = burnout.logistic(a + 1.1 * level + np.log(2) * offer)
    assert p.mean() == pytest.approx(0.33, abs=0.002)


def test_burnout_keeps_its_spread_and_comes_to_its_target():
    rng, level = np.random.default_rng(0), np.zeros(20_000)
    for _ in range(400):
        level = burnout.drift(level, np.full(20_000, 0.5), 60, 0.6, rng.standard_normal(20_000))
    assert level.mean() == pytest.approx(0.5, abs=0.03)
    assert level.std() == pytest.approx(0.6, abs=0.02)


def test_rosters_cover_what_is_required():
    duties = live(staff(sick_start=1e-9, quit_intent=0, quit_other=0), 40)
    short = [REQUIRED - d.present for d in duties[12:]]
    assert np.mean(short) < 0.05
    assert np.max(short) <= 2
    assert np.mean([d.present.sum() for d in duties]) < 1.1 * REQUIRED.sum()


def test_sickness_makes_gaps_and_overtime():
    well, ill = live(staff(sick_start=1e-9), 40), live(staff(sick_start=0.03), 40)
    assert np.mean([d.present.sum() for d in ill]) < np.mean([d.present.sum() for d in well]) - 3
    assert np.mean([d.extra.mean() for d in ill]) > 2 * np.mean([d.extra.mean() for d in well])


def test_nobody_works_two_duties_or_the_day_after_a_night():
    workforce = staff(sick_start=0.02)
    last = np.full(len(workforce.posts), OFF)
    for day in range(30):
        d = workforce.plan_day(day, 0.0, np.random.default_rng(day))
        assert len(np.unique(d.post)) == len(d.post)
        overtime_after_night = d.extra & (last[d.post] == NIGHT)
        assert not overtime_after_night.any()
        last = np.full(len(workforce.posts), OFF)
        last[d.post] = d.shift


def test_more_patients_per_nurse_burn_out_more():
    calm, busy = staff(quit_intent=0, quit_other=0), staff(quit_intent=0, quit_other=0)
    live(calm, 400)
    live(busy, 400, load=3.0)
    assert busy.burnt_out.mean() > calm.burnt_out.mean() + 0.08
    assert busy.intends_to_leave.mean() > calm.intends_to_leave.mean() + 0.02


def test_leavers_are_replaced_by_other_people():
    workforce = staff(quit_intent=2.0, quit_other=1.0, vacancy_days=10.0)
    before = set(workforce.staff_id.tolist())
    rng = np.random.default_rng(0)
    left, hired = [], []
    for _ in range(200):
        turnover = workforce.close_day(np.zeros(UNITS), np.zeros(UNITS), rng)
        left += turnover.left.tolist()
        hired += turnover.hired.tolist()
    assert len(left) > 50
    assert len(set(left)) == len(left)
    assert not before & set(hired)
    here = set(workforce.staff_id[workforce.staff_id >= 0].tolist())
    assert here == (before | set(hired)) - set(left)


def test_extra_posts_leave_everybody_else_as_they_were():
    extra = np.zeros_like(REQUIRED)
    extra[:SITES] = 1
    base, more = staff(), staff(extra=extra)
    n = len(base.posts)
    assert len(more.posts) == n + 5 * SITES
    assert np.array_equal(base.burnout, more.burnout[:n])
    for day in range(5):
        a = base.plan_day(day, 0.0, np.random.default_rng(day))
        b = more.plan_day(day, 0.0, np.random.default_rng(day))
        assert np.array_equal(base.sick, more.sick[:n])
        # The rotation of five adds exactly one to each shift.
        assert (b.present[:SITES].sum() - a.present[:SITES].sum()) >= SITES


def test_a_branch_is_independent():
    workforce = staff()
    live(workforce, 3)
    level, sick = workforce.burnout.copy(), workforce.sick.copy()
    live(workforce.branch(), 10, seed=9)
    assert np.array_equal(workforce.burnout, level)
    assert np.array_equal(workforce.sick, sick)


def ordinary(n: int = 3, **changes: float) -> safety.Shift:
    c = Staff()
    values = {
        "kss": c.kss_reference,
        "overload": 0.0,
        "overtime": 0.0,
        "long": 0.0,
        "burnt_out": c.burnout_nurse,
    }
    return safety.Shift(**{k: np.full(n, v) for k, v in (values | changes).items()})


def odds(p: np.ndarray) -> np.ndarray:
    return p / (1 - p)


def test_published_effects_are_exact():
    c, log_odds = Staff(), np.array([-4.0, -2.0, 0.5])
    at_once = np.zeros(3)

    def death(load: float, hours: float = 0.0) -> np.ndarray:
        return safety.death_probability(log_odds, np.full(3, load), 7.0, at_once + hours, c)

    assert odds(death(6.0)) / odds(death(5.0)) == pytest.approx(1.07)
    assert death(7.0, 9.0) - death(7.0) == pytest.approx(1 / 82)
    assert death(7.0, 5.9) == pytest.approx(death(7.0))
    plain = odds(safety.adverse_event_probability(ordinary(), at_once, c))
    assert odds(safety.adverse_event_probability(ordinary(long=1), at_once, c)) / plain == pytest.approx(1.41)
    assert odds(safety.adverse_event_probability(ordinary(overtime=1), at_once, c)) / plain == pytest.approx(
        1.67
    )


def test_tired_crowded_and_burnt_out_staff_do_worse():
    c, zero = Staff(), np.zeros(3)
    kss = np.full(3, c.kss_reference)
    base = safety.handoff_quality(ordinary(), kss, zero, c)
    assert base == pytest.approx(c.quality_base)
    for worse in ({"kss": 7.5}, {"overload": 1.0}, {"burnt_out": 1.0}):
        assert (safety.handoff_quality(ordinary(**worse), kss, zero, c) < base).all()
        p = safety.adverse_event_probability(ordinary(**worse), zero, c)
        assert (p > safety.adverse_event_probability(ordinary(), zero, c)).all()
    assert (safety.completeness(ordinary(), np.ones(3), c) < safety.completeness(ordinary(), zero, c)).all()
    assert safety.turnout_factor(c.kss_reference, c) == 1
    assert safety.turnout_factor(8.0, c) > 1.05


def test_every_coefficient_has_a_unit_and_a_source():
    rows = parameter_table("staff", Staff())
    assert len(rows) > 40
    assert all(row.unit and row.source for row in rows)
    assert {row.name for row in rows if "Aiken" in row.source} == {"staff.burnout_load", "staff.death_load"}
    assert any(row.assumed for row in rows)
    assert PARAMEDIC == 2
