"""Classes of people and of visits: probabilities of histories, exact because both are few.

A person is of one class for good, a visit of one class of its own; given both, the codes of a visit are independent.
Each code belongs to one *side*: codes that stay with people follow the class of the person, the others that of the
visit. The hazard of a code is

    rate[class, code] * curve[of the code or its group, age band and sex] * (later[group] at a later visit)

and its probability 1 - exp(-hazard). If an earlier visit had the code, its hazard is

    again[state, code] * recurs[state, class] + kept[state, group] * hazard

instead. The set is then kept with a chance that depends on its size (`sizes.py`). But with a chance of its class, a
person comes again for exactly what the last visit was for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from caretrace.apps.synth.codes.sequences import AGES
from caretrace.apps.synth.models.latent.cells import LAST, Cells, Group, Sets, groups_of_visits, sets_of
from caretrace.apps.synth.models.latent.sizes import Complexes, SizeWeights, both, exchanged, generating
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

MAX_RANK = 20  # numbers of visits after this are told apart no further
FORBIDDEN = -60.0  # log odds of a code nobody there may have, to a person of whom it is said nevertheless
_LEAST = 1e-12
_LEAST_SHARE = 1e-12  # of sets that are kept; less is rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """Codes that follow one kind of class.

    Args:
        codes: `[column]`, their numbers.
        group: `[column]`, group of each.
        curved: `[column]`, age curve of each: its own if it is common, else that of its group.
        rate: `[class, column]`.
        curve: `[curve, cell]`.
        later: `[group]`, factor at later visits.
        kept: `[state, group]`, part of the hazard that a code seen before still has.
        again: `[state, column]`, hazard that it has beside.
        recurs: `[state, class]`, factor of `again`: in some visits much comes again together, in others nothing.
    """

    codes: Ints
    group: Ints
    curved: Ints
    rate: Floats
    curve: Floats
    later: Floats
    kept: Floats
    again: Floats
    recurs: Floats

    def factor(self, later: int, cell: int, allowed: Bools) -> Floats:
        """`[column]`: what multiplies the rates; `allowed` is `[code, cell]`."""
        out = self.curve[self.curved, cell] * allowed[self.codes, cell]
        return np.asarray(out * self.later[self.group] if later else out)

    def hazards(self, later: int, cell: int, allowed: Bools) -> Floats:
        """`[class, column]`, of codes not seen before."""
        return np.asarray(self.rate * self.factor(later, cell, allowed))

    def hazards_again(self, hazard: Floats, cell: int, allowed: Bools) -> tuple[Floats, Floats]:
        """Per state, `[class, column]` of codes seen before."""
        may = allowed[self.codes, cell]
        first, second = (
            (np.outer(recurs, again) + kept[self.group] * hazard) * may
            for again, recurs, kept in zip(self.again, self.recurs, self.kept, strict=True)
        )
        return first, second


@dataclasses.dataclass(frozen=True, eq=False)
class LatentModel:
    """Every parameter. K classes of people, A of visits.

    Args:
        cells: Age bands and sexes.
        allowed: `[code, cell]`, who may have what.
        people: Codes that follow the class of the person.
        visits: Codes that follow the class of the visit.
        who: `[age, sex, K]`, log probability of each class of people.
        reason: `[later, cell, K, A]`, log probability of each class of visits.
        stop: `[K, rank]`, probability that a history is over after so many visits.
        repeat: `[K]`, probability that a later visit has just the codes of the last one.
        sizes: Chance that a visit of a size is kept.
    """

    cells: Cells
    allowed: Bools
    people: Side
    visits: Side
    who: Floats
    reason: Floats
    stop: Floats
    repeat: Floats
    sizes: SizeWeights

    @property
    def sides(self) -> tuple[Side, Side]:
        """People's and visits'."""
        return self.people, self.visits


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Histories cut up for a model.

    Args:
        histories: Codes sorted, each once.
        groups: Visits computed together.
        sets: Per side, what each visit has and had.
        same: `[visit]`, whether it has just the codes of the visit before.
    """

    histories: Histories
    groups: list[Group]
    sets: tuple[Sets, Sets]
    same: Bools

    @classmethod
    def of(cls, histories: Histories, cells: Cells, codes: tuple[Ints, Ints]) -> Prepared:
        """`codes` are the columns of each side."""
        clean = histories.with_codes_sorted()
        whole = sets_of(clean)
        sets = whole.columns(codes[0]), whole.columns(codes[1])
        had, again = (each[LAST].sum(1) for each in (whole.seen, whole.again))
        same = (clean.visit_rank > 0) & (had == again) & (again == clean.code_count)
        return cls(clean, groups_of_visits(clean, cells), sets, same)


@dataclasses.dataclass(frozen=True, eq=False)
class Share:
    """What one side says of some visits.

    Args:
        likelihood: `[visit, class]`, log probability of its codes, sizes apart.
        none: `[visit, class]`, log probability of no code at all.
        mean: `[visit, class]`, expected number of codes.
        generating: `[visit or 1, class, point]`; None where sizes need no more than `none`.
    """

    likelihood: Floats
    none: Floats
    mean: Floats
    generating: Complexes | None

    def first(self) -> Share:
        """The first visit alone."""
        return Share(self.likelihood[:1], self.none[:1], self.mean[:1], self.generating)


def share_of(side: Side, sets: Sets, group: Group, model: LatentModel) -> Share:
    """What one side says of the visits of a group (`sets` are their rows)."""
    hazard = side.hazards(group.later, group.cell, model.allowed)
    circle = None if model.sizes.simple else model.sizes.circle
    base = None if circle is None else generating(hazard, circle)
    rate = -np.expm1(-hazard)
    likelihood = np.asarray(sets.new @ log_odds(hazard).T)
    none = np.broadcast_to(-hazard.sum(1), likelihood.shape)
    mean = np.broadcast_to(rate.sum(1), likelihood.shape)
    if group.later:
        instead = side.hazards_again(hazard, group.cell, model.allowed)
        for seen, again, other in zip(sets.seen, sets.again, instead, strict=True):
            likelihood = likelihood + again @ log_odds(other).T
            none = none + seen @ (hazard - other).T
            mean = mean + seen @ (-np.expm1(-other) - rate).T
        if base is not None and circle is not None:
            base = exchanged(base, hazard, sets.seen, instead, circle)
    elif base is not None:
        base = base[None]
    return Share(likelihood + none, none, mean, base)


def _kept(people: Share, visits: Share, sizes: SizeWeights) -> tuple[Floats, Floats]:
    """`[visit, K, A]`: share of sets that are kept, and expected number of codes of those."""
    mean = people.mean[:, :, None] + visits.mean[:, None]
    if people.generating is None or visits.generating is None:
        none = np.exp(people.none)[:, :, None] * np.exp(visits.none)[:, None]
        return sizes.tail + (sizes.weight[0] - sizes.tail) * none, sizes.tail * mean
    value = sizes.weight - sizes.tail
    share, codes = (
        both(people.generating, visits.generating, sizes.over_circle(factor))
        for factor in (value, np.arange(len(value)) * value)
    )
    return share + sizes.tail, codes + sizes.tail * mean


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Visits of a group given their classes, sizes included.

    Args:
        group: Which visits.
        likelihood: `[visit, K]`, log probability of the codes given the class of the person.
        reason: `[visit, K, A]`, probability of each class of the visit given codes and person.
        growth: `[visit or 1, K, A]`, expected number of codes over what it would be if all sizes were kept.
        fresh: `[visit, K]`, probability that it is not the last visit over again.
    """

    group: Group
    likelihood: Floats
    reason: Floats
    growth: Floats
    fresh: Floats


def judge(model: LatentModel, data: Prepared, sharpness: float = 1.0) -> Iterator[Judged]:
    """Group by group; `sharpness` below 1 flattens the classes of visits (annealing)."""
    size = model.sizes.of(data.histories.code_count)
    for group in data.groups:
        people, visits = (
            share_of(side, sets.rows(group.visits), group, model)
            for side, sets in zip(model.sides, data.sets, strict=True)
        )
        if group.later:
            share, codes = _kept(people, visits, model.sizes)
            mean = people.mean[:, :, None] + visits.mean[:, None]
        else:  # nothing was seen before, so all are alike
            share, codes = _kept(people.first(), visits.first(), model.sizes)
            mean = people.mean[:1, :, None] + visits.mean[:1, None]
        share = np.maximum(share, _LEAST_SHARE)
        prior = np.exp(model.reason[group.later, group.cell]) / share
        best = visits.likelihood.max(1, keepdims=True)
        each = np.exp(visits.likelihood - best)[:, None] * prior
        whole = each.sum(2)
        with np.errstate(divide="ignore"):
            likelihood = people.likelihood + np.log(whole) + best + np.log(size[group.visits])[:, None]
        if sharpness != 1:
            each = each**sharpness
            whole = each.sum(2)
        each /= whole[:, :, None]
        likelihood, fresh = _or_again(model, group, likelihood, data.same[group.visits])
        yield Judged(group, likelihood, each, codes / share / np.maximum(mean, _LEAST), fresh)


def _or_again(model: LatentModel, group: Group, likelihood: Floats, same: Bools) -> tuple[Floats, Floats]:
    """`[visit, K]` each: log probability with visits that are the last one over again, and chance that one is not."""
    fresh = np.ones(likelihood.shape)
    if not group.later:
        return likelihood, fresh
    likelihood = likelihood + np.log1p(-model.repeat)
    with np.errstate(divide="ignore"):
        either = np.logaddexp(likelihood[same], np.log(model.repeat))
    fresh[same] = np.exp(likelihood[same] - either)
    likelihood[same] = either
    return likelihood, fresh


def visit_likelihoods(model: LatentModel, data: Prepared) -> Floats:
    """`[visit, K]`: log probability of the codes of each visit given the class of its person, nats."""
    out = np.zeros((len(data.histories.code_count), len(model.stop)))
    for found in judge(model, data):
        out[found.group.visits] = found.likelihood
    return out


def of_people(model: LatentModel, data: Prepared, visits: Floats, *, ended: bool = True) -> Floats:
    """`[subject, K]`: log probability of class and history given age and sex, nats.

    Args:
        model: The model.
        data: Histories.
        visits: `[visit, K]`, from `visit_likelihoods`.
        ended: Whether a history is over after its last visit; else nothing is said of that.
    """
    h = data.histories
    age = np.minimum(h.age, AGES - 1)
    joint = model.who[age, h.sex].copy()
    subject, rank = h.visit_subject, np.minimum(h.visit_rank + 1, MAX_RANK)
    last = h.visit_rank + 1 == h.visit_count[subject]
    stop = model.stop[:, rank].T
    with np.errstate(divide="ignore"):
        over = np.log(stop) if ended else np.zeros_like(stop)
        turn = np.where(last[:, None], over, np.log1p(-stop))
        none = np.log(model.stop[:, 0]) if ended else np.zeros(len(model.stop))
        some = np.log1p(-model.stop[:, 0])
    joint += np.where((h.visit_count > 0)[:, None], some, none)
    np.add.at(joint, subject, visits + turn)
    return joint


def log_odds(hazard: Floats) -> Floats:
    """Log of exp(hazard) - 1."""
    with np.errstate(divide="ignore"):
        out = np.where(hazard > 30, hazard, np.log(np.expm1(np.minimum(hazard, 30.0))))
    return np.maximum(out, FORBIDDEN)
