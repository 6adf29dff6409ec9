"""Counted rates: exact likelihoods, and samples of them."""

import functools
import itertools

import numpy as np
import pytest

from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.errors import ConfigError

from .people import histories as written

VOCABULARY = Vocabulary.of(["25000", "4019", "4280"])


histories = functools.partial(written, vocabulary=VOCABULARY)


TRAIN = Records(histories([(50, 0, [{0}, {0, 1}]), (60, 1, [{1}]), (70, 1, [{0, 2}, {0}, {0, 1}])] * 40))
SETS = [set(s) for size in range(1, 5) for s in itertools.combinations(range(4), size)]


@pytest.mark.parametrize("kind", ["marginals", "n-gram"])
def test_probabilities_sum_to_one(kind):
    generator = CountGenerator.fit(TRAIN, VOCABULARY, kind)
    second = generator.log_likelihood(Records(histories([(70, 1, [{0, 2}, visit]) for visit in SETS])))
    one = generator.log_likelihood(Records(histories([(70, 1, [{0, 2}])])))[0]
    stop = generator.stop
    total = np.logaddexp.reduce(second) - np.log(stop[2])
    assert total == pytest.approx(one - np.log(stop[1]) + np.log1p(-stop[1]), abs=1e-9)
    assert generator.log_likelihood(Records(histories([(70, 1, [set()])])))[0] == -np.inf


@pytest.mark.parametrize("kind", ["marginals", "n-gram"])
def test_samples_come_as_often_as_the_likelihood_says(kind):
    generator = CountGenerator.fit(TRAIN, VOCABULARY, kind)
    n = 8000
    drawn = generator.draw(Wanted(np.arange(n), np.full(n, 70), np.full(n, 1)), 5, SamplingConfig())
    h = drawn.histories
    once = [visit for visit in SETS if len(visit) < 3]
    expected = n * np.exp(generator.log_likelihood(Records(histories([(70, 1, [v]) for v in once]))))
    visits = np.split(h.code, np.cumsum(h.code_count)[:-1])
    first = np.cumsum(h.visit_count) - h.visit_count
    alone = [frozenset(visits[first[s]].tolist()) for s in np.flatnonzero(h.visit_count == 1)]
    found = np.array([sum(a == v for a in alone) for v in once])
    assert np.abs((found - expected) / np.sqrt(expected + 1)).max() < 4
    again = generator.draw(
        Wanted(np.array([7]), np.array([70]), np.array([1])), 5, SamplingConfig()
    ).histories
    np.testing.assert_array_equal(again.code, h.take([7]).code)


def test_the_n_gram_knows_the_last_visit_and_the_marginals_do_not():
    test = Records(histories([(70, 1, [{0, 2}, {0}])]))
    other = Records(histories([(70, 1, [{1, 2}, {0}])]))
    ngram, marginals = (CountGenerator.fit(TRAIN, VOCABULARY, kind) for kind in ("n-gram", "marginals"))
    first, second = (Records(histories([(70, 1, [visit])])) for visit in ({0, 2}, {1, 2}))

    def gain(generator):
        return (generator.log_likelihood(test) - generator.log_likelihood(first)) - (
            generator.log_likelihood(other) - generator.log_likelihood(second)
        )

    assert gain(ngram)[0] > 0.2
    assert gain(marginals)[0] == pytest.approx(0)


def test_it_says_what_it_cannot():
    with pytest.raises(ConfigError, match="give marginals or n-gram"):
        CountGenerator.fit(TRAIN, VOCABULARY, "bigram")
    generator = CountGenerator.fit(TRAIN, VOCABULARY, "marginals")
    with pytest.raises(ConfigError, match="sampled as they are"):
        generator.draw(Wanted(np.arange(2), np.arange(2), np.arange(2) % 2), 0, SamplingConfig(top_k=1))
