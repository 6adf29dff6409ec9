"""What `caretrace predict` and `caretrace explain` say: of hospitals, of patients' pathways, of groups of staff."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run
from caretrace.apps.safety.board import open_board
from caretrace.apps.safety.finishing import reach
from caretrace.apps.safety.groups import FEWEST_PEOPLE, KEYS, staff_groups
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS
from caretrace.apps.safety.model import QUANTILES
from caretrace.apps.safety.reading import parts_of, read_city
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, STAFF, Sequences
from caretrace.apps.safety.training import Fitted, foresee, load
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError
from caretrace.files import whole_file

# Of the file that `predict` writes: a forecast per row; what a kind has not stays empty.
COLUMNS: dict[str, pl.DataType] = {
    **dict.fromkeys(("kind", "target"), pl.String()),
    "time": pl.Datetime("us"),
    "site": pl.String(),
    schema.SUBJECT_ID: pl.Int64(),
    **dict.fromkeys(("unit", "group", "shift"), pl.String()),
    "people": pl.Int64(),
    **dict.fromkeys(("value", "low", "high"), pl.Float64()),
}
NOT_OF_PEOPLE = (
    f"Staff are shown as groups of at least {FEWEST_PEOPLE}: "
    "a forecast about one person would be used on that person."
)
NOT_CAUSES = (
    "What is named moved the model's chance against the usual of that hospital at that hour; whether changing it would "
    "help is a question for the simulator (caretrace bench safety_what_if)."
)


def predict(
    run: Run, dataset: Dataset, out: Path, *, split: str | None, progress: Progress = silent
) -> dict[str, Any]:
    """Write forecasts to one Parquet file with the columns of `COLUMNS`.

    Args:
        run: A run of this application.
        dataset: Of a city.
        out: Parquet file; it appears whole or not at all.
        split: Blocks of time to predict for; None for all.
        progress: Told about each piece of work.

    Returns:
        Rows by kind, groups of staff that were too small to be shown, and `out`.

    Raises:
        CohortError: Nothing to read.
    """
    fitted = load(run)
    kinds, hours = read_city(dataset, fitted.config, fitted.config.block_days if split else 0, progress)
    if split:
        kinds = parts_of(kinds, hours, fitted.config, (split,))[split]
    tables, withheld = [], 0
    for number, (kind, each) in enumerate(kinds.items()):
        progress(f"foreseeing {kind}", number, len(kinds))
        if kind not in fitted.scalings:
            continue
        if kind == STAFF:
            table, withheld = _groups(fitted, each, hours.start)
        else:
            table = (_hospitals if kind == HOSPITAL else _pathways)(fitted, each, hours.start)
        tables.append(table.select(_cast(table)))
    whole = pl.concat(tables) if tables else pl.DataFrame(schema=COLUMNS)
    with whole_file(out) as partial:
        whole.write_parquet(partial)
    counts = {kind: int((whole["kind"] == kind).sum()) for kind in (HOSPITAL, PATHWAY, STAFF)}
    return {**counts, "groups_too_small_to_show": withheld, "out": str(out)}


def explain(run: Run, *, subject: int | None, progress: Progress = silent) -> dict[str, Any]:
    """The outlook of each hospital at the end of the run's dataset, and what drives it.

    Args:
        run: A run of this application.
        subject: `subject_id` of a hospital; None for all.
        progress: Told about each piece of work.

    Raises:
        ConfigError: Not a hospital. People are not explained.
    """
    board = open_board(run, run.dataset(), progress)
    known = dict(zip(board.hours.subjects.tolist(), board.hours.sites, strict=True))
    if subject is not None and subject not in known:
        listed = ", ".join(f"{number} ({site})" for number, site in known.items())
        raise ConfigError(
            f"--subject {subject}: only hospitals are explained, never people. Hospitals are {listed}"
        )
    hospitals = [each for each in board.at() if subject is None or each["site"] == known[subject]]
    rows = []
    for each in hospitals:
        chance = {one["hours"]: one for one in each["horizons"]}
        drivers = "; ".join(f"{one['words']} {one['direction']} it" for one in each["drivers"])
        rows.append(
            [
                each["site"],
                *(
                    f"{100 * one['probability']:.0f} % [{100 * one['low']:.0f}, {100 * one['high']:.0f}]"
                    for one in chance.values()
                ),
                drivers or "nothing in particular",
            ]
        )
    return {
        "heading": f"Outlook of {hospitals[0]['time']}: chance of a crisis, and what moves the one in 8 hours",
        "columns": ["hospital", *(f"in {hours} h" for hours in HORIZONS_HOURS[1:]), "what moves it"],
        "rows": rows,
        "hospitals": hospitals,
        "limits": [NOT_CAUSES, NOT_OF_PEOPLE],
    }


def _hospitals(fitted: Fitted, hospital: Sequences, start: dt.datetime) -> pl.DataFrame:
    said, finish = foresee(fitted, hospital), fitted.finishes.get(HOSPITAL)
    tables = []
    for target in CRISIS:
        chance = reach(said[target])
        low, high = finish.interval(target, chance) if finish else (chance, chance)
        tables.append(
            hospital.steps.select(time=_time(start), site="site").with_columns(
                target=pl.lit(target), value=pl.Series(chance), low=pl.Series(low), high=pl.Series(high)
            )
        )
    return pl.concat(tables).with_columns(kind=pl.lit(HOSPITAL))


def _pathways(fitted: Fitted, pathway: Sequences, start: dt.datetime) -> pl.DataFrame:
    """Each target at its stage: minutes with their 80 % interval, shares without."""
    said, tables = foresee(fitted, pathway), []
    for target, stage in (
        ("delay", "call"), ("handoff", "at_hospital"), ("documentation", "decision"), ("adverse", "decision")
    ):  # fmt: skip
        rows = np.flatnonzero((pathway.steps["stage"] == stage).to_numpy())
        value = said[target][rows]
        middle, low, high = (
            (value[:, QUANTILES.index(0.5)], value[:, 0], value[:, -1])
            if value.ndim == 2
            else (value, None, None)
        )
        table = pathway.steps[rows].select(schema.SUBJECT_ID, "site", time=_time(start))
        tables.append(
            table.with_columns(
                target=pl.lit(target),
                value=pl.Series(middle),
                low=pl.lit(None) if low is None else pl.Series(low),
                high=pl.lit(None) if high is None else pl.Series(high),
            ).with_columns(pl.col("low", "high").cast(pl.Float64))
        )
    return pl.concat(tables).with_columns(kind=pl.lit(PATHWAY))


def _groups(fitted: Fitted, staff: Sequences, start: dt.datetime) -> tuple[pl.DataFrame, int]:
    said = foresee(fitted, staff)
    shown = staff_groups(staff, said)
    week = pl.col("week").cast(pl.Int64)
    table = shown.with_columns(kind=pl.lit(STAFF), time=pl.lit(start) + pl.duration(days=7 * week))
    everybody = staff.steps.select((pl.col(HOUR) // 168).cast(pl.Int64), *KEYS).n_unique()
    return table, everybody - shown.select("week", *KEYS).n_unique()


def _time(start: dt.datetime) -> pl.Expr:
    return pl.lit(start) + pl.duration(microseconds=(pl.col(HOUR) * 3.6e9).round().cast(pl.Int64))


def _cast(table: pl.DataFrame) -> list[pl.Expr]:
    return [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in COLUMNS.items()
    ]
