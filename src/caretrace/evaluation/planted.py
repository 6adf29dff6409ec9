"""Generators with a known fault, and one without: what the gates must refuse, and what they must let pass.

Each makes as many "synthetic" subjects as it gets real ones, so a gate that cannot tell a collapse from a fresh
hold-out is found out here and not on a paper's page.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from caretrace.evaluation.histories import SEXES, Histories, gather, join, ranges
from caretrace.evaluation.views import cells

COLLAPSED_CODES = 31  # of 6,985, what was left of the prototype's hierarchical model under greedy decoding


def collapse(train: Histories, n: int, seed: int = 0, codes: int = COLLAPSED_CODES) -> Histories:
    """Real visits and people, but every code is drawn from the commonest few, by frequency, each once a visit."""
    rng = np.random.default_rng(seed)
    some = train.take(rng.permutation(len(train))[:n])
    counts = np.bincount(train.code, minlength=train.n_codes)
    top = np.argsort(-counts, kind="stable")[:codes]
    return _redrawn(some, np.where(np.isin(np.arange(train.n_codes), top), counts, 0), rng)


def copies(train: Histories, n: int, seed: int = 0, share: float = 1.0) -> Histories:
    """Training subjects, verbatim; with `share` below 1 the rest have every code drawn by its frequency."""
    rng = np.random.default_rng(seed)
    some = train.take(rng.permutation(len(train))[:n])
    kept = round(share * n)
    if kept == n:
        return some
    counts = np.bincount(train.code, minlength=train.n_codes)
    return join([some.take(np.arange(kept)), _redrawn(some.take(np.arange(kept, n)), counts, rng)])


def independent_marginals(train: Histories, n: int, seed: int = 0) -> Histories:
    """Right people, right sizes of visits, right frequencies of codes, and nothing depends on anything."""
    rng = np.random.default_rng(seed)
    some = train.take(rng.permutation(len(train))[:n])
    return _redrawn(some, np.bincount(train.code, minlength=train.n_codes), rng)


def shuffled_sexes(real: Histories, seed: int = 0) -> Histories:
    """Real histories whose sexes are dealt out anew among subjects of one age: women stay as old as they were."""
    chance = np.random.default_rng(seed).random(len(real))
    slots, drawn = np.argsort(real.age, kind="stable"), np.lexsort((chance, real.age))
    sex = np.empty_like(real.sex)
    sex[slots] = real.sex[drawn]
    return dataclasses.replace(real, sex=sex)


def shuffled_visits(real: Histories, seed: int = 0) -> Histories:
    """Real visits dealt out anew among subjects of one age band, sex and number of visits.

    Each visit stays whole and at its rank, so codes, pairs within visits, sizes and what depends on age and sex
    stay as they were: only what holds a subject's visits together is gone.
    """
    rng = np.random.default_rng(seed)
    group = (cells(real) * 1000 + real.visit_count)[real.visit_subject] * 1000 + real.visit_rank
    chance = rng.random(len(group))
    slots, drawn = np.lexsort((np.arange(len(group)), group)), np.lexsort((chance, group))
    visit = np.empty(len(group), np.int64)
    visit[slots] = drawn
    return dataclasses.replace(
        real, code_count=real.code_count[visit], code=real.code[gather(real.code_count, visit)]
    )


def impossible(
    real: Histories, sexes: np.ndarray[tuple[int, int], np.dtype[np.bool_]], share: float
) -> Histories:
    """Real histories in which a share of subjects got the other sex if a code of theirs is limited to one.

    Args:
        real: Fresh real subjects.
        sexes: `[code, sex]`, who may have each code.
        share: Of the subjects with such a code, how many are spoiled; the first ones.
    """
    limited = sexes.sum(1) < SEXES
    holders = np.unique(real.token_subject[limited[real.code]])
    sex = real.sex.copy()
    spoiled = holders[: round(share * len(holders))]
    sex[spoiled] = SEXES - 1 - sex[spoiled]
    return dataclasses.replace(real, sex=sex)


def _redrawn(
    histories: Histories, weights: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator
) -> Histories:
    """The same sizes, every visit's codes drawn anew without replacement, by weight (Gumbel's trick).

    A visit larger than the number of codes with a weight has them all.
    """
    allowed = np.flatnonzero(weights)
    logs = np.log(weights[allowed])
    sizes = np.minimum(histories.code_count, len(allowed))
    code = np.empty(int(sizes.sum()), np.int64)
    ends, block = np.cumsum(sizes), 2000
    for first in range(0, len(sizes), block):
        part = sizes[first : first + block]
        order = np.argsort(-(logs + rng.gumbel(size=(len(part), len(allowed)))), axis=1)
        rows = np.repeat(np.arange(len(part)), part)
        start = int(ends[first] - sizes[first])
        code[start : start + len(rows)] = allowed[order[rows, ranges(part)]]
    return dataclasses.replace(histories, code_count=sizes, code=code)
