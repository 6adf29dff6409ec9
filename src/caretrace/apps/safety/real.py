"""Open data as sequences of the same form, so that the same heads, comparators and figures can be tried on them.

Small tables from elsewhere: San Francisco's fire department, England's emergency departments month by month,
arrivals shaped like those of University College London Hospitals, and a survey of medical students. Nothing here
measures whether staff stay, or adverse events: those are foreseen in simulation only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.sequences import (
    ARRIVALS,
    HOUR,
    PATHWAY,
    RESAMPLED,
    SEQUENCE,
    STAFF,
    TRUST,
    Sequences,
)
from caretrace.errors import InputError

Floats = NDArray[np.float64]

TRAIN, TUNING, HELD_OUT = schema.TRAIN, schema.TUNING, schema.HELD_OUT
FOLDS = 5
ARRIVALS_AHEAD_HOURS = 8
_WEEK_HOURS = 168


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One division of a table: what is learned from, what says when to stop, what is judged.

    Args:
        train: Targets of all other steps are hidden; so in the others.
        tuning: Likewise.
        held_out: Likewise.
    """

    train: Sequences
    tuning: Sequences
    held_out: Sequences


@dataclasses.dataclass(frozen=True)
class RealTable:
    """A table of open data.

    Args:
        name: Of the file without ending.
        target: What is foreseen.
        read: File, and a file to be judged on or None, → divisions; five folds, or one division by time.
        baseline: What anybody would say without a model: name, and what it says of one division.
        about: The table in words.
    """

    name: str
    target: str
    read: Callable[[Path, Path | None], list[Part]]
    baseline: tuple[str, Callable[[Part], Floats]]
    about: str


def read_fire_calls(file: Path, judged: Path | None) -> list[Part]:
    """Response delays, one step per unit sent; what is known only afterwards is not read."""
    table = _stacked(file, judged, ("Delay", "IncidentNumber", "CallType", "UnitType", "Battalion"))
    day = pl.col("CallDate").str.to_date(strict=False)
    weekend = (day.dt.weekday() >= 6).cast(pl.Float64)
    steps = table.select(
        pl.int_range(pl.len()).alias(SEQUENCE),
        pl.lit(0.0).alias(HOUR),
        pl.col("IncidentNumber").alias(RESAMPLED),
        pl.col("_judged"),
        weekend=weekend,
        advanced=pl.col("ALSUnit").cast(pl.String).str.to_lowercase().eq("true").cast(pl.Float64),
        alarms=pl.col("NumAlarms").cast(pl.Float64, strict=False),
        place_in_dispatch=pl.col("UnitSequenceInCallDispatch").cast(pl.Float64, strict=False),
        urgent=pl.col("OriginalPriority").cast(pl.String).is_in(["3", "E"]).cast(pl.Float64),
        call_type=pl.col("CallType"),
        unit_type=pl.col("UnitType"),
        battalion=pl.col("Battalion"),
        delay=pl.when(pl.col("Delay") > 0).then(pl.col("Delay")).cast(pl.Float64),
    )
    numeric = ("weekend", "advanced", "alarms", "place_in_dispatch", "urgent")
    sequences = Sequences(PATHWAY, steps, numeric, ("call_type", "unit_type", "battalion"), ("delay",))
    return _folds(sequences)


def read_survey(file: Path, judged: Path | None) -> list[Part]:
    """Exhaustion (Maslach inventory for students, 5 to 30) from everything else but the two other scales of burnout."""
    table = _stacked(file, judged, ("id", "mbi_ex"))
    hidden = ("id", "mbi_ex", "mbi_cy", "mbi_ea", "_judged")
    named = ("sex", "part", "job", "psyt", "glang")
    numeric = tuple(name for name in table.columns if name not in (*hidden, *named))
    steps = table.select(
        pl.int_range(pl.len()).alias(SEQUENCE),
        pl.lit(0.0).alias(HOUR),
        pl.col("id").alias(RESAMPLED),
        pl.col("_judged"),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in numeric),
        *(pl.col(name).cast(pl.String) for name in named),
        burnout=((pl.col("mbi_ex").cast(pl.Float64) - 5) / 25).clip(0, 1),
    )
    return _folds(Sequences(STAFF, steps, numeric, named, ("burnout",)))


def read_attendances(file: Path, judged: Path | None) -> list[Part]:
    """Share of attendances of a major department beyond four hours next month; time parts training from the rest."""
    table = _stacked(file, judged, ("period", "org_code", "type", "attendances", "breaches", "admissions"))
    own = "org_code"
    rows = _rates(table)
    past = {f"rate_{back}": pl.col("rate").shift(back).over(own) for back in (1, 2, 11)}
    # The row after is next month's only if no month is missing.
    follows = pl.col("month").shift(-1).over(own) == pl.col("month") + 1
    turn = 2 * np.pi * ((pl.col("month") + 1) % 12) / 12
    steps = rows.with_columns(
        **past,
        england=pl.col("rate").mean().over("month"),
        volume=pl.col("attendances").log(),
        admitted=pl.col("admissions") / pl.col("attendances"),
        month_sin=turn.sin(),
        month_cos=turn.cos(),
        breach=pl.when(follows).then(pl.col("rate").shift(-1).over(own)),
        _judged=pl.col("_judged").shift(-1).over(own).fill_null(False),
    ).with_columns(
        pl.col(own).rle_id().cast(pl.Int64).alias(SEQUENCE),
        pl.col("month").cast(pl.Float64).alias(HOUR),
        pl.col(own).alias(RESAMPLED),
    )
    numeric = (
        "rate",
        "rate_1",
        "rate_2",
        "rate_11",
        "england",
        "volume",
        "admitted",
        "month_sin",
        "month_cos",
    )
    sequences = Sequences(TRUST, steps, numeric, (), ("breach",))
    return [_by_time(sequences, tuning=6, held_out=6, gap=0)]


def _rates(table: pl.DataFrame) -> pl.DataFrame:
    """Major departments (type 1) month by month, with the share beyond four hours."""
    return (
        table.filter((pl.col("type").cast(pl.String) == "1") & (pl.col("attendances") > 0))
        .with_columns(date=pl.col("period").str.to_date())
        .with_columns(month=pl.col("date").dt.year() * 12 + pl.col("date").dt.month())
        .sort("org_code", "month")
        .with_columns(rate=pl.col("breaches") / pl.col("attendances"))
    )


def read_arrivals(file: Path, judged: Path | None) -> list[Part]:
    """Emergency admissions in the next eight hours, asked every hour; time parts training from the rest."""
    table = _stacked(file, judged, ("arrival_datetime",))
    time = pl.col("arrival_datetime").str.to_datetime()
    table = table.with_columns(hour=time.dt.truncate("1h"))
    hours = pl.DataFrame(
        {"hour": pl.datetime_range(table["hour"].min(), table["hour"].max(), "1h", eager=True)}  # type: ignore[arg-type]
    )
    counts = table.group_by("hour").agg(pl.len().alias("count"), pl.col("_judged").any())
    rows = hours.join(counts, on="hour", how="left", maintain_order="left").with_columns(
        pl.col("count").fill_null(0).cast(pl.Float64), pl.col("_judged").forward_fill().fill_null(False)
    )
    number = pl.int_range(pl.len())
    day, week = 2 * np.pi * pl.col("hour").dt.hour() / 24, 2 * np.pi * pl.col("hour").dt.weekday() / 7
    ahead = pl.sum_horizontal(pl.col("count").shift(-step) for step in range(1, ARRIVALS_AHEAD_HOURS + 1))
    last = ARRIVALS_AHEAD_HOURS
    steps = rows.select(
        (number // _WEEK_HOURS).alias(SEQUENCE),
        number.cast(pl.Float64).alias(HOUR),
        (number // 24).alias(RESAMPLED),
        pl.col("_judged"),
        "count",
        count_8=pl.col("count").rolling_sum(8),
        count_24=pl.col("count").rolling_sum(24),
        count_week=pl.col("count").rolling_sum(_WEEK_HOURS),
        same_last_week=pl.col("count").rolling_sum(8).shift(_WEEK_HOURS - 8),
        hour_sin=day.sin(),
        hour_cos=day.cos(),
        weekday_sin=week.sin(),
        weekday_cos=week.cos(),
        admissions=pl.when(number < pl.len() - last).then(ahead),
    )
    numeric = ("count", "count_8", "count_24", "count_week", "same_last_week", "hour_sin", "hour_cos",
               "weekday_sin", "weekday_cos")  # fmt: skip
    sequences = Sequences(ARRIVALS, steps, numeric, (), ("admissions",))
    span = 21 * 24
    return [_by_time(sequences, tuning=span, held_out=2 * span, gap=ARRIVALS_AHEAD_HOURS)]


def constant_quantiles(levels: Sequence[float]) -> Callable[[Part], Floats]:
    """The same quantiles for everybody."""

    def say(part: Part) -> Floats:
        value = _known(part.train)
        return np.tile(np.quantile(value, levels), (len(part.held_out.steps), 1))

    return say


def mean_of_training(part: Part) -> Floats:
    """The same share for everybody."""
    return np.full(len(part.held_out.steps), _known(part.train).mean())


def last_month(part: Part) -> Floats:
    """Next month as this one."""
    return part.held_out.steps["rate"].to_numpy()


def hour_of_week(levels: Sequence[float]) -> Callable[[Part], Floats]:
    """Quantiles of the same hour, weekday or weekend, in training."""

    def say(part: Part) -> Floats:
        place, value = _hours(part.train), part.train.steps["admissions"].to_numpy()
        table = np.zeros((48, len(levels)))
        for number in range(48):
            rows = (place == number) & ~np.isnan(value)
            table[number] = np.quantile(value[rows] if rows.any() else _known(part.train), levels)
        return table[_hours(part.held_out)]

    return say


def _hours(sequences: Sequences) -> NDArray[np.int64]:
    sine, cosine = (sequences.steps[f"hour_{name}"].to_numpy() for name in ("sin", "cos"))
    hour = np.rint(np.arctan2(sine, cosine) / (2 * np.pi) * 24).astype(np.int64) % 24
    turn = np.arctan2(sequences.steps["weekday_sin"].to_numpy(), sequences.steps["weekday_cos"].to_numpy())
    weekday = np.rint(turn / (2 * np.pi) * 7).astype(np.int64) % 7  # 1 is Monday, 6 and 0 the weekend
    return np.asarray(hour + 24 * np.isin(weekday, (6, 0)))


def _known(sequences: Sequences) -> Floats:
    value = sequences.steps[sequences.targets[0]].cast(pl.Float64).to_numpy()
    return np.asarray(value[~np.isnan(value)])


def _stacked(file: Path, judged: Path | None, wanted: Sequence[str]) -> pl.DataFrame:
    """Both files, with a column that says which rows are to be judged.

    Raises:
        InputError: A file or a column is missing.
    """
    tables = []
    for path, mark in ((file, False), (judged, True)):
        if path is None:
            continue
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the folder that holds {path.name}")
        table = pl.read_csv(path, infer_schema_length=None, null_values=["null", "NA"])
        missing = set(wanted) - set(table.columns)
        if missing:
            raise InputError(
                f"{path}: no column {min(missing)!r}; its header has {', '.join(table.columns[:8])}"
            )
        tables.append(table.with_columns(_judged=pl.lit(mark)))
    return pl.concat(tables, how="diagonal_relaxed")


def _only(sequences: Sequences, rows: pl.Expr) -> Sequences:
    """The same steps with the targets of all others hidden."""
    steps = sequences.steps.with_columns(
        pl.when(rows).then(pl.col(name)).cast(pl.Float64).alias(name) for name in sequences.targets
    )
    return dataclasses.replace(sequences, steps=steps)


def _folds(sequences: Sequences) -> list[Part]:
    """Five divisions by what is resampled together, or one if rows to be judged were given."""
    names = sequences.steps[RESAMPLED].cast(pl.String)
    fold = pl.Series([hashlib.sha256(name.encode()).digest()[0] % FOLDS for name in names])
    sequences = dataclasses.replace(sequences, steps=sequences.steps.with_columns(_fold=fold))
    here = pl.col("_fold")
    if sequences.steps["_judged"].any():
        rest = ~pl.col("_judged")
        return [_part(sequences, rest & (here != 0), rest & (here == 0), pl.col("_judged"))]
    return [
        _part(sequences, (here != n) & (here != (n + 1) % FOLDS), here == (n + 1) % FOLDS, here == n)
        for n in range(FOLDS)
    ]


def _part(sequences: Sequences, train: pl.Expr, tuning: pl.Expr, held_out: pl.Expr) -> Part:
    return Part(sequences.where(train), sequences.where(tuning), sequences.where(held_out))


def _by_time(sequences: Sequences, tuning: int, held_out: int, gap: int) -> Part:
    """Targets of the last steps are judged, or those of the rows given for it; those before say when to stop."""
    known = sequences.steps.filter(pl.col(sequences.targets[0]).is_not_null())
    judged = known.filter("_judged")[HOUR].to_numpy()
    first = float(judged.min()) if len(judged) else float(known[HOUR].to_numpy().max()) - held_out + 1
    at, before = pl.col(HOUR), first - tuning
    return Part(
        _only(sequences, at < before - gap),
        _only(sequences, (at >= before) & (at < first - gap)),
        _only(sequences, at >= first),
    )
