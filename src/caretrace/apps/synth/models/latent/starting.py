"""Where the search for classes begins: which codes stay with people, and clusters of people and of visits."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq
from scipy.sparse import csr_array, diags_array

from caretrace.apps.synth.models.latent.cells import LAST, Sets
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

_PRIOR = 2.0  # visits that the bound weighs in the share of a group's codes that come again
_WIDTH = 40  # dimensions in which clusters are sought
_COLUMNS = 1500  # commonest groups of codes by which clusters are told apart
_SAMPLE = 20_000  # rows that clusters are sought in
_ROUNDS = 25
_YEARS = 12.0  # width of the bumps that say how old somebody is
_BUMPS = np.array([0, 15, 30, 45, 60, 75, 90])
_DEMOGRAPHY = 0.3  # weight of age and sex beside codes
_SHARP = 0.9  # probability of the cluster to begin with


def lasting_codes(sets: Sets, group: Ints, bound: float) -> Bools:
    """`[code]`: whether codes of its group come again at the next visit more often than `bound`."""
    groups = int(group.max()) + 1
    seen, again = (
        np.bincount(group, np.asarray(m.sum(0)).ravel(), groups) for m in (sets.seen[LAST], sets.again[LAST])
    )
    return np.asarray(((again + _PRIOR * bound) / (seen + _PRIOR) > bound)[group])


def clusters(rows: csr_array, age: Ints, sex: Ints, many: int, rng: np.random.Generator) -> Floats:
    """`[row, cluster]`: soft clusters of rows of counts, by what they have and whose they are."""
    if many == 1:
        return np.ones((rows.shape[0], 1))
    often = np.asarray((rows > 0).sum(0)).ravel()
    weighted = csr_array(rows @ diags_array(np.log((rows.shape[0] + 1) / (often + 1))))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    unit = csr_array(diags_array(1 / np.maximum(length, 1e-9)) @ weighted)
    bumps = np.exp(-0.5 * ((age[:, None] - _BUMPS) / _YEARS) ** 2)
    place = np.concatenate([_directions(unit), _DEMOGRAPHY * bumps, _DEMOGRAPHY * sex[:, None]], 1)
    some = rng.permutation(len(place))[:_SAMPLE]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a cluster that stays empty is filled by what the other classes are not
        centre, _ = kmeans2(place[some], many, iter=_ROUNDS, minit="++", rng=rng)
    found = vq(place, centre)[0]
    out = np.full((len(place), many), (1 - _SHARP) / many)
    out[np.arange(len(place)), found] += _SHARP
    return out


def grouped(sets: Sets, group: Ints, groups: int) -> csr_array:
    """`[visit, group]`: codes of each group that visits have."""
    codes = len(group)
    one = csr_array((np.ones(codes), (np.arange(codes), group)), shape=(codes, groups))
    return csr_array((sets.new + sets.again[0] + sets.again[1]) @ one)


def of_people(rows: csr_array, histories: Histories) -> csr_array:
    """Sums over the visits of each subject."""
    visits = len(histories.code_count)
    whose = (histories.visit_subject, np.arange(visits))
    return csr_array(csr_array((np.ones(visits), whose), shape=(len(histories), visits)) @ rows)


def _directions(unit: csr_array) -> Floats:
    """`[row, direction]`: the rows in the few directions that tell most of them apart."""
    common = np.argsort(-np.asarray(unit.sum(0)).ravel(), kind="stable")[:_COLUMNS]
    part = unit[:, np.sort(common)]
    _, axes = np.linalg.eigh((part.T @ part).toarray())
    return np.asarray(part @ axes[:, -_WIDTH:])
