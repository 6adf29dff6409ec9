"""Histories of many subjects as flat arrays: subjects → visits → codes, with age and sex.

What the metrics of synthetic subjects read. The first five arrays are those of
`caretrace.hospital.histories.Histories`, so simulated subjects are `Histories.of(drawn.histories, n_codes)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from caretrace.errors import DatasetError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SEXES = 2  # 0 female, 1 male, the order of `hospital.histories.SEXES`


class FiveArrays(Protocol):
    """Whatever holds the five arrays."""

    @property
    def age(self) -> Ints: ...  # noqa: D102
    @property
    def sex(self) -> Ints: ...  # noqa: D102
    @property
    def visit_count(self) -> Ints: ...  # noqa: D102
    @property
    def code_count(self) -> Ints: ...  # noqa: D102
    @property
    def code(self) -> Ints: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, eq=False)
class Histories:
    """Visits of many subjects, subject by subject, in order of time.

    Args:
        age: `[subject]`, whole years at the first visit.
        sex: `[subject]`, 0 female, 1 male.
        visit_count: `[subject]`, number of visits.
        code_count: `[visit]`, number of codes.
        code: `[token]`, 0 to `n_codes - 1`; a code twice in a visit is kept, so that it can be counted.
        n_codes: Size of the vocabulary; histories that are compared share one.

    Raises:
        DatasetError: Arrays that do not fit each other, or a code, age or sex outside its range.
    """

    age: Ints
    sex: Ints
    visit_count: Ints
    code_count: Ints
    code: Ints
    n_codes: int

    def __post_init__(self) -> None:
        for name in ("age", "sex", "visit_count", "code_count", "code"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64).reshape(-1))
        for name, found, wanted in (
            ("sex", len(self.sex), len(self.age)),
            ("visit_count", len(self.visit_count), len(self.age)),
            ("code_count", len(self.code_count), int(self.visit_count.sum())),
            ("code", len(self.code), int(self.code_count.sum())),
        ):
            if found != wanted:
                raise DatasetError(f"histories: {name} has {found} entries; give {wanted}")
        for name, most in (("age", 200), ("sex", SEXES - 1), ("code", self.n_codes - 1)):
            values = getattr(self, name)
            if len(values) and not (values.min() >= 0 and values.max() <= most):
                raise DatasetError(
                    f"histories: {name} goes from {values.min()} to {values.max()}; give 0 to {most}"
                )
        for name in ("visit_count", "code_count"):
            if len(getattr(self, name)) and getattr(self, name).min() < 0:
                raise DatasetError(f"histories: {name} is negative; give counts")

    @classmethod
    def of(cls, arrays: FiveArrays, n_codes: int) -> Self:
        """From anything that holds the five arrays."""
        return cls(arrays.age, arrays.sex, arrays.visit_count, arrays.code_count, arrays.code, n_codes)

    def __len__(self) -> int:
        return len(self.age)

    @property
    def visit_subject(self) -> Ints:
        """`[visit]`: the subject of each visit."""
        return np.repeat(np.arange(len(self)), self.visit_count)

    @property
    def visit_rank(self) -> Ints:
        """`[visit]`: 0 for the first visit of a subject, then 1, 2, …"""
        return ranges(self.visit_count)

    @property
    def token_visit(self) -> Ints:
        """`[token]`: the visit of each code."""
        return np.repeat(np.arange(len(self.code_count)), self.code_count)

    @property
    def token_subject(self) -> Ints:
        """`[token]`: the subject of each code."""
        return self.visit_subject[self.token_visit]

    @property
    def tokens_per_subject(self) -> Ints:
        """`[subject]`: codes over all visits."""
        return np.bincount(self.visit_subject, self.code_count, len(self)).astype(np.int64)

    def take(self, subjects: npt.ArrayLike) -> Histories:
        """The subjects at these places, in this order, repeats allowed (a mask works too)."""
        chosen = np.asarray(subjects)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        visits = gather(self.visit_count, chosen)
        return Histories(
            age=self.age[chosen],
            sex=self.sex[chosen],
            visit_count=self.visit_count[chosen],
            code_count=self.code_count[visits],
            code=self.code[gather(self.code_count, visits)],
            n_codes=self.n_codes,
        )

    def with_codes_sorted(self) -> Histories:
        """The same visits with their codes in increasing order, each once."""
        visit = self.token_visit
        keys = np.unique(visit * self.n_codes + self.code)
        return dataclasses.replace(
            self,
            code_count=np.bincount(keys // self.n_codes, minlength=len(self.code_count)),
            code=keys % self.n_codes,
        )


def join(parts: Sequence[Histories]) -> Histories:
    """The subjects of several parts as one; they share a vocabulary."""
    return Histories(
        age=np.concatenate([part.age for part in parts]),
        sex=np.concatenate([part.sex for part in parts]),
        visit_count=np.concatenate([part.visit_count for part in parts]),
        code_count=np.concatenate([part.code_count for part in parts]),
        code=np.concatenate([part.code for part in parts]),
        n_codes=parts[0].n_codes,
    )


def ranges(counts: Ints) -> Ints:
    """0, 1, …, count - 1 for each count, in one row."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def gather(counts: Ints, chosen: Ints) -> Ints:
    """Places of the children of each chosen parent, in the order chosen; `counts` are children per parent."""
    starts = np.cumsum(counts) - counts
    return np.repeat(starts[chosen], counts[chosen]) + ranges(counts[chosen])
