"""Everything `caretrace evaluate` says of a run: figures, figures by site, shift and group, decision value, outlook."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run
from caretrace.apps.safety.board import make_board
from caretrace.apps.safety.comparators import TREES
from caretrace.apps.safety.evaluate import OURS, Predictions, judge, resampled_together
from caretrace.apps.safety.finishing import CRISIS_LEVEL, reach
from caretrace.apps.safety.groups import FEWEST_PEOPLE, staff_groups
from caretrace.apps.safety.reading import Kinds, parts_of, read_city
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, STAFF, Sequences
from caretrace.apps.safety.site_hours import SiteHours
from caretrace.apps.safety.training import Fitted, foresee, load, predict_all
from caretrace.dataset import Dataset
from caretrace.errors import CaretraceError
from caretrace.evaluation.curves import net_benefit
from caretrace.evaluation.forecasting import Judged, r2, r2_sums
from caretrace.evaluation.intervals import bootstrap_intervals

Floats = NDArray[np.float64]

TOLD = "crisis_8_h"  # the figure told by site and shift: early enough to act on
# Beginning hour (UTC, as the dataset's clock) of each shift, as the roster has them.
SHIFTS = {"early": (6, 14), "late": (14, 22), "night": (22, 6)}
# A warning at chance p is worth it if a missed crisis costs (1 - p) / p times a needless warning.
CHANCES = (0.1, 0.2, 0.3, 0.5)


def verdict(
    run: Run,
    dataset: Dataset,
    split: str | None,
    *,
    replicates: int,
    seed: int,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge a run on blocks of time, or on all of a dataset.

    Args:
        run: A run of this application.
        dataset: Of a city.
        split: Blocks to judge on; None for all the time.
        replicates: Of the bootstrap.
        seed: Of the bootstrap.
        progress: Told about each piece of work.

    Returns:
        What `judge` returns, with `by` (figures by site, shift and group of staff), `decision` (net benefit of
        warnings), `outlook` (the board of the last hour judged, and groups of staff of the last week), `n`,
        `n_subjects`.
    """
    fitted = load(run)
    everything, hours = read_city(dataset, fitted.config, fitted.config.block_days if split else 0, progress)
    kinds = parts_of(everything, hours, fitted.config, (split,))[split] if split else everything
    kinds = {kind: each for kind, each in kinds.items() if kind in fitted.scalings and len(each)}
    progress("judging", 0, 1)
    predictions = predict_all(fitted, kinds)
    found = judge(kinds, predictions, replicates=replicates, seed=seed)
    progress("judging", 1, 1)
    return {
        "n_subjects": sum(each.steps["sequence"].n_unique() for each in kinds.values()),
        "n": sum(len(each.steps) for each in kinds.values()),
        **found,
        "by": by_part(kinds, predictions, replicates, seed),
        "decision": decision(kinds, predictions),
        "outlook": outlook(fitted, everything, kinds, hours),
    }


def by_part(
    kinds: Kinds, predictions: Predictions, replicates: int, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """`site` and `shift` → name → AUROC of a crisis in eight hours; `staff` → profession → R² of sleepiness.

    Parts without both a crisis and an hour without, and professions of fewer than five people, are left out.
    """
    found: dict[str, dict[str, dict[str, float]]] = {"site": {}, "shift": {}, "staff": {}}
    if HOSPITAL in kinds and TOLD in predictions[HOSPITAL].get(OURS, {}):
        hospital, chance = kinds[HOSPITAL], reach(predictions[HOSPITAL][OURS][TOLD])
        hour = hospital.steps[HOUR].to_numpy() % 24
        for site in sorted(hospital.steps["site"].unique()):
            rows = (hospital.steps["site"] == site).to_numpy()
            _ranked(found["site"], site, hospital, chance, rows, replicates, seed)
        for shift, (begin, end) in SHIFTS.items():
            rows = (hour >= begin) & (hour < end) if begin < end else (hour >= begin) | (hour < end)
            _ranked(found["shift"], shift, hospital, chance, rows, replicates, seed)
    if STAFF in kinds and "fatigue" in predictions[STAFF].get(OURS, {}):
        _by_profession(found["staff"], kinds[STAFF], predictions[STAFF][OURS]["fatigue"], replicates, seed)
    return found


def _ranked(
    into: dict[str, dict[str, float]],
    name: str,
    hospital: Sequences,
    chance: Floats,
    rows: NDArray[np.bool_],
    replicates: int,
    seed: int,
) -> None:
    level = hospital.steps[TOLD].cast(pl.Float64).to_numpy()
    rows = rows & ~np.isnan(level)
    crisis = level[rows] >= CRISIS_LEVEL
    try:
        group = resampled_together(hospital)[rows]
        figure = bootstrap_intervals(crisis, {OURS: chance[rows]}, group, ("auroc",), replicates, seed)
    except CaretraceError:  # no crisis in this part, or nothing else
        return
    into[name] = {**figure[OURS]["auroc"], "n": int(rows.sum()), "crises": int(crisis.sum())}


def _by_profession(
    into: dict[str, dict[str, float]], staff: Sequences, said: Floats, replicates: int, seed: int
) -> None:
    value = staff.steps["fatigue"].cast(pl.Float64).to_numpy()
    person = staff.steps[schema.SUBJECT_ID].to_numpy()
    for profession in sorted(staff.steps["group"].drop_nulls().unique()):
        rows = (staff.steps["group"] == profession).fill_null(False).to_numpy() & ~np.isnan(value)
        people = len(np.unique(person[rows]))
        if people < FEWEST_PEOPLE:
            continue
        judged = Judged(value[rows], person[rows], replicates, seed)
        figure, _ = judged.compare({OURS: {"r2": r2_sums(value[rows], said[rows])}}, {"r2": r2}, OURS)
        into[profession] = {**figure[OURS]["r2"], "n": int(rows.sum()), "people": people}


def decision(kinds: Kinds, predictions: Predictions) -> dict[str, Any]:
    """Net benefit of warning from a chance on, per 1,000 hours of a hospital: crises warned of, less needless warnings.

    Returns:
        `chances`, `always` (warn every hour) and one list per model; empty without hospitals or crises.
    """
    if HOSPITAL not in kinds:
        return {}
    level = kinds[HOSPITAL].steps[TOLD].cast(pl.Float64).to_numpy()
    rows = ~np.isnan(level)
    crisis = level[rows] >= CRISIS_LEVEL
    if not crisis.any():
        return {}
    at, share = np.array(CHANCES), crisis.mean()
    found: dict[str, Any] = {"chances": list(CHANCES)}
    found["always"] = (1000 * (share - (1 - share) * at / (1 - at))).tolist()
    for model in (OURS, TREES, "nedocs"):
        if TOLD in predictions[HOSPITAL].get(model, {}):
            chance = reach(predictions[HOSPITAL][model][TOLD])[rows]
            found[model] = (1000 * net_benefit(crisis, chance, at)).tolist()
    return found


def outlook(fitted: Fitted, everything: Kinds, judged: Kinds, hours: SiteHours) -> dict[str, Any]:
    """The board at the last hour judged, and means of groups of staff in the last week judged."""
    found: dict[str, Any] = {}
    if HOSPITAL in judged and HOSPITAL in everything:
        last = int(judged[HOSPITAL].steps[HOUR].to_numpy().max())
        recent = {
            kind: each.where(pl.col(HOUR).is_between(last - 48, last)) if kind != HOSPITAL else each
            for kind, each in everything.items()
        }
        board = make_board(fitted, recent, hours)
        found["hospitals"] = board.at(board.times[board.last_known(last)])
    if STAFF in judged:
        staff = judged[STAFF]
        week = staff.steps[HOUR].to_numpy().max() - 168
        recent_staff = staff.where(pl.col("sequence").is_in(_still_here(staff, week)))
        said = foresee(fitted, recent_staff)
        rows = np.flatnonzero(recent_staff.steps[HOUR].to_numpy() >= week)
        lately = dataclasses.replace(recent_staff, steps=recent_staff.steps[rows])
        shown = staff_groups(lately, {name: value[rows] for name, value in said.items()})
        newest = shown.filter(pl.col("week") == pl.col("week").max())
        found["staff"] = newest.drop("week").to_dicts()
    return found


def _still_here(staff: Sequences, hour: float) -> pl.Series:
    return staff.steps.filter(pl.col(HOUR) >= hour)["sequence"].unique().implode()
