"""The recommended generator: its likelihood is a distribution, and its samples are drawn from it."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch

from caretrace.apps.synth.codes.icd9 import limits
from caretrace.apps.synth.codes.sequences import PAD, CodeTables, Records, make_batch
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.cache import AnySteps, StaticTransformer
from caretrace.apps.synth.models.decoder.generator import DecoderGenerator, fit_decoder
from caretrace.apps.synth.models.decoder.network import DecoderConfig, DecoderModel
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.fitting import FitConfig, batches
from caretrace.apps.synth.models.generator import Demographics, Request, iter_chunks
from caretrace.apps.synth.models.noise import uniform
from caretrace.backbones.transformer import Transformer
from caretrace.errors import CohortError, ConfigError, InputError
from caretrace.evaluation.histories import join

from .people import histories as written

# Prostate, pregnancy, newborn, and codes anybody may have; four categories with two codes or more.
CODES = ("185", "6000", "64801", "7661", "25000", "25001", "4019", "4280", "4281")
VOCABULARY = Vocabulary.of(CODES)
TINY = DecoderConfig(d_model=16, n_layers=2, d_code=4, dropout=0.0, n_heads=2)


histories = functools.partial(written, vocabulary=VOCABULARY)


def numbers(*codes):
    return {VOCABULARY.number[code] for code in codes}


def wild(config=TINY, marks=(), conditions=0, masked=False, seed=0):
    """A generator with random weights, far from uniform."""
    torch.manual_seed(seed)
    model = DecoderModel(config, CodeTables(VOCABULARY), marks, conditions)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(model.next_category.bias, mean=-1.0, std=0.5)
    torch.nn.init.constant_(model.stop_bias, 1.0)
    return DecoderGenerator(model.eval(), VOCABULARY, Demographics.of(histories([(50, 0, [{0}])])), masked)


def all_sets():
    codes = range(VOCABULARY.n_codes)
    return [set(s) for size in range(1, len(codes) + 1) for s in itertools.combinations(codes, size)]


@pytest.mark.parametrize("backbone", ["transformer", "gru", "mamba"])
@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_of_all_sets_of_a_visit_sum_to_one(backbone, masked):
    generator = wild(dataclasses.replace(TINY, backbone=backbone), masked=masked)
    first = {1, 4, 6}
    people = [(71, 1, [first, visit]) for visit in all_sets()]
    allowed = CodeTables(VOCABULARY).allowed(limits(VOCABULARY.normal_codes))[71, 1]
    both = generator.log_likelihood(Records(histories(people)))
    one = generator.log_likelihood(Records(histories([(71, 1, [first])])))
    # p(first, second, stop) summed over second = p(first, not yet over); with p(first, stop) the stop is known.
    model = generator.model
    batch = make_batch(Records(histories(people)))
    stop = model(batch)["stop"].detach().double()
    last_stop = stop[batch.turn_rank == 2].numpy()
    goes_on = stop[batch.turn_rank == 1].numpy()
    stopped = np.log(-np.expm1(goes_on[0]))
    total = np.logaddexp.reduce(both - last_stop - goes_on)
    assert total == pytest.approx(one[0] - stopped, abs=1e-5)
    for visit, value in zip(all_sets(), both, strict=True):
        possible = not masked or all(allowed[code] for code in visit)
        assert np.isfinite(value) == possible


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backbone", ["transformer", "gru"])
def test_samples_come_as_often_as_the_likelihood_says(masked, backbone):
    generator = wild(dataclasses.replace(TINY, backbone=backbone), masked=masked)
    n = 6000
    wanted = Wanted(np.arange(n), np.full(n, 71), np.full(n, 1))
    drawn = generator.draw(wanted, 3, SamplingConfig(rows=512)).histories
    counts = {}
    visits = np.split(drawn.code, np.cumsum(drawn.code_count)[:-1])
    ends = np.cumsum(drawn.visit_count)
    for end, many in zip(ends, drawn.visit_count, strict=True):
        key = tuple(tuple(visit) for visit in visits[end - many : end])
        counts[key] = counts.get(key, 0) + 1
    common = sorted(counts, key=counts.get)[-60:]
    expected = n * np.exp(
        generator.log_likelihood(Records(histories([(71, 1, [set(v) for v in key]) for key in common])))
    )
    found = np.array([counts[key] for key in common])
    assert len(counts) > 100
    z = (found - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert np.mean(z**2) < 1.8
    # Mean log-likelihood of samples is minus the entropy; the same number by another seed.
    again = generator.draw(dataclasses.replace(wanted, subject=wanted.subject + n), 3, SamplingConfig())
    means = [generator.log_likelihood(r).mean() for r in (Records(drawn), again)]
    assert means[0] == pytest.approx(means[1], rel=0.03)


def test_a_subject_does_not_depend_on_its_company():
    generator = wild(masked=True)
    age, sex = np.arange(40) * 2, np.arange(40) % 2
    together = generator.draw(Wanted(np.arange(40), age, sex), 7, SamplingConfig(rows=40)).histories
    few = generator.draw(Wanted(np.arange(40), age, sex), 7, SamplingConfig(rows=3)).histories
    alone = join(
        [
            generator.draw(Wanted(np.array([i]), age[[i]], sex[[i]]), 7, SamplingConfig()).histories
            for i in range(40)
        ]
    )
    for other in (few, alone):
        np.testing.assert_array_equal(together.code, other.code)
        np.testing.assert_array_equal(together.code_count, other.code_count)
    changed = generator.draw(Wanted(np.arange(40), age, sex), 8, SamplingConfig()).histories
    assert not np.array_equal(together.code, changed.code)


def test_masks_forbid_what_is_impossible_and_cost_no_likelihood():
    free, masked = wild(masked=False), wild(masked=True)
    allowed = masked.allowed
    age, sex = np.tile([0, 5, 30, 71], 200), np.repeat([0, 1], 400)
    wanted = Wanted(np.arange(800), age, sex)
    drawn = masked.draw(wanted, 0, SamplingConfig()).histories
    subject = drawn.token_subject
    assert allowed[drawn.age[subject], drawn.sex[subject], drawn.code].all()
    assert len(drawn.with_codes_sorted().code) == len(drawn.code)  # no code twice in a visit
    assert drawn.code_count.min() > 0
    plain = free.draw(wanted, 0, SamplingConfig()).histories
    subject = plain.token_subject
    assert not allowed[plain.age[subject], plain.sex[subject], plain.code].all()
    lower = free.log_likelihood(Records(drawn))
    assert (masked.log_likelihood(Records(drawn)) >= lower - 1e-5).all()
    impossible = Records(histories([(71, 0, [numbers("185")])]))
    assert masked.log_likelihood(impossible)[0] == -np.inf
    assert np.isfinite(free.log_likelihood(impossible)[0])


def test_a_begun_history_is_gone_on_with():
    generator = wild()
    begun = histories([(71, 1, [{0, 4}]), (20, 0, []), (60, 1, [{1}, {1, 2, 8}])] * 50)
    wanted = Wanted(np.arange(150), begun.age, begun.sex, begun=Records(begun))
    drawn = generator.draw(wanted, 1, SamplingConfig(rows=32)).histories
    visits = np.split(drawn.code, np.cumsum(drawn.code_count)[:-1])
    starts = np.cumsum(drawn.visit_count) - drawn.visit_count
    for subject in range(150):
        known = [[{0, 4}], [], [{1}, {1, 2, 8}]][subject % 3]
        assert drawn.visit_count[subject] >= len(known)
        for rank, visit in enumerate(known):
            assert set(visits[starts[subject] + rank]) == visit
    assert (drawn.visit_count > np.tile([1, 0, 2], 50)).any()
    # How often a history goes on is what the model says.
    many = 3000
    ones = histories([(71, 1, [{0, 4}])] * many)
    drawn = generator.draw(
        Wanted(np.arange(many), ones.age, ones.sex, begun=Records(ones)), 1, SamplingConfig()
    )
    batch = make_batch(Records(histories([(71, 1, [{0, 4}])])))
    stop = float(generator.model(batch)["stop"].detach()[batch.turn_rank == 1].exp())
    assert (drawn.histories.visit_count == 1).mean() == pytest.approx(stop, abs=0.04)


def test_marks_and_conditions_are_written_and_read():
    generator = wild(marks=(3, 2), conditions=2)
    n = 500
    conditions = np.tile([[0.0, 1.0]], (n, 1))
    wanted = Wanted(np.arange(n), np.full(n, 60), np.zeros(n, np.int64), conditions)
    drawn = generator.draw(wanted, 0, SamplingConfig())
    assert drawn.marks is not None
    assert drawn.marks.shape == (drawn.histories.visit_count.sum(), 2)
    assert set(drawn.marks[:, 0]) == {0, 1, 2}
    other = dataclasses.replace(drawn, marks=(drawn.marks + 1) % 2)
    assert not np.allclose(generator.log_likelihood(drawn), generator.log_likelihood(other))
    changed = dataclasses.replace(drawn, conditions=conditions * 3)
    assert not np.allclose(generator.log_likelihood(drawn), generator.log_likelihood(changed))
    with pytest.raises(InputError, match="marks: got shape"):
        Records(drawn.histories, drawn.marks[1:])


@pytest.mark.parametrize("settings", [{"temperature": 0.002}, {"top_k": 1}, {"top_p": 1e-9}])
def test_sharpened_choices_are_the_most_probable_ones(settings):
    generator = wild()
    n = 40
    drawn = generator.draw(
        Wanted(np.arange(n), np.full(n, 50), np.zeros(n, np.int64)),
        0,
        SamplingConfig(**settings, max_tokens=30),
    )
    first = np.cumsum(drawn.histories.visit_count) - drawn.histories.visit_count
    visits = np.split(drawn.histories.code, np.cumsum(drawn.histories.code_count)[:-1])
    different = {tuple(visits[place]) for place in first}
    assert len(different) == 1
    plain = generator.draw(Wanted(np.arange(n), np.full(n, 50), np.zeros(n, np.int64)), 0, SamplingConfig())
    visits = np.split(plain.histories.code, np.cumsum(plain.histories.code_count)[:-1])
    first = np.cumsum(plain.histories.visit_count) - plain.histories.visit_count
    assert len({tuple(visits[place]) for place in first}) > 10


def test_the_future_cannot_be_seen():
    generator = wild()
    one = make_batch(Records(histories([(50, 0, [{0, 1}, {2}])])))
    other = make_batch(Records(histories([(50, 0, [{0, 1}, {8}])])))
    a, b = generator.model(one), generator.model(other)
    # Up to the second visit's first code everything is the same.
    torch.testing.assert_close(a["category"][:3], b["category"][:3])
    torch.testing.assert_close(a["stop"][:2], b["stop"][:2])
    assert (one.kind != PAD).all()


def test_static_cache_takes_the_steps_of_forward():
    torch.manual_seed(0)
    backbone = Transformer(d_model=8, n_layers=2, dropout=0.0, n_heads=2).eval()
    hidden = torch.randn(3, 70, 8)  # longer than the first room
    whole = backbone(hidden, torch.zeros(3, 70, dtype=torch.bool))
    steps = StaticTransformer(backbone, 3)
    with torch.no_grad():
        for at in range(70):
            rows = torch.arange(3)
            torch.testing.assert_close(
                steps.step(hidden[rows, at], rows), whole[rows, at], atol=1e-5, rtol=1e-4
            )
        steps.restart(torch.tensor([1]))  # the others stay where they are
        torch.testing.assert_close(
            steps.step(hidden[[1], 0], torch.tensor([1])), whole[[1], 0], atol=1e-5, rtol=1e-4
        )
    assert AnySteps(backbone, 2).can_restart is False


def test_rows_of_any_length_keep_to_themselves():
    """Rows begin, wait, end and outgrow their lanes at random; each step is that of its own sequence."""
    rng, rows, longest = np.random.default_rng(3), 9, 150
    torch.manual_seed(0)
    backbone = Transformer(d_model=8, n_layers=2, dropout=0.0, n_heads=2).eval()
    hidden = torch.randn(12, longest, 8)
    with torch.no_grad():
        whole = backbone(hidden, torch.zeros(12, longest, dtype=torch.bool))
    steps = StaticTransformer(backbone, rows)
    sequence, at = rng.integers(0, 12, rows), np.zeros(rows, np.int64)
    widest = 0
    for turn in range(400):
        stepping = np.flatnonzero(rng.random(rows) < 0.9)
        if len(stepping):
            given = torch.from_numpy(stepping)
            with torch.no_grad():
                found = steps.step(hidden[sequence[stepping], at[stepping]], given)
            expected = whole[sequence[stepping], at[stepping]]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            at[stepping] += 1
        widest = max(widest, at.max())
        over = (at >= longest) | (rng.random(rows) < 0.01)
        (steps.release if turn % 2 else steps.restart)(torch.from_numpy(np.flatnonzero(over)))
        sequence[over], at[over] = rng.integers(0, 12, int(over.sum())), 0
    assert widest > 128  # so the third lane was in use


def test_it_learns_what_depends_on_sex_and_on_the_last_visit():
    rng = np.random.default_rng(0)

    def some(n):
        people = []
        for _ in range(n):
            sex = int(rng.integers(2))
            favourite = int(rng.integers(4, 9))
            visits = [{sex, favourite} for _ in range(int(rng.integers(1, 4)))]
            people.append((int(rng.integers(20, 90)), sex, visits))
        return Records(histories(people))

    train, test = some(400), some(100)
    fitting = FitConfig(epochs=25, max_tokens=256, learning_rate=1e-2)
    generator, log = fit_decoder(train, some(100), VOCABULARY, TINY, fitting)
    assert log[-1]["tuning_loss"] < log[0]["tuning_loss"] - 1
    free = dataclasses.replace(generator, masked=False)
    exact = np.log(5) + np.log(3)  # one of five favourites, one of three numbers of visits
    assert -free.log_likelihood(test).mean() < exact + 0.35
    _, drawn = next(iter_chunks(free, Request(300, seed=1, sex=1)))
    h = drawn.histories
    assert (h.sex == 1).all()
    assert np.mean(np.isin(h.code, [0])) < 0.01
    repeated = [h.code[h.token_subject == s] for s in np.flatnonzero(h.visit_count > 1)]
    assert np.mean([len(set(codes)) == 2 for codes in repeated]) > 0.9


def test_random_numbers_have_an_address():
    a = uniform(1, np.arange(1000)[:, None], np.arange(100))
    assert a.min() > 0
    assert a.max() < 1
    assert a.mean() == pytest.approx(0.5, abs=0.005)
    assert abs(np.corrcoef(a[:-1].ravel(), a[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(a[:, :-1].ravel(), a[:, 1:].ravel())[0, 1]) < 0.02
    assert uniform(1, np.array([7]), np.array([9]))[0] == a[7, 9]
    assert not np.allclose(uniform(2, np.arange(1000)[:, None], np.arange(100)), a)


def test_batches_hold_every_subject_once():
    records = Records(histories([(50, 0, [{0}] * (i % 7 + 1)) for i in range(100)]))
    found = np.sort(np.concatenate(list(batches(records, 40, np.random.default_rng(0)))))
    np.testing.assert_array_equal(found, np.arange(100))


def test_demographics_and_requests_say_what_is_wrong():
    people = Demographics.of(histories([(50, 0, [{0}]), (50, 1, [{0}]), (70, 1, [{0}])]))
    age, sex = people.draw(np.arange(300), 0)
    assert set(zip(age.tolist(), sex.tolist(), strict=True)) == {(50, 0), (50, 1), (70, 1)}
    age, sex = people.draw(np.arange(300), 0, age=70)
    assert set(sex.tolist()) == {1}
    age, sex = people.draw(np.arange(300), 0, age=33, sex=0)
    assert set(age.tolist()) == {33}
    assert set(sex.tolist()) == {0}
    assert set(people.draw(np.arange(300), 0, age=33)[1].tolist()) == {0, 1}
    with pytest.raises(ConfigError, match="age: got 300"):
        people.draw(np.arange(3), 0, age=300)
    with pytest.raises(ConfigError, match="subjects: got 0"):
        Request(0)
    with pytest.raises(ConfigError, match="top_p"):
        SamplingConfig(top_p=0)
    empty = Records(histories([]))
    with pytest.raises(CohortError, match="0 training"):
        fit_decoder(empty, empty, VOCABULARY, TINY)


@pytest.mark.parametrize("begun", [False, True])
def test_earlier_visits_are_remembered_as_they_were(begun):
    generator = wild()
    model = generator.model
    with torch.no_grad():  # what the last visit had is impossible, what one before had is certain
        model.memory.log_scale.zero_()
        model.memory.shift[0], model.memory.shift[1] = -60.0, 30.0
        model.stop_bias.fill_(-2.0)
    category = model.tables.category_of
    first = Records(histories([(71, 1, [{1, 4}, {0}])] * 60)) if begun else None
    wanted = Wanted(np.arange(60), np.full(60, 71), np.full(60, 1), begun=first)
    records = generator.draw(wanted, 0, SamplingConfig(rows=16, max_tokens=60))
    h = records.histories
    visits = [set(category[part].tolist()) for part in np.split(h.code, np.cumsum(h.code_count)[:-1])]
    checked = 0
    for place, rank in enumerate(h.visit_rank):
        last_of_subject = place + 1 == len(visits) or h.visit_rank[place + 1] == 0
        if last_of_subject:  # it may have been cut
            continue
        if rank >= 1:
            assert not visits[place] & visits[place - 1]
        if rank >= 2:
            assert visits[place - 2] <= visits[place]
            checked += 1
    assert checked > 30
    assert np.isfinite(generator.log_likelihood(records)).all()


def test_training_loss_is_per_subject_and_seeds_repeat_bit_by_bit():
    people = [(50, 0, [{0, 1}]), (60, 1, [{1, 2}, {2}, {0, 3}, {1}, {2}, {0, 1}, {3}])] + [
        (40, 0, [{4}])
    ] * 30
    train, fitting = Records(histories(people)), FitConfig(epochs=2, max_tokens=40, learning_rate=1e-9)
    (first, log), (second, again) = (fit_decoder(train, train, VOCABULARY, TINY, fitting) for _ in range(2))
    # Nothing was learned, so what was learned from has the loss of what stopped it, but for dropout (TINY has none).
    assert log[0]["train_loss"] == pytest.approx(log[0]["tuning_loss"], rel=1e-4)
    assert log == again
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
