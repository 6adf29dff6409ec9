"""What misled the prototype, reproduced: each of its figures is fooled here, and the figure that replaces it is not."""

import dataclasses

import numpy as np
import pytest

from caretrace.evaluation import prototype
from caretrace.evaluation.fidelity import Counts, js_divergence, plan
from caretrace.evaluation.histories import Histories, join
from caretrace.evaluation.neighbours import adversarial_accuracy, code_sets, copy_rate, nearest, nearest_other
from caretrace.evaluation.planted import collapse, copies
from caretrace.evaluation.views import code_events, shape_events

from .small_histories import by_chance, written

N_CODES = 2000
ZIPF = np.minimum(0.6 / np.arange(1, N_CODES + 1) ** 0.85, 0.9)  # a long tail, as diagnoses have


@pytest.fixture(scope="module")
def sets():
    return tuple(by_chance(n, seed, N_CODES, ZIPF) for n, seed in ((2000, 0), (100, 1), (100, 2)))


def excess(train, held_out, synthetic, events=code_events):
    counts = Counts(
        events(train), events(held_out), events(synthetic), (len(train), len(held_out), len(synthetic))
    )
    return counts.excess(plan(len(train), len(held_out), len(synthetic)))


def test_js_at_a_hundred_subjects_prefers_a_collapse_and_the_gates_do_not(sets):
    """The truth's own JS is far from 0 at n = 100, so the target of 0.3 asked for a collapse."""
    train, held_out, fresh = sets
    collapsed = collapse(train, 100)
    truth, fault = (prototype.figures(one, held_out)["js"] for one in (fresh, collapsed))
    assert truth > 0.2  # noise alone
    assert fault / truth < 2.5  # hardly worse, though all but 31 codes are gone
    assert excess(train, held_out, fresh).value < excess(train, held_out, fresh).fresh_most
    assert excess(train, held_out, collapsed).value > excess(train, held_out, collapsed).fresh_most


def test_top_100_overlap_of_the_truth_is_far_from_one(sets):
    _, held_out, fresh = sets
    assert prototype.figures(fresh, held_out)["top_100_overlap"] < 0.8


def test_pairs_per_code_grow_with_the_number_of_subjects(sets):
    train, held_out, _ = sets
    assert prototype.pairs_per_code(train) > 2 * prototype.pairs_per_code(held_out)


def test_ks_is_passed_by_copying_the_structure_of_the_subjects_compared_with(sets):
    train, held_out, fresh = (by_chance(n, s) for n, s in ((4000, 0), (1500, 1), (1500, 2)))
    nonsense = dataclasses.replace(held_out, code=np.zeros_like(held_out.code))
    figures = prototype.figures(nonsense, held_out)
    assert figures["ks_visits"] == figures["ks_codes"] == 0
    copied = excess(train, held_out, nonsense, shape_events)
    assert copied.value < copied.fresh_least  # nearer than real subjects ever are
    honest = excess(train, held_out, fresh, shape_events)
    assert honest.fresh_least < honest.value < honest.fresh_most


def test_jaccard_must_not_count_the_half_that_was_given():
    truth = written([[[0, 1, 2, 3]], [[4, 5, 6, 7]]], 8)
    given = written([[[0, 1]], [[4, 5]]], 8)
    echo = prototype.completion_jaccard(given, given, truth)
    assert echo == {"hidden": 0.0, "all": 0.5}
    assert prototype.completion_jaccard(given, truth, truth) == {"hidden": 1.0, "all": 1.0}


def halo_nearest(x: Histories, y: Histories) -> np.ndarray:
    """Nearest distance with distance-0 matches set aside, as HALO's public code has it."""
    a, b = (code_sets(h) for h in (x, y))
    a, b = (s.matrix[s.of_subject].toarray() for s in (a, b))
    distance = (a[:, None] != b[None]).sum(2)
    return np.where(distance == 0, 10**6, distance).min(1)


def test_nnaa_counts_distance_zero_which_halos_sets_aside():
    """Half copies, half fresh: set the zeros aside and a good part of the leak is out of sight."""
    train, held_out, fresh = (by_chance(400, s, 200, np.minimum(ZIPF[:200], 0.3)) for s in (0, 1, 2))
    assert adversarial_accuracy(train, held_out, copies(train, 400)).train == 0
    copied = join([copies(train, 200), fresh.take(np.arange(200))])
    ours = adversarial_accuracy(train, held_out, copied)
    assert ours.nnaa > 0.1

    def halves(x):
        return (halo_nearest(x, copied) > halo_nearest(x, x)).mean() / 2 + (
            halo_nearest(copied, x) > halo_nearest(copied, copied)
        ).mean() / 2

    assert abs(halves(held_out) - halves(train)) < 0.7 * ours.nnaa
    assert copy_rate(train, copied.take(np.arange(200)))[0] == 1


def test_nearest_distances_are_those_of_a_loop():
    x, y = by_chance(60, 0, 300, np.full(300, 0.02)), by_chance(50, 1, 300, np.full(300, 0.02))
    y = dataclasses.replace(y.take(np.r_[0:50, 0, 0]))  # repeated subjects
    dense = []
    for one in (x, y):
        sets = code_sets(one)
        dense.append(sets.matrix[sets.of_subject].toarray())
    distance = (dense[0][:, None] != dense[1][None]).sum(2)
    to_y, to_x = nearest(code_sets(x), code_sets(y))
    assert to_y.tolist() == distance.min(1).tolist()
    assert to_x.tolist() == distance.min(0).tolist()
    own = (dense[1][:, None] != dense[1][None]).sum(2)
    np.fill_diagonal(own, 10**6)
    assert nearest_other(code_sets(y)).tolist() == own.min(1).tolist()
    assert nearest_other(code_sets(y))[0] == 0


def test_perplexities_know_what_belongs_together():
    """Code 2k is followed by code 2k + 1, always: who learnt that is hardly surprised, who learnt noise is."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 20, 600)
    law = written([[[2 * k], [2 * k + 1]] for k in first], 40)
    noise = written([[[2 * k], [2 * j + 1]] for k, j in zip(first, rng.permutation(first), strict=True)], 40)
    assert prototype.perplexity(law, law, across=True) < 2
    assert prototype.perplexity(noise, law, across=True) > 10
    assert prototype.perplexity(law, law, across=False) == 40  # no code has company
    assert js_divergence(np.bincount(law.code), np.bincount(noise.code)) == 0
