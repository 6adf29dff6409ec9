"""What false warnings of `caretrace bench safety` are like: near a crisis or not, in strained hours or quiet ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safety_table import markdown, over_seeds

from caretrace.apps.safety.finishing import CRISIS_LEVEL, RECALL
from caretrace.evaluation.forecasting import warnings_at_recall

TARGET, AHEAD = "crisis_8_h", 8
NEAR_HOURS = 6
STRAINED = 2  # the level below a crisis
_WEEK_HOURS = 168

Bools = NDArray[np.bool_]


def false_warnings(chances: pl.DataFrame, model: str) -> dict[str, float]:
    """False warnings a week and hospital at the recall of the verdict, and what they are like.

    Args:
        chances: Of one seed, as `safety_oracle.keep_chances` wrote them.
        model: Whose.

    Returns:
        `all` and `far` (warnings that begin more than `NEAR_HOURS` from every crisis), a week and hospital, and
        `strained`, the share of the hours warned of in vain that were at least strained.
    """
    rows = chances.sort("site", "hour")
    shape = rows["site"].n_unique(), -1
    level = rows[TARGET].cast(pl.Float64).to_numpy().reshape(shape)
    said = np.where(np.isnan(level), np.nan, rows[f"{model} {TARGET}"].to_numpy().reshape(shape))
    crisis = level >= CRISIS_LEVEL
    threshold = warnings_at_recall(said, crisis, AHEAD, RECALL).threshold
    false = (np.nan_to_num(said, nan=-1.0) >= threshold) & ~crisis
    hours = int((~np.isnan(level)).sum())
    return {
        "all": _begins(false) / hours * _WEEK_HOURS,
        "far": _begins(false & ~_near(crisis)) / hours * _WEEK_HOURS,
        "strained": float((level[false] >= STRAINED).mean()) if false.any() else float("nan"),
    }


def table(chances: Sequence[pl.DataFrame], models: Sequence[str]) -> str:
    """Of every model, over the seeds."""
    rows = []
    for model in models:
        found = [false_warnings(one, model) for one in chances]
        rows.append(
            [model, *(over_seeds([one[name] for one in found]) for name in ("all", "far", "strained"))]
        )
    head = [
        "false warnings in 8 h",
        "a week",
        f"more than {NEAR_HOURS} h from a crisis",
        "hours that were strained",
    ]
    return markdown(head, rows)


def _begins(false: Bools) -> int:
    return int((false & ~np.pad(false[:, :-1], ((0, 0), (1, 0)))).sum())


def _near(crisis: Bools) -> Bools:
    """Hours at most `NEAR_HOURS` from one of crisis."""
    near = crisis.copy()
    for hours in range(1, NEAR_HOURS + 1):
        near[:, hours:] |= crisis[:, :-hours]
        near[:, :-hours] |= crisis[:, hours:]
    return near
