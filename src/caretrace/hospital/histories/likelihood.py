"""The exact probability of a history: log p(number of visits, code sets | age, sex), phenotypes summed out.

Given phenotype and episode a visit is a set of independent codes conditioned on having 1 to `max_codes` of
them. So its log probability is a sum over codes, minus the log of Z = P(1 <= number <= max_codes). Z comes
from the generating function of the number, G(z) = prod_j (1 - p_j + p_j z), read at points on a circle:

    P(number = n) = r**-n / M * sum_m G(r w**m) w**(-m n),   w = exp(2 pi i / M)   (Cauchy; r < 1)

which is linear in G. Hence chronic and acute parts multiply, a code with a history exchanges one factor, and
Z for every phenotype and episode is one matrix product. Aliasing is at most r**M = 6e-15 whatever the rates,
rounding about 1e-13 (both absolute; checked against the literal recursion in the tests).

Then log p(visit | k) = logsumexp over episodes, log p(history | k) = log p(n | k) + sum over visits (given k,
visits depend on each other only through the codes seen before, which are known), and logsumexp over k.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logsumexp

from caretrace.hospital.histories.catalogue import SEXES
from caretrace.hospital.histories.model import Floats, HistoryModel
from caretrace.hospital.histories.records import Histories, Ints, from_lists

RADIUS, POINTS = 0.6, 64
Z_SMALL = 1e-6  # below this the absolute error of the circle would be felt
BLOCK = 4000  # subjects computed together; bounds memory, changes no result

Complexes = NDArray[np.complex128]
Group = tuple[int, int, int]  # later, band, sex


def log_likelihood(history: Sequence[Collection[str]], age: int, sex: str, model: HistoryModel) -> float:
    """Exact log p(number of visits, code set of each visit | age at first visit, sex).

    Args:
        history: Visits in order of time, each a collection of distinct ICD-9-CM codes without dots.
        age: Whole years at the first visit.
        sex: "F" or "M".
        model: The population.

    Returns:
        Nats; -inf for a history the population cannot have (a code impossible at that age or sex, an empty
        visit, too many codes or visits).

    Raises:
        InputError: An unknown code, a code twice in a visit, an age or sex outside the model.
    """
    return float(log_likelihoods(from_lists([history], [age], [sex], model), model)[0])


def log_likelihoods(histories: Histories, model: HistoryModel) -> Floats:
    """`log_likelihood` of many subjects, `[subject]`, nats."""
    return np.asarray(logsumexp(joint_log_likelihoods(histories, model), axis=1))


def phenotype_posterior(histories: Histories, model: HistoryModel) -> Floats:
    """`[subject, phenotype]`: probability of each phenotype given the whole history, age and sex."""
    joint = joint_log_likelihoods(histories, model)
    return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def joint_log_likelihoods(histories: Histories, model: HistoryModel) -> Floats:
    """`[subject, phenotype]`: log p(phenotype, number of visits, code sets | age, sex), nats."""
    blocks = [
        _block(histories.part(first, first + BLOCK), model) for first in range(0, len(histories), BLOCK)
    ]
    return np.concatenate([np.zeros((0, len(model.phenotypes))), *blocks])


def _block(histories: Histories, model: HistoryModel) -> Floats:
    per_visit = visit_log_likelihoods(histories, model)
    total = np.zeros((len(histories), len(model.phenotypes)))
    np.add.at(total, histories.visit_subject, per_visit)
    fits = (histories.visit_count >= 1) & (histories.visit_count <= model.max_visits)
    number = np.where(fits, histories.visit_count, 1) - 1
    with np.errstate(divide="ignore"):
        total += np.log(model.phenotype[histories.age, histories.sex])
        total += np.log(model.visits[:, number].T)
    total[~fits] = -np.inf
    return total


def visit_log_likelihoods(histories: Histories, model: HistoryModel) -> Floats:
    """`[visit, phenotype]`: log p(code set | phenotype, earlier visits, age, sex), nats."""
    out = np.full((len(histories.code_count), len(model.phenotypes)), -np.inf)
    subject = histories.visit_subject
    later = (histories.visit_rank > 0).astype(np.int64)
    band, sex = model.band(histories.age)[subject], histories.sex[subject]
    group = (later * len(model.bands) + band) * len(SEXES) + sex
    fits = (histories.code_count >= 1) & (histories.code_count <= model.max_codes)
    sets = _Sets(histories, model)
    for value in np.unique(group[fits]):
        rows = np.flatnonzero((group == value) & fits)
        where = (int(later[rows[0]]), int(band[rows[0]]), int(sex[rows[0]]))
        out[rows] = _group_log_likelihoods(rows, where, sets, model)
    return out


class _Sets:
    """Which codes each visit has, and which of the chronic ones were there before, as sparse matrices.

    Attributes:
        acute: `[visit, A]`, acute codes of the visit.
        new: `[visit, J]`, chronic codes no earlier visit had.
        seen: Per recurrence state (last visit had it; only an earlier one) `[visit, J]`, codes seen before.
        again: `[visit]`, log probability of which of the seen codes came again.
    """

    def __init__(self, histories: Histories, model: HistoryModel) -> None:
        token_visit, chronic = histories.token_visit, model.chronic[histories.code]
        place = model.place[histories.code]
        visits, lasting = len(histories.code_count), int(model.chronic.sum())
        shape = (visits, lasting)
        self.acute = _sparse(token_visit[~chronic], place[~chronic], (visits, len(model.codes) - lasting))
        visit, code = token_visit[chronic], place[chronic]
        subject = histories.visit_subject
        order = np.lexsort((visit, code, subject[visit]))
        visit, code = visit[order], code[order]
        pair = subject[visit] * lasting + code
        first = np.concatenate([[True], pair[1:] != pair[:-1]])[: len(pair)]
        self.new = _sparse(visit[first], code[first], shape)
        end = np.cumsum(histories.visit_count)[subject[visit[first]]]
        remaining = end - visit[first] - 1  # visits of the subject after the one that had the code first
        row = np.repeat(visit[first] + 1, remaining) + _ranks(remaining)
        column = np.repeat(code[first], remaining)
        present = np.sort(visit * lasting + code)
        here, before = (_member(r * lasting + column, present) for r in (row, row - 1))
        state = np.where(before, 0, 1)
        with np.errstate(divide="ignore"):
            rate = model.recurrence[state, column]
            self.again = np.bincount(row, np.where(here, np.log(rate), np.log1p(-rate)), visits)
        self.seen = [_sparse(row[state == s], column[state == s], shape) for s in (0, 1)]


def _group_log_likelihoods(rows: Ints, where: Group, sets: _Sets, model: HistoryModel) -> Floats:
    """`[row, phenotype]` of visits that share first-or-later, age band and sex."""
    tables = _tables(model)
    onset, acute = tables.onset(where), tables.acute(where[1:])
    chronic_part = onset.none + sets.new[rows] @ onset.logit + sets.again[rows, None]
    acute_part = acute.none + sets.acute[rows] @ acute.logit
    seen = [matrix[rows] for matrix in sets.seen]
    old = np.unique(np.concatenate([matrix.indices for matrix in seen]))
    shape = onset.generating.shape
    points, weights = circle(model.max_codes)
    if len(old):
        rate = model.onset[where][:, old]
        chronic_part = chronic_part - (seen[0] + seen[1])[:, old] @ np.log1p(-rate).T
        log_generating = np.zeros((len(rows), *shape), np.complex128)
        for state, matrix in enumerate(seen):
            again = model.recurrence[state, old][:, None, None]
            ratio = (1 - again + again * points) / (1 - rate.T[..., None] + rate.T[..., None] * points)
            exchanged = matrix[:, old] @ np.log(ratio).reshape(len(old), -1)
            log_generating += exchanged.reshape(len(rows), *shape)
        generating = onset.generating * np.exp(log_generating)
    else:
        generating = onset.generating[None]
    weighted = acute.generating * weights
    # Real part of the sum over the circle: two real products cost less than a complex one.
    z = generating.real @ weighted.real.T - generating.imag @ weighted.imag.T
    if z.min() < Z_SMALL:
        z = _exact_where_tiny(z, seen, where, model)
    with np.errstate(divide="ignore", invalid="ignore"):
        reason = np.where(z > 0, np.log(model.episode[where]) - np.log(z), -np.inf)
        per_episode = reason + acute_part[:, None, :]
    return chronic_part + np.asarray(logsumexp(per_episode, axis=2))


class _Rates:
    """What a visit's likelihood needs of rates `[option, code]`: `none [option]`, `logit [code, option]`, G."""

    def __init__(self, rates: Floats) -> None:
        with np.errstate(divide="ignore"):
            self.logit = np.ascontiguousarray((np.log(rates) - np.log1p(-rates)).T)
        self.none = np.log1p(-rates).sum(1)
        points = circle(1)[0]
        self.generating = np.stack([np.prod(1 + rates * (z - 1), axis=1) for z in points], axis=1)


class _Tables:
    """`_Rates` of each group, made when first needed."""

    def __init__(self, model: HistoryModel) -> None:
        onset, acute = model.onset, model.acute
        self.onset = functools.cache(lambda where: _Rates(onset[where]))
        self.acute = functools.cache(lambda where: _Rates(acute[where]))


_TABLES: weakref.WeakKeyDictionary[HistoryModel, _Tables] = weakref.WeakKeyDictionary()


def _tables(model: HistoryModel) -> _Tables:
    if model not in _TABLES:
        _TABLES[model] = _Tables(model)
    return _TABLES[model]


@functools.cache
def circle(max_codes: int) -> tuple[Complexes, Complexes]:
    """Points z on the upper half circle, and weights c such that Z = real part of sum of c G(z)."""
    points = RADIUS * np.exp(2j * np.pi * np.arange(POINTS // 2 + 1) / POINTS)
    weights = sum((points ** (-n) for n in range(1, max_codes + 1)), np.zeros_like(points)) / POINTS
    weights[1:-1] *= 2  # the lower half is the mirror image: G has real coefficients
    return points, weights


def literal_z(chronic: Floats, acute: Floats, max_codes: int) -> Floats:
    """`[phenotype, episode]`: P(1 <= number <= max_codes) by recursion, one code after the other.

    The slow, obvious way. It only adds positive numbers, so it keeps its relative precision when Z is tiny.

    Args:
        chronic: `[phenotype, J]`, rates.
        acute: `[episode, A]`, rates.
        max_codes: Largest number of codes.
    """
    first, second = count_probabilities(chronic, max_codes), count_probabilities(acute, max_codes)
    upto = np.cumsum(second, axis=1)[:, ::-1]  # P(acute number <= max_codes - n), for n = 0, 1, …
    return np.asarray(first @ upto.T - np.outer(first[:, 0], second[:, 0]))


def count_probabilities(rates: Floats, largest: int) -> Floats:
    """`[option, n]`: P(n codes), n = 0 to `largest`, for independent codes with rates `[option, code]`."""
    number = np.zeros((len(rates), largest + 1))
    number[:, 0] = 1
    for rate in rates.T[:, :, None]:
        number[:, 1:] = number[:, 1:] * (1 - rate) + number[:, :-1] * rate
        number[:, :1] *= 1 - rate
    return number


def _exact_where_tiny(z: Floats, seen: list[csr_array], where: Group, model: HistoryModel) -> Floats:
    """Replace what is too small for the circle by the literal recursion; happens to absurd histories only."""
    z = np.array(np.broadcast_to(z, (seen[0].shape[0], *z.shape[1:])))
    for row in np.flatnonzero(z.min((1, 2)) < Z_SMALL):
        rates = model.onset[where].copy()
        for state, matrix in enumerate(seen):
            codes = matrix[[row]].indices
            rates[:, codes] = model.recurrence[state, codes]
        z[row] = literal_z(rates, model.acute[where[1:]], model.max_codes)
    return z


def _sparse(rows: Ints, columns: Ints, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _ranks(counts: Ints) -> Ints:
    """0, 1, …, count - 1 for each count, in one row."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _member(values: Ints, within: Ints) -> NDArray[np.bool_]:
    """Whether each value is in the sorted array `within`."""
    place = np.minimum(np.searchsorted(within, values), max(len(within) - 1, 0))
    return within[place] == values if len(within) else np.zeros(len(values), bool)
