"""The likelihood is exact: against enumeration of every history, the literal recursion and the sampler."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import chi2

from caretrace.errors import ConfigError, InputError
from caretrace.hospital.histories import (
    HistoryModel,
    default_model,
    draw,
    entropy_rate,
    expected_visits,
    from_lists,
    log_likelihood,
    log_likelihoods,
    phenotype_posterior,
)
from caretrace.hospital.histories.likelihood import Z_SMALL, literal_z, visit_log_likelihoods

CODES = ("C1", "A1", "C2", "A2")  # two chronic, two acute, interleaved
ADULT, AGE = 1, 2


def tiny_model() -> HistoryModel:
    """Four codes, one or two visits of one to three codes, two phenotypes, two episodes, two bands."""
    rng = np.random.default_rng(5)

    def shares(*shape: int) -> np.ndarray:
        x = rng.uniform(0.2, 1, shape)
        return x / x.sum(-1, keepdims=True)

    acute = rng.uniform(0.05, 0.45, (2, 2, 2, 2))
    acute[:, 1, :, 1] = 0  # A2 is a code of women
    return HistoryModel(
        codes=CODES,
        chronic=np.array([True, False, True, False]),
        age_first=np.zeros(4, np.int64),
        age_last=np.full(4, 124),
        bands=np.array([0, ADULT]),
        demographics=shares(6).reshape(3, 2),
        phenotypes=("p", "q"),
        phenotype=shares(3, 2, 2),
        visits=shares(2, 2),
        episodes=("a", "b"),
        episode=shares(2, 2, 2, 2, 2),
        onset=rng.uniform(0.05, 0.45, (2, 2, 2, 2, 2)),
        recurrence=np.array([[0.8, 0.6], [0.5, 0.3]]),
        acute=acute,
        gap_days=np.array([10.0, 20.0]),
        max_codes=3,
    )


SETS = [frozenset(s) for n in (1, 2, 3) for s in itertools.combinations(CODES, n)]


def every_history() -> Iterator[tuple[frozenset[str], ...]]:
    yield from itertools.product(SETS)
    yield from itertools.product(SETS, SETS)


def set_probability(
    codes: frozenset[str], before: list[frozenset[str]], where: tuple[int, int, int, int], m: HistoryModel
) -> float:
    """p(code set | phenotype, episodes summed out), with the normaliser by enumeration; loops only."""
    band, sex, k, later = where

    def free(candidate: frozenset[str], a: int) -> float:
        p = 1.0
        for i, code in enumerate(m.codes):
            j = int(sum(m.chronic[:i] == m.chronic[i]))
            if not m.chronic[i]:
                rate = m.acute[band, sex, a, j]
            elif before and code in before[-1]:
                rate = m.recurrence[0, j]
            elif any(code in visit for visit in before):
                rate = m.recurrence[1, j]
            else:
                rate = m.onset[later, band, sex, k, j]
            p *= rate if code in candidate else 1 - rate
        return p

    return sum(
        m.episode[later, band, sex, k, a] * free(codes, a) / sum(free(s, a) for s in SETS) for a in range(2)
    )


def brute_force(history: tuple[frozenset[str], ...], age: int, sex: int, m: HistoryModel) -> float:
    total = 0.0
    for k in range(2):
        p = m.phenotype[age, sex, k] * m.visits[k, len(history) - 1]
        for t, codes in enumerate(history):
            p *= set_probability(codes, list(history[:t]), (int(age >= ADULT), sex, k, int(t > 0)), m)
        total += p
    return total


@pytest.mark.parametrize("sex", ["F", "M"])
@pytest.mark.parametrize("age", [0, AGE])
def test_every_history_has_its_probability_and_they_sum_to_one(age: int, sex: str) -> None:
    model, histories = tiny_model(), list(every_history())
    n = len(histories)
    found = np.exp(log_likelihoods(from_lists(histories, [age] * n, [sex] * n, model), model))
    expected = np.array([brute_force(h, age, "FM".index(sex), model) for h in histories])
    assert n == 14 + 14 * 14
    assert abs(found.sum() - 1) < 1e-9
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-15)
    assert (found == 0).sum() == (0 if sex == "F" else n - 7 - 49)  # seven sets have no A2


def test_three_visits_remember_what_only_the_first_had() -> None:
    model = tiny_model()
    model = dataclasses.replace(model, visits=np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    histories = list(itertools.product(SETS[:7], SETS, SETS[3:]))
    n = len(histories)
    found = log_likelihoods(from_lists(histories, [0] * n, ["F"] * n, model), model)
    np.testing.assert_allclose(np.exp(found), [brute_force(h, 0, 0, model) for h in histories], rtol=1e-10)


def test_the_sampler_draws_what_the_likelihood_says() -> None:
    model = tiny_model()
    subjects = 60_000
    drawn = draw(subjects, 1, model)
    lists = drawn.histories.to_lists(model)
    cell = Counter(zip(drawn.histories.age, drawn.histories.sex, map(tuple, lists), strict=True))
    assert {codes for visits in lists for codes in visits} == set(SETS)
    statistic, cells, rest, rest_seen = 0.0, 0, 0.0, 0
    for age, sex in itertools.product(range(3), range(2)):
        for history in every_history():
            expected = subjects * model.demographics[age, sex] * brute_force(history, age, sex, model)
            seen = cell[age, sex, history]
            if expected >= 5:
                statistic += (seen - expected) ** 2 / expected
                cells += 1
            else:
                rest, rest_seen = rest + expected, rest_seen + seen
    statistic += (rest_seen - rest) ** 2 / rest
    assert cells > 500
    assert chi2.sf(statistic, cells) > 1e-3


def test_the_sampler_remembers_what_only_the_first_visit_had() -> None:
    """Three visits: how often each pattern of one chronic code occurs, against the sum over all histories."""
    only = np.zeros((3, 2))
    only[AGE, 0] = 1
    model = dataclasses.replace(tiny_model(), visits=np.array([[0.0, 0.0, 1.0]] * 2), demographics=only)
    histories = list(itertools.product(SETS, repeat=3))
    n = len(histories)
    p = np.exp(log_likelihoods(from_lists(histories, [AGE] * n, ["F"] * n, model), model))
    assert abs(p.sum() - 1) < 1e-9
    expected: Counter[tuple[bool, ...]] = Counter()
    for history, chance in zip(histories, p, strict=True):
        expected[tuple("C2" in codes for codes in history)] += 20_000 * chance
    drawn = draw(20_000, 8, model).histories.to_lists(model)
    seen = Counter(tuple("C2" in codes for codes in visits) for visits in drawn)
    statistic = sum((seen[pattern] - e) ** 2 / e for pattern, e in expected.items())
    assert len(expected) == 8
    assert chi2.sf(statistic, 7) > 1e-3


def test_a_list_gives_the_same_as_arrays_whatever_the_order_of_codes() -> None:
    model = default_model()
    drawn = draw(300, 3, model).histories
    together = log_likelihoods(drawn, model)
    for i in (0, 7, 123):
        visits = drawn.to_lists(model)[i]
        turned = [sorted(v, reverse=True) for v in visits]
        one = log_likelihood(turned, int(drawn.age[i]), "FM"[drawn.sex[i]], model)
        assert one == pytest.approx(together[i], abs=1e-9)


def test_everybody_drawn_is_possible_and_phenotypes_come_as_often_as_believed() -> None:
    model = default_model()
    drawn = draw(6000, 2, model)
    assert np.isfinite(log_likelihoods(drawn.histories, model)).all()
    believed = phenotype_posterior(drawn.histories, model)
    true = np.eye(len(model.phenotypes))[drawn.phenotype]
    # Summed over subjects the differences have mean 0 and this variance, if the posterior is right.
    z = (true - believed).sum(0) / np.sqrt((believed * (1 - believed)).sum(0) + 1e-9)
    assert np.abs(z).max() < 4.5
    sure = believed.max(1) > 0.9
    assert 0.9 < (drawn.phenotype == believed.argmax(1))[sure].mean() <= 1


def test_the_circle_agrees_with_the_literal_recursion() -> None:
    """One visit of the real size, every phenotype: 3,700 codes, some of them with a history."""
    model = default_model()
    first = frozenset(np.array(model.codes)[np.flatnonzero(model.chronic)[:40:2]])
    second = frozenset({model.codes[int(np.flatnonzero(~model.chronic)[5])]})
    h = from_lists([[first, second]], [70], ["F"], model)
    where = (1, int(model.band(np.array([70]))[0]), 0)
    rates = model.onset[where].copy()
    old = model.place[[model.code_index[c] for c in first]]
    rates[:, old] = model.recurrence[0, old]
    z = literal_z(rates, model.acute[where[1:]], model.max_codes)
    assert z.min() > Z_SMALL
    code = model.place[h.code[-1]]
    acute = model.acute[where[1:]]
    log_sets = np.log1p(-rates).sum(1)[:, None] + (
        np.log1p(-acute).sum(1) + np.log(acute[:, code] / (1 - acute[:, code]))
    )
    expected = np.log((model.episode[where] * np.exp(log_sets) / z).sum(1))
    np.testing.assert_allclose(visit_log_likelihoods(h, model)[1], expected, rtol=0, atol=1e-9)


def test_an_absurd_history_is_still_exact() -> None:
    """Twenty times twenty new chronic codes: the number of recurring ones is far beyond what a visit holds."""
    model = default_model()
    band = int(model.band(np.array([70]))[0])
    lasting = np.array(model.codes)[model.chronic]
    codes = list(lasting[model.onset[:, band, 0].min((0, 1)) > 0][:400])
    visits = [codes[20 * t : 20 * (t + 1)] for t in range(20)]
    found = visit_log_likelihoods(from_lists([visits], [70], ["F"], model), model)[-1]
    where = (1, band, 0)
    rates = model.onset[where].copy()
    index = model.place[[model.code_index[c] for c in codes]]
    rates[:, index[360:380]] = model.recurrence[0, index[360:380]]
    rates[:, index[:360]] = model.recurrence[1, index[:360]]
    z = literal_z(rates, model.acute[where[1:]], model.max_codes)
    assert z.max() < 1e-20
    now = np.isin(np.arange(rates.shape[1]), index[380:])
    with np.errstate(divide="ignore"):
        chronic = np.where(now, np.log(rates), np.log1p(-rates)).sum(1)
        reason = np.log(model.episode[where]) + np.log1p(-model.acute[where[1:]]).sum(1)
    expected = chronic + np.log(np.exp(reason - np.log(z) + np.log(z.min())).sum(1)) - np.log(z.min())
    possible = np.isfinite(expected)
    assert possible.any()
    np.testing.assert_allclose(found[possible], expected[possible], rtol=1e-9)
    assert (found[~possible] == -np.inf).all()


@pytest.mark.parametrize(
    ("history", "age", "sex"),
    [
        ([["V3000"]], 30, "F"),  # a birth at 30
        ([["4019"], ["60000"]], 70, "F"),  # a prostate in a woman
        ([["650"]], 28, "M"),  # a delivery of a man
        ([["650"]], 60, "F"),  # or at 60
        ([[]], 60, "F"),  # no code
        ([], 60, "F"),  # no visit
        ([["4019"]] * 21, 60, "F"),  # too many visits
    ],
)
def test_what_cannot_be_has_no_probability(history: list[list[str]], age: int, sex: str) -> None:
    assert log_likelihood(history, age, sex, default_model()) == -np.inf


def test_too_many_codes_have_no_probability() -> None:
    model = default_model()
    codes = [c for c, first in zip(model.codes, model.chronic, strict=True) if first][:21]
    assert np.isfinite(log_likelihood([codes[:20]], 70, "F", model))
    assert log_likelihood([codes], 70, "F", model) == -np.inf


@pytest.mark.parametrize(
    ("history", "age", "sex", "message"),
    [
        ([["401.9"]], 70, "F", "subject 0, visit 1: .*'401.9'.*did you mean '4019'"),
        ([["4280"], ["4019", "4019"]], 70, "F", "visit 2: code '4019' twice"),
        ([["4019"]], 96, "F", "age 96; give whole years from 0 to 95"),
        ([["4019"]], 70.5, "F", "age 70.5; give whole years"),
        ([["4019"]], 70, "female", "sex 'female'; give 'F' or 'M'"),
    ],
)
def test_what_is_no_history_says_so(history: list[list[str]], age: int, sex: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_likelihood(history, age, sex, default_model())


def test_no_subjects_are_no_error() -> None:
    assert log_likelihoods(from_lists([], [], [], default_model()), default_model()).shape == (0,)


def test_entropy_of_a_tiny_population_is_the_enumerated_one() -> None:
    one_sided = np.broadcast_to([0.85, 0.15], (3, 2, 2))
    model = dataclasses.replace(tiny_model(), phenotype=one_sided, visits=np.array([[0.9, 0.1], [0.1, 0.9]]))
    exact = codes = 0.0
    for age, sex in itertools.product(range(3), range(2)):
        for history in every_history():
            p = brute_force(history, age, sex, model)
            weight = model.demographics[age, sex] * p
            exact -= weight * np.log(p) if p else 0
            codes += weight * sum(map(len, history))
    found = entropy_rate(model, 4)
    assert found.relative_halfwidth <= 0.005
    assert abs(found.nats_per_subject - exact) < 4 * found.subject_error
    assert abs(found.nats_per_code - exact / codes) < 4 * found.code_error
    assert expected_visits(model) == pytest.approx(
        sum(
            model.demographics[a, s] * model.phenotype[a, s] @ (model.visits @ [1, 2])
            for a in range(3)
            for s in range(2)
        )
    )


def test_entropy_that_cannot_be_had_says_so() -> None:
    with pytest.raises(ConfigError, match="500 subjects do not suffice"):
        entropy_rate(default_model(), 0, relative=1e-4, start=500, most=500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onset": np.full((2, 2, 2, 2, 2), 0.5)}, r"onset: got 0.5 to 0.5; give rates in \[0, 0.5\)"),
        ({"gap_days": np.ones(3)}, r"gap_days: got shape \(3,\); give \(2,\)"),
        ({"visits": np.full((2, 2), 0.4)}, "visits: got probabilities that sum to 0.8"),
        ({"max_codes": 31}, "max_codes: got 31; give 1 to 30"),
    ],
)
def test_a_population_that_cannot_be_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(tiny_model(), **change)
