"""Histories of many subjects in flat arrays, and to and from lists of code sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from caretrace.errors import InputError, unknown_name
from caretrace.hospital.histories.catalogue import SEXES
from caretrace.hospital.histories.model import HistoryModel

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Histories:
    """Visits of many subjects, subject by subject, in order of time.

    Args:
        age: `[subject]`, whole years at the first visit.
        sex: `[subject]`, place in `catalogue.SEXES`.
        visit_count: `[subject]`, number of visits.
        code_count: `[visit]`, number of codes.
        code: `[token]`, place in `HistoryModel.codes`; increasing within a visit.
    """

    age: Ints
    sex: Ints
    visit_count: Ints
    code_count: Ints
    code: Ints

    def __len__(self) -> int:
        return len(self.age)

    @property
    def visit_subject(self) -> Ints:
        """`[visit]`: the subject of each visit."""
        return np.repeat(np.arange(len(self.age)), self.visit_count)

    @property
    def visit_rank(self) -> Ints:
        """`[visit]`: 0 for the first visit of a subject, then 1, 2, …"""
        first = np.cumsum(self.visit_count) - self.visit_count
        return np.arange(len(self.code_count)) - np.repeat(first, self.visit_count)

    @property
    def token_visit(self) -> Ints:
        """`[token]`: the visit of each code."""
        return np.repeat(np.arange(len(self.code_count)), self.code_count)

    def part(self, first: int, last: int) -> Histories:
        """Subjects `first` to `last - 1`."""
        visits = np.concatenate([[0], np.cumsum(self.visit_count)])
        tokens = np.concatenate([[0], np.cumsum(self.code_count)])
        last = min(last, len(self))
        v0, v1 = visits[first], visits[last]
        return Histories(
            age=self.age[first:last],
            sex=self.sex[first:last],
            visit_count=self.visit_count[first:last],
            code_count=self.code_count[v0:v1],
            code=self.code[tokens[v0] : tokens[v1]],
        )

    def to_lists(self, model: HistoryModel) -> list[list[frozenset[str]]]:
        """Each subject as a list of visits, each visit as a set of codes."""
        ends = np.cumsum(self.code_count)
        visits = [
            frozenset(model.codes[c] for c in self.code[end - n : end])
            for end, n in zip(ends, self.code_count, strict=True)
        ]
        last = np.cumsum(self.visit_count)
        return [visits[end - n : end] for end, n in zip(last, self.visit_count, strict=True)]


def join(parts: Sequence[Histories]) -> Histories:
    """The subjects of several parts as one."""
    return Histories(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Histories))
    )


def from_lists(
    histories: Sequence[Sequence[Collection[str]]],
    ages: Sequence[int],
    sexes: Sequence[str],
    model: HistoryModel,
) -> Histories:
    """Histories given as code sets.

    Args:
        histories: Per subject the visits in order of time, each a collection of distinct codes without dots.
        ages: Per subject, whole years at the first visit, 0 to `model.age_max`.
        sexes: Per subject, "F" or "M".
        model: Says which codes exist.

    Raises:
        InputError: An unknown code, a code twice in a visit, an age or a sex outside the model.
    """
    counts, tokens = [], []
    for subject, (visits, age, sex) in enumerate(zip(histories, ages, sexes, strict=True)):
        if sex not in SEXES:
            raise InputError(f"subject {subject}: sex {sex!r}; give 'F' or 'M'")
        if not (age == int(age) and 0 <= age <= model.age_max):
            raise InputError(f"subject {subject}: age {age}; give whole years from 0 to {model.age_max}")
        for rank, visit in enumerate(visits):
            tokens.append(_places(visit, f"subject {subject}, visit {rank + 1}", model))
            counts.append(len(visit))
    return Histories(
        age=np.asarray(ages, np.int64).reshape(-1),
        sex=np.array([SEXES.index(s) for s in sexes], np.int64),
        visit_count=np.array([len(h) for h in histories], np.int64),
        code_count=np.array(counts, np.int64),
        code=np.concatenate([np.zeros(0, np.int64), *tokens]),
    )


def _places(visit: Collection[str], where: str, model: HistoryModel) -> Ints:
    for code in visit:
        if code not in model.code_index:
            raise InputError(f"{where}: " + unknown_name("code", code, model.codes))
    found = np.array(sorted(model.code_index[code] for code in visit), np.int64)
    if len(np.unique(found)) < len(found):
        twice = next(code for code in visit if list(visit).count(code) > 1)
        raise InputError(f"{where}: code {twice!r} twice; a visit is a set, give each code once")
    return found
