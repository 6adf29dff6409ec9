"""Gates: what a method must show on records whose truth was planted before its credits may be called importance.

Every gate gives `{"passed", "value", "bound"}`. They look from different sides, and one alone proves little: a
method can sum up perfectly and be wrong (completeness), or find the planted event in any model (randomisation).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.stats import rankdata

from caretrace.data.batch import EventBatch
from caretrace.evaluation.discrimination import auroc
from caretrace.explain.attribution import Attribution
from caretrace.explain.groups import NOBODY, Groups, chosen
from caretrace.explain.methods import Method
from caretrace.explain.scores import Score, padded, replaced, score_once, score_without

Direction = Literal["at least", "above", "at most", "below"]

CHANCE = 0.5
# Gate → bound and direction; the figures are those the project set itself before anything was measured.
BOUNDS: dict[str, tuple[float, Direction]] = {
    "recovery": (0.99, "at least"),
    "decoy": (CHANCE + 0.05, "below"),
    "rule_recovery": (0.99, "at least"),
    "rule_decoy": (CHANCE + 0.05, "below"),
    "completeness": (0.01, "at most"),
    "definition": (1e-3, "at most"),
    "padding": (0.0, "at most"),
    "randomisation": (0.2, "at most"),
    "deletion": (0.0, "above"),
    "insertion": (0.0, "above"),
    "comprehensiveness": (0.0, "above"),
    "sufficiency": (0.0, "above"),
}
MEANING: dict[str, str] = {
    "recovery": "AUROC of the planted causes among all measurements of a record, mean over records",
    "decoy": "AUROC of the planted decoy, which travels with a cause and causes nothing",
    "rule_recovery": "the same as recovery, explaining the rule itself in place of the model",
    "rule_decoy": "the same as decoy, explaining the rule itself in place of the model",
    "completeness": "95th percentile of the relative error of the sum of credits",
    "definition": "largest difference from what the method says it computes, relative to the score",
    "padding": "largest credit of a padded slot, or change of the score by what stands in one",
    "randomisation": "|rank correlation| of credits with those of models whose weights were shuffled",
    "deletion": "lower end of the interval: how much faster the logit falls than by random removal",
    "insertion": "lower end of the interval: how much faster the logit rises than by random insertion",
    "comprehensiveness": "lower end: the logit lost without the top 5 %, more than without a random 5 %",
    "sufficiency": "lower end: the logit kept by the top 5 % alone, more than by a random 5 %",
}
_LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
_TOP = 0.05  # DeYoung et al. 2020 (ERASER) average over 1 to 50 %; a record has few causes, so we look at the top
_RANDOM_ORDERS = 5
_CHECKED_CASES, _CHECKED_MEASUREMENTS, _EXTRA_SLOTS = 4, 8, 7
_SHUFFLED_CASES = 8  # shuffled models differ far more than records do
_REPLICATES = 2000


@dataclasses.dataclass(frozen=True)
class Gate:
    """What a gate found.

    Args:
        passed: Whether the value keeps the bound.
        value: What was measured.
        bound: What is demanded; `BOUNDS` says in which direction.
    """

    passed: bool
    value: float
    bound: float

    def to_dict(self) -> dict[str, float | bool]:
        """The shape that `evaluate --json` prints, too."""
        return {"passed": self.passed, "value": self.value, "bound": self.bound}


@dataclasses.dataclass(frozen=True)
class Case:
    """One record with its truth.

    Args:
        sample: A batch of one sample, without padding.
        planted: Which measurements are planted causes of its outcome, bool [measurement].
        decoy: Which are planted decoys, bool [measurement].
        ignored: Which are neither: planted in an older stay, for example; bool [measurement].
    """

    sample: EventBatch
    planted: np.ndarray
    decoy: np.ndarray
    ignored: np.ndarray


def gate(name: str, value: float) -> Gate:
    """Hold a value against the bound of a gate."""
    bound, direction = BOUNDS[name]
    passed = {
        "at least": value >= bound,
        "above": value > bound,
        "at most": value <= bound,
        "below": value < bound,
    }[direction]
    return Gate(bool(passed), float(value), bound)


def worst(name: str, gates: Sequence[Gate]) -> Gate:
    """The gate of several runs that is furthest on the wrong side."""
    values = [each.value for each in gates]
    return gate(name, min(values) if BOUNDS[name][1] in ("at least", "above") else max(values))


def judge(
    method: Method,
    score: Score,
    cases: Sequence[Case],
    *,
    rule: Score | None = None,
    shuffled: Sequence[Score] = (),
    together: bool = False,
    seed: int = 0,
) -> dict[str, Gate]:
    """Every gate that applies to a method.

    Args:
        method: The method.
        score: The score that was trained on planted truth.
        cases: Held-out records whose planted rule held.
        rule: The planted rule as a score, to tell the method's part from the model's; not asked of attention.
        shuffled: The same score with its parameters shuffled; without them there is no randomisation gate.
        together: The planted measurements of a record are redundant: judge them as one group, among groups of
            as many measurements that are neighbours in time.
        seed: Seed of random orders and of the bootstrap.
    """
    found = [method.run(score, case.sample) for case in cases]
    gates = _planted(method, score, cases, found, together)
    if rule is not None and method.kind != "attention":
        by_rule = [method.run(rule, case.sample) for case in cases]
        for name, each in _planted(method, rule, cases, by_rule, together).items():
            gates[f"rule_{name}"] = gate(f"rule_{name}", each.value)
    gates["padding"] = gate("padding", padding(method, score, cases[:_CHECKED_CASES], seed))
    if method.complete:
        gates["completeness"] = completeness(found)
    if method.literal is not None:
        gates["definition"] = definition(method, score, cases[:_CHECKED_CASES], seed)
    if shuffled:
        gates["randomisation"] = randomisation(method, cases, found, shuffled)
    gates |= _curves(score, cases, found, seed)
    return {name: gates[name] for name in BOUNDS if name in gates}


def _planted(
    method: Method, score: Score, cases: Sequence[Case], found: Sequence[Attribution], together: bool
) -> dict[str, Gate]:
    """Gates that compare with what was planted."""
    if together:
        ranks = [_ranks_together(method, score, case) for case in cases]
    else:
        ranks = [recovery(case, each.credit) for case, each in zip(cases, found, strict=True)]
    gates = {"recovery": gate("recovery", float(np.mean(ranks)))}
    decoys = [decoy(c, each.credit) for c, each in zip(cases, found, strict=True) if c.decoy.any()]
    if decoys:
        gates["decoy"] = gate("decoy", float(np.mean(decoys)))
    return gates


def recovery(case: Case, credit: np.ndarray) -> float:
    """AUROC of the planted causes among all measurements, ties counting half."""
    kept = ~case.ignored
    return auroc(case.planted[kept], credit[kept])


def decoy(case: Case, credit: np.ndarray) -> float:
    """AUROC of the decoys among all measurements that are not causes."""
    kept = ~case.ignored & ~case.planted
    return auroc(case.decoy[kept], credit[kept])


def completeness(found: Sequence[Attribution]) -> Gate:
    """95th percentile of the relative error of the sum."""
    errors = [each.completeness_error for each in found]
    # A method that names no reference cannot claim to sum up.
    return gate("completeness", float(np.quantile([1.0 if e is None else e for e in errors], 0.95)))


def padding(method: Method, score: Score, cases: Sequence[Case], seed: int = 0) -> float:
    """Largest credit of a padded slot, and largest change of the score by what is written there."""
    rng, most = torch.Generator().manual_seed(seed), 0.0
    for case in cases:
        wide = padded(case.sample, _EXTRA_SLOTS)
        slots = wide.padding_mask
        most = max(most, float(np.abs(method.run(score, wide).credit[slots[0].cpu().numpy()]).max()))
        code = torch.randint(1, max(2, int(wide.code.max()) + 1), slots.shape, generator=rng)
        noise = torch.rand(slots.shape, generator=rng)
        other = replaced(
            wide,
            code=torch.where(slots, code, wide.code),
            numeric_value=torch.where(slots, noise, wide.numeric_value),
            numeric_mask=wide.numeric_mask | slots,
            time_hours=torch.where(slots, -noise, wide.time_hours),
        )
        most = max(most, abs(score_once(score, other) - score_once(score, wide)))
    return most


def definition(method: Method, score: Score, cases: Sequence[Case], seed: int = 0) -> Gate:
    """Whether a method that says it takes away does: credits beside the literal differences."""
    assert method.literal is not None
    rng, most = np.random.default_rng(seed), 0.0
    for case in cases:
        found = method.run(score, case.sample)
        width = len(found.credit)
        some = rng.choice(width, min(width, _CHECKED_MEASUREMENTS), replace=False)
        some = np.unique(np.append(some, np.argmax(np.abs(found.credit))))
        literal = method.literal(score, case.sample, chosen(case.sample, *([int(i)] for i in some)))
        most = max(most, float(np.abs(found.credit[some] - literal).max()) / max(1.0, abs(found.score)))
    return gate("definition", most)


def randomisation(
    method: Method, cases: Sequence[Case], found: Sequence[Attribution], shuffled: Sequence[Score]
) -> Gate:
    """Spearman correlation with the credits of shuffled models, mean over models and records (Adebayo et al. 2018)."""
    correlations = [
        rank_correlation(first.credit, method.run(other, case.sample).credit)
        for other in shuffled
        for case, first in zip(cases[:_SHUFFLED_CASES], found[:_SHUFFLED_CASES], strict=True)
    ]
    return gate("randomisation", abs(float(np.mean(correlations))))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one of them does not vary."""
    ranks = [rankdata(each) - (len(each) + 1) / 2 for each in (first, second)]
    size = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1]) / size if size > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Curves:
    """Logits of one record as measurements go and come, [level]; levels are shares of its measurements.

    Args:
        levels: Share removed or inserted.
        deletion: Without the top share.
        insertion: With the top share alone.
        random_deletion: Without a random share, mean of several orders.
        random_insertion: With a random share alone, likewise.
    """

    levels: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray


def curves(score: Score, sample: EventBatch, credit: np.ndarray, seed: int = 0) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018, RISE), beside random orders.

    Measurements go and come one by one in order of credit, highest first.
    """
    rng, width = np.random.default_rng(seed), len(credit)
    counts = np.unique(np.ceil(np.array(_LEVELS) * width).astype(int))
    orders = [np.argsort(-credit, kind="stable"), *(rng.permutation(width) for _ in range(_RANDOM_ORDERS))]
    place = np.stack([np.argsort(order) for order in orders])
    top = place[:, None, :] < counts[None, :, None]
    drop = np.stack([top, ~top])
    logits = score_without(score, sample, drop.reshape(-1, width)).reshape(2, len(orders), len(counts))
    return Curves(counts / width, logits[0, 0], logits[1, 0], logits[0, 1:].mean(0), logits[1, 1:].mean(0))


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling records."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (_REPLICATES, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _curves(
    score: Score, cases: Sequence[Case], found: Sequence[Attribution], seed: int
) -> Mapping[str, Gate]:
    gains: dict[str, list[float]] = {
        name: [] for name in ("deletion", "insertion", "comprehensiveness", "sufficiency")
    }
    for number, (case, each) in enumerate(zip(cases, found, strict=True)):
        drawn = curves(score, case.sample, each.credit, seed + number)
        lost, kept = drawn.random_deletion - drawn.deletion, drawn.insertion - drawn.random_insertion
        at = int(np.argmin(np.abs(drawn.levels - _TOP)))
        gains["deletion"].append(float(lost.mean()))
        gains["insertion"].append(float(kept.mean()))
        gains["comprehensiveness"].append(float(lost[at]))
        gains["sufficiency"].append(float(kept[at]))
    return {name: gate(name, interval(np.array(values), seed)[0]) for name, values in gains.items()}


def _ranks_together(method: Method, score: Score, case: Case) -> float:
    """AUROC of the planted group among groups of neighbours in time of the same size."""
    groups = neighbours(case)
    return auroc(np.arange(int(groups.max()) + 1) == 0, method.by_group(score, case.sample, groups))


def neighbours(case: Case) -> Groups:
    """The planted measurements as group 0, the rest in groups of as many that follow each other in time."""
    size = int(case.planted.sum())
    groups = np.full(len(case.planted), NOBODY)
    groups[case.planted] = 0
    others = np.flatnonzero(~case.planted & ~case.ignored)
    groups[others] = 1 + np.arange(len(others)) // size
    return groups
