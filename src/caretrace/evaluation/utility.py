"""Would a model learnt from synthetic subjects serve real ones? Train on synthetic, test on real, over many labels.

Each label is the presence of one common code, predicted from all other codes of the subject, age and sex. The model
is linear least squares with a ridge, because all labels then come from one matrix: with P the inverse of
(features' covariance + ridge), the regression of column j on all others is -P[j, others] / P[j, j] (the identity of
partial regression; Lauritzen 1996, Graphical Models, section 5.1). Where subjects have several visits, the same labels
are also asked of the next visit, from the visits before it.

    ratio = mean AUROC(trained on synthetic, tested on held-out) / mean AUROC(trained on real, tested on held-out)

HALO reports 0.938 / 0.943 (Theodorou et al. 2023, https://doi.org/10.1038/s41467-023-41093-0).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import rankdata

from caretrace.errors import CohortError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints
from caretrace.evaluation.two_sample import bag, presence

LABELS = 40
LABELS_LEAST = 25
FEATURES = 400
POSITIVES = 20  # a label needs so many, and so many negatives, among the held-out subjects
RIDGE = 5.0  # subjects
RESAMPLES = 40
NEXT_LEAST = 300  # subjects with a next visit, in every set
AGE_SPLINE = (18, 40, 55, 65, 75, 85)  # years


@dataclasses.dataclass(frozen=True)
class Utility:
    """AUROC over labels.

    Args:
        ratio: Synthetic over real; 1 is ideal.
        low: Lower end of its 95 % interval (bootstrap over held-out subjects).
        high: Upper end.
        synthetic: Mean AUROC of models fitted on synthetic subjects.
        real: Mean AUROC of models fitted on as many training subjects.
        labels: How many labels there were.
    """

    ratio: float
    low: float
    high: float
    synthetic: float
    real: float
    labels: int


def utility(
    train: Histories, held_out: Histories, synthetic: Histories, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Utility]:
    """Utility by question: `within` a record and, where enough subjects come again, of the `next` visit.

    Args:
        train: Real subjects, as many as synthetic ones.
        held_out: Real subjects to test on.
        synthetic: Synthetic subjects.
        seed: Of the bootstrap.
        resamples: Of the bootstrap, two or more.

    Raises:
        CohortError: Fewer than 25 codes are common enough to be labels.
    """
    codes, labels = _codes(train, held_out)
    chance = np.random.default_rng(seed)
    rows = chance.integers(0, len(held_out), (resamples, len(held_out)))
    answers = {"within": _ratio(*_within(train, held_out, synthetic, codes, labels), rows)}
    if min(int((h.visit_count > 1).sum()) for h in (train, held_out, synthetic)) >= NEXT_LEAST:
        truth, ours, real = _next(train, held_out, synthetic, codes, labels)
        if truth.shape[1] >= LABELS_LEAST:
            rows = chance.integers(0, len(truth), (resamples, len(truth)))
            answers["next"] = _ratio(truth, ours, real, rows)
    return answers


def _codes(train: Histories, held_out: Histories) -> tuple[Ints, Ints]:
    """Codes used as features, the commonest first, and places among them of those that can be labels."""
    counts = np.asarray((bag(train) > 0).sum(0))
    codes = np.argsort(-counts, kind="stable")[:FEATURES]
    there = presence(held_out, codes).sum(0)
    fits = np.flatnonzero((there >= POSITIVES) & (there <= len(held_out) - POSITIVES))
    if len(fits) < LABELS_LEAST:
        raise CohortError(
            f"utility: {len(fits)} codes are common enough to be labels, at least {LABELS_LEAST} are needed; "
            f"give more held-out subjects (now {len(held_out)})"
        )
    return codes, fits[:LABELS]


def _person(histories: Histories) -> Floats:
    age = histories.age[:, None].astype(np.float64)
    return np.hstack([histories.sex[:, None], age / 10, np.maximum(age - np.array(AGE_SPLINE), 0) / 10])


def _within(
    train: Histories, held_out: Histories, synthetic: Histories, codes: Ints, labels: Ints
) -> tuple[Bools, Floats, Floats]:
    """`[held-out subject, label]`: truth, scores of the model fitted on synthetic subjects, and on real ones."""
    test = np.hstack([presence(held_out, codes), _person(held_out)])
    answers = []
    for one in (synthetic, train):
        x = np.hstack([presence(one, codes), _person(one)])
        means = x.mean(0)
        inverse = np.linalg.inv((x - means).T @ (x - means) + RIDGE * np.eye(x.shape[1]))
        weights = -inverse[:, labels] / inverse[labels, labels]
        weights[labels, np.arange(len(labels))] = 0  # never the label itself
        answers.append((test - means) @ weights)
    return test[:, labels] > 0, answers[0], answers[1]


def _next(
    train: Histories, held_out: Histories, synthetic: Histories, codes: Ints, labels: Ints
) -> tuple[Bools, Floats, Floats]:
    """Like `_within`, for who came again and labels that are common enough in the last visit."""
    answers = []
    x_test, y_test = _last_visit(held_out, codes, labels)
    for one in (synthetic, train):
        x, y = _last_visit(one, codes, labels)
        mean_x, mean_y = x.mean(0), y.mean(0)
        gram = (x - mean_x).T @ (x - mean_x) + RIDGE * np.eye(x.shape[1])
        answers.append((x_test - mean_x) @ np.linalg.solve(gram, (x - mean_x).T @ (y - mean_y)))
    there = y_test.sum(0)
    kept = (there >= POSITIVES) & (there <= len(y_test) - POSITIVES)
    return y_test[:, kept] > 0, answers[0][:, kept], answers[1][:, kept]


def _last_visit(histories: Histories, codes: Ints, labels: Ints) -> tuple[Floats, Floats]:
    """Codes of all visits but the last with age and sex, and the label codes of the last; who came again only."""
    again = histories.take(histories.visit_count > 1)
    is_last = again.visit_rank == again.visit_count[again.visit_subject] - 1
    parts = []
    for visits in (~is_last, is_last):
        counts = np.where(visits, again.code_count, 0)
        tokens = visits[again.token_visit]
        part = dataclasses.replace(again, code_count=counts, code=again.code[tokens])
        parts.append(presence(part, codes))
    return np.hstack([parts[0], _person(again)]), parts[1][:, labels]


def _ratio(truth: Bools, ours: Floats, real: Floats, resamples: Ints) -> Utility:
    """Mean AUROC of both models, and their ratio with its interval over held-out subjects `[resample, subject]`."""
    value_ours, value_real = _mean_auroc(truth, ours), _mean_auroc(truth, real)
    ratios = [_mean_auroc(truth[r], ours[r]) / _mean_auroc(truth[r], real[r]) for r in resamples]
    ratio, half = value_ours / value_real, 1.96 * float(np.std(ratios, ddof=1))
    return Utility(ratio, ratio - half, ratio + half, value_ours, value_real, truth.shape[1])


def _mean_auroc(truth: Bools, scores: Floats) -> float:
    """Mean over labels with both classes, all columns ranked at once; the same number as `auroc` gives."""
    both = truth.any(0) & ~truth.all(0)
    ranks = np.asarray(rankdata(scores[:, both], axis=0))
    positive = truth[:, both].sum(0)
    above = (ranks * truth[:, both]).sum(0) - positive * (positive + 1) / 2
    return float((above / (positive * (len(truth) - positive))).mean())
