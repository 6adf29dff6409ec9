"""Hourly grids as the benchmark YAIB writes them (`dyn`, `outc`) as the tables that `events.yaml` reads.

`dyn` has one row per stay and hour and one column per variable; `series` has one row per value that is
there. `outc` holds labels that look ahead; `outcomes` holds what became known, once per stay, with the
hour from which it was known. Both are written without ever holding `dyn` in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from caretrace.errors import ConfigError, InputError, unknown_name
from caretrace.ingest.reading import find_file

STAY, TIME, LABEL = "stay_id", "time", "label"

# Tasks of YAIB-cohorts (R/mortality.R, aki.R, sepsis.R, los.R, kidney_function.R) → what their label says.
MORTALITY, ONSET, LENGTH, KIDNEY = "mortality", "onset", "length_of_stay", "kidney_function"
TASKS = {"mortality24": MORTALITY, "aki": ONSET, "sepsis": ONSET, "los": LENGTH, "kidney_function": KIDNEY}

# Hours. An onset is marked from 6 before to 6 after it; a length of stay is cut at 7 days; the kidney label
# is the median creatinine of the hours 25 to 48; a mortality label only says that the end came later.
_ONSET_AHEAD, _LONGEST, _KIDNEY_LAST, _MORTALITY_FROM = 6, 168.0, 48, 48 + 1 / 60


def prepare(raw: Path, work: Path, options: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Write `series.parquet` and, where there are labels, `outcomes.parquet`.

    Args:
        raw: Folder of one task, with dyn, sta and outc as Parquet (or CSV).
        work: Folder to write to; made when needed.
        options: `task`, where the labels do not tell it.

    Returns:
        `work`, and the raw files that were read for it.

    Raises:
        InputError: `dyn` or a column of it is missing, or times are neither durations nor hours.
        ConfigError: A task that does not exist.
    """
    dyn_file, sta_file, outc_file = (find_file(raw, name) for name in ("dyn", "sta", "outc"))
    if dyn_file is None or sta_file is None:
        return raw, []  # not such a folder: the pipeline says what is missing
    work.mkdir(parents=True)
    try:
        return work, _written((dyn_file, sta_file, outc_file), work, _task(raw, options))
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{raw}: dyn, sta or outc cannot be read to its end ({reason}); fetch them again"
        ) from None


def _written(files: tuple[Path, Path, Path | None], work: Path, task: str | None) -> list[str]:
    """Write the tables; gives the names of the files that are no tables themselves."""
    dyn_file, sta_file, outc_file = files
    dyn = _hours(_scan(dyn_file, (STAY, TIME)), dyn_file)
    _series(dyn, work / "series.parquet")
    consumed = [dyn_file.name]
    if outc_file is not None:
        outc = _scan(outc_file, (STAY, LABEL)).with_columns(_number(LABEL))
        last = dyn.group_by(STAY).agg(last_hour=_number("hour").max())
        found = _outcomes(_hours(outc, outc_file), last, task)
        stays = _scan(sta_file, (STAY,)).select(STAY).unique()
        # A stay without a label has a row too, so that its missing outcome is counted.
        found.join(stays, on=STAY, how="full", coalesce=True).sort(STAY).sink_parquet(
            work / "outcomes.parquet"
        )
        consumed.append(outc_file.name)
    return consumed


def _scan(path: Path, needed: tuple[str, ...]) -> pl.LazyFrame:
    """The rows of a file, stays as text so that nothing unreadable is lost on the way."""
    parquet = path.suffix == ".parquet"
    rows = pl.scan_parquet(path) if parquet else pl.scan_csv(path, infer_schema=False)
    names = rows.collect_schema().names()
    for column in needed:
        if column not in names:
            raise InputError(
                f"{path.name}: {unknown_name('column', column, names)}; export the grid again with it"
            )
    return rows.with_columns(pl.col(STAY).cast(pl.String))


def _hours(rows: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """`time` as `hour`: whole and broken hours since the ICU admission."""
    kind = rows.collect_schema().get(TIME)
    if kind is None:
        return rows
    if isinstance(kind, pl.Duration):
        hour = pl.col(TIME).dt.total_milliseconds() / 3_600_000
    elif kind.is_numeric() or kind == pl.String:
        hour = pl.col(TIME)
    else:
        raise InputError(
            f"{path.name}: time is {kind}, but durations since the ICU admission (or hours) are expected; "
            "subtract the admission from it"
        )
    return rows.with_columns(hour=hour).drop(TIME)


def _series(dyn: pl.LazyFrame, path: Path) -> None:
    """One row per value; the row of `dyn` it stood in goes along, for the quarantine."""
    kinds = {name: kind for name, kind in dyn.collect_schema().items() if name not in (STAY, "hour")}
    numeric = all(kind.is_numeric() for kind in kinds.values())
    values = [pl.col(name).cast(pl.Float64 if numeric else pl.String) for name in kinds]
    long = (
        dyn.with_columns(*values)
        .with_row_index("dyn_row", offset=1)
        .unpivot(list(kinds), index=[STAY, "hour", "dyn_row"], variable_name="variable", value_name="value")
    )
    filled = (
        pl.col("value").fill_nan(None) if numeric else pl.col("value").str.strip_chars().replace("", None)
    )
    long.with_columns(filled).drop_nulls("value").sink_parquet(path)


def _number(name: str) -> pl.Expr:
    """Numbers, true and false, and either written as text; what is none of them is empty."""
    text = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
    return text.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False).fill_nan(None).alias(name)


def _task(raw: Path, options: Mapping[str, str]) -> str | None:
    task = options.get("task")
    if task is None:
        return raw.name if raw.name in TASKS else None
    if task not in TASKS:
        raise ConfigError(unknown_name("task", task, TASKS))
    return task


def _outcomes(outc: pl.LazyFrame, last: pl.LazyFrame, task: str | None) -> pl.LazyFrame:
    """One row per stay: what the labels say (`kind`, `name`, `value`) and the hour it may be used from."""
    hourly = "hour" in outc.collect_schema().names()
    kind = TASKS[task] if task is not None else _kind(outc, hourly)
    if (kind in (ONSET, LENGTH)) is not hourly:
        raise InputError(
            f"outc: labels of {task} {'need a' if not hourly else 'have no'} column time; "
            "give the task they were made for with --option task=..."
        )
    made = {MORTALITY: _mortality, ONSET: _onset, LENGTH: _length, KIDNEY: _kidney}[kind](outc, last)
    name = task if task is not None and kind == ONSET else kind
    return made.with_columns(kind=pl.lit(kind), name=pl.lit(name))


def _kind(outc: pl.LazyFrame, hourly: bool) -> str:
    yes_or_no = bool(outc.select((pl.col(LABEL).is_in([0.0, 1.0])).all()).collect().item())
    if hourly:
        return ONSET if yes_or_no else LENGTH
    return MORTALITY if yes_or_no else KIDNEY


def _mortality(outc: pl.LazyFrame, last: pl.LazyFrame) -> pl.LazyFrame:
    after = pl.max_horizontal(pl.lit(_MORTALITY_FROM), pl.col("last_hour") + 1)
    return outc.join(last, on=STAY, how="left").select(STAY, value=LABEL, hour=after)


def _onset(outc: pl.LazyFrame, last: pl.LazyFrame) -> pl.LazyFrame:
    """The first hour marked lies 6 hours before the onset, or less where the stay begins later than that."""
    del last
    hour, marked = _number("hour"), pl.col(LABEL) == 1
    first = hour.filter(marked).min() + _ONSET_AHEAD + 1
    return outc.group_by(STAY).agg(value=pl.col(LABEL).max(), hour=first)


def _length(outc: pl.LazyFrame, last: pl.LazyFrame) -> pl.LazyFrame:
    """The label counts down to the end; 168 stands for 7 days and more, which says nothing."""
    del last
    end = (_number("hour") + pl.col(LABEL)).filter(pl.col(LABEL) < _LONGEST).max()
    return outc.group_by(STAY).agg(value=end, hour=end + 1)


def _kidney(outc: pl.LazyFrame, last: pl.LazyFrame) -> pl.LazyFrame:
    del last
    return outc.select(STAY, value=LABEL, hour=pl.lit(_KIDNEY_LAST + 1.0))
