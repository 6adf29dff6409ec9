import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation import (
    METRICS,
    Resamples,
    auprc,
    auroc,
    bootstrap,
    bootstrap_intervals,
    brier,
    ece,
    paired_differences,
)

PLAIN = {"auroc": auroc, "auprc": auprc, "brier": brier, "ece": ece}

rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 10), st.integers(0, 6)), min_size=2, max_size=40
).filter(lambda items: 0 < sum(label for label, _, _ in items) < len(items))


def simulated(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, n)
    labels = rng.random(n) < expit(z)
    return labels, {"good": expit(z), "noisy": expit(z + rng.normal(size=n))}


@settings(deadline=None)
@given(rows)
def test_weighted_metrics_are_the_plain_metrics_of_the_resampled_rows(items):
    labels = np.array([label for label, _, _ in items])
    risks = np.array([risk / 10 for _, risk, _ in items])
    subjects = np.array([subject for _, _, subject in items])
    resamples = Resamples(labels, subjects, replicates=40, seed=3)
    samples = bootstrap({"m": risks}, resamples).samples["m"]
    distinct = np.unique(subjects)
    weights = np.concatenate(list(resamples.chunks()), axis=1)
    assert weights.shape == (distinct.size, 40)
    assert np.all(weights.sum(axis=0) == distinct.size)
    for replicate in range(40):
        drawn = np.repeat(distinct, weights[:, replicate].astype(int))
        chosen = np.concatenate([np.flatnonzero(subjects == subject) for subject in drawn])
        for metric, plain in PLAIN.items():
            assert samples[metric][replicate] == pytest.approx(
                plain(labels[chosen], risks[chosen]), abs=1e-12
            )


class UnitWeights(Resamples):
    def chunks(self):
        yield np.ones((self.n_subjects, 1))


@settings(deadline=None)
@given(rows)
def test_unit_weights_give_the_plain_metric(items):
    labels = np.array([label for label, _, _ in items])
    risks = np.array([risk / 10 for _, risk, _ in items])
    result = bootstrap({"m": risks}, UnitWeights(labels, np.arange(labels.size)))
    assert result.samples["m"]["auroc"][0] == result.values["m"]["auroc"]  # whole numbers: to the bit
    for metric in METRICS:
        assert result.samples["m"][metric][0] == pytest.approx(result.values["m"][metric], abs=1e-14)


def test_same_seed_same_intervals_whatever_the_chunk(monkeypatch):
    labels, scores = simulated(300)
    first = bootstrap_intervals(labels, scores, np.arange(300), replicates=50, seed=7)
    assert bootstrap_intervals(labels, scores, np.arange(300), replicates=50, seed=7) == first
    assert bootstrap_intervals(labels, scores, np.arange(300), replicates=50, seed=8) != first
    monkeypatch.setattr("caretrace.evaluation.intervals.CHUNK", 7)
    other = bootstrap_intervals(labels, scores, np.arange(300), replicates=50, seed=7)
    assert other["good"]["auroc"] == pytest.approx(first["good"]["auroc"], abs=1e-12)


def test_shape_and_order():
    labels, scores = simulated(400)
    result = bootstrap_intervals(labels, scores, np.arange(400), replicates=100)
    assert set(result) == {"good", "noisy"}
    for metrics in result.values():
        assert tuple(metrics) == METRICS
        for values in metrics.values():
            assert values["low"] <= values["high"]
    assert result["good"]["auroc"]["low"] < result["good"]["auroc"]["value"] < result["good"]["auroc"]["high"]


def test_differences_are_paired():
    labels, scores = simulated(2000)
    scores["twin"] = scores["good"]
    paired = paired_differences(labels, scores, np.arange(2000), "good", replicates=200)
    assert paired["twin"]["auroc"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    single = bootstrap_intervals(labels, scores, np.arange(2000), replicates=200)
    difference = paired["noisy"]["auroc"]
    assert 0 < difference["low"] < difference["difference"] < difference["high"]
    # Shared resamples cancel what both models have in common.
    width = single["good"]["auroc"]["high"] - single["good"]["auroc"]["low"]
    assert difference["high"] - difference["low"] < width * 1.2


def test_repeated_rows_of_a_subject_do_not_narrow_the_interval():
    labels, scores = simulated(200)
    once = bootstrap_intervals(labels, scores, np.arange(200), replicates=300)["good"]["auroc"]
    many = bootstrap_intervals(
        np.repeat(labels, 10),
        {"good": np.repeat(scores["good"], 10)},
        np.repeat(np.arange(200), 10),
        replicates=300,
    )["good"]["auroc"]
    assert many == pytest.approx(once, abs=1e-12)


def test_coverage_is_near_the_nominal_level():
    labels, scores = simulated(400_000, seed=5)
    truth = auroc(labels, scores["good"])
    hits = 0
    for seed in range(100):
        labels, scores = simulated(200, seed=100 + seed)
        interval = bootstrap_intervals(
            labels, {"good": scores["good"]}, np.arange(200), ("auroc",), replicates=200
        )["good"]["auroc"]
        hits += interval["low"] <= truth <= interval["high"]
    assert 87 <= hits <= 100


def test_one_class_replicates_are_drawn_again_and_counted():
    labels = np.array([1, 0, 0, 0])
    resamples = Resamples(labels, [1, 2, 3, 4], replicates=100)
    result = bootstrap({"m": [0.9, 0.1, 0.2, 0.3]}, resamples)
    assert result.redrawn > 20  # a draw misses the only positive 32 times in a hundred
    assert np.all(result.samples["m"]["auroc"] == 1.0)


def test_errors_name_the_remedy():
    labels, scores = simulated(10)
    with pytest.raises(ConfigError, match="did you mean 'auroc'"):
        bootstrap_intervals(labels, scores, np.arange(10), ("auroq",))
    with pytest.raises(CohortError, match="0 of 3 labels are positive"):
        bootstrap_intervals([0, 0, 0], {"m": [0.1, 0.2, 0.3]}, [1, 2, 3])
    with pytest.raises(CohortError, match="one subject per label"):
        bootstrap_intervals([0, 1], {"m": [0.1, 0.2]}, [1, 2, 3])
    with pytest.raises(CohortError, match="scores of m: row 1 holds nan"):
        bootstrap_intervals([0, 1], {"m": [0.1, np.nan]}, [1, 2])
    with pytest.raises(ConfigError, match="valid names are good, noisy"):
        paired_differences(labels, scores, np.arange(10), "caretrace")
    with pytest.raises(ConfigError, match="at least 2"):
        Resamples(labels, np.arange(10), replicates=1)


def test_scores_outside_zero_to_one_are_fine_for_ranks_only():
    result = bootstrap_intervals([0, 1, 0, 1], {"m": [-3, 4, 1, 9]}, [1, 2, 3, 4], ("auroc", "auprc"), 20)
    assert result["m"]["auroc"]["value"] == 1.0
    with pytest.raises(CohortError, match=r"scores of m.*pass risks, not logits"):
        bootstrap_intervals([0, 1], {"m": [-3, 4]}, [1, 2])
