"""Are synthetic subjects of use, and possible: models learnt from them, age and sex edits; the prototype's figures."""

from __future__ import annotations

import numpy as np

from caretrace.apps.synth.judging.verdict import SPREADS, Evidence, Limits, Sets, Verdict
from caretrace.evaluation import fidelity, prototype, utility, validity
from caretrace.evaluation.histories import Histories, Ints

UTILITY = 0.99  # of the issue
UTILITY_DRAWS = 6


def judge_utility(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Models learnt from synthetic subjects, asked about held-out ones, beside models learnt from real ones."""
    train, held_out, synthetic = sets
    chosen = train.take(draws.train[0])
    found = utility.utility(chosen, held_out, synthetic.take(draws.synthetic[0]), known.seed)
    fresh = [
        utility.utility(
            chosen, held_out, train.take(_others(train, draws.train[0], number)), known.seed, resamples=2
        )
        for number in range(UTILITY_DRAWS)
    ]
    for name, one in found.items():
        again = np.array([other[name].ratio for other in fresh if name in other])
        figure = fidelity.beside(np.array([one.ratio]), again, draws.widen)
        verdict.figure(f"utility_{name}", one.ratio, one.low, one.high)
        verdict.figure(f"utility_{name}_auroc", one.synthetic)
        verdict.floor(f"utility_{name}", figure.real)
        verdict.floor(f"utility_{name}_auroc", one.real)
        verdict.figure(f"utility_{name}_labels", one.labels)
        verdict.least(f"utility_{name}", one.ratio, figure.fresh_least, UTILITY)


def judge_validity(verdict: Verdict, sets: Sets, _draws: fidelity.Plan, known: Evidence) -> None:
    """Violations of age and sex edits and duplicates, at most as many as held-out subjects have."""
    _, held_out, synthetic = sets
    limits = known.limits or _no_limits(held_out.n_codes)
    ours, real = (
        validity.violations(one, limits.age_first, limits.age_last, limits.sexes)
        for one in (synthetic, held_out)
    )
    for name, rate, usual, spread, n in (
        (
            "sex_violations",
            ours.sex_rate,
            real.sex_rate,
            real.sex_error,
            (ours.limited_sex, real.limited_sex),
        ),
        (
            "age_violations",
            ours.age_rate,
            real.age_rate,
            real.age_error,
            (ours.limited_age, real.limited_age),
        ),
        ("duplicates", ours.duplicate_rate, real.duplicate_rate, 0.0, (ours.tokens, real.tokens)),
    ):
        if not n[0] or not n[1]:
            continue
        error = spread * float(np.sqrt(1 + n[1] / n[0]))  # none is allowed where real subjects have none
        verdict.figure(name, rate)
        verdict.floor(name, usual)
        verdict.most(name, rate, usual + SPREADS * error)


def judge_prototype(verdict: Verdict, sets: Sets, draws: fidelity.Plan, _: Evidence) -> None:
    """The prototype's own figures beside those of real subjects; no gate, they cannot carry one."""
    train, held_out, synthetic = sets
    test = held_out.take(draws.test)
    for name, value in prototype.figures(synthetic.take(draws.synthetic[0]), test).items():
        verdict.figure(f"prototype_{name}", value)
    for name, value in prototype.figures(train.take(draws.train[0]), test).items():
        verdict.floor(f"prototype_{name}", value)


def _others(train: Histories, chosen: Ints, number: int) -> Ints:
    """As many training subjects that were not chosen, another draw for every number."""
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    return np.random.default_rng([number, len(chosen)]).permutation(rest)[: len(chosen)]


def _no_limits(n_codes: int) -> Limits:
    return Limits(np.zeros(n_codes, np.int64), np.full(n_codes, 124), np.ones((n_codes, 2), bool))
