"""What cannot be: codes on the wrong sex or at the wrong age, and codes twice in a visit."""

from __future__ import annotations

import dataclasses

import numpy as np

from caretrace.evaluation.histories import SEXES, Bools, Histories, Ints


@dataclasses.dataclass(frozen=True, eq=False)
class Violations:
    """Counts over all codes of all visits.

    Args:
        tokens: Codes looked at.
        limited_sex: Of these, with a code that one sex alone may have.
        limited_age: Of these, with a code that some ages may not have.
        sex: `[code]`, codes on the wrong sex.
        age: `[code]`, codes outside their ages; age is that of the first visit.
        duplicates: Codes that stood in their visit before.
    """

    tokens: int
    limited_sex: int
    limited_age: int
    sex: Ints
    age: Ints
    duplicates: int

    @property
    def sex_rate(self) -> float:
        """Violations per code limited to a sex."""
        return float(self.sex.sum()) / max(self.limited_sex, 1)

    @property
    def age_rate(self) -> float:
        """Violations per code limited to ages."""
        return float(self.age.sum()) / max(self.limited_age, 1)

    @property
    def duplicate_rate(self) -> float:
        """Duplicates per code."""
        return self.duplicates / max(self.tokens, 1)


def violations(
    histories: Histories, age_first: Ints, age_last: Ints, sexes: Bools, age_most: int = 124
) -> Violations:
    """Count what an edit table forbids.

    Args:
        histories: Subjects.
        age_first: `[code]`, youngest age allowed, whole years.
        age_last: `[code]`, oldest age allowed, whole years.
        sexes: `[code, sex]`, who may have it.
        age_most: Oldest age of the table: a code up to it has no upper limit.
    """
    code, subject = histories.code, histories.token_subject
    age, sex = histories.age[subject], histories.sex[subject]
    limited = (age_first > 0) | (age_last < age_most)
    n = histories.n_codes
    clean = histories.with_codes_sorted()
    return Violations(
        tokens=len(code),
        limited_sex=int((sexes.sum(1) < SEXES)[code].sum()),
        limited_age=int(limited[code].sum()),
        sex=np.bincount(code[~sexes[code, sex]], minlength=n),
        age=np.bincount(code[(age < age_first[code]) | (age > age_last[code])], minlength=n),
        duplicates=len(code) - len(clean.code),
    )
