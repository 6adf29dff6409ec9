"""Can synthetic subjects be told from real ones: classifiers, nearest neighbours, copies."""

from __future__ import annotations

import numpy as np

from caretrace.apps.synth.judging.verdict import SPREADS, Evidence, Sets, Verdict
from caretrace.evaluation import fidelity, neighbours, two_sample

TWO_SAMPLE = 0.55  # of the issue
# Ours: smaller differences than these are of no consequence, however surely they are measured.
CONDITIONING = 0.02
NNAA = 0.03

NEIGHBOUR_DRAWS, NEIGHBOUR_SUBJECTS = 8, 2000
LONG_HISTORY = 8  # codes; shorter histories coincide by chance


def judge_two_sample(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Classifiers that tell synthetic from real; what codes say about sex and age."""
    train, held_out, synthetic = sets
    test = held_out.take(draws.test)
    ours = two_sample.two_sample_auroc(test, synthetic.take(draws.synthetic[0]), known.seed)
    real = two_sample.two_sample_auroc(test, train.take(draws.train[0]), known.seed)
    for name, found in ours.items():
        verdict.figure(f"two_sample_auroc_{name}", found.value, found.low, found.high)
        verdict.floor(f"two_sample_auroc_{name}", real[name].value, real[name].low, real[name].high)
    worst = max(ours.values(), key=lambda found: found.value)
    verdict.most("two_sample_auroc", worst.value, 0.5 + SPREADS * worst.error, TWO_SAMPLE)
    told = two_sample.conditioning(train, held_out, synthetic)
    verdict.figure(
        "sex_from_codes", told.sex_synthetic.value, told.sex_synthetic.low, told.sex_synthetic.high
    )
    verdict.floor("sex_from_codes", told.sex_real.value, told.sex_real.low, told.sex_real.high)
    verdict.figure("age_from_codes", told.age_synthetic)
    verdict.floor("age_from_codes", told.age_real)
    error = float(np.hypot(told.sex_real.error, told.sex_synthetic.error))
    difference = abs(told.sex_synthetic.value - told.sex_real.value)
    verdict.most("conditioning_sex", difference, max(SPREADS * error, CONDITIONING))
    difference = abs(told.age_synthetic - told.age_real)
    verdict.most("conditioning_age", difference, max(SPREADS * told.age_error, CONDITIONING))


def judge_neighbours(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Density and coverage, NNAA, exact copies."""
    train, held_out, synthetic = sets
    n = min(draws.n, NEIGHBOUR_SUBJECTS)
    test = held_out.take(draws.test[:n])
    ours = neighbours.density_coverage(test, synthetic.take(draws.synthetic[0][:n]))
    real = np.array(
        [neighbours.density_coverage(test, train.take(d[:n])) for d in draws.train[:NEIGHBOUR_DRAWS]]
    )
    for place, name in enumerate(("density", "coverage")):
        figure = fidelity.beside(np.array([ours[place]]), real[:, place], draws.widen)
        verdict.figure(name, figure.value, figure.low, figure.high)
        verdict.floor(name, figure.real)
        if name == "coverage":
            verdict.least(name, figure.value, figure.fresh_least)
    n = min(draws.n, known.nnaa_subjects or draws.n)
    found = neighbours.adversarial_accuracy(
        train.take(draws.train[0][:n]), held_out.take(draws.test[:n]), synthetic.take(draws.synthetic[0][:n])
    )
    half = fidelity.Z_95 * found.error
    verdict.figure("nnaa", found.nnaa, found.nnaa - half, found.nnaa + half)
    verdict.figure("aa_held_out", found.held_out)
    verdict.figure("aa_train", found.train)
    verdict.most("nnaa", found.nnaa, max(SPREADS * found.error, NNAA))
    for name, longest in (("exact_copies", None), ("exact_copies_long", LONG_HISTORY)):
        (rate, n_synthetic), (usual, n_real) = (
            neighbours.copy_rate(train, one, longest) for one in (synthetic, held_out)
        )
        if not n_synthetic or not n_real:
            continue
        pooled = (rate * n_synthetic + usual * n_real + 1) / (n_synthetic + n_real + 2)
        error = float(np.sqrt(pooled * (1 - pooled) * (1 / n_synthetic + 1 / n_real)))
        verdict.figure(name, rate)
        verdict.floor(name, usual)
        verdict.most(name, rate, usual + SPREADS * error)
