"""States, days, duties and staff as tables: what a hospital would export, and the truth apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from caretrace.hospital.operations.city import City, DayReport, State
from caretrace.hospital.operations.config import OperationsConfig
from caretrace.hospital.operations.register import FIRST_SITE, FIRST_STAFF, site_name, unit_names
from caretrace.hospital.operations.tables import Clock, site_column
from caretrace.hospital.operations.trials import arm_on
from caretrace.hospital.staff.roster import ENDS, GROUPS, PARAMEDIC, SHIFTS, STARTS


def hour_tables(states: Sequence[State], clock: Clock, sites: int) -> dict[str, pl.DataFrame]:
    """The hourly state of each hospital as a dashboard shows it, what an audit says later, and the truth."""
    column = dict(zip(State._fields, map(np.array, zip(*states, strict=True)), strict=True))
    key = {"hour_time": clock.column(column["hour"] * 60.0), "site": site_column(column["site"], sites)}
    shown = (
        "patients", "waiting", "places", "boarders", "ventilated", "longest_boarding_hours", "last_wait_hours",
        "nurses", "physicians", "ward_nurses", "ward_busy", "ward_beds", "intensive_busy", "intensive_beds",
    )  # fmt: skip
    subject = {"subject_id": FIRST_SITE + column["site"]}
    raw = pl.DataFrame(subject | key | {name: column[name] for name in shown}).with_columns(
        pl.Series("crews_waiting", column["held"]),
        pl.Series("crews", column["crews"]),
        pl.Series("crews_free", np.maximum(column["crews"] - column["crews_busy"], 0)),
        pl.Series("nedocs", column["nedocs"]),
    )
    hidden = {name: column[name] for name in ("overdue", "held_late", "calls_waiting")}
    truth = pl.DataFrame(key | hidden | {"crisis_level": column["level"]})
    # What an organisation would find when it looks back: the level of an hour, once that hour is over.
    audit = {"audit_time": clock.column((column["hour"] + 1) * 60.0), "level": column["level"]}
    return {"hours": raw, "audit": pl.DataFrame(subject | key | audit), "truth/hours": truth}


def day_tables(reports: Sequence[DayReport], city: City, clock: Clock) -> dict[str, pl.DataFrame]:
    """Weather, calendar, rosters and comings and goings of some days."""
    duties = pl.concat([_duties(report, city, clock) for report in reports])
    return {
        "weather": pl.concat([_weather(report, clock) for report in reports]),
        "calendar": _calendar(reports, clock, city.config.sites),
        "staff_changes": _changes(reports, clock),
        "duties": duties.drop("kss", "sleep_hours"),
        "sleepiness": pl.concat([_sleepiness(report, city, clock) for report in reports]),
        "truth/duties": duties.select("staff_id", "start_time", "kss", "sleep_hours"),
    }


def _weather(report: DayReport, clock: Clock) -> pl.DataFrame:
    day = report.day
    return pl.DataFrame(
        {
            "hour_time": clock.column(report.number * 1440.0 + 60.0 * np.arange(24)),
            "temperature": np.round(day.temperature, 1),
            "rain": day.rain,
            "ice": day.ice,
        }
    )


def _calendar(reports: Sequence[DayReport], clock: Clock, sites: int) -> pl.DataFrame:
    """What happened, one row for each hospital it concerns."""
    events = [
        (report.number * 1440.0, dataclasses.replace(event, site=site))
        for report in reports
        for event in report.day.events
        for site in (range(sites) if event.site < 0 else (event.site,))
    ]
    return pl.DataFrame(
        {
            "subject_id": pl.Series([FIRST_SITE + e.site for _, e in events], dtype=pl.Int64),
            "start_time": clock.column([day + 60 * e.first_hour for day, e in events]),
            "end_time": clock.column([day + 60 * (e.first_hour + e.hours) for day, e in events]),
            "kind": pl.Series([e.kind for _, e in events], dtype=pl.String),
            "site": pl.Series([site_name(e.site) for _, e in events], dtype=pl.String),
            "planned": pl.Series([e.planned for _, e in events], dtype=pl.Boolean),
        }
    )


def _changes(reports: Sequence[DayReport], clock: Clock) -> pl.DataFrame:
    rows = [
        (report.number * 1440.0 + 1440, staff_id, change)
        for report in reports
        for change, ids in (("left", report.turnover.left), ("hired", report.turnover.hired))
        for staff_id in ids.tolist()
    ]
    return pl.DataFrame(
        {
            "subject_id": pl.Series([FIRST_STAFF + row[1] for row in rows], dtype=pl.Int64),
            "change_time": clock.column([row[0] for row in rows]),
            "staff_id": pl.Series([row[1] for row in rows], dtype=pl.Int64),
            "change": pl.Series([row[2] for row in rows], dtype=pl.String),
        }
    )


def _duties(report: DayReport, city: City, clock: Clock) -> pl.DataFrame:
    d = report.duties
    group = city.staff.posts.group[d.post]
    twelve = (group == PARAMEDIC).astype(np.int64)
    midnight = report.number * 1440.0
    end = ENDS[twelve, d.shift] + 4.0 * (d.long_duty & (twelve == 0))
    return pl.DataFrame(
        {
            "subject_id": FIRST_STAFF + d.staff_id,
            "staff_id": d.staff_id,
            "group": pl.Series(GROUPS).gather(group),
            "unit": pl.Series(unit_names(city.config.sites)).gather(city.staff.posts.unit[d.post]),
            "shift": pl.Series(SHIFTS).gather(d.shift),
            "start_time": clock.column(midnight + 60 * STARTS[twelve, d.shift]),
            "end_time": clock.column(midnight + 60 * end),
            "overtime": d.extra,
            "kss": d.duty_kss,
            "sleep_hours": d.duty_sleep,
        }
    )


def _sleepiness(report: DayReport, city: City, clock: Clock) -> pl.DataFrame:
    """Karolinska sleepiness (1 to 9) as staff put it down at the end of a duty, where they did."""
    duties = _duties(report, city, clock)
    rng = city.random("tables", 2_000_000 + report.number)
    n = duties.height
    rating = np.clip(np.round(duties["kss"].to_numpy() + 0.5 * rng.standard_normal(n)), 1, 9)
    answers = duties.select("subject_id", "staff_id", answer_time="end_time").with_columns(
        rating=pl.Series(rating.astype(np.int64))
    )
    # Assumed: they do so after a third of their duties; a duty that is not over has no answer.
    return answers.filter(pl.Series(rng.random(n) < 1 / 3) & pl.col("answer_time").is_not_null())


def staff_tables(city: City, clock: Clock, survey: bool, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """The staff's latent state now, and, if it is time for one, the survey as far as answered."""
    staff = city.staff
    here = np.flatnonzero(staff.staff_id >= 0)
    now = clock.column(np.full(len(here), city.hour * 60.0))
    truth = pl.DataFrame(
        {
            "staff_id": staff.staff_id[here],
            "group": pl.Series(GROUPS).gather(staff.posts.group[here]),
            "unit": pl.Series(unit_names(city.config.sites)).gather(staff.posts.unit[here]),
            "state_time": now,
            "burnout": staff.burnout[here],
            "burnt_out": staff.burnt_out[here],
            "leave_probability": staff.intent_probability[here],
            "intends_to_leave": staff.intends_to_leave[here],
            "offer": staff.offer[here] > 0,
        }
    )
    out = {"truth/staff": truth}
    if survey:
        n = len(here)
        exhaustion = np.clip(np.round(3.6 + 1.1 * staff.burnout[here] + 0.6 * rng.standard_normal(n)), 1, 7)
        answers = truth.select(
            pl.col("staff_id").alias("subject_id") + FIRST_STAFF,
            "staff_id",
            "group",
            "unit",
            pl.col("state_time").alias("answer_time"),
        ).with_columns(
            pl.Series("exhaustion", exhaustion.astype(np.int64)),
            pl.Series(
                "support",
                np.clip(np.round(3.2 - 4 * staff.support[here] + rng.normal(0, 0.8, n)), 1, 5).astype(
                    np.int64
                ),
            ),
            pl.Series("wants_to_leave", staff.intends_to_leave[here] ^ (rng.random(n) < 0.05)),
        )
        out["survey"] = answers.filter(rng.random(n) < 0.55)  # assumed response
    return out


def site_table(city: City) -> pl.DataFrame:
    """The hospitals: what never changes."""
    return pl.DataFrame(
        {
            "site": [site_name(site.number) for site in city.sites],
            "places": [site.places for site in city.sites],
            "ward_beds": [site.wards.beds for site in city.sites],
            "intensive_beds": [site.wards.intensive_beds for site in city.sites],
        }
    )


def trial_table(config: OperationsConfig, seed: int, days: int) -> pl.DataFrame:
    """What was tried out: `first_day` (0 is the first day written), `site`, and what was added there."""
    names = ["first_day", "site", "extra_ambulances", "extra_nurses", "discharge_lounge"]
    rows = [
        (first, site_name(site), arm.ambulances, int(arm.nurses[site]), bool(arm.lounge[site]))
        for first in range(0, days, config.trials.block_days)
        for arm in (arm_on(config, seed, first + config.warm_up_days),)
        for site in range(config.sites)
    ]
    return pl.DataFrame(rows, schema=names, orient="row")
