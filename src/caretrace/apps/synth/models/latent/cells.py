"""What a latent-class model counts: which codes a visit has, which were there before, and whose visit it is.

A *cell* is an age band and a sex; visits of one cell that are all first or all later ones share their rates but for
codes seen before. So they are computed together (`Group`), and codes seen before are sparse corrections.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import csr_array

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.evaluation.histories import Bools, Histories, Ints, ranges

LAST, EARLIER = range(2)  # what a code seen before was seen in: the last visit, or only one before that
_OLDEST = 120  # whole years; after this nothing begins or ends
_BANDS = 20  # age bands with about equally many subjects, beside those that edits need


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Age bands and sexes.

    Args:
        edges: First age of each band, whole years; the first is 0.
    """

    edges: Ints

    @classmethod
    def of(cls, histories: Histories, limits: icd9.Limits) -> Cells:
        """Bands with equally many subjects, cut wherever an edit begins or ends."""
        often = np.quantile(histories.age, np.linspace(0, 1, _BANDS + 1)[:-1], method="lower")
        edits = np.concatenate([limits.age_first, limits.age_last + 1])
        edits = edits[edits <= _OLDEST]
        return cls(np.unique(np.concatenate([[0], often.astype(np.int64), edits])))

    def __len__(self) -> int:
        return 2 * len(self.edges)

    def of_people(self, age: Ints, sex: Ints) -> Ints:
        """Cell of each subject: twice the band, plus 1 for men."""
        return 2 * (np.searchsorted(self.edges, age, side="right") - 1) + sex

    def allowed(self, limits: icd9.Limits) -> Bools:
        """`[code, cell]`: who may have which code; no band straddles an edit."""
        old = (self.edges[:, None] >= limits.age_first) & (self.edges[:, None] <= limits.age_last)
        return (old[:, None, :] & limits.sexes.T[None]).reshape(len(self), -1).T


def groups_of_codes(vocabulary: Vocabulary) -> Ints:
    """`[code]`: number of the group within which rates and age curves are drawn together.

    The single-level category of the Clinical Classifications Software where there is one, else the category of
    the vocabulary; `<unk>` is a group of its own.
    """
    normal = vocabulary.normal_codes
    category = [*vocabulary.category_of.tolist(), -1]
    names = [_group(code, number) for code, number in zip(normal, category, strict=True)]
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names])


def curves_of_codes(group: Ints, count: Ints, common: int) -> Ints:
    """`[code]`: number of its age curve: that of its group, or one of its own if it is common enough."""
    own = np.where(count >= common, group.max(initial=-1) + 1 + np.arange(len(group)), group)
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def _group(code: str, category: int) -> tuple[int, int]:
    found = icd9.ccs(code)  # 0 for what is no ICD-9-CM code
    return (found, 0) if found else (0, category)


@dataclasses.dataclass(frozen=True, eq=False)
class Sets:
    """Sets of codes as sparse matrices `[visit, code]` of some columns.

    Args:
        new: Codes that no earlier visit had.
        seen: Per state (`LAST`, `EARLIER`), codes of earlier visits.
        again: Per state, those of them that the visit has again.
    """

    new: csr_array
    seen: tuple[csr_array, csr_array]
    again: tuple[csr_array, csr_array]

    def columns(self, codes: Ints) -> Sets:
        """These columns only."""
        return Sets(
            self.new[:, codes],
            (self.seen[0][:, codes], self.seen[1][:, codes]),
            (self.again[0][:, codes], self.again[1][:, codes]),
        )

    def rows(self, visits: Ints) -> Sets:
        """These rows only."""
        return Sets(
            self.new[visits],
            (self.seen[0][visits], self.seen[1][visits]),
            (self.again[0][visits], self.again[1][visits]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Visits computed together.

    Args:
        later: 0 for first visits, 1 for others.
        cell: Age band and sex.
        visits: Their places.
    """

    later: int
    cell: int
    visits: Ints


def groups_of_visits(histories: Histories, cells: Cells, most: int = 2000) -> list[Group]:
    """Visits by first or later and cell, `most` at a time; an empty list of an empty list."""
    cell = cells.of_people(histories.age, histories.sex)[histories.visit_subject]
    later = (histories.visit_rank > 0).astype(np.int64)
    key = later * len(cells) + cell
    out = []
    for value in np.unique(key).tolist():
        found = np.flatnonzero(key == value)
        places = range(0, len(found), most)
        out += [Group(value // len(cells), value % len(cells), found[at : at + most]) for at in places]
    return out


def sets_of(histories: Histories) -> Sets:
    """Sets of all visits; codes sorted, each once (`with_codes_sorted`)."""
    codes, visits = histories.n_codes, len(histories.code_count)
    visit, code = histories.token_visit, histories.code
    subject = histories.visit_subject
    order = np.lexsort((visit, code, subject[visit]))
    visit, code = visit[order], code[order]
    pair = subject[visit] * codes + code
    first = np.concatenate([[True], pair[1:] != pair[:-1]])[: len(pair)]
    end = np.cumsum(histories.visit_count)[subject[visit[first]]]
    remaining = end - visit[first] - 1  # visits of the subject after the one that had the code first
    row = np.repeat(visit[first] + 1, remaining) + ranges(remaining)
    column = np.repeat(code[first], remaining)
    present = np.sort(visit * codes + code)
    here, before = (_member(r * codes + column, present) for r in (row, row - 1))

    def matrix(chosen: Bools) -> csr_array:
        return _sparse(row[chosen], column[chosen], visits, codes)

    return Sets(
        _sparse(visit[first], code[first], visits, codes),
        (matrix(before), matrix(~before)),
        (matrix(before & here), matrix(~before & here)),
    )


def _sparse(row: Ints, column: Ints, rows: int, columns: int) -> csr_array:
    return csr_array((np.ones(len(row)), (row, column)), shape=(rows, columns))


def _member(values: Ints, within: Ints) -> Bools:
    """Whether each value is in a sorted array."""
    if not len(within):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(within, values), len(within) - 1)
    return np.asarray(within[place] == values)
