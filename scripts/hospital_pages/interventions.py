"""What the switches do: the same weeks with and without each of them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import t as student

from caretrace.hospital.operations import Interventions, OperationsConfig, likeness
from caretrace.report.svg import Axis, Plot
from hospital_pages.drawing import Section, panel, picture, table

SEEDS, DAYS, FIRST = 12, 28, dt.date(2023, 1, 1)
ARMS = {
    "five more ambulances": Interventions(extra_ambulances=5),
    "one more nurse per shift": Interventions(extra_nurses=1),
    "a discharge lounge": Interventions(discharge_lounge=True),
    "all three": Interventions(5, 1, discharge_lounge=True),
}
# Name, unit, digits; the measures are in this order everywhere.
MEASURES = (
    ("ambulance on scene within 8 min", "%", 2), ("stay in the emergency department", "min", 1),
    ("wait for a physician", "min", 1), ("hospital-hours at crisis level 3 or 4", "%", 2),
    ("adverse events per 1,000 visits", "", 2), ("deaths per 1,000 admitted", "", 2),
)  # fmt: skip


def make(_: Path) -> Section:
    """Paired differences over replications spread over the year."""
    plain = _arm(Interventions())
    changes = {name: _arm(arm) - plain for name, arm in ARMS.items()}
    half = float(student.ppf(0.975, SEEDS - 1)) / SEEDS**0.5
    effects = {name: (c.mean(0), half * c.std(0, ddof=1)) for name, c in changes.items()}
    return Section({"interventions": _picture(effects)}, {"interventions": _table(plain.mean(0), effects)})


def _arm(interventions: Interventions) -> likeness.Floats:
    """Every measure in every replication, `[seed, measure]`; deaths and events as their true chances."""
    rows = []
    for seed in range(SEEDS):
        start = FIRST + dt.timedelta(days=round(seed * 365 / SEEDS))
        config = OperationsConfig(start=start.isoformat(), interventions=interventions)
        tables = likeness.city_tables(config, DAYS, seed, ("visits", "runs", "truth/hours", "truth/visits"))
        rows.append(_measures(tables))
    return np.array(rows)


def _measures(tables: dict[str, pl.DataFrame]) -> list[float]:
    visits, runs, truth = tables["visits"], tables["runs"].drop_nulls("scene_time"), tables["truth/visits"]

    def minutes(table: pl.DataFrame, start: str, end: str) -> likeness.Floats:
        return (table[end] - table[start]).drop_nulls().dt.total_seconds().to_numpy() / 60

    admitted = truth.filter(pl.col("death_probability") > 0)
    return [
        100 * float(np.mean(minutes(runs, "call_time", "scene_time") <= 8)),
        float(minutes(visits, "arrival_time", "departure_time").mean()),
        float(minutes(visits, "arrival_time", "physician_time").mean()),
        100 * float((tables["truth/hours"]["crisis_level"] >= 3).mean()),
        1000 * float(truth["adverse_probability"].to_numpy().mean()),
        1000 * float(admitted["death_probability"].to_numpy().mean()),
    ]


def _picture(effects: dict[str, tuple[likeness.Floats, likeness.Floats]]) -> str:
    plots, n = [], len(effects)
    for place, (name, unit, _) in enumerate(MEASURES):
        low = min(0.0, *(float(m[place] - h[place]) for m, h in effects.values()))
        high = max(0.0, *(float(m[place] + h[place]) for m, h in effects.values()))
        pad = 0.08 * (high - low)
        plot = Plot("", "", Axis(f"change{', ' + unit if unit else ''}", low - pad, high + pad),
                    Axis("", 0, n, ticks=tuple(n - i - 0.5 for i in range(n)), names=tuple(effects)),
                    446, 84 + 22 * n, left=170)  # fmt: skip
        panel(name, f"Change of {name} by intervention.", plot)
        plot.line([0, 0], [0, n], "chance")
        for row, (mean, half) in enumerate(effects.values()):
            plot.whisker(
                n - row - 0.5, mean[place] - half[place], mean[place] + half[place], "s0", across=True
            )
            plot.dot(mean[place], n - row - 0.5, "s0")
        plots.append(plot)
    return picture(
        "interventions",
        plots,
        2,
        (("simulated", "s0"),),
        f"paired, {SEEDS} replications of {DAYS} days, 95 %",
    )


def _table(plain: likeness.Floats, effects: dict[str, tuple[likeness.Floats, likeness.Floats]]) -> str:
    rows = []
    for i, (name, unit, digits) in enumerate(MEASURES):
        cells = [f"{m[i]:+.{digits}f} ± {h[i]:.{digits}f}".replace("-", "−") for m, h in effects.values()]
        rows.append([f"{name}{', ' + unit if unit else ''}", f"{plain[i]:.{digits}f}", *cells])
    return table(("simulated", "as it is", *effects), rows)
