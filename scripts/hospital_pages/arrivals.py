"""A simulated year of the city beside open tables of real emergency care."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import polars as pl

from caretrace.hospital import open_data
from caretrace.hospital.operations import OperationsConfig, likeness
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import REAL, SIMULATED, Section, figure, panel, picture, steps, table

LEGEND = (("simulated", SIMULATED), ("open data", REAL))
HOURS = (0, 6, 12, 18, 24)
TABLES = ("visits", "runs", "hours", "truth/hours", "truth/visits")


@functools.cache
def year() -> dict[str, pl.DataFrame]:
    """The city of Hamburg's size, seed 0, 365 days."""
    return likeness.city_tables(OperationsConfig(), 365, 0, TABLES)


def scene_minutes() -> likeness.Floats:
    """Minutes from call to arrival on scene of every simulated run."""
    runs = year()["runs"].drop_nulls("scene_time")
    minutes = (runs["scene_time"] - runs["call_time"]).dt.total_seconds().to_numpy() / 60
    return minutes[minutes > 0]


def make(data: Path) -> Section:
    """Hours, days, delays and months, real and simulated."""
    visits = year()["visits"]
    admitted = visits.filter(pl.col("disposition").is_in(["ward", "intensive care"]))
    months = open_data.department_months(data)
    return Section(
        figures={"arrivals": _picture(data, visits, months)},
        tables={
            "arrivals-days": _days(data, visits, admitted),
            "arrivals-delays": _delays(data),
            "arrivals-months": _months(months, visits),
        },
    )


def _picture(data: Path, visits: pl.DataFrame, months: pl.DataFrame) -> str:
    times, real = visits["arrival_time"].to_list(), open_data.admission_times(data)
    hours = Plot(
        "",
        "",
        Axis("hour of arrival", 0, 24, ticks=HOURS),
        Axis("", 0, 0.09, percent=True),
        446,
        230,
        left=52,
    )
    panel("arrivals by hour (open data: London-shaped)", "Share of arrivals in each hour.", hours)
    for kind, these in ((REAL, real), (SIMULATED, times)):
        hours.line(*steps(range(25), likeness.hour_shares(these).tolist()), kind)
    week = Plot("", "", Axis("day of the week", 0, 7, ticks=tuple(d + 0.5 for d in range(7)),
                             names=("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")),
                Axis("", 0.8, 1.3), 446, 230, left=52)  # fmt: skip
    panel("arrivals by weekday, over average (the same)", "Arrivals by weekday over the average.", week)
    for kind, these in ((REAL, real), (SIMULATED, times)):
        counts, weekday = likeness.daily_counts(these)
        means = np.array([counts[weekday == d].mean() for d in range(7)])
        week.line(*steps(range(8), (means / means.mean()).tolist()), kind)
    return picture("arrivals", [hours, week, _tails(data), _seasons(months, visits)], 2, LEGEND)


def _tails(data: Path) -> Plot:
    plot = Plot("", "", Axis("delay over its median", 0, 5), Axis("", 0, 1, percent=True), 446, 230, left=52)
    panel(
        "delays longer than that (San Francisco)",
        "Share of delays longer than a multiple of the median.",
        plot,
    )
    at = np.linspace(0, 5, 101)
    for kind, minutes in ((REAL, open_data.response_delays(data)), (SIMULATED, scene_minutes())):
        relative = np.sort(minutes / np.median(minutes))
        plot.line(
            at.tolist(), (1 - np.searchsorted(relative, at, side="right") / len(relative)).tolist(), kind
        )
    return plot


def _seasons(months: pl.DataFrame, visits: pl.DataFrame) -> Plot:
    plot = Plot("", "", Axis("month", 0, 12, ticks=tuple(m + 0.5 for m in range(12)), names=tuple("JFMAMJJASOND")),
                Axis("", 0.85, 1.15), 446, 230, left=52)  # fmt: skip
    panel("arrivals by month, over average (England)", "Arrivals a day by calendar month over average.", plot)
    for kind, these in ((REAL, months), (SIMULATED, likeness.months_of(visits))):
        plot.line(*steps(range(13), likeness.season(these).tolist()), kind)
    return plot


def _days(data: Path, visits: pl.DataFrame, admitted: pl.DataFrame) -> str:
    real = likeness.describe_arrivals(open_data.admission_times(data))
    rest = [
        likeness.mean_figures(
            [likeness.describe_arrivals(site["arrival_time"].to_list()) for site in t.partition_by("site")]
        )
        for t in (admitted, visits)
    ]
    rows = [[name, figure(value), *(figure(each[name]) for each in rest)] for name, value in real.items()]
    shape = likeness.hour_shares(open_data.admission_times(data))
    apart = [
        likeness.total_variation(shape, likeness.hour_shares(t["arrival_time"].to_list()))
        for t in (admitted, visits)
    ]
    rows.append(["hours: total variation from the first column", "0", *(figure(each) for each in apart)])
    header = ("one hospital", "London-shaped, admitted", "simulated, admitted", "simulated, all arrivals")
    return table(header, rows)


def _delays(data: Path) -> str:
    real = likeness.describe_delays(open_data.response_delays(data))
    here = likeness.describe_delays(scene_minutes())
    rows = [[name, figure(real[name]), figure(here[name])] for name in real]
    return table(("response delay", "San Francisco 2002, medical", "simulated"), rows)


def _months(months: pl.DataFrame, visits: pl.DataFrame) -> str:
    real = likeness.describe_months(months)
    here = likeness.describe_months(likeness.months_of(visits))
    rows = [[name, figure(real[name]), figure(here[name])] for name in real]
    header = ("by month", f"England, {months['site'].n_unique()} trusts", "simulated, 10 hospitals")
    return table(header, rows)
