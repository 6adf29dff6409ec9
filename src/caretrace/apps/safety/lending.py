"""Answers lent to tuning: a survey comes four times a year, and the tuning blocks may have missed it.

Where tuning blocks have too few answers to say when to stop or how much of each reading to take, a fifth of the
people of the training blocks is set apart for that. They worked in hospitals that are learned from, so what is
chosen on them is a little too hopeful; what is judged is not touched.
"""

from __future__ import annotations

import dataclasses

import polars as pl

from caretrace import schema
from caretrace.apps.safety.finishing import FEWEST
from caretrace.apps.safety.reading import Kinds
from caretrace.apps.safety.sequences import SEQUENCE, STAFF, Sequences

ONE_IN = 5


def with_lent(parts: dict[str, Kinds]) -> dict[str, Kinds]:
    """The same training and tuning sequences, with rare answers of staff divided between them.

    Args:
        parts: `train` and `tuning` → kind → sequences.
    """
    train, tuning = parts[schema.TRAIN], parts[schema.TUNING]
    if STAFF not in train:
        return parts
    known = tuning[STAFF].steps if STAFF in tuning else train[STAFF].steps.clear()
    rare = [name for name in train[STAFF].targets if known[name].drop_nulls().drop_nans().len() < FEWEST]
    if not rare:
        return parts
    lent = pl.col(schema.SUBJECT_ID) % ONE_IN == 0
    keeps = train[STAFF].steps.with_columns(pl.when(~lent).then(pl.col(name)).alias(name) for name in rare)
    others = [name for name in train[STAFF].targets if name not in rare]
    gives = (
        train[STAFF]
        .steps.filter(lent)
        .with_columns(pl.lit(None).cast(train[STAFF].steps.schema[name]).alias(name) for name in others)
    )
    first = 0 if known.is_empty() else int(known[SEQUENCE].to_numpy().max()) + 1
    gives = gives.with_columns((pl.col(SEQUENCE).rle_id() + first).cast(known.schema[SEQUENCE]))
    both = pl.concat([known, gives])
    made: Sequences = dataclasses.replace(train[STAFF], steps=both)
    return {
        **parts,
        schema.TRAIN: {**train, STAFF: dataclasses.replace(train[STAFF], steps=keeps)},
        schema.TUNING: {**tuning, STAFF: made},
    }
