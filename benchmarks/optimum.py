"""How near each generator comes to the best there can be: held-out likelihood beside the exact one.

    caretrace bench optimum
    caretrace bench optimum -- --subjects 2000 --epochs 3 --models decoder n-gram

The virtual hospital knows the probability of every history it draws. So the mean negative log-likelihood of held-out
subjects has a floor that no model can beat but by luck, and the gap to it, in per cent, is what a generator has not
understood. `must` names the bound we hold the recommended model to.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

import numpy as np
from cases import Case, run, say

from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.fitting import FitConfig
from caretrace.apps.synth.training import SynthConfig, fit_generator
from caretrace.evaluation.histories import Floats, Histories
from caretrace.hospital.histories import HistoryModel, default_model, draw, log_likelihoods

MODELS = ("decoder", "prompt-bart", "gru", "n-gram", "marginals")
GAP_PERCENT = 1.0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--subjects", type=int, default=30_000, help="training subjects")
    options.add_argument("--tuning", type=int, default=3_000)
    options.add_argument("--held-out", type=int, default=5_000)
    options.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--d-model", type=int, default=128)
    options.add_argument("--layers", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    return options


def bench(options: argparse.Namespace) -> list[Case]:
    import torch

    torch.set_num_threads(options.threads)
    population = default_model()
    vocabulary = Vocabulary.of(population.codes)
    sizes = (options.subjects, options.tuning, options.held_out)
    # Seeds of their own: a larger training sample must not run into the held-out one.
    train, tuning, held_out = (
        _drawn(n, 1000 * (options.seed + 1) + place, population, vocabulary) for place, n in enumerate(sizes)
    )
    exact = held_out[1]
    say(f"exact: {-exact.mean():.3f} nats per subject, standard error {_error(exact):.3f}")
    nats, gaps, errors = {}, {}, {}
    for name in options.models:
        config = SynthConfig(model=name)
        config = dataclasses.replace(
            config,
            decoder=dataclasses.replace(config.decoder, d_model=options.d_model, n_layers=options.layers),
            prompt_bart=dataclasses.replace(
                config.prompt_bart, d_model=options.d_model, n_layers=options.layers
            ),
            fit=FitConfig(seed=options.seed, epochs=options.epochs),
        )
        began = time.perf_counter()
        generator, _ = fit_generator(
            train[0], tuning[0], vocabulary, config, lambda record, name=name: say(f"{name}: {record}")
        )
        found = generator.log_likelihood(held_out[0])
        nats[name], gaps[name] = -found.mean(), 100 * (found.mean() / exact.mean() - 1)
        errors[name] = 100 * _error(found - exact) / -exact.mean()
        say(
            f"{name}: {nats[name]:.3f} nats, {gaps[name]:.2f} % above the exact figure (standard error "
            f"{errors[name]:.2f}), fitted in {time.perf_counter() - began:.0f} s"
        )
    first = options.models[0]
    if first == "decoder":
        say(f"bound {GAP_PERCENT} %: {'kept' if gaps[first] <= GAP_PERCENT else 'MISSED'}")
    size = f"{options.subjects:,} training subjects"
    others = options.models[1:]
    return [
        Case(f"{first}, held-out likelihood, {size}", "nats per subject", nats[first],
             {"exact": -exact.mean(), **{name: nats[name] for name in others}}),
        Case(f"{first}, gap to the exact figure, {size}", "%", gaps[first], {name: gaps[name] for name in others}),
        Case(f"{first}, standard error of the gap, {size}", "%", errors[first],
             {name: errors[name] for name in others}),
    ]  # fmt: skip


def _drawn(n: int, seed: int, population: HistoryModel, vocabulary: Vocabulary) -> tuple[Records, Floats]:
    """Subjects in the order of our codes, and their exact log-likelihoods."""
    h = draw(n, seed, population).histories
    number = np.array([vocabulary.number[code] for code in population.codes])
    ours = Histories(h.age, h.sex, h.visit_count, h.code_count, number[h.code], vocabulary.n_codes)
    return Records(ours), log_likelihoods(h, population)


def _error(values: Floats) -> float:
    return float(values.std() / np.sqrt(len(values)))


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
