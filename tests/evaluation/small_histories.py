"""Histories for tests: written out as lists, drawn by chance, or simulated by the virtual hospital."""

import functools

import numpy as np

from caretrace.evaluation.histories import Histories
from caretrace.hospital.histories import default_model, draw


def written(subjects, n_codes, ages=None, sexes=None):
    """Subjects as lists of visits, visits as lists of codes."""
    visits = [visit for subject in subjects for visit in subject]
    return Histories(
        age=ages if ages is not None else [50] * len(subjects),
        sex=sexes if sexes is not None else [0] * len(subjects),
        visit_count=[len(subject) for subject in subjects],
        code_count=[len(visit) for visit in visits],
        code=[code for visit in visits for code in visit],
        n_codes=n_codes,
    )


def by_chance(n, seed, n_codes=40, weights=None):
    """Subjects of one or two visits of independent codes; later codes are rarer."""
    rng = np.random.default_rng(seed)
    p = np.asarray(weights if weights is not None else 0.3 / np.arange(1, n_codes + 1))
    visits = rng.integers(1, 3, n)
    rows = rng.random((int(visits.sum()), n_codes)) < p
    return Histories(
        rng.integers(20, 90, n), rng.integers(0, 2, n), visits, rows.sum(1), np.nonzero(rows)[1], n_codes
    )


@functools.cache
def simulated(n, seed=0):
    """Subjects of the virtual hospital's population, and the model that drew them."""
    model = default_model()
    return Histories.of(draw(n, seed, model).histories, len(model.codes)), model
