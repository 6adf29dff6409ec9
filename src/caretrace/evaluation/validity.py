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
        sex_error: Standard error of `sex_rate`, subjects as a whole (one person's codes go wrong together).
        age_error: Standard error of `age_rate`, likewise.
    """

    tokens: int
    limited_sex: int
    limited_age: int
    sex: Ints
    age: Ints
    duplicates: int
    sex_error: float
    age_error: float

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
    limited_sex, limited_age = (sexes.sum(1) < SEXES)[code], ((age_first > 0) | (age_last < age_most))[code]
    wrong_sex, wrong_age = ~sexes[code, sex], (age < age_first[code]) | (age > age_last[code])
    n = histories.n_codes
    clean = histories.with_codes_sorted()
    return Violations(
        tokens=len(code),
        limited_sex=int(limited_sex.sum()),
        limited_age=int(limited_age.sum()),
        sex=np.bincount(code[wrong_sex], minlength=n),
        age=np.bincount(code[wrong_age], minlength=n),
        duplicates=len(code) - len(clean.code),
        sex_error=_error(subject[limited_sex], wrong_sex[limited_sex]),
        age_error=_error(subject[limited_age], wrong_age[limited_age]),
    )


def _error(subject: Ints, wrong: Bools) -> float:
    """Standard error of a ratio over subjects (Cochran 1977, Sampling techniques, section 6.4)."""
    if not len(subject):
        return 0.0
    residual = np.bincount(subject, wrong - wrong.mean())
    return float(np.sqrt((residual**2).sum()) / len(subject))
