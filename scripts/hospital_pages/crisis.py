"""Crowding and crisis levels of a simulated year: NEDOCS, thresholds, triage, safety."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl

from caretrace.hospital.operations import crisis, profiles
from caretrace.report.svg import Axis, Plot
from hospital_pages.arrivals import HOURS, scene_minutes, year
from hospital_pages.drawing import SIMULATED, Section, figure, panel, picture, table

BANDS = (
    "not busy",
    "busy",
    "extremely busy",
    "overcrowded",
    "severely overcrowded",
    "dangerously overcrowded",
)
LEVEL_KINDS = ("s2", "s0", "s4", "s3", "s1")
TRIAGE = ("immediate", "very urgent", "urgent", "standard", "not urgent")
SHOWN_SITE, FIRST_DAY, DAYS = "H05", 9, 14


def make(_: Path) -> Section:
    """What a year looks like from inside the emergency departments."""
    hours = year()["hours"].join(year()["truth/hours"], on=["hour_time", "site"])
    return Section(
        figures={"crowding": _crowding(hours), "fortnight": _fortnight(hours), "triage": _triage_picture()},
        tables={
            "nedocs": _nedocs(hours),
            "crisis": _thresholds(hours),
            "triage": _triage(),
            "safety": _safety(),
            "year": _year(),
        },
    )


def _crowding(hours: pl.DataFrame) -> str:
    by_hour = hours.group_by(pl.col("hour_time").dt.hour().alias("h")).agg(
        *(pl.col("nedocs").quantile(q).alias(f"q{q}") for q in (0.1, 0.5, 0.9)),
        *((pl.col("crisis_level") >= level).mean().alias(f"l{level}") for level in (1, 2, 3, 4)),
    ).sort("h")  # fmt: skip
    day = Plot("", "", Axis("hour of the day", 0, 23, ticks=HOURS[:-1]), Axis("", -20, 200, ticks=(0, 100, 200)),
               446, 250, left=48, right=120)  # fmt: skip
    panel("NEDOCS over the day: median, 10th to 90th percentile", "NEDOCS by hour of the day.", day)
    for limit, name in zip(crisis.NEDOCS_BANDS, BANDS[1:], strict=True):
        day.line([0, 23], [limit, limit], "chance")
        day.write(day.inner_right + 6, day.py(limit) + 4, f"{limit} {name.split()[0]}", "tick")
    x = by_hour["h"].to_list()
    day.band(x, by_hour["q0.1"].to_list(), by_hour["q0.9"].to_list(), "s0")
    day.line(x, by_hour["q0.5"].to_list(), "s0")
    levels = Plot("", "", Axis("hour of the day", 0, 23, ticks=HOURS[:-1]), Axis("", 0, 0.8, percent=True),
                  446, 250, left=52, right=110)  # fmt: skip
    panel(
        "hospital-hours at that crisis level or above", "Share of hospital-hours by level and hour.", levels
    )
    for level in (1, 2, 3, 4):
        levels.line(x, by_hour[f"l{level}"].to_list(), LEVEL_KINDS[level] + " solid")
    levels.end_labels(
        [(by_hour[f"l{n}"][-1], f"{n} {crisis.LEVELS[n]}", LEVEL_KINDS[n]) for n in (1, 2, 3, 4)]
    )
    return picture("crowding", [day, levels], 2, (("simulated", SIMULATED),), "one year, ten hospitals")


def _fortnight(hours: pl.DataFrame) -> str:
    one = hours.filter(pl.col("site") == SHOWN_SITE).sort("hour_time")[
        24 * FIRST_DAY : 24 * (FIRST_DAY + DAYS)
    ]
    days = [i / 24 for i in range(one.height)]
    ticks = tuple(float(d) for d in range(0, DAYS + 1, 2))
    first = one["hour_time"][0]
    plots = []
    for title, column, top in (
        ("NEDOCS", "nedocs", 260.0), ("patients waiting for a place", "waiting", None),
        ("admitted patients without a bed", "boarders", None), ("crisis level (truth)", "crisis_level", 4.3),
    ):  # fmt: skip
        high = top or 1.1 * float(one[column].max()) + 1  # type: ignore[arg-type]
        low = -20.0 if column == "nedocs" else 0.0
        marks = (0.0, 1.0, 2.0, 3.0, 4.0) if column == "crisis_level" else None
        plot = Plot("", "", Axis(f"days from {first:%d %B %Y}", 0, DAYS, ticks=ticks), Axis("", low, high, ticks=marks),
                    446, 180, left=48)  # fmt: skip
        panel(title, f"{title} in hospital {SHOWN_SITE} over two simulated weeks.", plot)
        if column == "nedocs":
            plot.line([0, DAYS], [100, 100], "chance")
        plot.line(days, one[column].to_list(), "s0 thin" if column != "crisis_level" else "s1 solid thin")
        plots.append(plot)
    return picture("fortnight", plots, 2, (("simulated", SIMULATED),), f"hospital {SHOWN_SITE}, two weeks")


def _waits() -> pl.DataFrame:
    wait = (pl.col("physician_time") - pl.col("arrival_time")).dt.total_seconds() / 60
    return year()["visits"].with_columns(wait=wait)


def _triage_picture() -> str:
    waits, plots = _waits(), []
    for level in (2, 3, 4, 5):
        minutes = waits.filter(pl.col("triage") == level)["wait"].drop_nulls().to_numpy()
        limit = profiles.MAX_WAIT_MINUTES[level - 1]
        top = 3 * limit
        at = np.linspace(0, top, 61)
        plot = Plot("", "", Axis("min to the physician", 0, top, ticks=tuple(top * i / 3 for i in range(4))),
                    Axis("", 0, 1, percent=True), 216, 200, left=50)  # fmt: skip
        panel(
            f"{level} {TRIAGE[level - 1]}",
            f"Share of level {level} seen by a physician within so many minutes.",
            plot,
        )
        plot.line([limit, limit], [0, 1], "chance")
        plot.line(
            at.tolist(), (np.searchsorted(np.sort(minutes), at, side="right") / len(minutes)).tolist(), "s0"
        )
        plots.append(plot)
    return picture(
        "triage", plots, 4, (("simulated", SIMULATED),), "dashed: longest wait of the Manchester triage"
    )


def _nedocs(hours: pl.DataFrame) -> str:
    limits = crisis.NEDOCS_BANDS
    share = np.histogram(hours["nedocs"].to_numpy(), [-np.inf, *limits, np.inf])[0] / hours.height
    spans = [
        f"below {limits[0]}",
        *(f"{a} to {b}" for a, b in itertools.pairwise(limits)),
        f"from {limits[-1]}",
    ]
    rows = [[span, name, f"{100 * s:.1f} %"] for span, name, s in zip(spans, BANDS, share, strict=True)]
    return table(("NEDOCS", "band", "simulated hospital-hours"), rows, right=2)


def _thresholds(hours: pl.DataFrame) -> str:
    share = np.bincount(hours["crisis_level"].to_numpy(), minlength=5) / hours.height
    middle = (
        hours.group_by("crisis_level").agg(pl.col("nedocs").median()).sort("crisis_level")["nedocs"].to_list()
    )
    rows = [["0 normal", "–", "–", "–", "–", f"{100 * share[0]:.1f} %", f"{middle[0]:.0f}"]]
    for level in range(1, 5):
        limits = [
            f"≥ {each[level - 1]:g}"
            for each in (crisis.OVERDUE_PER_PLACE, crisis.BOARDERS_PER_PLACE, crisis.HELD_PER_PLACE)
        ]
        rows.append([f"{level} {crisis.LEVELS[level]}", *limits, f"< {crisis.FREE_CREWS[level - 1]:g}",
                     f"{100 * share[level]:.1f} %", f"{middle[level]:.0f}"])  # fmt: skip
    header = ("level", "overdue per place", "boarders per place", "crews held per place", "share of crews free",
              "simulated hospital-hours", "their median NEDOCS")  # fmt: skip
    return table(header, rows)


def _triage() -> str:
    waits, rows = _waits(), []
    for level in range(1, 6):
        own = waits.filter(pl.col("triage") == level)
        limit, minutes = profiles.MAX_WAIT_MINUTES[level - 1], own["wait"].drop_nulls()
        rows.append([
            f"{level} {TRIAGE[level - 1]}", f"{100 * profiles.TRIAGE[level - 1]:.1f} %",
            f"{100 * own.height / waits.height:.1f} %",
            f"{limit:.0f} min", f"{minutes.median():.0f} min", f"{minutes.quantile(0.95):.0f} min",
            f"{100 * (minutes <= limit).mean():.0f} %", f"{100 * own['wait'].null_count() / own.height:.1f} %",
        ])  # fmt: skip
    header = ("Manchester level", "published share", "simulated share", "longest wait", "simulated median",
              "95th percentile", "in time", "left unseen")  # fmt: skip
    return table(header, rows)


def _safety() -> str:
    truth = year()["truth/visits"]
    admitted = truth.filter("needs_bed")
    rows = [
        ["visits with an adverse event", f"{1000 * truth['adverse'].mean():.1f} per 1,000"],
        ["deaths of admitted patients", f"{1000 * admitted['died'].mean():.1f} per 1,000"],
        ["ambulance handoffs, mean quality", f"{truth['handoff_quality'].drop_nans().mean():.1f} of 100"],
        ["items of the record filled in", f"{100 * truth['item_probability'].mean():.1f} %"],
    ]
    return table(("simulated, no open data to compare with", "one year"), rows)


def _year() -> str:
    minutes, visits = scene_minutes(), year()["visits"]
    stay = (visits["departure_time"] - visits["arrival_time"]).dt.total_seconds() / 60
    rows = [
        ["ambulance on scene, mean min", "8.4 (Germany, BASt 2012/13)", figure(float(minutes.mean()))],
        ["ambulance on scene, 95th percentile, min", "16.9 (Germany, BASt 2012/13)",
         figure(float(np.quantile(minutes, 0.95)))],
        ["ambulance on scene after 10 min, %", "11.8 (Hamburg)", figure(float(100 * np.mean(minutes > 10)))],
        ["stay in the emergency department, mean min", "208 (AKTIN)", figure(float(stay.mean() or 0))],
    ]  # fmt: skip
    return table(("a whole year, seed 0", "published", "simulated"), rows, right=1)
