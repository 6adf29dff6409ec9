"""Can anything tell synthetic subjects from held-out ones? And do codes say as much about age and sex as they should?

Two-sample test by classifier (Lopez-Paz and Oquab 2017, arXiv 1610.06545): bag of codes, age, sex and structure;
boosted trees and a linear model, cross-fitted, equally many subjects of each kind; AUROC 0.5 is ideal.

Conditioning: a linear model of sex, and one of age, from codes, fitted on training subjects, must do as well on
synthetic subjects as on held-out ones. Where codes say nothing about sex (cms-desynpuf), both are at chance, and the
figure for the held-out subjects says so.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix, hstack

from caretrace.evaluation.discrimination import auroc
from caretrace.evaluation.histories import Floats, Histories, Ints, join
from caretrace.evaluation.views import next_events

FOLDS = 3
RESAMPLES = 100
Z_95 = 1.959964
RIDGE = 10.0  # added to the diagonal, in subjects


def bag(histories: Histories) -> csr_array:
    """`[subject, code]`: in how many visits each subject had each code."""
    clean = histories.with_codes_sorted()
    rows = (np.ones(len(clean.code)), (clean.token_subject, clean.code))
    return csr_array(rows, shape=(len(clean), clean.n_codes))


def structure(histories: Histories) -> Floats:
    """`[subject, feature]`: age, sex, visits, codes, different codes, largest visit, codes carried to the next."""
    n = len(histories)
    different = np.diff(bag(histories).indptr)
    largest = np.zeros(n, np.int64)
    np.maximum.at(largest, histories.visit_subject, histories.code_count)
    following = next_events(histories)
    again = following.feature // histories.n_codes == following.feature % histories.n_codes
    carried = np.bincount(following.subject[again], minlength=n)
    columns = (
        histories.age, histories.sex, histories.visit_count, histories.tokens_per_subject, different, largest, carried,
        carried / np.maximum(histories.visit_count - 1, 1),
    )  # fmt: skip
    return np.column_stack(columns).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Auroc:
    """An AUROC with its 95 % interval and its standard error."""

    value: float
    low: float
    high: float
    error: float


def auroc_interval(labels: Ints, scores: Floats, seed: int = 0) -> Auroc:
    """AUROC with a bootstrap interval over rows (one row is one subject here)."""
    rng = np.random.default_rng(seed)
    value = auroc(labels, scores)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    again = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rng.choice(positive, len(positive)), rng.choice(negative, len(negative))])
        again.append(auroc(labels[rows], scores[rows]))
    error = float(np.std(again, ddof=1))
    return Auroc(value, value - Z_95 * error, value + Z_95 * error, error)


def two_sample_auroc(held_out: Histories, synthetic: Histories, seed: int = 0) -> dict[str, Auroc]:
    """How well classifiers tell synthetic from held-out subjects, by name of the classifier.

    Args:
        held_out: Real subjects.
        synthetic: As many synthetic ones.
        seed: Of folds and resamples.
    """
    both = join([held_out, synthetic])
    labels = np.repeat([0, 1], [len(held_out), len(synthetic)])
    sizes = structure(both)
    features = csr_matrix(hstack([csr_array(sizes), bag(both)]))  # both libraries want matrices, 32-bit ones
    features.indices, features.indptr = features.indices.astype(np.int32), features.indptr.astype(np.int32)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(labels))
    scores: dict[str, Floats] = {"boosted_trees": np.zeros(len(labels)), "linear": np.zeros(len(labels))}
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        scores["boosted_trees"][test] = _boosted(features[train], labels[train], features[test], seed)
        scores["linear"][test] = _linear(features[train], labels[train], features[test])
    # Folds are scored by different models, so only ranks within a fold are compared.
    for name, values in scores.items():
        for held in range(FOLDS):
            rows = np.flatnonzero(fold == held)
            order = np.argsort(values[rows], kind="stable")
            values[rows[order]] = np.unique(values[rows[order]], return_inverse=True)[1] / len(rows)
        scores[name] = values
    return {name: auroc_interval(labels, values, seed) for name, values in scores.items()}


def _boosted(x: csr_matrix, y: Ints, x_test: csr_matrix, seed: int) -> Floats:
    import lightgbm as lgb

    settings: dict[str, Any] = {
        "objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "feature_fraction": 0.5,
        "seed": seed, "num_threads": 1, "verbosity": -1, "deterministic": True,
    }  # fmt: skip
    booster = lgb.train(settings, lgb.Dataset(x, label=y), num_boost_round=80)
    return np.asarray(booster.predict(x_test))


def _linear(x: csr_matrix, y: Ints, x_test: csr_matrix) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import MaxAbsScaler

    scaler = MaxAbsScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not quite converged still ranks
        model = LogisticRegression(C=0.3, solver="liblinear").fit(scaler.transform(x), y)
    return np.asarray(model.decision_function(scaler.transform(x_test)))


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """What codes say about sex and age, in held-out and in synthetic subjects, by one model fitted on training ones.

    Args:
        sex_real: AUROC of sex from codes, held-out subjects; 0.5 says that codes do not depend on sex.
        sex_synthetic: The same, synthetic subjects.
        age_real: Correlation of age with its prediction from codes, held-out subjects; 0 says they do not depend.
        age_synthetic: The same, synthetic subjects.
        age_error: Standard error of the difference of the two correlations.
    """

    sex_real: Auroc
    sex_synthetic: Auroc
    age_real: float
    age_synthetic: float
    age_error: float


def conditioning(
    train: Histories, held_out: Histories, synthetic: Histories, most: int = 500
) -> Conditioning:
    """Fit sex and age on the codes of training subjects and score both other sets.

    Args:
        train: Real subjects.
        held_out: Real subjects, both sexes among them.
        synthetic: Both sexes among them.
        most: Commonest codes that are used.
    """
    top = np.argsort(-np.bincount(train.code, minlength=train.n_codes), kind="stable")[:most]
    x = presence(train, top)
    targets = np.column_stack([train.sex, train.age]).astype(np.float64)
    means, center = x.mean(0), targets.mean(0)
    gram = (x - means).T @ (x - means) + RIDGE * np.eye(len(top))
    weights = np.linalg.solve(gram, (x - means).T @ (targets - center))
    found = []
    for one in (held_out, synthetic):
        scores = presence(one, top) @ weights
        found.append((auroc_interval(one.sex, scores[:, 0]), _correlation(one.age, scores[:, 1]), len(one)))
    (sex_real, age_real, n_real), (sex_synthetic, age_synthetic, n_synthetic) = found
    error = (1 - age_real**2) * np.sqrt(1 / n_real + 1 / n_synthetic)  # Fisher's, large samples
    return Conditioning(sex_real, sex_synthetic, age_real, age_synthetic, float(error))


def presence(histories: Histories, codes: Ints) -> Floats:
    """`[subject, place in codes]`: 1 where the subject ever had the code."""
    place = np.full(histories.n_codes, -1)
    place[codes] = np.arange(len(codes))
    found = place[histories.code]
    table = np.zeros((len(histories), len(codes)))
    table[histories.token_subject[found >= 0], found[found >= 0]] = 1
    return table


def _correlation(a: Ints, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 0.0
