"""How fast synthetic subjects are drawn: beside Hugging Face's `generate`, with and without masks, and a million.

    caretrace bench generate
    caretrace bench generate -- --subjects 100 --million 20000

The decoder has 6 million parameters, the vocabulary of the virtual hospital and its visits. Its weights are those a
training begins with (rates counted in the population): how long a token takes does not depend on what was learned, how
many tokens a subject has does, and the counted rates have it right. The peer is GPT-NeoX of `transformers` with the
same backbone weights (checked: the same hidden states) under a plain softmax over codes, which is less work than our
two-stage head. It is asked for the same numbers of tokens as our subjects have: one subject after the other, as the
prototype did; in batches of our subjects' lengths, which `generate` carries on until the longest is over; and in
batches of equal length, which histories never are and which therefore say what the arithmetic alone costs.

What masks cost is measured with masks that forbid nothing beside none at all: the histories are then the same, token
by token (checked), where masks that forbid something would shorten them.

A million subjects are drawn from a small model whose weights were made wild, so that it wants what cannot be; every
code is looked at as it comes. The same model without masks says how often it would have gone wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import Any

import numpy as np
from cases import Case, run, say
from timing import peak_mib

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import CodeTables, Records, lengths
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.evaluation.histories import Histories, Ints
from caretrace.evaluation.validity import violations

LEAST_A_SECOND, LEAST_TIMES, MASKS_PERCENT = 50.0, 10.0, 2.0
SMALL_CODES = 120
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--subjects", type=int, default=4096, help="drawn to measure speed")
    options.add_argument(
        "--beside", type=int, default=256, help="drawn in each round, with and without masks"
    )
    options.add_argument("--one-by-one", type=int, default=16, help="subjects that the peer draws one by one")
    options.add_argument(
        "--batch", type=int, default=16, help="subjects of different length in a batch of the peer"
    )
    options.add_argument("--million", type=int, default=1_000_000, help="drawn to look for what cannot be")
    options.add_argument("--classes", type=int, default=100_000, help="drawn from the recommended generator")
    options.add_argument("--rounds", type=int, default=3, help="of masked beside unmasked drawing")
    options.add_argument("--rows", type=int, default=256, help="histories drawn at once")
    options.add_argument("--d-model", type=int, default=288)
    options.add_argument("--layers", type=int, default=5)
    options.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: seconds of the processor, with one thread, on a busy machine",
    )
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    return options


def bench(options: argparse.Namespace) -> list[Case]:
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    people, vocabulary = _population(3000, options.seed)
    generator = _generator(people, vocabulary, options.d_model, options.layers)
    millions = sum(p.numel() for p in generator.model.parameters()) / 1e6
    say(f"{millions:.1f} million parameters, {vocabulary.n_codes} codes")
    ours, drawn = _speed(generator, options)
    tokens = lengths(drawn)
    say(f"{ours:.0f} subjects/s ({tokens.mean():.0f} tokens each)")
    cost = _cost_of_masks(generator, options)
    say(f"masks cost {cost:.1f} %")
    peers, faster = _peers(generator, tokens, ours, options)
    gained = _likelihood(generator, people)
    cases = [
        Case(f"decoder, {millions:.1f} million parameters, {tokens.mean():.0f} tokens a subject", "subjects/s", ours,
             peers, faster, peak_mib()),
        Case(f"cost of masks, least of {options.rounds} rounds", "%", cost),
        Case("held-out likelihood gained by masks, subjects without an impossible code", "nats per subject", gained),
    ]  # fmt: skip
    _say_bound(f"{LEAST_A_SECOND:.0f} subjects/s", ours >= LEAST_A_SECOND)
    for name, times in faster.items():
        _say_bound(f"{LEAST_TIMES:.0f} times {name} ({times:.1f})", times >= LEAST_TIMES)
    _say_bound(f"{MASKS_PERCENT:.0f} % for masks ({cost:.1f})", cost <= MASKS_PERCENT)
    return cases + _classes(people, vocabulary, options) + _million(people, vocabulary, options)


def _say_bound(what: str, kept: bool) -> None:
    say(f"bound {what}: {'kept' if kept else 'MISSED'}")


def _population(n: int, seed: int) -> tuple[Histories, Vocabulary]:
    from caretrace.hospital.histories import default_model, draw

    population = default_model()
    vocabulary = Vocabulary.of(population.codes)
    h = draw(n, seed + 1, population).histories
    number = np.array([vocabulary.number[code] for code in population.codes])
    return Histories(
        h.age, h.sex, h.visit_count, h.code_count, number[h.code], vocabulary.n_codes
    ), vocabulary


def _generator(people: Histories, vocabulary: Vocabulary, d_model: int, layers: int) -> Any:
    from caretrace.apps.synth.models.decoder.generator import DecoderGenerator
    from caretrace.apps.synth.models.decoder.network import DecoderConfig, DecoderModel
    from caretrace.apps.synth.models.generator import Demographics

    model = DecoderModel(DecoderConfig(d_model=d_model, n_layers=layers), CodeTables(vocabulary))
    model.start_at(people)
    return DecoderGenerator(model.eval(), vocabulary, Demographics.of(people))


def _drawn(generator: Any, first: int, n: int, rows: int, seed: int) -> Histories:
    from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted

    subject = np.arange(first, first + n)
    wanted = Wanted(subject, *generator.demographics.draw(subject, seed))
    return generator.draw(wanted, seed, SamplingConfig(rows=rows)).histories


def _speed(generator: Any, options: argparse.Namespace) -> tuple[float, Histories]:
    """Subjects per second, as `caretrace generate` draws them, and the subjects."""
    clock = CLOCKS[options.clock]
    _drawn(generator, 0, 64, options.rows, options.seed)  # warms up
    began = clock()
    drawn = _drawn(generator, 0, options.subjects, options.rows, options.seed)
    return options.subjects / (clock() - began), drawn


def _cost_of_masks(generator: Any, options: argparse.Namespace) -> float:
    """Per cent, by the least seconds of all rounds: what else a machine does adds to them, and takes nothing away."""
    from caretrace.apps.synth.models.decoder.sampling import Sampler, SamplingConfig, Wanted

    subject, clock = np.arange(options.beside), CLOCKS[options.clock]
    wanted = Wanted(subject, *generator.demographics.draw(subject, options.seed))
    config, open_masks = SamplingConfig(rows=options.rows), np.ones_like(generator.allowed)
    least = {True: np.inf, False: np.inf}
    for turn in range(options.rounds):
        drawn = {}
        for masked in (True, False) if turn % 2 else (False, True):
            sampler = Sampler(generator.model, config, options.seed, open_masks if masked else None)
            began = clock()
            drawn[masked] = sampler.draw(wanted).records.histories
            least[masked] = min(least[masked], clock() - began)
        if not np.array_equal(drawn[True].code, drawn[False].code):
            raise SystemExit("masks that forbid nothing changed what was drawn; their cost means nothing")
    return 100 * (least[True] / least[False] - 1)


def _peers(
    generator: Any, tokens: Ints, ours: float, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float]]:
    """Subjects per second of `generate`, and our times that; `tokens` `[subject]` are how many ours had."""
    import torch

    try:
        peer = _neox(generator.model)
    except ImportError:
        say("transformers is not here, so there is no peer: pip install 'caretrace[text]'")
        return {}, {}
    speeds, clock = {}, CLOCKS[options.clock]
    usual, batch = round(float(tokens.mean())), min(options.batch, len(tokens))
    for name, rows, turns, many in (
        ("Hugging Face, one by one", 1, options.one_by_one, usual),
        (f"Hugging Face, {batch} rows until the longest is over", batch, 1, int(tokens[:batch].max())),
        (f"Hugging Face, {options.rows} rows of equal length", options.rows, 1, usual),
    ):
        start = torch.zeros(rows, 1, dtype=torch.int64)
        asked = {"do_sample": True, "pad_token_id": 0, "attention_mask": torch.ones_like(start)}
        peer.generate(start, **asked, min_new_tokens=2, max_new_tokens=2)
        began = clock()
        for _ in range(turns):
            peer.generate(start, **asked, min_new_tokens=many, max_new_tokens=many)
        speeds[name] = rows * turns / (clock() - began)
        say(f"{name}: {speeds[name]:.1f} subjects/s")
    return speeds, {name: ours / value for name, value in speeds.items()}


def _neox(model: Any) -> Any:
    """GPT-NeoX with the weights of our backbone; the same hidden states, or it is refused."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    ours, d, heads = model.backbone, model.config.d_model, model.config.n_heads
    config = GPTNeoXConfig(
        vocab_size=model.tables.n_codes, hidden_size=d, num_hidden_layers=len(ours.layers),
        num_attention_heads=heads, intermediate_size=ours.layers[0].feed_forward[0].out_features,
        use_parallel_residual=False, rotary_pct=1.0, hidden_act="gelu", layer_norm_eps=1e-5,
        attention_bias=ours.layers[0].attention.query_key_value.bias is not None,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    peer = GPTNeoXForCausalLM(config).eval()
    with torch.no_grad():
        for mine, theirs in zip(ours.layers, peer.gpt_neox.layers, strict=True):
            for name in ("weight", "bias"):
                value = getattr(mine.attention.query_key_value, name)
                if value is not None:
                    parts = value.unflatten(0, (3, heads, d // heads))
                    getattr(theirs.attention.query_key_value, name).copy_(parts.transpose(0, 1).flatten(0, 2))
            pairs = (
                (mine.attention.out, theirs.attention.dense), (mine.norm_attention, theirs.input_layernorm),
                (mine.norm_forward, theirs.post_attention_layernorm),
                (mine.feed_forward[0], theirs.mlp.dense_h_to_4h), (mine.feed_forward[-1], theirs.mlp.dense_4h_to_h),
            )  # fmt: skip
            for a, b in pairs:
                b.weight.copy_(a.weight)
                if b.bias is not None:
                    b.bias.zero_() if a.bias is None else b.bias.copy_(a.bias)
        peer.gpt_neox.final_layer_norm.load_state_dict(ours.norm.state_dict())
        hidden = torch.randn(2, 7, d)
        mine = ours(hidden, torch.zeros(2, 7, dtype=torch.bool))
        theirs = peer.gpt_neox(inputs_embeds=hidden).last_hidden_state
        worst = float((mine - theirs).abs().max())
    if worst > 1e-4:
        raise SystemExit(
            f"the peer's hidden states differ from ours by {worst:.2g}; it would be another model"
        )
    say(f"the peer's hidden states are ours (largest difference {worst:.1e})")
    return peer


def _likelihood(generator: Any, people: Histories) -> float:
    """Mean gain of masks over subjects that they call possible."""
    some = Records(people.take(np.arange(min(500, len(people)))))
    masked, plain = (dataclasses.replace(generator, masked=m).log_likelihood(some) for m in (True, False))
    possible = np.isfinite(masked)
    return float((masked - plain)[possible].mean())


def _classes(people: Histories, vocabulary: Vocabulary, options: argparse.Namespace) -> list[Case]:
    """The recommended generator, with as many classes as it has by default, fitted for a moment only."""
    from caretrace.apps.synth.models.latent.generator import fit_latent
    from caretrace.apps.synth.models.latent.search import LatentConfig

    quick = LatentConfig(starts=1, starting=1, iterations=2, sized=1)
    cut = len(people) - 500
    parts = (Records(people.take(np.arange(cut))), Records(people.take(np.arange(cut, len(people)))))
    generator, _ = fit_latent(*parts, vocabulary, quick)
    counts, rate = _counted("classes", generator, options.classes, vocabulary, options)
    say(f"classes: {rate:.0f} subjects/s")
    wrong = float(counts[:3].sum())
    return [
        Case(f"the recommended classes, {quick.people} of people, {quick.visits} of visits", "subjects/s", rate),
        Case(f"impossible or repeated codes among {options.classes:,} of its subjects", "codes", wrong),
    ]  # fmt: skip


def _million(people: Histories, vocabulary: Vocabulary, options: argparse.Namespace) -> list[Case]:
    """Violations among many subjects of a small model gone wild, counted as they come."""
    import torch

    small, few = _few_codes(people, vocabulary)
    generator = _generator(small, few, 16, 1)
    with torch.no_grad():  # every code about as likely as any other, whoever has it
        generator.model.next_category.bias.fill_(-3.5)
        generator.model.code_bias.zero_()
        generator.model.stop_bias.fill_(1.0)
    found, rate = _counted("masked", generator, options.million, few, options)
    free = dataclasses.replace(generator, masked=False)
    wild, _ = _counted("unmasked", free, min(options.million, 20_000), few, options)
    return [
        Case(f"{what} among {options.million:,} subjects with {found[3]:,} codes", "codes", float(found[place]),
             {"without masks, per million codes": 1e6 * wild[place] / wild[3]})
        for place, what in enumerate(("codes of the other sex", "codes of another age", "codes twice in a visit"))
    ] + [Case("the small model", "subjects/s", rate)]  # fmt: skip


def _counted(
    kind: str, generator: Any, n: int, vocabulary: Vocabulary, options: argparse.Namespace
) -> tuple[Ints, float]:
    """Codes of the other sex, of another age, twice in a visit, and in all; subjects per second."""
    edits = icd9.limits(vocabulary.normal_codes)
    counts, seconds, clock = np.zeros(4, np.int64), 0.0, CLOCKS[options.clock]
    for first in range(0, n, 50_000):
        began = clock()
        drawn = _drawn(generator, first, min(50_000, n - first), 4096, options.seed)
        seconds += clock() - began
        seen = violations(drawn, edits.age_first, edits.age_last, edits.sexes)
        counts += [seen.sex.sum(), seen.age.sum(), seen.duplicates, seen.tokens]
        say(f"{kind}: {first + len(drawn):,} subjects; other sex, other age, twice, codes: {counts}")
    return counts, n / seconds


def _few_codes(people: Histories, vocabulary: Vocabulary) -> tuple[Histories, Vocabulary]:
    """Visits cut to codes that an age or sex cannot have, and as many commonest ones."""
    edits = icd9.limits(vocabulary.normal_codes)
    n = len(vocabulary.codes)
    limited = ((edits.age_first > 0) | (edits.age_last < 124) | (edits.sexes.sum(1) < 2))[:n]
    count = np.bincount(people.code, minlength=n)[:n]
    chosen = [
        c for group in (limited, ~limited) for c in np.argsort(-count * group)[: SMALL_CODES // 2] if group[c]
    ]
    few = Vocabulary.of([vocabulary.codes[c] for c in chosen])
    number = np.full(vocabulary.n_codes, -1)
    number[chosen] = [few.number[vocabulary.codes[c]] for c in chosen]
    kept = number[people.code] >= 0
    sizes = np.bincount(people.token_visit[kept], minlength=len(people.code_count))
    # A visit that lost all its codes gets one, so that visits are never empty.
    code = np.split(number[people.code[kept]], np.cumsum(sizes)[:-1])
    filled = [each if len(each) else np.array([0]) for each in code]
    cut = Histories(
        people.age, people.sex, people.visit_count, [len(each) for each in filled], np.concatenate(filled),
        few.n_codes,
    )  # fmt: skip
    return cut, few


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
