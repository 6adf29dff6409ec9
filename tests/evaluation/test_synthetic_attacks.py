"""Attacks find what is planted and nothing where nothing is; usefulness and validity are counted as by hand."""

import dataclasses

import numpy as np
import pytest

from caretrace.errors import CohortError
from caretrace.evaluation import privacy, two_sample, utility, validity
from caretrace.evaluation.discrimination import auroc
from caretrace.evaluation.histories import join
from caretrace.evaluation.neighbours import adversarial_accuracy, copy_rate, density_coverage
from caretrace.evaluation.planted import (
    collapse,
    copies,
    impossible,
    independent_marginals,
    shuffled_sexes,
    shuffled_visits,
)
from caretrace.evaluation.views import cells, size_events, visit_events

from .small_histories import simulated, written


def test_a_likelihood_ratio_finds_what_a_generator_memorised():
    """The generator gives each training subject 2 nats more than it deserves."""
    rng = np.random.default_rng(0)
    reference = rng.normal(-40, 10, 4000)  # some histories are longer: likelihood alone tells nothing
    generator = reference + rng.normal(0, 1, 4000) + 2 * (np.arange(4000) < 2000)
    score = privacy.likelihood_ratio(generator, reference)
    found = privacy.membership(score[:2000], score[2000:])
    assert found.auroc.low < 0.9214 < found.auroc.high  # Phi(2 / sqrt 2)
    assert found.tpr == pytest.approx(0.372, abs=0.05)  # Phi(2 - 2.326)
    fair = privacy.membership(score[2000:3000], score[3000:])
    assert fair.auroc.low < 0.5 < fair.auroc.high
    assert fair.tpr < 0.01 + 3.09 * fair.tpr_error
    assert privacy.membership(generator[:2000], generator[2000:]).auroc.value < 0.6  # without a reference
    with pytest.raises(CohortError, match="subject 1 has log-likelihoods -inf and -1"):
        privacy.likelihood_ratio(np.array([-1.0, -np.inf]), np.array([-1.0, -1.0]))


@pytest.fixture(scope="module")
def sets():
    everyone, _ = simulated(3000)
    return (
        everyone.take(np.arange(1000)),
        everyone.take(np.arange(1000, 2000)),
        everyone.take(np.arange(2000, 3000)),
    )


def test_distances_find_copies_only(sets):
    train, held_out, fresh = sets
    for source, least, most in ((copies(train, 1000), 0.9, 1.0), (fresh, 0.45, 0.55)):
        members, others = (privacy.distance_scores(x, source, fresh) for x in (train, held_out))
        assert least <= privacy.membership(members, others).auroc.value <= most


def test_attributes_are_inferred_from_copies_and_no_better_from_fresh_subjects(sets):
    train, held_out, fresh = sets
    copied = privacy.attribute_inference(train, held_out, copies(train, 1000))
    assert copied.synthetic > 0.9
    assert copied.gain > 0.5
    honest = privacy.attribute_inference(train, held_out, fresh)
    assert abs(honest.gain) < 4 * honest.error + 0.01


def test_canaries_come_out_of_copies_only(sets):
    train, _, fresh = sets
    spiked, canaries, controls = privacy.plant_canaries(train, 20, repeats=3)
    assert len(spiked) == 1060
    assert (privacy.canary_hits(spiked, canaries) == 3).all()
    assert privacy.canary_hits(spiked, controls).sum() == 0
    assert privacy.canary_hits(fresh, canaries).sum() == 0
    nearly = dataclasses.replace(
        canaries, code_count=canaries.code_count - 1, code=np.delete(canaries.code, np.arange(0, 100, 5))
    )
    assert (privacy.canary_hits(nearly, canaries) > 0).all()


def test_exposure_is_that_of_the_rank():
    controls = np.arange(1023.0)
    assert privacy.exposure(np.array([2000.0, -1.0]), controls).tolist() == [10, 0]


def test_copies_fresh_subjects_and_collapse_as_neighbours_see_them(sets):
    train, held_out, fresh = sets
    honest = adversarial_accuracy(train, held_out, fresh)
    assert abs(honest.nnaa) < 3.3 * honest.error
    assert adversarial_accuracy(train, held_out, copies(train, 1000)).nnaa > 0.25
    assert adversarial_accuracy(train, held_out, collapse(train, 1000)).held_out > honest.held_out + 0.2
    with pytest.raises(CohortError, match="give equally many"):
        adversarial_accuracy(train, held_out, fresh.take(np.arange(10)))
    density, coverage = density_coverage(held_out, fresh)
    assert density == pytest.approx(density_coverage(held_out, train)[0], rel=0.3)
    assert coverage > 0.9
    assert density_coverage(held_out, collapse(train, 1000))[1] < coverage
    assert copy_rate(train, copies(train, 1000), longest=8)[0] == 1
    assert copy_rate(train, fresh, longest=8)[0] < 0.01


def test_a_copy_has_the_same_visits_and_sex():
    one = written([[[0, 1], [2]]], 3)
    assert copy_rate(one, written([[[1, 0], [2]]], 3))[0] == 1  # a visit is a set
    assert copy_rate(one, written([[[0], [1, 2]]], 3))[0] == 0
    assert copy_rate(one, written([[[2], [0, 1]]], 3))[0] == 0
    assert copy_rate(one, dataclasses.replace(one, sex=np.array([1])))[0] == 0


def test_classifiers_tell_collapse_and_independence_and_not_fresh_subjects(sets):
    train, held_out, fresh = sets
    found = {
        name: max(a.value for a in two_sample.two_sample_auroc(held_out, one).values())
        for name, one in (
            ("fresh", fresh), ("collapse", collapse(train, 1000)), ("independent", independent_marginals(train, 1000)),
        )
    }  # fmt: skip
    assert found["fresh"] < 0.55
    assert found["collapse"] > 0.95
    assert found["independent"] > 0.7


def test_codes_say_sex_until_sexes_are_shuffled(sets):
    train, held_out, fresh = sets
    honest = two_sample.conditioning(train, held_out, fresh)
    assert honest.sex_real.low > 0.6
    assert abs(honest.sex_synthetic.value - honest.sex_real.value) < 0.06
    shuffled = two_sample.conditioning(train, held_out, shuffled_sexes(fresh)).sex_synthetic
    assert shuffled.low < 0.5 < shuffled.high


def test_all_labels_come_from_one_matrix_as_from_one_fit_each(sets):
    """The literal way: one ridge regression per label, without the label among the features."""
    train, held_out, fresh = sets
    codes, labels = utility._codes(train, held_out)
    truth, ours, _ = utility._within(train, held_out, fresh, codes, labels)
    x, test = (np.hstack([two_sample.presence(h, codes), utility._person(h)]) for h in (fresh, held_out))
    means = x.mean(0)
    for place, label in enumerate(labels[:4]):
        rest = np.delete(np.arange(x.shape[1]), label)
        a = x[:, rest] - means[rest]
        weights = np.linalg.solve(
            a.T @ a + utility.RIDGE * np.eye(len(rest)), a.T @ (x[:, label] - means[label])
        )
        assert np.allclose((test[:, rest] - means[rest]) @ weights, ours[:, place])
    assert utility._mean_auroc(truth, ours) == pytest.approx(
        np.mean([auroc(truth[:, j], ours[:, j]) for j in range(truth.shape[1])])
    )


def test_a_fresh_sample_is_as_useful_and_independence_is_not(sets):
    train, held_out, fresh = sets
    honest = utility.utility(train, held_out, fresh, resamples=4)["within"]
    assert honest.labels >= 25
    assert honest.real > 0.65
    assert honest.ratio == pytest.approx(1, abs=0.04)
    useless = utility.utility(train, held_out, independent_marginals(train, 1000), resamples=4)["within"]
    assert useless.ratio < 0.9
    with pytest.raises(CohortError, match="codes are common enough"):
        utility.utility(train.take([0]), held_out.take(np.arange(30)), fresh)


def test_violations_are_counted_as_by_hand():
    histories = written([[[0, 1], [1, 1]], [[2, 0]]], 3, ages=[10, 60], sexes=[1, 0])
    found = validity.violations(
        histories, np.array([0, 15, 0]), np.array([124, 124, 17]), np.array([[1, 1], [1, 0], [0, 1]], bool)
    )
    assert found.tokens == 6
    assert (found.limited_sex, found.limited_age) == (4, 4)
    assert found.sex.tolist() == [0, 3, 1]  # code 1 is for women, on a man; code 2 the other way
    assert found.age.tolist() == [0, 3, 1]  # code 1 from 15, at 10; code 2 up to 17, at 60
    assert found.duplicates == 1
    assert found.sex_rate == 1  # all four limited codes are on the wrong sex, so there is no spread
    assert found.sex_error == 0
    fair = validity.violations(histories, np.zeros(3, int), np.array([9, 124, 124]), np.ones((3, 2), bool))
    assert (fair.limited_age, fair.age_rate) == (2, 1)


def test_planted_generators_keep_what_they_say_they_keep(sets):
    train, _, fresh = sets
    dealt = shuffled_visits(fresh)
    assert np.array_equal(np.sort(size_events(dealt).feature), np.sort(size_events(fresh).feature))
    assert np.array_equal(visit_events(dealt).feature, visit_events(fresh).feature)
    for cell in np.unique(cells(fresh)):
        a, b = (one.take(cells(one) == cell) for one in (dealt, fresh))
        assert np.array_equal(
            np.bincount(a.code, minlength=a.n_codes), np.bincount(b.code, minlength=b.n_codes)
        )
    assert not np.array_equal(dealt.code, fresh.code)
    other = shuffled_sexes(fresh)
    assert np.array_equal(np.sort(cells(other)), np.sort(cells(fresh)))
    assert 0.3 < (other.sex != fresh.sex).mean() < 0.6
    half = copies(train, 1000, share=0.5)
    assert copy_rate(train, half.take(np.arange(500)))[0] == 1
    assert copy_rate(train, half.take(np.arange(500, 1000)), longest=8)[0] == 0
    assert len(np.unique(collapse(train, 500).code)) == 31
    men_only = np.ones((train.n_codes, 2), bool)
    men_only[np.argsort(-np.bincount(train.code))[0], 0] = False
    spoiled = impossible(train, men_only, 1.0)
    assert (spoiled.sex != train.sex).sum() > 50
    assert len(join([spoiled, train])) == 2000
