"""Vital signs beside those of the eICU demo."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from caretrace.hospital import HospitalConfig, open_data, simulate
from caretrace.hospital.likeness import stay_hours
from caretrace.hospital.physiology import (
    CHANNELS,
    UNITS,
    PhysiologyConfig,
    compare_hours,
    curves,
    simulated_hours,
    vitals_of,
)
from caretrace.hospital.physiology.config import HR, MAP, RESP, SPO2
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import BOTH, REAL, SIMULATED, Section, figure, panel, picture, steps, table

NAMES = (
    "heart rate",
    "oxygen saturation",
    "respiration",
    "systolic",
    "diastolic",
    "mean pressure",
    "temperature",
)
EDGES = {
    "hr": (30, 160, 5), "spo2": (80, 101, 1), "resp": (4, 44, 2), "sbp": (60, 220, 8), "dbp": (20, 130, 5),
    "map": (30, 150, 5), "temp": (34.5, 39.6, 0.3),
}  # fmt: skip
WARD = PhysiologyConfig(hours=80, seed=1)
LAGS = range(1, 25)
ROWS = ("mean", "sd", "sd between", "sd within", "lag 1 h", "lag 6 h")


def make(data: Path) -> Section:
    """Distributions, memory, coupling and density, real and simulated."""
    real, ward = open_data.vital_hours(data), simulated_hours(700, WARD)
    stays = _stays()
    return Section(
        figures={
            "vitals-marginals": _marginals(real, ward),
            "vitals-memory": _memory(real, ward),
            "vitals-day": _day(),
        },
        tables={
            "vitals": _figures(real, ward),
            "vitals-pairs": _pairs(real, ward),
            "vitals-density": _density(real, ward, stays),
            "stays-vitals": _figures(real, stays),
        },
    )


def _stays() -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        simulate(raw, HospitalConfig(subjects=1000))
        return stay_hours(pl.read_csv(raw / "vitals.csv", try_parse_dates=True),
                          pl.read_csv(raw / "icu_stays.csv", try_parse_dates=True))  # fmt: skip


def _marginals(real: pl.DataFrame, ward: pl.DataFrame) -> str:
    plots = []
    for name, channel, unit in zip(NAMES, CHANNELS, UNITS, strict=True):
        if channel == "dbp":  # as the mean pressure; the table has it
            continue
        low, high, step = EDGES[channel]
        edges = np.arange(low, high + step / 2, step).tolist()
        shares = {kind: curves.histogram(t, channel, edges) for kind, t in ((REAL, real), (SIMULATED, ward))}
        top = 1.08 * max(float(share.max()) for share in shares.values())
        plot = Plot("", "", Axis(unit, low, edges[-1]), Axis("", 0, top, percent=True), 292, 200, left=48)
        panel(name, f"Share of hours by {name}, real and simulated.", plot)
        for kind, share in shares.items():
            plot.line(*steps(edges, share.tolist()), kind)
        plots.append(plot)
    return picture("vitals-marginals", plots, 3, BOTH, "share of hourly values; real: eICU demo")


def _memory(real: pl.DataFrame, ward: pl.DataFrame) -> str:
    plots = []
    for name, channel in (("heart rate", "hr"), ("oxygen saturation", "spo2"), ("mean pressure", "map")):
        plot = Plot(
            "", "", Axis("hours apart", 0, 24, ticks=(0, 6, 12, 18, 24)), Axis("", -0.1, 1), 292, 220, left=48
        )
        panel(f"memory of {name}", f"Autocorrelation of {name} around the subject's mean.", plot)
        plot.line([0, 24], [0, 0], "base")
        for kind, t in ((REAL, real), (SIMULATED, ward)):
            plot.line([0, *LAGS], [1, *curves.correlation_ahead(t, channel, channel, LAGS)], kind)
        plots.append(plot)
    pairs = (("heart rate", "saturation", "hr", "spo2"), ("heart rate", "respiration", "hr", "resp"),
             ("saturation", "respiration", "spo2", "resp"))  # fmt: skip
    around = range(-12, 13)
    for one, other, a, b in pairs:
        plot = Plot("", "", Axis(f"hours from {one} to {other}", -12, 12, ticks=(-12, -6, 0, 6, 12)),
                    Axis("", -0.3, 0.4), 292, 220, left=48)  # fmt: skip
        panel(
            f"{one} and {other}",
            f"Correlation of {one} with {other} some hours later, within subjects.",
            plot,
        )
        plot.line([-12, 12], [0, 0], "base")
        for kind, t in ((REAL, real), (SIMULATED, ward)):
            plot.line(list(around), curves.correlation_ahead(t, a, b, around).tolist(), kind)
        plots.append(plot)
    return picture("vitals-memory", plots, 3, BOTH, "correlation within subjects; real: eICU demo")


def _day() -> str:
    """One simulated person who deteriorates, a value every five minutes."""
    config = PhysiologyConfig(hours=24, step_seconds=300, share_deteriorating=1, kinds=("sepsis",), seed=4)
    recording = vitals_of(1, config)
    event, hours = recording.plan.events[0], recording.block.second / 3600
    plots = []
    for place in (HR, RESP, MAP, SPO2):
        values = recording.block.values[place]
        shown = np.isfinite(values)
        low, high = np.nanmin(values), np.nanmax(values)
        pad = 0.08 * (high - low)
        plot = Plot("", "", Axis("hours", 0, 24, ticks=(0, 6, 12, 18, 24)), Axis("", low - pad, high + pad), 446, 170,
                    left=48)  # fmt: skip
        panel(f"{NAMES[place]} ({UNITS[place]})", f"A simulated day of {NAMES[place]}.", plot)
        end = min(event.end / 3600, 24)
        plot.band([event.onset / 3600, end], [low - pad] * 2, [high + pad] * 2, "s1")
        plot.line(hours[shown].tolist(), values[shown].tolist(), "s0 thin")
        plots.append(plot)
    return picture(
        "vitals-day", plots, 2, (("simulated", SIMULATED),), "shaded: sepsis, from its true onset on"
    )


def _figures(real: pl.DataFrame, simulated: pl.DataFrame) -> str:
    compared = compare_hours(real, simulated)
    rows = []
    for name, channel in zip(NAMES, CHANNELS, strict=True):
        own = {f: (r, s) for c, f, r, s in compared.iter_rows() if c == channel}
        rows.append([name, *(f"{figure(own[f][0], 2)} / {figure(own[f][1], 2)}" for f in ROWS)])
    header = ("real / simulated", "mean", "sd", "sd between", "sd within", "after 1 h", "after 6 h")
    return table(header, rows)


def _pairs(real: pl.DataFrame, simulated: pl.DataFrame) -> str:
    compared = compare_hours(real, simulated).filter(pl.col("figure") == "correlation within")
    short = dict(zip(CHANNELS, ("heart rate", "saturation", "respiration", "systolic", "diastolic", "mean pressure",
                                "temperature"), strict=True))  # fmt: skip
    rows = []
    for pair, _, there, here in compared.iter_rows():
        one, other = pair.split("~")
        if one in ("hr", "spo2") or other == "temp":
            rows.append([f"{short[one]}, {short[other]}", figure(there, 2), figure(here, 2)])
    return table(("correlation within subjects", "real", "simulated"), rows)


def _density(real: pl.DataFrame, ward: pl.DataFrame, stays: pl.DataFrame) -> str:
    columns = [curves.density(t) for t in (real, stays, ward)]
    rows = [[name, *(f"{100 * c[i]:.0f} %" for c in columns)] for i, name in enumerate(NAMES)]
    every = [curves.gaps(t, "temp") for t in (real, stays)]
    rows.append(["temperature: next value 4 h later", *(f"{100 * g[3]:.0f} %" for g in every), "0 %"])
    return table(("hours with a value", "eICU demo", "simulated stays", "simulated monitors"), rows)
