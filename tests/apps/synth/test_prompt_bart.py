"""The document's model, and each fault of its prototype as a test that turns red when it returns."""

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from caretrace.apps.synth.codes.icd9 import limits
from caretrace.apps.synth.codes.sequences import CodeTables, Records
from caretrace.apps.synth.codes.vocabulary import END, MASK, PAD, START, VISIT, VISIT_END, Vocabulary
from caretrace.apps.synth.judging import failed, judge
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.fitting import FitConfig, fit
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.prompt_bart.corruption import CORRUPTIONS, corrupt
from caretrace.apps.synth.models.prompt_bart.generator import (
    PromptBartGenerator,
    PromptBartLearner,
    fit_prompt_bart,
)
from caretrace.apps.synth.models.prompt_bart.network import (
    PromptBart,
    PromptBartConfig,
    load_bart,
    pair_divergence,
    sizes_of,
)
from caretrace.apps.synth.models.prompt_bart.tokens import IGNORED, count_pairs, next_visits
from caretrace.errors import BundleError, ConfigError

from .people import histories as written

VOCABULARY = Vocabulary.of(("185", "6000", "64801", "25000", "25001", "4019", "4280", "4281"))
TINY = PromptBartConfig(
    d_model=16, n_layers=1, n_heads=2, d_feed_forward=32, dropout=0.0, d_prompt=8, max_positions=200
)


histories = functools.partial(written, vocabulary=VOCABULARY)


def wild(masked=False, config=TINY, seed=0):
    torch.manual_seed(seed)
    model = PromptBart(config, VOCABULARY.n_hierarchical_tokens).eval()
    with torch.no_grad():
        model.shared.weight.normal_(std=0.4)
        model.token_bias.normal_(std=0.5)
        model.token_bias[VISIT_END] = 2.0
        model.token_bias[END] = 1.0
    people = Demographics.of(histories([(50, 0, [{0}])]))
    return PromptBartGenerator(model, VOCABULARY, people, masked)


def some(n, rng):
    """Histories where sex decides one code, and a favourite comes again."""
    people = []
    for _ in range(n):
        sex, favourite = int(rng.integers(2)), int(rng.integers(3, 8))
        visits = [{sex, favourite} for _ in range(int(rng.integers(1, 4)))]
        people.append((int(rng.integers(20, 90)), sex, visits))
    return Records(histories(people))


def all_sets():
    codes = range(VOCABULARY.n_codes)
    return [set(s) for size in range(1, len(codes) + 1) for s in itertools.combinations(codes, size)]


@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_of_all_sets_of_a_visit_sum_to_one(masked):
    generator = wild(masked)
    sets = all_sets()
    learner = PromptBartLearner(generator.model, VOCABULARY)
    h = histories([(71, 1, [{3}, visit]) for visit in sets])
    visits = next_visits(h, VOCABULARY, 200)
    with torch.no_grad():
        log_p = learner.log_probs(visits, generator._masks(visits.age.numpy(), visits.sex.numpy()))
    kept = visits.labels != IGNORED
    each = torch.where(kept, log_p.gather(2, visits.labels.clamp(min=0)[..., None])[..., 0], 0.0).sum(1)
    second = each[1::3].detach().double()  # rows come as first visit, second visit, end
    end = each[2::3]
    goes_on = float(log_p[1, 0, VISIT])
    assert float(second.logsumexp(0)) == pytest.approx(goes_on, abs=1e-5)
    assert torch.isfinite(end).all()
    allowed = CodeTables(VOCABULARY).allowed(limits(VOCABULARY.normal_codes))[71, 1]
    for visit, value in zip(sets, second.tolist(), strict=True):
        assert np.isfinite(value) == (not masked or all(allowed[code] for code in visit))
    total = generator.log_likelihood(Records(h))
    one = generator.log_likelihood(Records(histories([(71, 1, [{3}])])))
    expected = one[0] - float(log_p[1, 0, END]) + (second + end.detach()).numpy()
    finite = np.isfinite(total)
    np.testing.assert_allclose(total[finite], expected[finite], atol=1e-4)


def test_samples_come_as_often_as_the_likelihood_says():
    generator = wild(masked=True)
    n = 3000
    drawn = generator.draw(Wanted(np.arange(n), np.full(n, 71), np.full(n, 1)), 3, SamplingConfig(rows=1000))
    h = drawn.histories
    visits = np.split(h.code, np.cumsum(h.code_count)[:-1])
    counts = {}
    for end, many in zip(np.cumsum(h.visit_count), h.visit_count, strict=True):
        key = tuple(tuple(visit) for visit in visits[end - many : end])
        counts[key] = counts.get(key, 0) + 1
    common = sorted(counts, key=counts.get)[-40:]
    expected = n * np.exp(
        generator.log_likelihood(Records(histories([(71, 1, [set(v) for v in key]) for key in common])))
    )
    z = (np.array([counts[key] for key in common]) - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    few = generator.draw(Wanted(np.arange(30), np.full(30, 71), np.full(30, 1)), 3, SamplingConfig(rows=7))
    np.testing.assert_array_equal(few.histories.code, h.take(np.arange(30)).code)


def test_the_target_visit_is_not_in_the_encoder_input():
    one = next_visits(histories([(50, 0, [{0, 2}, {3}, {5}])]), VOCABULARY, 200)
    other = next_visits(histories([(50, 0, [{0, 2}, {3}, {6, 7}])]), VOCABULARY, 200)
    # Row 2 writes the third visit: it reads the same, whatever that visit holds.
    assert one.read[2].tolist() == other.read[2, : one.read.shape[1]].tolist()
    for row in range(3):
        read, labels = one.read[row].tolist(), [t for t in one.labels[row].tolist() if t != IGNORED]
        assert read.count(VISIT) == row
        assert labels[0] == VISIT
        assert set(labels[1:-1]).isdisjoint(read)
    model = wild().model
    age, sex = torch.tensor([50]), torch.tensor([0])
    a, b = (model.encode(part.read[[2]][:, :9], age, sex)[0] for part in (one, other))
    torch.testing.assert_close(a, b)


def test_labels_are_not_the_inputs_and_padding_counts_for_nothing():
    visits = next_visits(histories([(50, 0, [{0, 2, 3}, {3}])]), VOCABULARY, 200)
    kept = visits.labels != IGNORED
    shifted = torch.cat([visits.written[:, 1:], torch.full((len(visits.written), 1), PAD)], 1)
    within = kept & (shifted != PAD)
    assert (visits.labels[within] == shifted[within]).all()
    assert (visits.labels[kept] != visits.written[kept]).all()  # a copy of the input is never right
    assert (visits.written[kept] != PAD).all()
    assert ((visits.written == PAD) == ~kept).all()
    learner = PromptBartLearner(wild().model, VOCABULARY)
    alone = next_visits(histories([(50, 0, [{3}])]), VOCABULARY, 200)
    beside = next_visits(histories([(50, 0, [{3}]), (60, 1, [{0, 1, 2, 3, 4}, {3}])]), VOCABULARY, 200)
    own = learner.per_subject(alone, learner.log_probs(alone), 1)
    torch.testing.assert_close(learner.per_subject(beside, learner.log_probs(beside), 2)[:1], own)


def test_heads_cannot_see_the_prompt():
    rng = np.random.default_rng(0)
    learner = PromptBartLearner(wild().model, VOCABULARY)
    batch = learner.batch(some(12, rng).sorted(), rng)
    losses = learner.losses(batch)
    prompts = [*learner.model.encoder_prompt.parameters(), *learner.model.decoder_prompt.parameters()]
    for name in ("age", "sex"):
        assert all(
            g is None
            for g in torch.autograd.grad(losses[name], prompts, retain_graph=True, allow_unused=True)
        )
    guesses = learner.model.guess(batch.whole)
    with torch.no_grad():
        for parameter in prompts:
            parameter.normal_()
    for before, after in zip(guesses, learner.model.guess(batch.whole), strict=True):
        torch.testing.assert_close(before, after)
    # So on histories that say nothing of sex, the loss stays where a coin leaves it (the prototype's went to 0).
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, weight_sex=1.0, weight_infill=0, weight_delete=0, weight_replace=0)
    people = [(50, int(rng.integers(2)), [{int(rng.integers(3, 8))}]) for _ in range(200)]
    model = PromptBart(config, VOCABULARY.n_hierarchical_tokens)
    learner = PromptBartLearner(model, VOCABULARY)
    records = Records(histories(people))
    fit(model, learner, records, records, FitConfig(epochs=6, max_tokens=400, learning_rate=1e-2))
    fresh = Records(histories([(50, int(rng.integers(2)), [{int(rng.integers(3, 8))}]) for _ in range(200)]))
    assert float(learner.losses(learner.batch(fresh, rng))["sex"].detach()) > 0.6


def test_the_loss_of_pairs_has_a_gradient_and_falls():
    first, second = torch.tensor([0, 0]), torch.tensor([1, 2])
    logit = torch.zeros(4, 3, requires_grad=True)
    observed = torch.tensor([30.0, 10.0])
    before = pair_divergence(logit.sigmoid(), first, second, observed)
    before.backward()
    assert logit.grad.abs().sum() > 0
    with torch.no_grad():
        after = pair_divergence((logit - 1.0 * logit.grad).sigmoid(), first, second, observed)
    assert after < before
    rng = np.random.default_rng(0)
    train = some(60, rng).sorted()
    learner = PromptBartLearner(wild().model, VOCABULARY, train.histories)
    loss = learner.losses(learner.batch(train, rng))["pairs"]
    found = torch.autograd.grad(loss, learner.model.shared.weight)[0]
    assert found.abs().sum() > 0


def test_pairs_are_counted_as_one_would_by_hand():
    h = histories([(50, 0, [{0, 3}, {0, 3, 4}, {3, 5}] * 3)])
    tables = CodeTables(VOCABULARY)
    first, second, count = count_pairs(h, tables, 5)
    names = {(int(a), int(b)): float(n) for a, b, n in zip(first, second, count, strict=True)}
    a, b, c = (int(tables.category_of[code]) for code in (0, 3, 5))
    assert names == {(a, b): 6.0, (b, c): 6.0}
    assert len(count_pairs(h, tables, 7)[0]) == 0
    assert float(pair_divergence(torch.ones(2, 6), *count_pairs(h, tables, 7))) == 0


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruption_hits_its_share_and_spares_the_frame(kind):
    rng = np.random.default_rng(0)
    token = np.array([START, VISIT, *([9] * 5000), VISIT_END, VISIT, *([9] * 5000), VISIT_END, END])
    worse = corrupt(token, kind, 20, rng)
    frame = [t for t in worse.tolist() if t in (START, VISIT, VISIT_END, END)]
    assert frame == [START, VISIT, VISIT_END, VISIT, VISIT_END, END]
    if kind == "delete":
        assert len(worse) == pytest.approx(len(token) - 1500, abs=150)
    if kind == "replace":
        assert len(worse) == len(token)
        assert np.mean(worse != token) == pytest.approx(0.15 * 12 / 13, abs=0.02)
    if kind == "infill":
        masks = int((worse == MASK).sum())
        assert masks == pytest.approx(500, abs=90)
        assert len(token) - (len(worse) - masks) == pytest.approx(1500, abs=250)
    assert (token[2] == 9).all()  # the original stays


@pytest.mark.slow
def test_greedy_decoding_of_a_model_trained_with_the_fault_collapses():
    """Labels equal to inputs and greedy choices: the prototype wrote 31 of 6,985 codes. Ours, sampled, does not."""
    rng = np.random.default_rng(0)
    train, tuning = some(300, rng).sorted(), some(60, rng).sorted()
    fitting = FitConfig(epochs=10, max_tokens=1500, learning_rate=1e-2)

    class Faulty(PromptBartLearner):
        def loss(self, batch):
            visits = batch.visits
            memory = self.model.encode(visits.read, visits.age, visits.sex)
            logits = self.model.decode(visits.written, visits.age, visits.sex, memory)
            labels = visits.written.masked_fill(visits.written == PAD, IGNORED)
            return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED)

        def tuning_loss(self, records):
            return self.loss(self.batch(records, np.random.default_rng(0)))

    torch.manual_seed(0)
    model = PromptBart(TINY, VOCABULARY.n_hierarchical_tokens)
    log = fit(model, Faulty(model, VOCABULARY), train, tuning, dataclasses.replace(fitting, epochs=30))
    people = Demographics.of(train.histories)
    faulty = PromptBartGenerator(model, VOCABULARY, people, masked=False)
    sound, _ = fit_prompt_bart(train, tuning, VOCABULARY, TINY, fitting)
    sound = dataclasses.replace(sound, masked=False)
    wanted = Wanted(np.arange(200), *people.draw(np.arange(200), 0))
    collapsed = faulty.draw(wanted, 0, SamplingConfig(top_k=1)).histories
    drawn = sound.draw(wanted, 0, SamplingConfig()).histories
    assert log[-1]["tuning_loss"] < 0.3  # it looked splendid

    def firsts(h):
        visits = np.split(h.code, np.cumsum(h.code_count)[:-1])
        return [tuple(visits[place]) for place in np.cumsum(h.visit_count) - h.visit_count]

    assert len(set(firsts(collapsed))) <= 3
    assert len(set(firsts(drawn))) >= 8
    held_out = some(200, rng).sorted()
    assert sound.log_likelihood(held_out).mean() > faulty.log_likelihood(held_out).mean() + 3
    red, better = (
        judge(train.histories, held_out.histories, made, parts=("fidelity",)) for made in (collapsed, drawn)
    )
    assert {"excess_codes", "excess_pairs", "distinct_codes"} & set(failed(red))
    for name in ("excess_codes", "excess_pairs"):
        assert red["metrics"][name]["value"] > 1.5 * better["metrics"][name]["value"]


def test_every_weight_is_a_setting_and_zero_leaves_its_loss_out():
    rng = np.random.default_rng(0)
    train = some(20, rng).sorted()
    names = [f.name for f in dataclasses.fields(PromptBartConfig) if f.name.startswith("weight_")]
    assert len(names) == 7
    learner = PromptBartLearner(wild().model, VOCABULARY, train.histories)
    found = learner.losses(learner.batch(train, rng))
    assert {f"weight_{name}" for name in found} == set(names)
    config = dataclasses.replace(TINY, **{name: 0.0 for name in names if name != "weight_next_visit"})
    bare = PromptBartLearner(wild(config=config).model, VOCABULARY, train.histories)
    assert set(bare.losses(bare.batch(train, rng))) == {"next_visit"}
    with pytest.raises(ConfigError, match="weight_age"):
        PromptBartConfig(weight_age=-1)


def test_weights_of_bart_do_here_what_they_do_there(tmp_path):
    transformers = pytest.importorskip("transformers")
    settings = transformers.BartConfig(
        vocab_size=50, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    bart = transformers.BartModel(settings).eval()
    with torch.no_grad():
        for parameter in bart.parameters():
            parameter.normal_(std=0.2)
    bart.save_pretrained(tmp_path / "bart", safe_serialization=True)
    config = sizes_of(PromptBartConfig(pretrained=str(tmp_path / "bart"), dropout=0.0))
    assert (config.d_model, config.n_layers, config.max_positions) == (16, 2, 64)
    ours = PromptBart(config, 50).eval()
    taken = load_bart(ours, config.pretrained)
    assert len(taken) == len([k for k in ours.state_dict() if k.startswith(("encoder.", "decoder."))])
    tokens = torch.tensor([[0, 7, 8, 9, 2], [0, 7, 2, 1, 1]])
    written = torch.tensor([[2, 0, 7, 8], [2, 0, 9, 1]])
    with torch.no_grad():
        theirs = bart(
            inputs_embeds=ours.shared(tokens), attention_mask=(tokens != 1).long(),
            decoder_inputs_embeds=ours.shared(written), decoder_attention_mask=(written != 1).long(),
        )  # fmt: skip
        memory = ours.encoder(ours.shared(tokens), tokens == 1)
        hidden, _ = ours.decoder(ours.shared(written), written == 1, None, memory)
    kept = tokens != 1
    torch.testing.assert_close(memory[0][kept], theirs.encoder_last_hidden_state[kept], atol=1e-5, rtol=1e-4)
    kept = written != 1
    torch.testing.assert_close(hidden[kept], theirs.last_hidden_state[kept], atol=1e-5, rtol=1e-4)


def test_what_is_no_bart_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"model\.safetensors is missing"):
        load_bart(wild().model, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(BundleError, match="not the settings of a BART"):
        sizes_of(PromptBartConfig(pretrained=str(tmp_path)))
    with pytest.raises(ConfigError, match="no empty visit"):
        fit_prompt_bart(*[Records(histories([(50, 0, [])]))] * 2, VOCABULARY, TINY)
