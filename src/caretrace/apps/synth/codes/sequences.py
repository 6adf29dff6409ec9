r"""Histories as what an autoregressive model reads and predicts, exactly one sequence per history.

    prefix   <v> 17 203   <v> 17 88 203          one token per subject, visit and code, in this order

A visit is a set, so its codes may be written in any order. We write them in the order of their numbers, because then
each history is *one* sequence and its probability is that of the sequence, exact and comparable with any other exact
likelihood. With random orders a set is as many sequences as it has orders, its probability their sum, and what one can
afford to report is a bound. The order costs no generality: what follows is masked to later codes, so that every set
can be written, none twice, and no code can come twice in a visit.

Two things are predicted. After `<v>` and after each code, the *next* code of the visit or its end; after the prefix
and after the last code of a visit, the *turn*: another visit, and with which marks, or the end of the history.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from caretrace.apps.synth.codes.icd9 import Limits
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.errors import InputError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints, gather, ranges

PREFIX, VISIT, CODE, PAD = range(4)
AGES = 201  # whole years, 0 to 200: what `Histories` allow
UNMASKED = (0, AGES)


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Histories, and what may be known beside: marks of each visit, conditions of each subject.

    Args:
        histories: Visits and their codes.
        marks: `[visit, mark]`, categories such as the length of the gap before a visit or the kind of admission.
        conditions: `[subject, condition]`, numbers of which whatever is generated shall be a consequence.

    Raises:
        InputError: Arrays that do not fit the histories.
    """

    histories: Histories
    marks: Ints | None = None
    conditions: Floats | None = None

    def __post_init__(self) -> None:
        for name, rows in (("marks", len(self.histories.code_count)), ("conditions", len(self.histories))):
            given = getattr(self, name)
            if given is not None and (given.ndim != 2 or len(given) != rows):
                raise InputError(f"{name}: got shape {given.shape}; give {rows} rows of values")

    def __len__(self) -> int:
        return len(self.histories)

    def take(self, subjects: Ints) -> Records:
        """The subjects at these places."""
        visits = gather(self.histories.visit_count, subjects)
        return Records(
            self.histories.take(subjects),
            None if self.marks is None else self.marks[visits],
            None if self.conditions is None else self.conditions[subjects],
        )

    def sorted(self) -> Records:
        """The same with the codes of each visit in increasing order, each once."""
        return dataclasses.replace(self, histories=self.histories.with_codes_sorted())


class CodeTables:
    """Which codes each category has; the codes of a category stand together.

    Args:
        vocabulary: Codes and categories; `<unk>` is a category and code of its own, the last.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        category = np.append(vocabulary.category_of, len(vocabulary.categories))
        if (np.diff(category) < 0).any():
            raise InputError("vocabulary: the codes of a category do not stand together; make it anew")
        self.n_codes, self.n_categories = len(category), int(category[-1]) + 1
        self.category_of = category
        self.size = np.bincount(category, minlength=self.n_categories)
        self.first = np.cumsum(self.size) - self.size
        self.last = self.first + self.size - 1
        place = np.arange(int(self.size.max()))[None]
        self.members = np.where(place < self.size[:, None], self.first[:, None] + place, -1)

    def allowed(self, limits: Limits | None) -> Bools:
        """`[age, sex, code]`: who may have which code; `limits` are of the vocabulary's `normal_codes`."""
        out = np.ones((AGES, 2, self.n_codes), bool)
        if limits is not None:
            years = np.arange(AGES)[:, None]
            old = (years >= limits.age_first) & (years <= limits.age_last)
            out = old[:, None, :] & limits.sexes.T[None]
        return out

    def last_allowed(self, allowed: Bools) -> Ints:
        """`[age, sex, category]`: the last code that may be had; -1 if none may."""
        place = np.where(allowed, np.arange(self.n_codes), -1)
        return np.maximum.reduceat(place, self.first, axis=2).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Token sequences of some subjects, and what is to be predicted where.

    Rows of `next_*` are places after `<v>` or a code; rows of `turn_*` are places after the prefix or the end of a
    visit. A place is a subject times `width` plus a step.

    Args:
        kind: `[subject, step]`, PREFIX, VISIT, CODE or PAD.
        code: `[subject, step]`, number of the code, 0 elsewhere.
        visit: `[subject, step]`, number of the visit in the batch, 0 elsewhere.
        rank: `[visit]`, 0 for the first of a subject.
        marks: `[visit, mark]`.
        age: `[subject]`, whole years.
        sex: `[subject]`.
        conditions: `[subject, condition]`.
        next_place: `[next]`, where the prediction is made.
        next_visit: `[next]`, visit it belongs to.
        next_last: `[next]`, code before it in the visit, -1 for none.
        next_code: `[next]`, code that follows, -1 for the end of the visit.
        turn_place: `[turn]`.
        turn_visit: `[turn]`, visit that follows, -1 for the end of the history.
        turn_rank: `[turn]`, visits so far.
        codes_visit: `[code]`, visit of each code.
        codes: `[code]`, all codes, visit by visit.
        visit_subject: `[visit]`.
    """

    kind: Tensor
    code: Tensor
    visit: Tensor
    rank: Tensor
    marks: Tensor
    age: Tensor
    sex: Tensor
    conditions: Tensor
    next_place: Tensor
    next_visit: Tensor
    next_last: Tensor
    next_code: Tensor
    turn_place: Tensor
    turn_visit: Tensor
    turn_rank: Tensor
    codes_visit: Tensor
    codes: Tensor
    visit_subject: Tensor

    @property
    def width(self) -> int:
        """Steps of the longest sequence."""
        return int(self.kind.shape[1])

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})


def lengths(histories: Histories) -> Ints:
    """`[subject]`: tokens of each, prefix, visits and codes."""
    return 1 + histories.visit_count + histories.tokens_per_subject


def make_batch(records: Records) -> Batch:
    """Sequences of all these subjects; codes must be sorted (`Records.sorted`)."""
    h = records.histories
    visits, codes, subjects = len(h.code_count), len(h.code), len(h)
    length, subject, token_visit = lengths(h), h.visit_subject, h.token_visit
    start = np.cumsum(length) - length
    before = np.cumsum(h.code_count) - h.code_count
    visit_flat = subject + 1 + np.arange(visits) + before
    code_flat = subject[token_visit] + 2 + token_visit + np.arange(codes)
    width = int(length.max(initial=1))
    row, step = np.repeat(np.arange(subjects), length), ranges(length)
    place = row * width + step
    kind = np.full(subjects * width, PAD)
    code, visit = np.zeros((2, subjects * width), np.int64)
    kind[place[start]], kind[place[visit_flat]], kind[place[code_flat]] = PREFIX, VISIT, CODE
    code[place[code_flat]] = h.code
    visit[place[visit_flat]], visit[place[code_flat]] = np.arange(visits), token_visit

    order = np.argsort(np.concatenate([visit_flat, code_flat]), kind="stable")
    next_visit = np.concatenate([np.arange(visits), token_visit])[order]
    own = np.concatenate([np.full(visits, -1), h.code])[order]  # the code at each place
    follows = np.append(next_visit[1:] == next_visit[:-1], False) if len(order) else np.zeros(0, bool)
    next_code = np.where(follows, np.append(own[1:], -1), -1) if len(order) else own

    first_visit = np.cumsum(h.visit_count) - h.visit_count
    last_flat = visit_flat + h.code_count
    is_last = h.visit_rank == h.visit_count[subject] - 1
    turn_flat = np.concatenate([start, last_flat])
    turn_visit = np.concatenate(
        [np.where(h.visit_count > 0, first_visit, -1), np.where(is_last, -1, np.arange(visits) + 1)]
    )
    turn_rank = np.concatenate([np.zeros(subjects, np.int64), h.visit_rank + 1])
    marks = records.marks if records.marks is not None else np.zeros((visits, 0), np.int64)
    conditions = records.conditions if records.conditions is not None else np.zeros((subjects, 0))
    as_ints = {
        "kind": kind.reshape(subjects, width), "code": code.reshape(subjects, width),
        "visit": visit.reshape(subjects, width), "rank": h.visit_rank, "marks": marks, "age": h.age, "sex": h.sex,
        "next_place": place[np.concatenate([visit_flat, code_flat])[order]], "next_visit": next_visit,
        "next_last": own, "next_code": next_code, "turn_place": place[turn_flat], "turn_visit": turn_visit,
        "turn_rank": turn_rank, "codes_visit": token_visit, "codes": h.code, "visit_subject": subject,
    }  # fmt: skip
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in as_ints.items()}
    return Batch(**tensors, conditions=torch.from_numpy(conditions.astype(np.float32)))
