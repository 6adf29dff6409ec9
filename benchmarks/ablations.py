"""What each loss of prompt-BART is worth: held-out likelihood with one weight after another at 0, and codes flat.

    caretrace bench ablations -- --threads 1
    caretrace bench ablations -- --subjects 1000 --epochs 2 --rows whole pairs

The document's model learns from seven losses beside the one it is judged by, and names a code by its category first.
Each row leaves one of them out and changes nothing else: the same subjects, the same first weights and as many passes.
Subjects are those of the virtual hospital, cut to its commonest codes so that small models learn in minutes; what they
are judged by is the exact likelihood of held-out ones. `flat` gives every code a category of its own, so that
naming it first says all.
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
from caretrace.apps.synth.models.prompt_bart.generator import fit_prompt_bart
from caretrace.apps.synth.models.prompt_bart.network import PromptBartConfig
from caretrace.evaluation.histories import FiveArrays, Histories, Ints
from caretrace.hospital.histories import default_model, draw

MENDED = ("weight_infill", "weight_delete", "weight_replace")
HEADS = ("weight_age", "weight_sex")
ROWS: dict[str, tuple[str, ...]] = {
    "whole": (),
    "pairs": ("weight_pairs",),
    "age": ("weight_age",),
    "sex": ("weight_sex",),
    "infill": ("weight_infill",),
    "delete": ("weight_delete",),
    "replace": ("weight_replace",),
    "corruption": MENDED,
    "next visit alone": ("weight_pairs", *HEADS, *MENDED),
    "flat": (),
}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--subjects", type=int, default=1000, help="training subjects")
    options.add_argument("--tuning", type=int, default=200)
    options.add_argument("--held-out", type=int, default=500)
    options.add_argument("--codes", type=int, default=100, help="commonest codes that are kept")
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--d-model", type=int, default=64)
    options.add_argument("--layers", type=int, default=1)
    options.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    return options


def bench(options: argparse.Namespace) -> list[Case]:
    import torch

    torch.set_num_threads(options.threads)
    vocabulary, parts = _population(options)
    flat = Vocabulary(vocabulary.codes, vocabulary.codes, np.arange(len(vocabulary.codes)))
    whole, cases = None, []
    for name in options.rows:
        config = dataclasses.replace(
            PromptBartConfig(d_model=options.d_model, n_layers=options.layers, dropout=0.0),
            **dict.fromkeys(ROWS[name], 0.0),
        )
        fitting = FitConfig(seed=options.seed, epochs=options.epochs, patience=options.epochs)
        began = time.perf_counter()
        used = flat if name == "flat" else vocabulary
        generator, _ = fit_prompt_bart(parts[0], parts[1], used, config, fitting)
        seconds = time.perf_counter() - began
        found = generator.log_likelihood(parts[2])
        whole = found if whole is None else whole
        worse = whole - found
        error = float(worse.std() / np.sqrt(len(worse)))
        say(f"{name}: {-found.mean():.3f} nats, {worse.mean():+.3f} ± {error:.3f}, {seconds:.0f} s")
        what = "everything" if name == "whole" else name if name == "flat" else f"without {name}"
        peers = {"worse than the first row": float(worse.mean()), "standard error": error}
        cases.append(Case(what, "nats per held-out subject", -float(found.mean()), peers))
    return cases


def _population(options: argparse.Namespace) -> tuple[Vocabulary, list[Records]]:
    """Vocabulary, and training, tuning and held-out subjects with its codes alone."""
    population = default_model()
    sizes = (options.subjects, options.tuning, options.held_out)
    drawn = [
        draw(n, 1000 * (options.seed + 1) + place, population).histories for place, n in enumerate(sizes)
    ]
    often = np.bincount(drawn[0].code, minlength=len(population.codes))
    kept = [population.codes[place] for place in np.argsort(-often, kind="stable")[: options.codes]]
    vocabulary = Vocabulary.of(kept)
    number = np.array([vocabulary.number.get(code, -1) for code in population.codes])
    return vocabulary, [Records(_cut(h, number, vocabulary.n_codes)) for h in drawn]


def _cut(h: FiveArrays, number: Ints, n_codes: int) -> Histories:
    """Codes by their new numbers; those of -1, visits left empty and subjects left without visits are dropped."""
    visit = np.repeat(np.arange(len(h.code_count)), h.code_count)
    code = number[h.code]
    count = np.bincount(visit[code >= 0], minlength=len(h.code_count))
    subject = np.repeat(np.arange(len(h.age)), h.visit_count)
    visits = np.bincount(subject[count > 0], minlength=len(h.age))
    some = visits > 0
    return Histories(h.age[some], h.sex[some], visits[some], count[count > 0], code[code >= 0], n_codes)


if __name__ == "__main__":
    sys.exit(run(bench, parser(), lambda options: options.threads))
