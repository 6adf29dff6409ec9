"""What is counted when histories are compared: each view is a list of (subject, feature) events.

A view is a distribution over features: single codes, pairs of codes in a visit, pairs from one visit to the next,
sizes. Resampling subjects then only changes weights, and nothing is counted twice over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caretrace.evaluation.histories import Bools, Floats, Histories, Ints, gather, ranges

# First age of each band, whole years; of our own making, decades of adult life.
AGE_BANDS = (0, 1, 18, 30, 40, 50, 60, 70, 80)

# A code is rare when it lies outside the commonest ones that make up this share of all codes in training.
COMMON_SHARE = 0.9

SIZE_MOST = 60  # sizes above count as this one


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """One view of some histories.

    Args:
        subject: `[event]`, place of the subject, increasing.
        feature: `[event]`, any whole number that is not negative.
    """

    subject: Ints
    feature: Ints

    def of(self, subjects: Bools) -> Events:
        """Only the events of the subjects in a mask `[subject]`; subjects keep their places."""
        kept = subjects[self.subject]
        return Events(self.subject[kept], self.feature[kept])


def code_events(histories: Histories, only: Bools | None = None) -> Events:
    """Each code of each visit; with `only` `[code]`, of these codes."""
    subject = histories.token_subject
    if only is None:
        return Events(subject, histories.code)
    kept = only[histories.code]
    return Events(subject[kept], histories.code[kept])


def pair_events(histories: Histories) -> Events:
    """Each unordered pair of different codes in a visit, as `smaller * n_codes + larger`."""
    clean = histories.with_codes_sorted()
    after = np.repeat(clean.code_count, clean.code_count) - ranges(clean.code_count) - 1
    first = np.repeat(np.arange(len(clean.code)), after)
    second = first + 1 + ranges(after)
    return Events(clean.token_subject[first], clean.code[first] * clean.n_codes + clean.code[second])


def next_events(histories: Histories) -> Events:
    """Each pair of a code in a visit and a code in the subject's next visit, as `earlier * n_codes + later`."""
    clean = histories.with_codes_sorted()
    last = clean.visit_rank == np.repeat(clean.visit_count, clean.visit_count) - 1
    token_visit = clean.token_visit
    earlier = np.flatnonzero(~last[token_visit])
    following = token_visit[earlier] + 1
    later = gather(clean.code_count, following)
    pair = np.repeat(earlier, clean.code_count[following])
    return Events(clean.token_subject[pair], clean.code[pair] * clean.n_codes + clean.code[later])


def carried_events(histories: Histories) -> Events:
    """How much of a visit is in the next one: the Jaccard overlap of each visit with the subject's next, in 21 steps.

    Pairs of codes are many and rare, so their divergence is mostly noise when visits are long; this one number per
    pair of visits shows at once whether anything holds a subject's visits together.
    """
    clean = histories.with_codes_sorted()
    n = len(clean.code_count)
    first = np.flatnonzero(clean.visit_rank < clean.visit_count[clean.visit_subject] - 1)
    pairs = next_events_by_visit(clean)
    shared = np.bincount(pairs, minlength=n)[first]
    union = clean.code_count[first] + clean.code_count[first + 1] - shared
    return Events(clean.visit_subject[first], np.round(20 * shared / np.maximum(union, 1)).astype(np.int64))


def next_events_by_visit(clean: Histories) -> Ints:
    """The visit of each code that stands in the subject's next visit, too; codes are sorted and single."""
    key = clean.token_visit * clean.n_codes + clean.code
    following = key + clean.n_codes
    there = np.minimum(np.searchsorted(key, following), max(len(key) - 1, 0))
    same = (
        clean.visit_subject[np.minimum(clean.token_visit + 1, len(clean.code_count) - 1)]
        == clean.token_subject
    )
    return clean.token_visit[(key[there] == following) & same]


def size_events(histories: Histories) -> Events:
    """Number of codes of each visit."""
    return Events(histories.visit_subject, np.minimum(histories.code_count, SIZE_MOST))


def visit_events(histories: Histories) -> Events:
    """Number of visits of each subject."""
    return Events(np.arange(len(histories)), np.minimum(histories.visit_count, SIZE_MOST))


def shape_events(histories: Histories) -> Events:
    """Number of visits and of codes of each subject, together."""
    codes = np.minimum(histories.tokens_per_subject, SIZE_MOST * SIZE_MOST)
    visits = np.minimum(histories.visit_count, SIZE_MOST)
    return Events(np.arange(len(histories)), visits * (SIZE_MOST * SIZE_MOST + 1) + codes)


def rare_codes(train: Histories, share: float = COMMON_SHARE) -> Bools:
    """`[code]`: codes outside the commonest that make up `share` of all codes of `train`."""
    counts = np.bincount(train.code, minlength=train.n_codes)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    rare = np.empty(train.n_codes, bool)
    rare[order] = before >= share * max(int(counts.sum()), 1)
    return rare


def cells(histories: Histories, bands: Sequence[int] = AGE_BANDS) -> Ints:
    """`[subject]`: age band × sex, as `band * 2 + sex`."""
    return (np.searchsorted(np.asarray(bands), histories.age, side="right") - 1) * 2 + histories.sex


def cell_events(histories: Histories) -> Events:
    """The age band and sex of each subject."""
    return Events(np.arange(len(histories)), cells(histories))


def cell_name(cell: int, bands: Sequence[int] = AGE_BANDS) -> str:
    """`60-69 F`."""
    band, sex = divmod(cell, 2)
    last = f"-{bands[band + 1] - 1}" if band + 1 < len(bands) else "+"
    return f"{bands[band]}{last} {'FM'[sex]}"


def prevalence(histories: Histories) -> Floats:
    """`[code]`: share of subjects who ever have the code."""
    ever = np.unique(histories.token_subject * histories.n_codes + histories.code)
    return np.bincount(ever % histories.n_codes, minlength=histories.n_codes) / max(len(histories), 1)
