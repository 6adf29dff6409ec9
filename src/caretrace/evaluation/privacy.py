"""What synthetic subjects give away about the training subjects: attacks, each beside the same attack on real ones.

Membership: the likelihood ratio of the generator to a reference model (LiRA, Carlini et al. 2022, arXiv 2112.03570;
DOMIAS, van Breugel et al. 2023, arXiv 2302.12580) tells training subjects from held-out ones, or does not: AUROC 0.5,
TPR 0.01 at FPR 0.01. Without likelihoods the attack has only distances, which is weaker: it can show a leak, never the
absence of one. Attribute inference: who knows half of a training subject's codes looks up the rest in the nearest
synthetic subject; what counts is the gain over looking it up in held-out subjects, which know nobody. Canaries:
invented histories planted into training (Carlini et al. 2019, arXiv 1802.08232) must not come out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import csr_array

from caretrace.errors import CohortError
from caretrace.evaluation.discrimination import roc_curve
from caretrace.evaluation.histories import Floats, Histories, Ints, join
from caretrace.evaluation.neighbours import code_sets, nearest
from caretrace.evaluation.two_sample import Auroc, auroc_interval, bag

FPR = 0.01
RESAMPLES = 200
TARGETS = 2000
BLOCK = 500


@dataclasses.dataclass(frozen=True)
class Membership:
    """A membership attack.

    Args:
        auroc: Of telling training from held-out subjects; 0.5 is ideal.
        tpr: True positive rate at 1 % false positives; 0.01 is ideal.
        tpr_error: Standard error of `tpr`.
    """

    auroc: Auroc
    tpr: float
    tpr_error: float


def membership(members: Floats, others: Floats, seed: int = 0) -> Membership:
    """Attack with one score per subject: higher says "was in training".

    Args:
        members: `[training subject]`, for example log p(generator) - log p(reference), nats.
        others: `[held-out subject]`, likewise.
        seed: Of the bootstrap.
    """
    labels = np.repeat([1, 0], [len(members), len(others)])
    scores = np.concatenate([members, others])
    curve = roc_curve(labels, scores, max_points=len(scores) + 1)
    tpr = float(curve.y[curve.x <= FPR].max())
    # The threshold comes from about 1 % of the others, whose number is the larger part of the chance.
    error = np.sqrt(FPR / len(others) + FPR / len(members))
    return Membership(auroc_interval(labels, scores, seed), tpr, float(error))


def likelihood_ratio(generator: Floats, reference: Floats) -> Floats:
    """Score of a likelihood-ratio attack, `[subject]`, nats.

    Args:
        generator: log p of each subject under the generator.
        reference: log p under a model of the population that never saw the training subjects. Where the population
            is simulated, its exact likelihood is the best reference there is.

    Raises:
        CohortError: Values that are not finite.
    """
    score = np.asarray(generator, np.float64) - np.asarray(reference, np.float64)
    wrong = np.flatnonzero(~np.isfinite(score))
    if len(wrong):
        raise CohortError(
            f"membership: subject {wrong[0]} has log-likelihoods {generator[wrong[0]]} and {reference[wrong[0]]}; "
            "leave out subjects that a model calls impossible, and say how many"
        )
    return score


def distance_scores(subjects: Histories, synthetic: Histories, reference: Histories) -> Floats:
    """Score without likelihoods: how much nearer a subject is to synthetic subjects than to as many real ones."""
    x = code_sets(subjects)
    to_synthetic, _ = nearest(x, code_sets(synthetic))
    to_reference, _ = nearest(x, code_sets(reference))
    return to_reference - to_synthetic


@dataclasses.dataclass(frozen=True)
class AttributeInference:
    """Gain of an attacker from synthetic subjects.

    Args:
        gain: F1 from synthetic subjects minus F1 from held-out ones; 0 is ideal.
        error: Its standard error over targets.
        synthetic: F1 from synthetic subjects.
        held_out: F1 from as many held-out subjects.
    """

    gain: float
    error: float
    synthetic: float
    held_out: float


def attribute_inference(
    train: Histories, held_out: Histories, synthetic: Histories, seed: int = 0
) -> AttributeInference:
    """Attack training subjects of whom half of the codes, chosen by chance, are known.

    Args:
        train: Targets are drawn from subjects with at least two different codes.
        held_out: The comparison; as many as `synthetic`.
        synthetic: The source under attack.
        seed: Of targets and known codes.
    """
    rng = np.random.default_rng(seed)
    able = np.flatnonzero(np.diff(bag(train).indptr) > 1)
    targets = train.take(rng.permutation(able)[:TARGETS])
    known, hidden = _halves(targets, rng)
    counts = [_hits(known, hidden, source) for source in (synthetic, held_out)]
    rows = rng.integers(0, len(targets), (RESAMPLES, len(targets)))
    gains = [_f1(counts[0][r]) - _f1(counts[1][r]) for r in rows]
    ours, real = _f1(counts[0]), _f1(counts[1])
    return AttributeInference(ours - real, float(np.std(gains, ddof=1)), ours, real)


def _halves(targets: Histories, rng: np.random.Generator) -> tuple[csr_array, csr_array]:
    """`[target, code]` known and hidden: the first half, rounded up, of the codes in an order of chance."""
    codes = bag(targets).tocoo()
    subject, code = codes.coords
    order = np.lexsort((rng.random(len(subject)), subject))
    subject, code = subject[order], code[order]
    counts = np.bincount(subject, minlength=len(targets))
    rank = np.arange(len(subject)) - np.repeat(np.cumsum(counts) - counts, counts)
    known = rank < (counts[subject] + 1) // 2
    shape = (len(targets), targets.n_codes)
    parts = [csr_array((np.ones(int(m.sum())), (subject[m], code[m])), shape=shape) for m in (known, ~known)]
    return parts[0], parts[1]


def _hits(known: csr_array, hidden: csr_array, source: Histories) -> Floats:
    """`[target, 3]`: hidden codes found, codes guessed, codes hidden; guessed: the nearest subject's other codes."""
    sets = (bag(source) > 0).astype(np.float64)
    size, out = sets.sum(1), []
    for first in range(0, known.shape[0], BLOCK):
        part, rest = known[first : first + BLOCK], hidden[first : first + BLOCK]
        shared = (part @ sets.T).toarray()
        union = part.sum(1)[:, None] + size - shared
        guess = sets[(shared / union).argmax(1)]
        guess = guess - guess.multiply(part)
        out.append(np.column_stack([guess.multiply(rest).sum(1), guess.sum(1), rest.sum(1)]))
    return np.concatenate(out)


def _f1(counts: Floats) -> float:
    found, guessed, hidden = counts.sum(0)
    return float(2 * found / max(guessed + hidden, 1))


def plant_canaries(
    train: Histories, n: int, repeats: int = 1, seed: int = 0
) -> tuple[Histories, Histories, Histories]:
    """Invent histories of one visit with five codes drawn evenly, and plant half of them.

    Args:
        train: Real subjects.
        n: Canaries to plant; as many controls are kept out.
        repeats: How often each stands in training.
        seed: Of the inventions.

    Returns:
        Training with the canaries at its end, the canaries, the controls.
    """
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(np.bincount(train.code, minlength=train.n_codes))
    size = min(5, len(used))
    people = rng.integers(0, len(train), 2 * n)
    code = np.concatenate([np.sort(rng.choice(used, size, replace=False)) for _ in range(2 * n)])
    ones = np.ones(2 * n, np.int64)
    made = Histories(train.age[people], train.sex[people], ones, size * ones, code, train.n_codes)
    canaries, controls = made.take(np.arange(n)), made.take(np.arange(n, 2 * n))
    return join([train, *[canaries] * repeats]), canaries, controls


def canary_hits(synthetic: Histories, canaries: Histories) -> Ints:
    """`[canary]`: synthetic visits that hold most (four fifths) of the canary's codes, its last visit's."""
    clean = synthetic.with_codes_sorted()
    visits = csr_array(
        (np.ones(len(clean.code)), (clean.token_visit, clean.code)),
        shape=(len(clean.code_count), clean.n_codes),
    )
    wanted = (bag(canaries) > 0).astype(np.float64)
    shared = (visits @ wanted.T).tocsc()
    enough = shared.data >= np.repeat(np.ceil(0.8 * wanted.sum(1)), np.diff(shared.indptr))
    return np.bincount(
        np.repeat(np.arange(len(canaries)), np.diff(shared.indptr))[enough], minlength=len(canaries)
    )


def exposure(canaries: Floats, controls: Floats) -> Floats:
    """Exposure of each canary, bits: log2(candidates) - log2(rank among the controls by log-likelihood).

    Args:
        canaries: `[canary]`, log-likelihoods under the generator.
        controls: `[control]`, those of inventions that were not planted.

    Returns:
        `[canary]`; about 1.44 on average for a generator that has memorised none.
    """
    rank = 1 + (controls[None] > canaries[:, None]).sum(1)
    return np.asarray(np.log2(len(controls) + 1) - np.log2(rank))
