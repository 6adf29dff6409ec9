"""Which subject learns, tunes or is held out: a property of the subject alone.

A salted SHA-256 of `subject_id` gives a number in [0, 1); the split is where it falls. Adding or
removing subjects therefore never moves another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from caretrace import schema

DEFAULT_FRACTIONS: Mapping[str, float] = {schema.TRAIN: 0.70, schema.TUNING: 0.15, schema.HELD_OUT: 0.15}

# Changing the salt reshuffles every dataset ever written: it never changes.
_SALT = "caretrace-split-1"


def position(subject_id: int) -> float:
    """Where a subject falls in [0, 1), the same on every machine and for ever."""
    digest = hashlib.sha256(f"{_SALT}:{subject_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(subject_id: int, fractions: Mapping[str, float] = DEFAULT_FRACTIONS) -> str:
    """The split of one subject.

    Args:
        subject_id: MEDS subject.
        fractions: Split → share; shares add up to 1 and are laid out in the order of `schema.SPLITS`.

    Returns:
        One of `schema.SPLITS`.
    """
    where, upper = position(subject_id), 0.0
    names = [name for name in schema.SPLITS if fractions.get(name, 0) > 0]
    for name in names:
        upper += fractions[name]
        if where < upper:
            return name
    return names[-1]


def split_subjects(
    subjects: Iterable[int], fractions: Mapping[str, float] = DEFAULT_FRACTIONS
) -> dict[int, str]:
    """The split of every subject; see `split_of`."""
    return {subject: split_of(subject, fractions) for subject in subjects}
