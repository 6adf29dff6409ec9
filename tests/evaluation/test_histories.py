"""Flat arrays hold what was written, and taking subjects keeps them whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.errors import DatasetError
from caretrace.evaluation.histories import Histories, join
from caretrace.evaluation.views import (
    carried_events,
    cell_name,
    cells,
    code_events,
    next_events,
    pair_events,
    prevalence,
    rare_codes,
    shape_events,
    size_events,
    visit_events,
)

from .small_histories import by_chance, written

SUBJECTS = [[[2, 0], [0, 1, 3]], [], [[4], [], [4]]]


def as_lists(histories):
    ends = np.cumsum(histories.code_count)
    visits = [
        sorted(histories.code[e - n : e].tolist()) for e, n in zip(ends, histories.code_count, strict=True)
    ]
    last = np.cumsum(histories.visit_count)
    return [visits[e - n : e] for e, n in zip(last, histories.visit_count, strict=True)]


lists = st.lists(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3), min_size=1, max_size=6)


@given(lists, st.data())
def test_subjects_are_taken_whole(subjects, data):
    histories = written(subjects, 6)
    order = data.draw(st.lists(st.integers(0, len(subjects) - 1), max_size=8))
    wanted = [[sorted(visit) for visit in subjects[place]] for place in order]
    assert as_lists(histories.take(np.array(order, int))) == wanted
    assert as_lists(join([histories.take([0]), histories])) == as_lists(
        histories.take([0, *range(len(subjects))])
    )


@given(lists)
def test_the_views_count_what_a_loop_counts(subjects):
    """The literal way, one subject after the other."""
    histories = written(subjects, 6)
    pairs, following, carried = [], [], []
    for place, visits in enumerate(subjects):
        sets = [sorted(set(visit)) for visit in visits]
        pairs += [(place, a * 6 + b) for visit in sets for a in visit for b in visit if a < b]
        carried += [
            (place, round(20 * len(set(one) & set(two)) / max(len(set(one) | set(two)), 1)))
            for one, two in itertools.pairwise(sets)
        ]
        following += [(place, a * 6 + b) for one, two in itertools.pairwise(sets) for a in one for b in two]
    for events, wanted in ((pair_events(histories), pairs), (next_events(histories), following)):
        assert sorted(zip(events.subject, events.feature, strict=True)) == sorted(wanted)
    events = carried_events(histories)
    assert list(zip(events.subject, events.feature, strict=True)) == carried
    assert size_events(histories).feature.tolist() == [len(v) for s in subjects for v in s]
    assert visit_events(histories).feature.tolist() == [len(s) for s in subjects]
    assert len(shape_events(histories).subject) == len(subjects)
    assert code_events(histories).feature.tolist() == histories.code.tolist()


def test_who_they_are():
    histories = written(SUBJECTS, 5, ages=[0, 59, 60], sexes=[0, 1, 1])
    assert histories.visit_subject.tolist() == [0, 0, 2, 2, 2]
    assert histories.visit_rank.tolist() == [0, 1, 0, 1, 2]
    assert histories.tokens_per_subject.tolist() == [5, 0, 2]
    assert [cell_name(int(cell)) for cell in cells(histories)] == ["0-0 F", "50-59 M", "60-69 M"]
    assert prevalence(histories).tolist() == pytest.approx([1 / 3] * 5)


def test_rare_codes_are_outside_the_commonest_nine_tenths():
    histories = written([[[0]]] * 80 + [[[1]]] * 15 + [[[2]]] * 5, 4)
    assert rare_codes(histories).tolist() == [False, False, True, True]


def test_fifty_thousand_subjects_are_counted_in_one_go():
    histories = by_chance(50_000, seed=0)
    assert len(pair_events(histories).feature) > 10_000
    assert len(histories.take(np.arange(25_000))) == 25_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sex": [0]}, "sex has 1 entries; give 2"),
        ({"sex": [0, 2]}, "sex goes from 0 to 2; give 0 to 1"),
        ({"age": [0, -1]}, "age goes from -1"),
        ({"code": [0, 1, 5]}, "code goes from 0 to 5; give 0 to 4"),
        ({"code_count": [1, 1]}, "code has 3 entries; give 2"),
        ({"code_count": [4, -1]}, "code_count is negative"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    right = {"age": [50, 60], "sex": [0, 1], "visit_count": [1, 1], "code_count": [2, 1], "code": [0, 1, 2]}
    with pytest.raises(DatasetError, match=message):
        Histories(**(right | change), n_codes=5)
