"""Staff as groups, never as persons: whatever is shown of sleepiness, exhaustion or leaving is a mean of five or more.

A forecast about one nurse would be used on that nurse: in a roster, in a talk, in a dismissal. It would also be wrong
most of the time, since half of what moves an answer is chance. What an organisation can change (rest between duties,
overtime, load) acts on groups, and a group's mean says as much about it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.sequences import HOUR, Sequences

Floats = NDArray[np.float64]

FEWEST_PEOPLE = 5
KEYS = ("unit", "group", "shift")
_WEEK_HOURS = 168


def staff_groups(staff: Sequences, said: Mapping[str, Floats], fewest: int = FEWEST_PEOPLE) -> pl.DataFrame:
    """Mean forecasts of each unit, profession and shift, week by week.

    Args:
        staff: Duties, with `subject_id`.
        said: Target → forecast of each duty.
        fewest: People below whose number a group is not shown; at least 5.

    Returns:
        `week` (since the start), `unit`, `group`, `shift`, `people`, `target`, `value` (0 to 1). Every person counts
        once, whatever their number of duties. Groups of fewer people are not there, nor are groups that could be
        worked out by taking shown ones from a shown total: there are no totals.
    """
    fewest = max(fewest, FEWEST_PEOPLE)
    own = schema.SUBJECT_ID
    table = staff.steps.select(
        own, (pl.col(HOUR) // _WEEK_HOURS).cast(pl.Int64).alias("week"), *KEYS
    ).with_columns(pl.Series(name, value) for name, value in said.items())
    keys = ["week", *KEYS]
    persons = table.group_by([*keys, own]).agg(pl.col(name).mean() for name in said)
    groups = persons.group_by(keys).agg(pl.len().alias("people"), *(pl.col(name).mean() for name in said))
    return (
        groups.filter(pl.col("people") >= fewest)
        .unpivot(list(said), index=[*keys, "people"], variable_name="target", value_name="value")
        .sort([*keys, "target"])
    )
