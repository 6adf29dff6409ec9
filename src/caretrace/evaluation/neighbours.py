"""Nearest histories, exactly and for whole cohorts: Hamming distance between the sets of codes subjects ever had.

d(A, B) = |A| + |B| - 2 |A ∩ B|. The intersections are a matrix product, taken block by block: dense for the commonest
codes, which make nearly all of it, and sparse for the rest. Equal sets are compared once and counted as often as they
occur, so a copy has distance 0 to what it copies, and two subjects with equal sets have distance 0 to each other.
(HALO's public code sets such distances aside, and verbatim copies went unseen.)

    AA_X = 1/2 [P(d(X, S) > d(X, X)) + P(d(S, X) > d(S, S))]        NNAA = AA_held_out - AA_train

Nearest-neighbour adversarial accuracy: Yale et al. 2020, https://doi.org/10.1016/j.neucom.2019.12.136. Every d is to
the nearest other subject. Density and coverage: Naeem et al. 2020, arXiv 2002.09797. A small distance to the closest
record proves a leak; a large one proves nothing (arXiv 2505.01524).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from caretrace.errors import CohortError
from caretrace.evaluation.histories import Floats, Histories, Ints

DENSE_CODES = 256  # commonest codes whose intersections are a dense product
BLOCK = 256  # rows at a time; bounds memory, changes no result
FAR = np.float32(1e9)

Rows = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class CodeSets:
    """The distinct sets of codes of some subjects.

    Args:
        matrix: `[set, code]`, 1 where the set has the code.
        repeated: `[set]`, whether more than one subject has it.
        of_subject: `[subject]`, the set of each subject.
    """

    matrix: csr_array
    repeated: npt.NDArray[np.bool_]
    of_subject: Ints


def code_sets(histories: Histories) -> CodeSets:
    """The set of codes each subject ever had, equal ones once."""
    ever = np.unique(histories.token_subject * histories.n_codes + histories.code)
    subject, code = np.divmod(ever, histories.n_codes)
    counts = np.bincount(subject, minlength=len(histories))
    starts = np.cumsum(counts) - counts
    rows = code.astype(np.int32)
    keys = [rows[a : a + n].tobytes() for a, n in zip(starts, counts, strict=True)]
    place: dict[bytes, int] = {}
    of_subject = np.array([place.setdefault(key, len(place)) for key in keys], np.int64)
    first = np.unique(of_subject, return_index=True)[1]
    matrix = csr_array(
        (np.ones(len(code), np.float32), code, np.append(starts, len(code))),
        shape=(len(histories), histories.n_codes),
    )
    return CodeSets(matrix[first], np.bincount(of_subject) > 1, of_subject)


def nearest(queries: CodeSets, targets: CodeSets) -> tuple[Floats, Floats]:
    """Distance of each query subject to its nearest target, and of each target subject to its nearest query.

    Returns:
        `[query subject]`, `[target subject]`, numbers of codes.
    """
    row, column = _minima(queries.matrix, targets.matrix, same=False)
    return row[queries.of_subject].astype(float), column[targets.of_subject].astype(float)


def nearest_other(sets: CodeSets) -> Floats:
    """Distance of each subject to the nearest other subject of the same set, `[subject]`."""
    row, _ = _minima(sets.matrix, sets.matrix, same=True)
    return np.where(sets.repeated, 0.0, row)[sets.of_subject]


def _minima(x: csr_array, y: csr_array, same: bool) -> tuple[Rows, Rows]:
    common = np.argsort(-(x.sum(0) + y.sum(0)), kind="stable")
    top, rest = common[:DENSE_CODES], common[DENSE_CODES:]
    x_rest, y_rest = x[:, rest], y[:, rest].T.tocsr()
    # Two more columns put the sizes into the product, which then is |A| + |B| - 2 |A ∩ B|, exact below 2**24.
    (x_top, x_size), (y_top, y_size) = ((m[:, top].toarray(), np.asarray(m.sum(1))[:, None]) for m in (x, y))
    left = np.hstack([-2 * x_top, x_size, np.ones_like(x_size)]).astype(np.float32)
    right = np.ascontiguousarray(np.hstack([y_top, np.ones_like(y_size), y_size]).astype(np.float32).T)
    row, column = np.empty(x.shape[0], np.float32), np.full(y.shape[0], FAR)
    for first in range(0, x.shape[0], BLOCK):
        part = slice(first, first + BLOCK)
        distance = left[part] @ right
        shared: Any = (x_rest[part] @ y_rest).tocoo()
        distance[shared.coords] -= 2 * shared.data
        if same:
            here = np.arange(len(distance))
            distance[here, first + here] = FAR
        row[part] = distance.min(1)
        np.minimum(column, distance.min(0), out=column)
    return row, column


@dataclasses.dataclass(frozen=True)
class AdversarialAccuracy:
    """NNAA and its two halves.

    Args:
        nnaa: AA_held_out - AA_train: 0 for a generator that learnt the population, 0.5 for verbatim copies.
        held_out: Near 1 where synthetic and held-out subjects can be told apart. Where they cannot, 0.5 less half the
            share of ties, which are many between short histories and count as not greater.
        train: Likewise; far below `held_out`, synthetic subjects sit on training ones.
        error: Standard error of `nnaa`.
    """

    nnaa: float
    held_out: float
    train: float
    error: float


def adversarial_accuracy(train: Histories, held_out: Histories, synthetic: Histories) -> AdversarialAccuracy:
    """NNAA of equally many subjects of each kind.

    Raises:
        CohortError: Their numbers differ: the nearest of more is nearer.
    """
    if not len(train) == len(held_out) == len(synthetic):
        raise CohortError(
            f"NNAA: {len(train)} training, {len(held_out)} held-out and {len(synthetic)} synthetic subjects; "
            "give equally many of each"
        )
    s = code_sets(synthetic)
    within = nearest_other(s)
    halves, errors = [], []
    for real in (held_out, train):
        x = code_sets(real)
        to_s, from_s = nearest(x, s)
        outside, inside = to_s > nearest_other(x), from_s > within
        halves.append(float(outside.mean() + inside.mean()) / 2)
        errors.append(float(outside.var() + inside.var()) / 4 / len(s.of_subject))
    return AdversarialAccuracy(halves[0] - halves[1], halves[0], halves[1], float(np.sqrt(sum(errors))))


def density_coverage(real: Histories, synthetic: Histories, k: int = 5) -> tuple[float, float]:
    """Density and coverage, Naeem et al. 2020; both to be read beside those of a fresh real sample.

    Distances are whole numbers, so many subjects stand exactly at the radius and count as inside it: density is above
    the 1 it is for continuous data, for real subjects as for synthetic ones.

    Args:
        real: At most some 5,000 subjects: all distances are held at once.
        synthetic: Likewise.
        k: Neighbours that make the radius around a real subject.

    Returns:
        density, coverage.
    """
    x, s = _matrix(real), _matrix(synthetic)
    among = _distances(x, x)
    np.fill_diagonal(among, FAR)
    radius = np.partition(among, k - 1, axis=1)[:, k - 1]
    within = _distances(x, s) <= radius[:, None]
    return float(within.sum() / (k * len(synthetic))), float(within.any(1).mean())


def _matrix(histories: Histories) -> csr_array:
    sets = code_sets(histories)
    return sets.matrix[sets.of_subject]


def _distances(x: csr_array, y: csr_array) -> Rows:
    shared = np.asarray((x @ y.T).toarray(), np.float32)
    return np.asarray(x.sum(1)[:, None] + y.sum(1)[None] - 2 * shared, np.float32)


def signatures(histories: Histories) -> list[bytes]:
    """One string of bytes per subject, equal exactly where sex and all visits are equal."""
    clean = histories.with_codes_sorted()
    # A visit is its codes and -1; a subject is the sex and its visits.
    ends = np.cumsum(clean.code_count)
    flat = np.insert(clean.code, ends, -1).astype(np.int32)
    lengths = np.bincount(clean.visit_subject, clean.code_count + 1, len(clean)).astype(np.int64)
    stops = np.cumsum(lengths)
    return [
        bytes([sex]) + flat[stop - length : stop].tobytes()
        for sex, stop, length in zip(clean.sex, stops, lengths, strict=True)
    ]


def copy_rate(train: Histories, others: Histories, longest: int | None = None) -> tuple[float, int]:
    """Share of subjects whose sex and whole history are those of some training subject.

    Args:
        train: All training subjects.
        others: Synthetic or held-out subjects.
        longest: Only look at subjects with at least this many codes; short histories coincide by chance.

    Returns:
        Share, and how many subjects were looked at.
    """
    looked = others if longest is None else others.take(others.tokens_per_subject >= longest)
    known = set(signatures(train))
    hits = [signature in known for signature in signatures(looked)]
    return (float(np.mean(hits)) if hits else 0.0), len(hits)
