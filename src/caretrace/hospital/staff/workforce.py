"""The staff of a city's emergency care, one day after the other."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from caretrace.hospital.staff import burnout, fatigue
from caretrace.hospital.staff.config import Staff
from caretrace.hospital.staff.roster import (
    ENDS,
    NIGHT,
    OFF,
    PARAMEDIC,
    STARTS,
    Posts,
    plan_posts,
    sleep_before,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Duties:
    """Who works on a day; `[unit, shift]` for sums and means, `[duty]` for the rows.

    Args:
        present: People on duty.
        kss: Their mean sleepiness.
        overtime: Share who work overtime.
        long: Share whose duty lasts 12 h or more.
        burnt_out: Share who are burnt out.
        post: Place in the roster, one entry per duty.
        staff_id: Who works, `[duty]`.
        shift: Of each duty.
        extra: Whether a duty is overtime, `[duty]`.
        long_duty: Whether it lasts 12 h or more, `[duty]`.
        duty_kss: Mean sleepiness in a duty, `[duty]`.
        duty_sleep: Hours slept before it, `[duty]`.
    """

    present: Ints
    kss: Floats
    overtime: Floats
    long: Floats
    burnt_out: Floats
    post: Ints
    staff_id: Ints
    shift: Ints
    extra: Bools
    long_duty: Bools
    duty_kss: Floats
    duty_sleep: Floats


@dataclasses.dataclass(frozen=True)
class Turnover:
    """Who left and who came on a day.

    Args:
        left: Ids of those who left, `[leaver]`.
        hired: Ids of those who came, `[newcomer]`.
        post: The posts they took, `[newcomer]`.
    """

    left: Ints
    hired: Ints
    post: Ints


@dataclasses.dataclass
class Workforce:
    """State of every post and its holder; axis `[post]` unless stated.

    Args:
        posts: The roster.
        required: People wanted, `[unit, shift]`.
        c: Coefficients.
        staff_id: Of the holder; -1 while vacant.
        burnout: Latent, about standard normal.
        trait: The part of it that is the person's own.
        support: What the unit's support adds, `[post]`.
        leaning: Fixed between 0 and 1; the intent to leave is there while its probability exceeds it.
        offer: Days an offer still stands; 0 for none.
        sick: Days of sickness left.
        person_kss: The person's own offset in sleepiness.
        s: Homeostatic process at waking.
        woke: Clock hour of waking on the last day.
        last: Shift worked on the last day.
        run: Consecutive days worked.
        tired: Sleepiness in the last duty.
        next_id: Of the next person hired.
        base: Posts that are always there; those after them are for what is tried out.
        idle: Posts of these that are not called for now.
    """

    posts: Posts
    required: Ints
    c: Staff
    staff_id: Ints
    burnout: Floats
    trait: Floats
    support: Floats
    leaning: Floats
    offer: Floats
    sick: Floats
    person_kss: Floats
    s: Floats
    woke: Floats
    last: Ints
    run: Ints
    tired: Floats
    next_id: int
    base: int
    idle: Bools

    def call_in(self, wanted: Ints, extra: Ints) -> None:
        """Let as many of the posts that are there for trials work as are asked for.

        Args:
            wanted: People wanted without them, `[unit, shift]`.
            extra: People wanted on top of that, `[unit, shift]`, at most as many as were hired for.
        """
        self.required = wanted + extra
        groups = np.zeros(len(wanted), np.int64)
        groups[self.posts.unit] = self.posts.group
        needed = np.bincount(plan_posts(extra, groups).unit, minlength=len(wanted))
        # They stand by unit, and each unit's first posts cover all shifts evenly.
        unit = self.posts.unit[self.base :]
        self.idle = np.zeros(len(self.posts), np.bool_)
        self.idle[self.base :] = np.arange(len(unit)) - np.searchsorted(unit, unit) >= needed[unit]

    def branch(self) -> Workforce:
        """An independent copy; what never changes is shared."""
        other = copy.copy(self)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                setattr(other, field.name, value.copy())
        return other

    def by_group(self, values: tuple[float, float, float]) -> Floats:
        """One value per group (nurse, physician, paramedic), spread over the posts."""
        return np.array(values)[self.posts.group]

    @property
    def burnt_out(self) -> Bools:
        """Who is burnt out, `[post]`; vacant posts are not."""
        c = self.c
        limits = tuple(
            burnout.threshold(p) for p in (c.burnout_nurse, c.burnout_physician, c.burnout_paramedic)
        )
        return (self.burnout > self.by_group(limits)) & (self.staff_id >= 0)  # type: ignore[arg-type]

    @property
    def intent_probability(self) -> Floats:
        """Chance to intend to leave given burnout and offers, `[post]`."""
        c = self.c
        share = c.offer_rate * c.offer_days / 365
        intercepts = tuple(
            burnout.intent_intercept(p, c.leave_burnout, c.leave_offer, share)
            for p in (c.leave_nurse, c.leave_physician, c.leave_paramedic)
        )
        offered = c.leave_offer * (self.offer > 0)
        base = self.by_group(intercepts)  # type: ignore[arg-type]
        return burnout.logistic(base + c.leave_burnout * self.burnout + offered)

    @property
    def intends_to_leave(self) -> Bools:
        """Who intends to leave, `[post]`."""
        return (self.leaning < self.intent_probability) & (self.staff_id >= 0)

    def plan_day(self, day: int, influenza: float, rng: np.random.Generator) -> Duties:
        """Fall ill, fill gaps, sleep and work: one day.

        Args:
            day: Since the start.
            influenza: 0 outside a wave, 1 at its peak.
            rng: Source of chance.
        """
        c, n = self.c, len(self.posts)
        self.sick = np.maximum(self.sick - 1, 0)
        rate = c.sick_start * np.exp(c.sick_burnout * self.burnout + c.sick_influenza * influenza)
        falls = (uniforms(n, rng) < rate) & (self.sick == 0)
        self.sick = np.where(falls, np.ceil(-c.sick_days * np.log1p(-uniforms(n, rng))), self.sick)
        shift = self.posts.planned(day)
        able = (self.sick == 0) & (self.staff_id >= 0) & ~self.idle
        shift[~able] = OFF
        extra = self._fill(shift, able, rng)
        long = extra & (uniforms(n, rng) < c.fill_extension) | (self.posts.group == PARAMEDIC)
        sleep, awake_kss = self._sleep_and_work(shift, rng)
        return self._sum(shift, extra, long, sleep, awake_kss)

    def _fill(self, shift: Ints, able: Bools, rng: np.random.Generator) -> Bools:
        """Ask people on a free day to fill gaps; changes `shift`, returns who works overtime."""
        c = self.c
        extra = np.zeros(len(shift), np.bool_)
        free = able & (shift == OFF) & (self.last != NIGHT)
        units, shifts = self.required.shape
        groups = np.zeros(units, np.int64)
        groups[self.posts.unit] = self.posts.group
        working = shift != OFF
        have = np.bincount(
            self.posts.unit[working] * shifts + shift[working], minlength=units * shifts
        ).reshape(units, shifts)
        gaps = np.maximum(self.required - have, 0)
        order = np.argsort(uniforms(len(shift), rng), kind="stable")
        willing = uniforms(len(shift), rng)
        candidates = order[free[order]]
        by_unit = candidates[np.argsort(self.posts.unit[candidates], kind="stable")]
        bounds = np.searchsorted(self.posts.unit[by_unit], np.arange(units + 1))
        for unit in np.flatnonzero(gaps.any(1)).tolist():
            fill = c.fill_ambulance if groups[unit] == PARAMEDIC else c.fill_hospital
            wanted = np.repeat(np.arange(shifts), gaps[unit])
            asked = by_unit[bounds[unit] : bounds[unit + 1]][: len(wanted)]
            yes = willing[asked] < fill
            shift[asked[yes]] = wanted[: len(asked)][yes]
            extra[asked[yes]] = True
        return extra

    def _sleep_and_work(self, shift: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Hours slept and mean sleepiness in the day's duty, `[post]`; moves the sleep state on."""
        c, n = self.c, len(shift)
        twelve = self.posts.group == PARAMEDIC
        mean, wake = sleep_before(shift, self.last == NIGHT, twelve, c)
        mean = mean + c.sleep_run * np.maximum(self.run - 2, 0) + c.sleep_burnout * self.burnout
        sleep = np.clip(mean + c.sleep_spread * normals(n, rng), 2, 11)
        up = np.maximum(24 + wake - sleep - self.woke, 4)
        self.s = fatigue.asleep(fatigue.awake(self.s, up), sleep)
        self.woke, self.last = wake, shift
        self.run = np.where(shift == OFF, 0, self.run + 1)
        kind, column = twelve.astype(np.int64), np.maximum(shift, 0)
        start, end = STARTS[kind, column], ENDS[kind, column]
        hours = [start + 1, (start + end) / 2, end - 1]
        mean_kss = sum(fatigue.kss(fatigue.awake(self.s, h - wake), h) for h in hours) / len(hours)
        mean_kss = np.clip(mean_kss + self.person_kss, 1, 9)
        self.tired = np.where(shift == OFF, self.tired, mean_kss)
        return sleep, mean_kss

    def _sum(self, shift: Ints, extra: Bools, long: Bools, sleep: Floats, kss: Floats) -> Duties:
        units, shifts = self.required.shape
        post = np.flatnonzero(shift != OFF)
        cell = self.posts.unit[post] * shifts + shift[post]

        def total(weights: NDArray[Any]) -> Floats:
            sums = np.bincount(cell, weights, minlength=units * shifts)
            return sums.reshape(units, shifts).astype(np.float64)

        present = total(np.ones(len(post)))
        some = np.maximum(present, 1)
        return Duties(
            present.astype(np.int64),
            np.where(present > 0, total(kss[post]) / some, self.c.kss_reference),
            total(extra[post]) / some,
            total(long[post]) / some,
            total(self.burnt_out[post]) / some,
            post,
            self.staff_id[post],
            shift[post],
            extra[post],
            long[post],
            kss[post],
            sleep[post],
        )

    def close_day(self, extra_patients: Floats, overdue: Floats, rng: np.random.Generator) -> Turnover:
        """Let the day's load work on burnout; some leave, vacant posts are filled.

        Args:
            extra_patients: Patients per nurse above the reference, `[unit]`.
            overdue: Share of patients who wait longer than they should, `[unit]`.
            rng: Source of chance.

        Returns:
            Who left and who came today.
        """
        c, unit = self.c, self.posts.unit
        per_patient = burnout.shift_for_log_odds(c.burnout_load, c.burnout_nurse)
        target = (
            self.trait
            + self.support
            + per_patient * extra_patients[unit]
            + c.burnout_moral * (overdue[unit] - c.overdue_reference)
            + c.burnout_fatigue * (self.tired - self.person_kss - c.kss_reference)
        )
        spread = float(np.sqrt(1 - c.burnout_trait))
        noise = normals(len(unit), rng)
        self.burnout = burnout.drift(self.burnout, target, c.burnout_days, spread, noise)
        self.offer = np.maximum(self.offer - 1, 0)
        offered = uniforms(len(unit), rng) < c.offer_rate / 365
        self.offer[offered] = c.offer_days
        return self._turn_over(rng)

    def _turn_over(self, rng: np.random.Generator) -> Turnover:
        c = self.c
        yearly = np.where(self.intends_to_leave, c.quit_intent, c.quit_other)
        rate = yearly * np.exp(c.quit_offer * (self.offer > 0)) / 365
        n = len(rate)
        u = uniforms(n, rng)
        leavers = (u < rate) & (self.staff_id >= 0)
        hired = (u < 1 / c.vacancy_days) & (self.staff_id < 0)
        left = self.staff_id[leavers].copy()
        self.staff_id[leavers] = -1
        new = int(hired.sum())
        self.staff_id[hired] = np.arange(self.next_id, self.next_id + new)
        self.next_id += new
        for state, drawn in (
            (self.trait, _draw_trait(n, c, rng)),
            (self.burnout, c.hire_burnout + normals(n, rng)),
            (self.leaning, uniforms(n, rng)),
            (self.person_kss, c.kss_person * normals(n, rng)),
            (self.offer, np.zeros(n)),
            (self.sick, np.zeros(n)),
        ):
            state[hired] = drawn[hired]
        return Turnover(left, self.staff_id[hired].copy(), np.flatnonzero(hired))


def hire(
    required: Ints, groups: Ints, c: Staff, rng: np.random.Generator, extra: Ints | None = None
) -> Workforce:
    """A staff in equilibrium at reference load.

    Args:
        required: People wanted, `[unit, shift]`, without extra posts.
        groups: Group of each unit, `[unit]`.
        c: Coefficients.
        rng: Source of chance.
        extra: People wanted on top of that, `[unit, shift]`; their posts come last, so that whoever holds the
            others is the same with and without them.
    """
    posts = plan_posts(required, groups)
    base = len(posts)
    if extra is not None and extra.any():
        posts = posts.followed_by(plan_posts(extra, groups))
        required = required + extra
    n = len(posts)
    unit_support = c.burnout_support * rng.standard_normal(len(groups))
    trait = _draw_trait(n, c, rng)
    support = unit_support[posts.unit]
    slow = np.sqrt(1 - c.burnout_trait) * normals(n, rng)
    share = c.offer_rate * c.offer_days / 365
    offer = np.where(uniforms(n, rng) < share, np.ceil(uniforms(n, rng) * c.offer_days), 0.0)
    absent = uniforms(n, rng) < c.sick_start * c.sick_days
    return Workforce(
        posts=posts,
        required=required,
        c=c,
        staff_id=np.arange(1, n + 1),
        burnout=trait + support + slow,
        trait=trait,
        support=support,
        leaning=uniforms(n, rng),
        offer=offer,
        sick=np.where(absent, np.ceil(-c.sick_days * np.log1p(-uniforms(n, rng))), 0.0),
        person_kss=c.kss_person * normals(n, rng),
        s=np.full(n, 14.0),
        woke=np.full(n, 7.5),
        last=np.full(n, OFF, np.int64),
        run=np.zeros(n, np.int64),
        tired=np.full(n, c.kss_reference),
        next_id=n + 1,
        base=base,
        idle=np.zeros(n, np.bool_),
    )


def _draw_trait(n: int, c: Staff, rng: np.random.Generator) -> Floats:
    """Own leanings to burnout: with support between units and the slow part, variance 1 in all."""
    return np.sqrt(c.burnout_trait - c.burnout_support**2) * normals(n, rng)


BLOCK = 4096  # draws are made in whole blocks and cut


def uniforms(n: int, rng: np.random.Generator) -> Floats:
    """Uniform numbers, one per post; a few posts more at the end leave those of all others as they were."""
    return rng.random(-(-n // BLOCK) * BLOCK)[:n]


def normals(n: int, rng: np.random.Generator) -> Floats:
    """Standard normal numbers, one per post, as `uniforms`."""
    return ndtri(uniforms(n, rng) + 2.0**-54)
