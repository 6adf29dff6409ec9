"""Heads made to follow something are found; heads made of chance are not."""

import numpy as np
import pytest

from caretrace.explain.heads import (
    SEVERITY,
    TIME,
    TYPE,
    Looks,
    Traits,
    directions,
    effective_steps,
    following,
    pointing,
    reach,
    traits,
)

from .toy import make

N_TYPES, STEPS = 5, 24


def softmax(scores: np.ndarray) -> np.ndarray:
    grown = np.exp(scores - scores.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def record(rng: np.random.Generator, steps: int = STEPS) -> Traits:
    kinds = rng.integers(N_TYPES, size=steps)
    severity = np.where(rng.random(steps) < 0.2, np.nan, rng.random(steps))
    return Traits(
        np.sort(rng.uniform(0, 48, steps))[::-1], np.eye(N_TYPES)[kinds].T, severity, np.zeros((0, steps))
    )


def planted(rng: np.random.Generator, count: int = 20) -> list[tuple[np.ndarray, Traits]]:
    """Head 0 looks at what is recent, 1 at event type 3, 2 at extreme values, 3 and 4 anywhere."""
    found = []
    for _ in range(count):
        each, noise = record(rng), rng.standard_normal((5, STEPS))
        scores = noise.copy()
        scores[0] -= 0.2 * each.hours
        scores[1] += 2 * each.types[3]
        scores[2] += 3 * np.nan_to_num(each.severity, nan=0.5)
        found.append((softmax(scores), each))
    return found


def test_heads_follow_what_they_were_made_to_follow() -> None:
    found = {(row.what, row.head): row for row in following(planted(np.random.default_rng(0)), 500)}
    assert found[TIME, 0].correlation > 0.7
    assert found[TYPE, 1].which == 3
    assert found[TYPE, 1].correlation > 0.4
    assert found[SEVERITY, 2].correlation > 0.4
    sure = {key for key, row in found.items() if row.p < 0.05}
    assert sure == {(TIME, 0), (TYPE, 1), (SEVERITY, 2)}
    assert found[TIME, 0].agreeing == 1.0
    assert found[TIME, 0].records == 20


def test_random_heads_are_found_no_more_often_than_the_p_value_says() -> None:
    rng, alarms, worlds = np.random.default_rng(1), 0, 60
    for world in range(worlds):
        records = [(softmax(rng.standard_normal((8, STEPS))), record(rng)) for _ in range(5)]
        alarms += any(row.p < 0.05 for row in following(records, 200, world) if row.what == TYPE)
    assert alarms / worlds < 0.15, "eight heads and five types, and still about 5 %"


def test_a_head_that_follows_time_does_not_follow_what_changes_with_time() -> None:
    rng, records = np.random.default_rng(2), []
    for _ in range(20):
        each = record(rng)
        grows = Traits(each.hours, each.types, -each.hours + 6 * rng.standard_normal(STEPS), each.codes)
        records.append((softmax(-0.2 * each.hours + rng.standard_normal((1, STEPS))), grows))
    found = {row.what: row for row in following(records, 500)}
    assert found[TIME].p < 0.01
    assert found[SEVERITY].p > 0.05


def test_a_property_that_never_varies_is_not_followed() -> None:
    each = Traits(np.arange(6.0), np.zeros((2, 6)), np.full(6, np.nan), np.zeros((0, 6)))
    found = following([(softmax(np.arange(6.0)[None]), each)], 100)
    assert [(row.what, row.records, row.correlation) for row in found[1:]] == [
        (TYPE, 0, 0.0),
        (SEVERITY, 0, 0.0),
    ]
    assert {row.p for row in found[1:]} == {1.0}
    assert found[0].correlation == pytest.approx(-1.0)
    assert following([], 10) == []


def test_traits_are_those_of_the_measurements_in_a_step() -> None:
    """Codes 4 5 6 7 8 are of the types 0 1 2 3 0; two of them share the last step, the padded one is in none."""
    sample = make([[4, 5, 6, 7, 8], [4]], [[0.5, 1.0, 0.0, 0.25, 0.5], [0.0]])
    first = type(sample)(**{name: value[:1] for name, value in vars(sample).items()})
    looks = Looks(
        np.ones((1, 3)) / 3, np.ones((1, 2)), np.ones((3, 1, 2)), np.array([8.0, 4.0, 0.0]),
        np.array([0, 0, 1, 2, -1]), None,
    )  # fmt: skip
    found = traits(first, looks, 4, codes=[5, 9])
    assert found.types.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.severity.tolist() == [0.5, 1.0, 0.5]
    assert found.codes.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_without_values_there_is_no_severity() -> None:
    sample = make([[4, 5]])
    looks = Looks(np.ones((1, 2)) / 2, np.ones((1, 1)), np.ones((2, 1, 1)), np.zeros(2), np.arange(2), None)
    assert np.isnan(traits(sample, looks, 4).severity).all()


def test_effective_steps_of_an_even_and_of_a_single_look() -> None:
    assert effective_steps(np.array([[0.25] * 4, [1.0, 0, 0, 0]])).tolist() == pytest.approx([4.0, 1.0])


def keyed(rng: np.random.Generator, records: int = 10) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keys of two heads that carry property 1 along their first unit, and a shared part of their own per record."""
    keys, properties = [], []
    for _ in range(records):
        values = rng.random((4, STEPS))
        values[2, ::3] = np.nan
        key = 0.3 * rng.standard_normal((STEPS, 2, 16)) + 50 * rng.standard_normal((1, 2, 16))
        key[:, :, 0] += 5 * values[1][:, None]
        keys.append(key)
        properties.append(values)
    return keys, properties


def test_a_query_points_where_it_was_made_to_point() -> None:
    towards = directions(*keyed(np.random.default_rng(3)))
    assert towards[:, 1, 0] == pytest.approx([1.0, 1.0], abs=0.01)
    query = np.zeros((2, 16))
    query[0, 0] = -0.1  # head 0 avoids property 1, head 1 asks for something else
    query[1, 5] = 3.0
    found = pointing(query, towards)
    first = {row.head: row for row in reversed(found)}
    assert (first[0].direction, first[0].cosine) == (1, pytest.approx(-1.0, abs=0.01))
    assert first[0].p < 0.01
    assert first[1].p > 0.05


def test_random_queries_point_nowhere() -> None:
    towards, rng = directions(*keyed(np.random.default_rng(4))), np.random.default_rng(5)
    worlds = [pointing(rng.standard_normal((2, 16)), towards, 200, seed) for seed in range(60)]
    assert np.mean([min(row.p for row in world) < 0.05 for world in worlds]) < 0.15


def test_reach_tells_near_from_far() -> None:
    """Layer 0 looks at itself; layer 1 at the first step; layer 2 at all alike."""
    steps = 9
    itself, first = np.eye(steps), np.zeros((steps, steps))
    first[:, 0] = 1.0
    even = np.tril(np.ones((steps, steps)))
    even /= even.sum(1, keepdims=True)
    found = reach(np.stack([itself, first, even])[:, None], np.arange(steps)[::-1] * 2.0, within=2)
    near, far, alike = found
    assert (near.hours, near.near) == (0.0, 1.0)
    assert far.hours == pytest.approx(np.mean(np.arange(1, steps)) * 2)
    assert far.hours > far.even_hours
    assert far.near == pytest.approx(2 / 8)
    assert (alike.hours, alike.near) == pytest.approx((alike.even_hours, alike.even_near))


def test_padding_has_no_reach() -> None:
    weights = np.eye(3)[None, None]
    real = np.array([True, False, False])
    assert reach(weights, np.zeros(3), real=real) == []
    assert len(reach(weights, np.zeros(3))) == 1
