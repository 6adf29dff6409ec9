"""Members of staff as sequences: a step per duty, when it begins, with what the roster and surveys said by then.

People are here to be counted in groups. Nothing a model says of one of them is shown (`evaluate.groups`).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.pathways import SEPARATOR
from caretrace.apps.safety.sequences import HOUR, SEQUENCE, STAFF, Sequences
from caretrace.apps.safety.site_hours import SiteHours, hours_since
from caretrace.dataset import Dataset

DUTY, DUTY_END, OVERTIME = "DUTY", "DUTY_END", "OVERTIME"
# Answer → code, and the ends of its scale.
ANSWERS = {
    "sleepiness": ("SURVEY//sleepiness", 1.0, 9.0),  # Karolinska Sleepiness Scale
    "exhaustion": ("SURVEY//exhaustion", 1.0, 7.0),
    "support": ("SURVEY//support", 1.0, 5.0),
    "wants_to_leave": ("SURVEY//wants_to_leave", 0.0, 1.0),
}
# Target → the answer it foresees, and within how many hours of the beginning of the duty it must be given.
TARGETS = {
    "fatigue": ("sleepiness", 30.0),
    "burnout": ("exhaustion", 7 * 24.0),
    "retention": ("wants_to_leave", 7 * 24.0),
}
WEEKS = (1, 4)
SITE = ("overdue_per_place", "boarding_per_place", "in_department_per_place", "STATE//nurses", "last_level")
CITY = (
    "share_of_crews_free",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
    "season_sin",
    "season_cos",
)
NUMERIC = (
    "hours_off", "last_duty_hours", "duties_before",
    *(f"{what}_{weeks}_weeks" for weeks in WEEKS for what in ("hours", "nights", "overtime")),
    *(f"last_{name}" for name in ANSWERS), "mean_sleepiness", *(f"here//{name}" for name in SITE), *CITY,
)  # fmt: skip
CATEGORICAL = ("group", "unit", "shift")


def staff_sequences(dataset: Dataset, hours: SiteHours, block_days: int) -> Sequences:
    """One sequence per member of staff and block; empty where the dataset has no roster.

    Args:
        dataset: Where staff have timelines of their own.
        hours: From `collect_site_hours`, of the same dataset.
        block_days: No sequence, and no answer foreseen by one, lies in two blocks; 0 makes one block of all.
    """
    span = 24 * block_days or hours.n_hours
    events = _events(dataset, hours)
    duties = _duties(events).filter(pl.col(HOUR).is_between(0, hours.n_hours, closed="left"))
    block = (pl.col(HOUR) // span).cast(pl.Int64)
    duties = duties.with_columns(block=block).sort(schema.SUBJECT_ID, HOUR)
    duties = _history(_answers(duties, events))
    duties = duties.with_columns(_targets(span, hours.n_hours)).with_columns(
        pl.struct(schema.SUBJECT_ID, "block").rle_id().alias(SEQUENCE)
    )
    state = _states(hours, duties)
    duties = duties.with_columns(pl.Series(name, values) for name, values in state.items())
    wanted = [SEQUENCE, schema.SUBJECT_ID, HOUR, *CATEGORICAL, *NUMERIC, *TARGETS]
    return Sequences(STAFF, duties.select(wanted), NUMERIC, CATEGORICAL, tuple(TARGETS))


def _events(dataset: Dataset, hours: SiteHours) -> pl.DataFrame:
    code = pl.col(schema.CODE).cast(pl.String)
    wanted = code.str.contains(f"^({DUTY}|{DUTY_END}|STAFF){SEPARATOR}") | code.is_in(
        [OVERTIME, *(name for name, _, _ in ANSWERS.values())]
    )
    found = dataset.scan().with_columns(code).filter(wanted).drop(schema.TEXT_VALUE).collect()
    return found.with_columns(hours_since(hours.start, schema.TIME).alias(HOUR))


def _duties(events: pl.DataFrame) -> pl.DataFrame:
    """One row per duty: when it began, its shift, when it ended (null: not yet), whether it was overtime."""
    code, part = pl.col(schema.CODE), pl.col(schema.CODE).str.split(SEPARATOR)
    begun = events.filter(code.str.starts_with(DUTY + SEPARATOR)).select(
        schema.SUBJECT_ID, HOUR, shift=part.list.get(1)
    )
    ended = events.filter(code.str.starts_with(DUTY_END + SEPARATOR)).select(
        schema.SUBJECT_ID, end=HOUR, begun=pl.col(HOUR) - pl.col(schema.NUMERIC_VALUE)
    )
    overtime = events.filter(code == OVERTIME).select(schema.SUBJECT_ID, end=HOUR, overtime=pl.lit(1.0))
    ended = ended.join(overtime.unique(), on=[schema.SUBJECT_ID, "end"], how="left")
    who = events.filter(code.str.starts_with("STAFF" + SEPARATOR)).select(
        schema.SUBJECT_ID, group=part.list.get(1), unit=part.list.get(2, null_on_oob=True)
    )
    return (
        begun.sort(HOUR)
        .join_asof(ended.sort("begun"), left_on=HOUR, right_on="begun", by=schema.SUBJECT_ID, strategy="nearest",
                   tolerance=0.1, check_sortedness=False)
        .join(who, on=schema.SUBJECT_ID, how="left")
    )  # fmt: skip


def _answers(duties: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Beside each duty: the last answers before it began, and the next ones from then on, scaled to 0 to 1."""
    for name, (code, low, high) in ANSWERS.items():
        given = events.filter(pl.col(schema.CODE) == code).select(
            schema.SUBJECT_ID,
            pl.col(HOUR).alias(f"{name}_hour"),
            ((pl.col(schema.NUMERIC_VALUE) - low) / (high - low)).cast(pl.Float64).alias(name),
        )
        given = given.sort(f"{name}_hour")
        total = pl.col(name).cum_sum().over(schema.SUBJECT_ID)
        mean = (total / pl.col(name).cum_count().over(schema.SUBJECT_ID)).alias(f"mean_{name}")
        # An answer at the very moment the duty begins was given at the end of the duty before, or at home.
        past = given.with_columns(mean).rename({name: f"last_{name}", f"{name}_hour": f"last_{name}_hour"})
        duties = duties.sort(HOUR)
        for other, hour, how in ((past, f"last_{name}_hour", "backward"), (given, f"{name}_hour", "forward")):
            duties = duties.join_asof(
                other,
                left_on=HOUR,
                right_on=hour,
                by=schema.SUBJECT_ID,
                strategy=how,  # type: ignore[arg-type]
                allow_exact_matches=how == "backward",
                check_sortedness=False,
            )
    return duties.sort(schema.SUBJECT_ID, HOUR)


def _history(duties: pl.DataFrame) -> pl.DataFrame:
    """Rest, hours, nights and overtime before each duty."""
    own = schema.SUBJECT_ID
    end = pl.col("end").shift(1).over(own)
    known = pl.when(end <= pl.col(HOUR))
    length = pl.col("end") - pl.col(HOUR)
    duties = duties.with_columns(
        hours_off=known.then(pl.col(HOUR) - end),
        last_duty_hours=known.then(length.shift(1).over(own)),
        duties_before=pl.int_range(pl.len()).over(own).cast(pl.Float64),
    )
    sums = {
        "hours": length.fill_null(0),
        "nights": (pl.col("shift") == "night").cast(pl.Float64),
        "overtime": pl.col("overtime").fill_null(0),
    }
    person, hour = duties[own].to_numpy(), duties[HOUR].to_numpy()
    out = {}
    for name, values in sums.items():
        value = duties.select(values).to_series().to_numpy()
        for weeks in WEEKS:
            out[f"{name}_{weeks}_weeks"] = _before(person, hour, value, 168.0 * weeks)
    return duties.with_columns(pl.Series(name, values) for name, values in out.items())


def _before(
    person: NDArray[np.int64], hour: NDArray[np.float64], value: NDArray[np.float64], window: float
) -> NDArray[np.float64]:
    """Sum over the duties of one person that began within `window` hours before each duty, it not included."""
    total = np.concatenate([[0.0], np.cumsum(value)])
    place = np.arange(len(hour))
    # One long axis on which each person has a stretch of their own.
    span = float(hour.max() - hour.min()) + 2 * window if len(hour) else 0.0
    axis = hour + np.concatenate([[0], np.cumsum(np.diff(person) != 0)]) * span if len(hour) else hour
    first = np.searchsorted(axis, axis - window, side="left")
    return total[place] - total[first]


def _targets(span: int, n_hours: int) -> list[pl.Expr]:
    """The answer, at the last duty that begins before it is given; null if it comes too late or in another block."""
    out = []
    for name, (answer, within) in TARGETS.items():
        given = pl.col(f"{answer}_hour")
        here = (given // span == pl.col(HOUR) // span) & (given - pl.col(HOUR) <= within) & (given < n_hours)
        last = given != given.shift(-1).over(schema.SUBJECT_ID)
        out.append(pl.when(here & last.fill_null(True)).then(pl.col(answer)).alias(name))
    return out


def _states(hours: SiteHours, duties: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The state at the last full hour, of the hospital for those who work in one, and of the city."""
    row = duties[HOUR].to_numpy().astype(np.int64)
    number = {name: index for index, name in enumerate(hours.sites)}
    site = duties["unit"].replace_strict(number, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
    out = {name: hours.channel(name)[0, row].astype(float) for name in CITY}
    for name in SITE:
        here = hours.channel(name)[np.maximum(site, 0), row]
        out[f"here//{name}"] = np.where(site >= 0, here, np.nan).astype(float)
    return out
