"""Patient pathways as sequences: a step per stage, with the state of the hospital and of the city it happens in.

What a step knows was known when it was reached. Age and sex, for example, are written down on arrival; that they
are missing must not tell at the call that nobody will be transported.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.pathways import EPISODE, STEPS, VITALS
from caretrace.apps.safety.sequences import HOUR, PATHWAY, SEQUENCE, Sequences
from caretrace.apps.safety.site_hours import SiteHours, hours_since

STAGES = tuple(name for name in STEPS if name not in ("clear", "discharge"))
STAGE = "stage"
# Target → the stage at which it is foreseen.
TARGETS = {"delay": "call", "handoff": "at_hospital", "documentation": "decision", "adverse": "decision"}
# An incident is reported within so many days or not at all; younger visits have no answer yet.
REPORTED_WITHIN_DAYS = 14
# What holds for the whole city, and what for one hospital, of the channels of `SiteHours`.
CITY = (
    "STATE//crews", "share_of_crews_free", "city_overdue_per_place", "city_boarding_per_place",
    "city_crews_held_per_place",
    "WEATHER//temperature//°C", "WEATHER//rain//mm", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "weekend",
    "season_sin", "season_cos", "on//influenza", "on//flood", "on//IT outage", "on//heat wave", "on//festival",
)  # fmt: skip
HOSPITAL = (
    "STATE//nedocs", "STATE//nurses", "STATE//physicians", "STATE//ward_nurses", "STATE//ward_busy", "STATE//places",
    "overdue_per_place", "crews_held_per_place", "boarding_per_place", "in_department_per_place", "last_level",
)  # fmt: skip
# Who looks after how many: a ratio that sums and splits of its parts would have to find first.
PER_NURSE = "here//patients_per_nurse"
NUMERIC = (
    "minutes", "minutes_since_step", "age", "triage_level", *VITALS, "runs_open", "calls_waiting", "district_open",
    *CITY, *(f"here//{name}" for name in HOSPITAL), PER_NURSE,
)  # fmt: skip
CATEGORICAL = (STAGE, "complaint", "district", "site", "sex", "disposition")


def pathway_sequences(
    episodes: pl.DataFrame, hours: SiteHours, block_days: int, most: int | None = None, seed: int = 0
) -> Sequences:
    """One sequence per episode.

    Args:
        episodes: From `collect_episodes`.
        hours: From `collect_site_hours`, of the same dataset.
        block_days: An episode that begins in one block and reaches into the next is left out; 0 makes one block of all.
        most: Episodes at most, drawn at random; a city has half a million a year.
        seed: Of the draw.
    """
    span = 24 * block_days or hours.n_hours
    at = [hours_since(hours.start, name).alias(name) for name in (*STAGES, "clear", "incident_time")]
    everybody = episodes.with_row_index(SEQUENCE).with_columns(at)
    begin = pl.coalesce("call", "arrival")
    last = pl.max_horizontal(STAGES)
    table = everybody.filter((begin >= 0) & (begin // span == last // span) & (last < hours.n_hours))
    if most is not None and len(table) > most:
        table = table.sample(most, seed=seed).sort(SEQUENCE)
    table = table.with_columns(begin=begin, block_ends=(begin // span + 1) * span)
    steps = _steps(table)
    steps = steps.with_columns(*_known_later(), *_targets(hours.n_hours))
    state = _running(everybody, steps) | _states(hours, steps)
    steps = steps.with_columns(pl.Series(name, values) for name, values in state.items())
    wanted = [SEQUENCE, schema.SUBJECT_ID, EPISODE, HOUR, *CATEGORICAL, *NUMERIC, *TARGETS]
    return Sequences(PATHWAY, steps.select(wanted), NUMERIC, CATEGORICAL, tuple(TARGETS))


def _steps(table: pl.DataFrame) -> pl.DataFrame:
    """One row per stage that was reached, in order, with what the episode is about."""
    order = {name: number for number, name in enumerate(STAGES)}
    long = table.select(SEQUENCE, *STAGES).unpivot(
        STAGES, index=SEQUENCE, variable_name=STAGE, value_name=HOUR
    )
    long = long.drop_nulls(HOUR).with_columns(order=pl.col(STAGE).replace_strict(order, return_dtype=pl.Int8))
    about = table.drop(STAGES)
    delay = (pl.col("on_scene") - pl.col("call")) * 60
    return (
        long.sort(SEQUENCE, HOUR, "order")
        .join(about, on=SEQUENCE, how="left", maintain_order="left")
        .join(table.select(SEQUENCE, delay=delay), on=SEQUENCE, how="left", maintain_order="left")
        .with_columns(
            minutes=(pl.col(HOUR) - pl.col("begin")) * 60,
            minutes_since_step=(pl.col(HOUR).diff().over(SEQUENCE)).fill_null(0) * 60,
        )
    )


def _known_later() -> list[pl.Expr]:
    """Hide at each step what was written down only afterwards."""
    order = pl.col("order")
    number = {name: at for at, name in enumerate(STAGES)}

    def from_stage(name: str, stage: str) -> pl.Expr:
        return pl.when(order >= number[stage]).then(pl.col(name)).alias(name)

    site = pl.when(order >= number["at_hospital"]).then(pl.col("site")).alias("site")
    seen = pl.when(order >= number["triage"]).then(pl.col("complaint_seen"))
    hidden = [from_stage(name, "triage") for name in ("triage_level", *VITALS)]
    hidden += [from_stage(name, "arrival") for name in ("age", "sex")]
    return [
        *hidden,
        site,
        from_stage("disposition", "decision"),
        pl.coalesce(seen, "complaint").alias("complaint"),
    ]


def _targets(n_hours: int) -> list[pl.Expr]:
    """Each target at its stage, null elsewhere and where nobody can know."""
    reported = pl.col("incident_time")
    # Asked within the block: a report in the next one would tell one split of the other.
    ends = pl.min_horizontal(pl.col("block_ends"), pl.lit(float(n_hours)))
    known = pl.col(HOUR) + 24 * REPORTED_WITHIN_DAYS <= ends
    values = {
        "delay": pl.col("delay"),
        "handoff": (pl.col("handoff") - 1) / 4,
        "documentation": pl.col("documentation"),
        "adverse": pl.when(known).then(
            (reported.is_not_null() & (reported <= pl.col(HOUR) + 24 * REPORTED_WITHIN_DAYS)).cast(pl.Float64)
        ),
    }
    return [
        pl.when(pl.col(STAGE) == stage).then(values[name]).cast(pl.Float64).alias(name)
        for name, stage in TARGETS.items()
    ]


def _running(episodes: pl.DataFrame, steps: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Runs under way at the moment of each step: in the city, waiting for an ambulance, in the district."""
    runs = episodes.drop_nulls("call").select("call", "dispatch", "clear", "district")
    at = steps[HOUR].to_numpy()
    call, dispatch, clear = (
        runs[name].fill_null(np.inf).to_numpy() for name in ("call", "dispatch", "clear")
    )
    open_here = np.full(len(at), np.nan)
    for (district,), rows in runs.group_by("district"):
        here = (steps["district"] == district).fill_null(False).to_numpy()
        began, ended = rows["call"].to_numpy(), rows["clear"].fill_null(np.inf).to_numpy()
        open_here[here] = _open(began, ended, at[here])
    return {
        "runs_open": _open(call, clear, at),
        "calls_waiting": _open(call, dispatch, at),
        "district_open": open_here,
    }


def _open(
    begin: NDArray[np.float64], end: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many have begun before each moment and not ended by then."""
    begun = np.searchsorted(np.sort(begin), at, side="left")
    over = np.searchsorted(np.sort(end), at, side="right")
    return (begun - over).astype(float)


def _states(hours: SiteHours, steps: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The state at the last full hour: of the city, and of the hospital once the step has one."""
    row = np.clip(steps[HOUR].to_numpy().astype(np.int64), 0, hours.n_hours - 1)
    number = {name: index for index, name in enumerate(hours.sites)}
    site = steps["site"].replace_strict(number, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
    out = {name: hours.channel(name)[0, row].astype(float) for name in CITY}
    for name in HOSPITAL:
        here = hours.channel(name)[np.maximum(site, 0), row]
        out[f"here//{name}"] = np.where(site >= 0, here, np.nan).astype(float)
    patients = out["here//in_department_per_place"] * out["here//STATE//places"]
    out[PER_NURSE] = patients / np.maximum(out["here//STATE//nurses"], 1)
    return out
