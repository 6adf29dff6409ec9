import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from caretrace.errors import CohortError
from caretrace.evaluation import auprc, auroc, brier, pr_curve, roc_curve

# Few distinct scores, so that ties are the rule.
rows = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60).filter(
    lambda pairs: 0 < sum(label for label, _ in pairs) < len(pairs)
)


@given(rows)
def test_agrees_with_scikit_learn_ties_included(pairs):
    labels = np.array([label for label, _ in pairs])
    risks = np.array([score / 8 for _, score in pairs])
    assert auroc(labels, risks) == pytest.approx(roc_auc_score(labels, risks), abs=1e-12)
    assert auprc(labels, risks) == pytest.approx(average_precision_score(labels, risks), abs=1e-12)
    assert brier(labels, risks) == pytest.approx(brier_score_loss(labels, risks), abs=1e-12)


@given(rows)
def test_roc_area_by_trapezoid_is_auroc(pairs):
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype=float)
    curve = roc_curve(labels, scores)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(auroc(labels, scores), abs=1e-12)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)


@given(rows)
def test_pr_steps_sum_to_average_precision(pairs):
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype=float)
    curve = pr_curve(labels, scores)
    assert np.diff(curve.x, prepend=0) @ curve.y == pytest.approx(auprc(labels, scores), abs=1e-12)


def test_small_cases_by_hand():
    assert auroc([0, 1], [0.1, 0.9]) == 1.0
    assert auroc([1, 0], [0.1, 0.9]) == 0.0
    assert auroc([0, 1, 0, 1], [0.5] * 4) == 0.5
    assert auroc([0, 0, 1, 1], [1, 2, 2, 3]) == 0.875
    assert auprc([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)
    assert auprc([0, 1, 0, 1], [0.5] * 4) == 0.5
    assert brier([0, 1], [0.5, 1.0]) == 0.125


def test_ranks_only():
    rng = np.random.default_rng(1)
    labels, scores = rng.random(200) < 0.3, rng.normal(size=200)
    assert auroc(labels, scores) == auroc(labels, np.exp(scores))
    assert auroc(labels, scores) + auroc(labels, -scores) == pytest.approx(1)


def test_curves_are_thinned_with_both_ends():
    rng = np.random.default_rng(2)
    labels, scores = rng.random(5000) < 0.3, rng.normal(size=5000)
    curve = roc_curve(labels, scores, max_points=50)
    assert curve.x.size == 50
    assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert np.all(np.diff(curve.threshold) < 0)


@pytest.mark.parametrize("metric", [auroc, auprc, roc_curve, pr_curve])
@pytest.mark.parametrize(("labels", "count"), [([0, 0, 0], "0 of 3"), ([1, 1, 1], "3 of 3")])
def test_one_class_is_an_error_with_counts(metric, labels, count):
    with pytest.raises(CohortError, match=f"{count} labels are positive.*both classes"):
        metric(labels, [0.1, 0.2, 0.3])


@pytest.mark.parametrize("metric", [auroc, auprc, brier])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1, np.nan], "row 1 holds nan.*1 of 2 scores are not finite"),
        ([0, 1], [np.inf, 0.2], "row 0 holds inf"),
        ([0, 1], [0.1, 0.2, 0.3], r"got shape \(3,\) for 2 labels"),
        ([0, 2], [0.1, 0.2], "row 1 holds 2.*not 0 or 1"),
        ([0, np.nan], [0.1, 0.2], "row 1 holds nan"),
        ([], [], "at least one row"),
    ],
)
def test_unusable_input_is_named(metric, labels, scores, message):
    with pytest.raises(CohortError, match=message):
        metric(labels, scores)


def test_brier_wants_risks_not_logits():
    with pytest.raises(CohortError, match="pass risks, not logits"):
        brier([0, 1], [-2.0, 3.0])
    assert brier([0, 0], [0.0, 0.5]) == 0.125
