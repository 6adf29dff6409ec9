"""VUS against the values of the published implementation (TSB-AD 1.5, RangeAUC_volume_opt, 250 thresholds)."""

import numpy as np
import pytest

from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.vus import volumes

EVENTS = {
    "one": (60, [(10, 15)]),
    "touching": (300, [(100, 110), (112, 130), (290, 300)]),
    "at the start": (200, [(0, 8), (60, 61), (70, 90)]),
}


def series(name, seed=0):
    n, events = EVENTS[name]
    labels = np.zeros(n, int)
    for start, end in events:
        labels[start:end] = 1
    # Whole numbers, so that ties are frequent, and no generator's future change moves the expectation.
    scores = (np.arange(n) * 7919 + seed) % 13 + 4.0 * labels
    return labels, scores


# name, window, VUS-PR, VUS-ROC as published
PUBLISHED = [
    ("one", 0, 0.502043692741, 0.750909090909),
    ("one", 1, 0.502043692741, 0.750909090909),
    ("one", 7, 0.510973943082, 0.771475359534),
    ("one", 20, 0.598885088402, 0.870024753595),
    ("touching", 0, 0.513014710409, 0.789624347127),
    ("touching", 1, 0.513014710409, 0.789624347127),
    ("touching", 7, 0.525011888586, 0.801840513643),
    ("touching", 20, 0.548805298515, 0.829656501898),
    ("at the start", 0, 0.398864117988, 0.683504738859),
    ("at the start", 1, 0.398864117988, 0.683504738859),
    ("at the start", 7, 0.442699098450, 0.745262353945),
    ("at the start", 20, 0.523195669787, 0.811941589858),
]


@pytest.mark.parametrize(("name", "window", "pr", "roc"), PUBLISHED)
def test_as_published(name, window, pr, roc):
    found = volumes(*series(name), window)
    assert found.pr == pytest.approx(pr, abs=1e-9)
    assert found.roc == pytest.approx(roc, abs=1e-9)


def test_the_slope_of_an_event_does_not_reach_into_the_next_subject():
    labels = np.zeros(40, int)
    labels[17:20] = 1
    scores = np.zeros(40)
    scores[20:24] = 1.0  # right behind the event, but somebody else's steps
    scores[17] = 0.5
    one, two = np.zeros(40, int), np.repeat([0, 1], 20)
    assert volumes(labels, scores, 8, one).pr > volumes(labels, scores, 8, two).pr


def test_events_of_two_subjects_that_touch_are_two_events():
    labels = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    scores = np.array([0.0, 0, 1, 1, 0, 0, 0, 0])  # finds the first subject's only
    whole = volumes(labels, scores, 0)
    apart = volumes(labels, scores, 0, np.repeat([0, 1], 4))
    assert apart.pr < whole.pr


def test_a_perfect_score_has_the_whole_volume_without_a_window():
    labels, _ = series("one")
    assert volumes(labels, labels.astype(float), 0).pr == pytest.approx(1.0)


@pytest.mark.parametrize(("window", "thresholds"), [(-1, 250), (3, 1)])
def test_refuses_settings_that_mean_nothing(window, thresholds):
    with pytest.raises(ConfigError, match="give 0 or more"):
        volumes([0, 1], [0.0, 1.0], window, thresholds=thresholds)


def test_refuses_a_series_without_events():
    with pytest.raises(CohortError, match="0 of 3 labels are positive"):
        volumes([0, 0, 0], [0.1, 0.2, 0.3], 2)
