"""Classes of people and of visits: a distribution, samples of it, and what shrinkage and curves do."""

import dataclasses
import itertools

import numpy as np
import pytest

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.latent import starting
from caretrace.apps.synth.models.latent.calibration import calibrated
from caretrace.apps.synth.models.latent.cells import Cells, curves_of_codes, groups_of_codes, sets_of
from caretrace.apps.synth.models.latent.generator import LatentGenerator, fit_latent
from caretrace.apps.synth.models.latent.model import MAX_RANK, LatentModel, Side
from caretrace.apps.synth.models.latent.search import Design, LatentConfig, Search
from caretrace.apps.synth.models.latent.shrinkage import (
    CurveConfig,
    age_curves,
    class_rates,
    drawn_to,
    shrunk,
)
from caretrace.apps.synth.models.latent.sizes import SizeWeights, generating
from caretrace.apps.synth.models.storing import load_generator, save_generator
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.histories import Histories, join

CODES = (
    "185",
    "64801",
    "25000",
    "25001",
    "4019",
    "4280",
    "486",
)  # prostate, pregnancy, and codes anybody may have
VOCABULARY = Vocabulary.of(CODES)
N = VOCABULARY.n_codes
KINDS, REASONS = 2, 3


def histories(people):
    """Histories of (age, sex, visits), visits as sets of code numbers."""
    visits = [sorted(visit) for _, _, each in people for visit in each]
    return Histories(
        age=[age for age, _, _ in people],
        sex=[sex for _, sex, _ in people],
        visit_count=[len(each) for _, _, each in people],
        code_count=[len(visit) for visit in visits],
        code=np.array([code for visit in visits for code in visit], np.int64),
        n_codes=N,
    )


def side(codes, classes, group, cells, rng):
    groups = int(group.max()) + 1
    return Side(
        codes=codes,
        group=group[codes],
        curved=np.arange(len(codes)),
        rate=rng.gamma(2, 0.3, (classes, len(codes))),
        curve=rng.gamma(4, 0.25, (len(codes), cells)),
        later=rng.uniform(0.3, 1, groups),
        kept=rng.uniform(0, 1, (2, groups)),
        again=rng.uniform(0.1, 1.5, (2, len(codes))),
        recurs=rng.uniform(0.3, 2, (2, classes)),
    )


def wild(weight=(0.0, 1.0, 0.7, 0.2, 0.4), tail=0.1, masked=True, seed=0):
    """A generator with random parameters."""
    rng = np.random.default_rng(seed)
    cells = Cells(np.array([0, 1, 12, 15, 56, 70]))
    group = groups_of_codes(VOCABULARY)
    allowed = cells.allowed(icd9.limits(VOCABULARY.normal_codes))
    stop = rng.uniform(0.3, 0.6, (KINDS, MAX_RANK + 1))
    stop[:, 0] = 0
    model = LatentModel(
        cells=cells,
        allowed=allowed if masked else np.ones_like(allowed),
        people=side(np.array([2, 4, 6, 7]), KINDS, group, len(cells), rng),
        visits=side(np.array([0, 1, 3, 5]), REASONS, group, len(cells), rng),
        who=np.log(rng.dirichlet(np.ones(KINDS), (201, 2))),
        reason=np.log(rng.dirichlet(np.ones(REASONS), (2, len(cells), KINDS))),
        stop=stop,
        repeat=rng.uniform(0.1, 0.4, KINDS),
        sizes=SizeWeights(np.array(weight), tail),
    )
    return LatentGenerator(model, VOCABULARY, Demographics.of(histories([(50, 0, [{2}])])))


def all_sets(empty=False):
    sizes = range(0 if empty else 1, N + 1)
    return [set(s) for size in sizes for s in itertools.combinations(range(N), size)]


@pytest.mark.parametrize("weight", [(0.0,), (0.3,), (0.0, 1.0, 0.7, 0.2, 0.4), (0.5, 1.0, 1e-6)])
@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_of_all_sets_of_a_visit_sum_to_one(weight, masked):
    generator = wild(weight, masked=masked)
    # One that goes on for ever but for the last look: p(first, second, any) over p(first, any).
    stop = np.full_like(generator.model.stop, 0.5)
    stop[:, 0] = 0
    even = dataclasses.replace(generator, model=dataclasses.replace(generator.model, stop=stop))
    for begun in ([], [{0, 2, 4}], [{2}, {0, 3, 4}]):
        people = [(71, 1, [*begun, visit]) for visit in all_sets(empty=True)]
        each = even.log_likelihood(Records(histories(people)))
        before = (
            even.log_likelihood(Records(histories([(71, 1, begun)])))[0]
            if begun
            else np.log(0.5) - np.log(0.5)
        )
        turned = np.log(0.5)
        assert np.logaddexp.reduce(each) == pytest.approx(before + turned, abs=1e-9)
    impossible = [masked and bool(visit & {VOCABULARY.number["64801"]}) for visit in all_sets(empty=True)]
    assert (np.isfinite(each) == ~np.array(impossible) & (np.arange(len(each)) >= (weight[0] == 0))).all()


def test_samples_come_as_often_as_the_likelihood_says():
    generator = wild()
    n = 30_000
    wanted = Wanted(np.arange(n), np.full(n, 71), np.full(n, 1))
    drawn = generator.draw(wanted, 3, SamplingConfig()).histories
    visits = np.split(drawn.code, np.cumsum(drawn.code_count)[:-1])
    counts: dict[tuple[tuple[int, ...], ...], int] = {}
    for end, many in zip(np.cumsum(drawn.visit_count), drawn.visit_count, strict=True):
        key = tuple(tuple(visit.tolist()) for visit in visits[end - many : end])
        counts[key] = counts.get(key, 0) + 1
    common = sorted(counts, key=counts.get)[-150:]
    assert any(len(key) == 2 for key in common)
    people = histories([(71, 1, [set(v) for v in key]) for key in common])
    expected = n * np.exp(generator.log_likelihood(Records(people)))
    found = np.array([counts[key] for key in common])
    z = (found - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert np.mean(z**2) < 1.5
    # What is rare counts too: the mean log-likelihood of samples is the same by another seed.
    again = generator.draw(wanted, 4, SamplingConfig())
    means = [generator.log_likelihood(r).mean() for r in (Records(drawn), again)]
    assert means[0] == pytest.approx(means[1], rel=0.025)


def test_a_subject_does_not_depend_on_its_company():
    generator = wild()
    age, sex = np.arange(40) * 2, np.arange(40) % 2
    together = generator.draw(Wanted(np.arange(40), age, sex), 7, SamplingConfig()).histories
    alone = join(
        [
            generator.draw(Wanted(np.array([i]), age[[i]], sex[[i]]), 7, SamplingConfig()).histories
            for i in range(40)
        ]
    )
    np.testing.assert_array_equal(together.code, alone.code)
    np.testing.assert_array_equal(together.code_count, alone.code_count)
    changed = generator.draw(Wanted(np.arange(40), age, sex), 8, SamplingConfig()).histories
    assert not np.array_equal(together.code, changed.code)


def test_masks_forbid_what_is_impossible():
    free, masked = wild(masked=False), wild(masked=True)
    age, sex = np.tile([0, 5, 30, 71], 200), np.repeat([0, 1], 400)
    wanted = Wanted(np.arange(800), age, sex)
    limits = icd9.limits(VOCABULARY.normal_codes)

    def violations(h):
        subject = h.token_subject
        old = (h.age[subject] >= limits.age_first[h.code]) & (h.age[subject] <= limits.age_last[h.code])
        return (~old | ~limits.sexes[h.code, h.sex[subject]]).sum()

    drawn = masked.draw(wanted, 0, SamplingConfig()).histories
    assert violations(drawn) == 0
    assert drawn.code_count.min() > 0
    assert len(drawn.with_codes_sorted().code) == len(drawn.code)
    assert violations(free.draw(wanted, 0, SamplingConfig()).histories) > 50


def test_a_begun_history_is_gone_on_with():
    generator = wild()
    begun = histories([(71, 1, [{2, 4}]), (71, 1, [{0}, {2, 3}])] * 6000)
    wanted = Wanted(np.arange(12_000), begun.age, begun.sex, begun=Records(begun))
    drawn = generator.draw(wanted, 1, SamplingConfig()).histories
    first = np.cumsum(drawn.visit_count) - drawn.visit_count
    visits = np.split(drawn.code, np.cumsum(drawn.code_count)[:-1])
    assert all(set(visits[v].tolist()) == {2, 4} for v in first[::2])
    assert all(set(visits[v + 1].tolist()) == {2, 3} for v in first[1::2])
    # How often it goes on with one set and then ends is what the likelihood says.
    for start, known in ((0, [{2, 4}]), (1, [{0}, {2, 3}])):
        every = [(71, 1, known), *[(71, 1, [*known, visit]) for visit in all_sets()]]
        value = generator.log_likelihood(Records(histories(every)))
        people = generator.people(histories([(71, 1, known)]), ended=False)[0]
        ends = people @ generator.model.stop[:, len(known)]
        at = np.arange(start, 12_000, 2)
        assert (drawn.visit_count[at] == len(known)).mean() == pytest.approx(ends, abs=0.025)
        one_more = at[drawn.visit_count[at] == len(known) + 1]
        found = [set(visits[first[s] + len(known)].tolist()) for s in one_more]
        likely = int(np.argmax(value[1:]))
        expected = np.exp(value[1 + likely] - value[0]) * ends * 6000
        assert found.count(all_sets()[likely]) == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_kept_and_read_again_to_the_bit(tmp_path):
    generator = wild()
    save_generator(generator, tmp_path / "bundle")
    again = load_generator(tmp_path / "bundle")
    people = Records(histories([(71, 1, [{2, 4}, {2}]), (30, 0, [{1, 3}])]))
    np.testing.assert_array_equal(again.log_likelihood(people), generator.log_likelihood(people))
    wanted = Wanted(np.arange(50), np.full(50, 30), np.arange(50) % 2)
    one, other = (g.draw(wanted, 2, SamplingConfig()).histories for g in (generator, again))
    np.testing.assert_array_equal(one.code, other.code)


def test_sharpened_choices_are_the_most_probable_ones():
    generator = wild()
    wanted = Wanted(np.arange(40), np.full(40, 50), np.zeros(40, np.int64))
    for settings in ({"temperature": 0.01}, {"top_k": 1}, {"top_p": 0.5}):
        drawn = generator.draw(wanted, 0, SamplingConfig(**settings, max_tokens=30)).histories
        assert drawn.code_count.min() > 0
        assert len({tuple(drawn.take([i]).code[: drawn.take([i]).code_count[0]]) for i in range(40)}) <= 3


def two_kinds(n, seed, lasting=True):
    """Half the people have 250.00 for good, the others 428.0; why they come is either 401.9 or 486."""
    rng = np.random.default_rng(seed)
    people = []
    for _ in range(n):
        own, sex = (VOCABULARY.number[str(rng.choice(["25000", "4280"]))], int(rng.integers(2)))
        visits = []
        for _ in range(int(rng.integers(1, 4))):
            visit = {VOCABULARY.number[str(rng.choice(["4019", "486"]))]}
            visits.append(visit | {own} if rng.random() < 0.8 else visit)
        people.append((int(rng.integers(20, 90)), sex, visits))
    return Records(histories(people))


@pytest.mark.slow
def test_fitting_finds_the_classes():
    train, test = two_kinds(1500, 0), two_kinds(500, 1)
    config = LatentConfig(people=3, visits=3, starts=2, sample=800, iterations=12, sized=3, lasting=0.6)
    generator, log = fit_latent(train, two_kinds(300, 2), VOCABULARY, config)
    assert log[-1]["tuning_loss"] < log[0]["tuning_loss"] + 0.01
    assert [record["epoch"] for record in log] == [4, 9, 11]
    h = test.histories
    visits = len(h.code_count) / len(h)
    own, again = np.log(2), -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    exact = np.log(3) + visits * (np.log(2) + again) + own * (1 - (0.2 + 0.2**2 + 0.2**3) / 3)
    found = -generator.log_likelihood(test).mean()
    assert exact - 0.1 < found < exact + 0.2
    same, _ = fit_latent(train, two_kinds(300, 2), VOCABULARY, config)
    np.testing.assert_array_equal(same.log_likelihood(test), generator.log_likelihood(test))


def test_every_part_of_the_work_tells_how_far_it_is():
    train, told = two_kinds(60, 0), []
    config = LatentConfig(people=2, visits=2, starts=2, sample=40, starting=2, iterations=3, sized=1)
    fit_latent(train, train, VOCABULARY, config, progress=lambda *words: told.append(words))
    parts = {what.split(",")[0]: [] for what, *_ in told}
    for what, done, total in told:
        parts[what.split(",")[0]].append(done / total)
    assert list(parts) == ["trying beginnings", "training latent", "setting right how common codes are"]
    for shares in parts.values():
        assert shares == sorted(shares)
        assert shares[0] == 0
    assert parts["trying beginnings"] == [0, 0.25, 0.5, 0.75]


def test_visits_that_come_again_whole_are_found_and_drawn():
    rng, share = np.random.default_rng(5), 0.3
    people = []
    for _ in range(600):
        visits = [set()]
        while len(visits) < 5:
            fresh = set((2 + rng.choice(5, 2, replace=False)).tolist())  # codes that anybody may have
            visits.append(visits[-1] if visits[-1] and rng.random() < share else fresh)
        people.append((50, 0, visits[1:]))
    train = Records(histories(people))
    config = LatentConfig(people=1, visits=1, starts=1, iterations=12, sized=8, lasting=0.9)
    generator, _ = fit_latent(train, train, VOCABULARY, config)
    assert generator.model.repeat[0] == pytest.approx(share, abs=0.03)
    n = 4000
    drawn = generator.draw(Wanted(np.arange(n), np.full(n, 50), np.zeros(n, np.int64)), 1, SamplingConfig())
    assert again(drawn.histories) == pytest.approx(again(train.histories), abs=0.03)
    without = dataclasses.replace(generator, model=dataclasses.replace(generator.model, repeat=np.zeros(1)))
    assert without.log_likelihood(train).mean() < generator.log_likelihood(train).mean() - 0.5


def test_each_round_on_what_stays_is_better_than_the_last():
    """Found at once, what codes and what classes do again made up for each other's lack, and went back and forth."""
    rng = np.random.default_rng(4)
    people = [
        (60, n % 2, [{int(rng.integers(2, N))} | {2 + n % 3} for _ in range(5)])
        for n in range(200)  # one code that always comes again, and one that need not
    ]
    learned = histories(people).with_codes_sorted()
    settings = LatentConfig(people=2, visits=2)
    search = Search(learned, Design.of(learned, VOCABULARY, settings, True), settings)
    search.begin(0)
    found = [search.round().mean() for _ in range(6)]
    assert all(after > before - 0.02 for before, after in itertools.pairwise(found)), found
    for each in search.model.sides:
        assert (each.recurs > 0.2).all()
        assert (each.recurs < 5).all()


def again(h):
    """Share of later visits with just the codes of the last one."""
    codes = [tuple(each) for each in np.split(h.code, np.cumsum(h.code_count)[:-1])]
    later = np.flatnonzero(h.visit_rank > 0)
    return np.mean([codes[place] == codes[place - 1] for place in later])


def test_lasting_codes_come_again():
    train = two_kinds(1500, 0).histories
    lasting = starting.lasting_codes(sets_of(train), np.arange(N), 0.6)
    assert {VOCABULARY.codes[c] for c in np.flatnonzero(lasting)} == {"25000", "4280"}


def test_codes_are_grouped_by_ccs():
    vocabulary = Vocabulary.of(["25000", "25001", "25010", "4019", "LOCAL//1", "LOCAL//2"])
    group = dict(zip([*vocabulary.codes, "<unk>"], groups_of_codes(vocabulary).tolist(), strict=True))
    assert group["25000"] == group["25001"]  # 49, without complication
    assert group["25000"] != group["25010"]  # 50, with complications
    assert len({group[code] for code in ("LOCAL//1", "LOCAL//2", "<unk>", "4019")}) == 4


def test_common_codes_have_a_curve_of_their_own():
    group = curves_of_codes(np.array([0, 0, 1, 1, 2]), np.array([5, 300, 299, 2, 1000]), 300)
    assert group[0] != group[1]
    assert group[2] == group[3]
    assert sorted(set(group.tolist())) == [0, 1, 2, 3]


def test_a_common_code_says_how_old_somebody_is_whatever_its_like_say():
    """Two codes of one CCS group, one of the young and one of the old."""
    rng = np.random.default_rng(6)
    young, old = VOCABULARY.number["25000"], VOCABULARY.number["25001"]
    people = []
    for n in range(800):
        age = int(rng.integers(20, 90))
        code = old if rng.random() < (age - 20) / 70 else young
        people.append((age, n % 2, [{code}]))
    train = Records(histories(people))
    small = LatentConfig(people=1, visits=1, starts=1, iterations=6, calibrations=0)
    lost = [
        -fit_latent(train, train, VOCABULARY, dataclasses.replace(small, common=common))[0]
        .log_likelihood(train)
        .mean()
        for common in (100, 10_000)
    ]
    assert lost[0] < lost[1] - 0.1


def test_sizes_of_independent_codes_are_exact():
    rng = np.random.default_rng(0)
    hazard = rng.gamma(1, 0.5, (1, 8))
    rate = 1 - np.exp(-hazard[0])
    value = rng.random(5)
    sizes = SizeWeights(value, 0.3)
    exact = 0.0
    for had in itertools.product([0, 1], repeat=8):
        chance = np.prod(np.where(had, rate, 1 - rate))
        exact += chance * (value[sum(had)] if sum(had) < 5 else 0)
    found = (generating(hazard, sizes.circle) * sizes.over_circle(value)).sum().real
    assert found == pytest.approx(exact, abs=1e-12)


def test_rates_are_drawn_together_as_far_as_they_agree():
    rng = np.random.default_rng(0)
    exposure = np.full(4000, 10.0)
    for spread in (0.1, 1.0):
        rate = np.exp(rng.normal(-(spread**2) / 2, spread, 4000))
        count = rng.poisson(exposure * rate).astype(float)
        error = [
            np.mean((guess - rate) ** 2) for guess in (shrunk(count, exposure, 1.0), count / exposure, 1.0)
        ]
        assert error[0] < 1.02 * min(error)
    assert drawn_to(np.array(0.0), np.array(0.0), 2.0, 3.0) == pytest.approx(2.0)
    group = np.array([0, 0, 1, 1])
    count = np.array([[90.0, 10.0, 0.0, 0.0], [0.0, 0.0, 50.0, 50.0], [9.0, 0.0, 0.0, 0.0]])
    rates = class_rates(count, np.full((3, 4), 1000.0), group, 2)
    assert rates[0, 0] == pytest.approx(0.09, rel=0.1)
    assert 0 < rates[2, 1] < rates[2, 0]  # of a group it has, more than of one it has not
    assert rates[2, 1] > rates[2, 2]


def test_age_curves_follow_the_data_and_bridge_gaps():
    edges = np.arange(0, 100, 5)
    age = edges + 2.0
    true = np.exp(np.stack([(age - 50) / 40, (age - 50) / 40 + 0.5], 1)).reshape(1, -1)
    expected = np.full(true.shape, 400.0)
    expected[0, 20:24] = 0  # nobody of these ages
    count = np.random.default_rng(0).poisson(true * expected).astype(float)
    found = age_curves(count, expected, edges, CurveConfig())
    assert np.abs(np.log(found / true)).max() < 0.25
    nothing = age_curves(np.zeros((1, 40)), np.zeros((1, 40)), edges, CurveConfig())
    np.testing.assert_allclose(nothing, 1)


def drawn_rates(model, people, seed=3):
    """`[code]`: share of these people who are drawn with each code."""
    subject = np.arange(len(people))
    wanted = Wanted(subject, people.age, people.sex)
    h = (
        LatentGenerator(model, VOCABULARY, Demographics.of(people))
        .draw(wanted, seed, SamplingConfig())
        .histories
    )
    ever = np.unique(h.token_subject * N + h.code) % N
    return np.bincount(ever, minlength=N) / len(people)


def test_calibration_brings_back_how_common_codes_are():
    generator = wild(weight=(1.0,), tail=1.0, masked=False)
    rng, n = np.random.default_rng(5), 3000
    who = Histories(rng.integers(20, 90, n), rng.integers(0, 2, n), np.zeros(n), [], [], N)
    wanted = Wanted(np.arange(n), who.age, who.sex)
    train = generator.draw(wanted, 11, SamplingConfig()).histories.with_codes_sorted()
    true = drawn_rates(generator.model, train)
    distorted = {}
    for name in ("people", "visits"):
        one = getattr(generator.model, name)
        distorted[name] = dataclasses.replace(one, rate=one.rate * rng.uniform(0.4, 2.0, len(one.codes)))
    wrong = dataclasses.replace(generator.model, **distorted)
    right = calibrated(wrong, train, 8, 1, 0)
    before, after = (np.abs(drawn_rates(model, train) - true).max() for model in (wrong, right))
    assert before > 0.08
    assert after < before / 3
    assert calibrated(wrong, train, 0, 2, 0) is wrong
    # What is right stays as it is, but for chance.
    same = calibrated(generator.model, train, 1, 2, 0)
    for name in ("people", "visits"):
        np.testing.assert_allclose(getattr(same, name).rate, getattr(generator.model, name).rate, rtol=0.15)


def test_calibration_is_kept_only_if_tuning_subjects_are_not_less_likely(monkeypatch):
    from caretrace.apps.synth.models.latent import generator as module

    def spoilt(model, *_):
        return dataclasses.replace(
            model, visits=dataclasses.replace(model.visits, rate=model.visits.rate * 5)
        )

    train, tuning = two_kinds(200, 0), two_kinds(100, 1)
    config = LatentConfig(people=1, visits=1, starts=1, iterations=3, sized=0, calibrations=0)
    plain, _ = fit_latent(train, tuning, VOCABULARY, config)
    monkeypatch.setattr(module, "calibrated", spoilt)
    kept, _ = fit_latent(train, tuning, VOCABULARY, config)
    np.testing.assert_array_equal(kept.model.visits.rate, plain.model.visits.rate)


def test_it_says_what_it_cannot():
    with pytest.raises(ConfigError, match=r"latent.people: got 0"):
        LatentConfig(people=0)
    with pytest.raises(ConfigError, match=r"latent.sized"):
        LatentConfig(sized=-1)
    assert LatentConfig(iterations=1).sized > 1  # few rounds need no second setting
    with pytest.raises(ConfigError, match=r"latent.lasting"):
        LatentConfig(lasting=2)
    empty = Records(histories([]))
    with pytest.raises(CohortError, match=r"0 training"):
        fit_latent(empty, empty, VOCABULARY)
    marked = Records(histories([(50, 0, [{2}])]), marks=np.zeros((1, 1), np.int64))
    with pytest.raises(ConfigError, match=r"marks, conditions"):
        fit_latent(marked, marked, VOCABULARY)
    with pytest.raises(ConfigError, match=r"conditions"):
        wild().draw(Wanted(np.arange(1), np.array([50]), np.array([0]), np.ones((1, 2))), 0, SamplingConfig())
