"""Expectation and maximisation: classes given rates, rates given classes (Dempster, Laird and Rubin 1977).

A code is there if a Poisson count with its hazard is above 0, so counts, exposures and their shrinkage are those of
Poisson rates. Where a hazard is a sum or a product, each part is found given the others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from caretrace.apps.synth.codes.sequences import AGES
from caretrace.apps.synth.models.latent.model import (
    MAX_RANK,
    LatentModel,
    Prepared,
    Side,
    judge,
    of_people,
    share_of,
)
from caretrace.apps.synth.models.latent.shrinkage import (
    SHAPES,
    CurveConfig,
    age_curves,
    class_rates,
    drawn_to,
    likeliest_shape,
    shrunk,
)
from caretrace.apps.synth.models.latent.sizes import SizeWeights
from caretrace.evaluation.histories import Floats, Ints

REASONS = CurveConfig(level=0.01, line=0.5, own=0.05, sex_rough=0.05)
_CLOSE = SHAPES[6:]  # codes of a group come again about equally often
_YEARS = 3.0  # width of the kernel over age of classes of people
_REASONS = 20.0  # visits that the usual reasons weigh in a class of people
_STOPS = 10.0  # visits that the usual end weighs in a class of people
_REPEATS = 20.0  # later visits that the usual share of those that are the last one over again weighs
_ALONE = 50  # rounds of these alone
_SURELY_FRESH = 1 - 1e-6
LEAST_REPEAT = 1e-4  # where it begins; from 0 nothing would ever be found
_SAMPLED = 3000  # visits that expected sizes are taken from
_LEAST = 1e-12
_LEAST_LEFT = 0.02  # of the exposure of a code, for each time it is there
_LEAST_WEIGHT = 1e-7


@dataclasses.dataclass(eq=False)
class Tally:
    """What is counted of one side.

    Args:
        side: As it was.
        cells: Number of cells.
    """

    side: Side
    cells: int

    def __post_init__(self) -> None:
        classes, columns = self.side.rate.shape
        groups = len(self.side.later)
        self.count, self.exposure = np.zeros((2, classes, columns))
        self.by_cell = np.zeros((len(self.side.curve), 2, self.cells))
        self.visits: dict[tuple[int, int], Floats] = {}
        # Per state, class and column: codes that came again of themselves, and how often they could have.
        self.again, self.could_again = np.zeros((2, 2, classes, columns))
        self.kept, self.could_keep = np.zeros((2, 2, groups))

    def by_group(self, values: Floats) -> Floats:
        """`[group]` sums of `[column]`."""
        return np.bincount(self.side.group, values, len(self.side.later)).astype(np.float64)

    def by_curve(self, values: Floats) -> Floats:
        """`[curve]` sums of `[column]`."""
        return np.bincount(self.side.curved, values, len(self.side.curve)).astype(np.float64)


@dataclasses.dataclass(eq=False)
class Expected:
    """Classes of people and visits, as probabilities.

    Args:
        people: `[subject, K]`.
        reason: `[visit, K, A]`, given the person's class.
        growth: `[visit, K, A]`.
        fresh: `[visit, K]`, that it is not the last visit over again.
    """

    people: Floats
    reason: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    growth: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    fresh: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def expect(model: LatentModel, data: Prepared, sharpness: float = 1.0) -> tuple[Expected, Floats]:
    """Classes given rates, and the log-likelihood of each subject; `sharpness` below 1 flattens (annealing)."""
    visits, kinds, reasons = len(data.histories.code_count), len(model.stop), model.reason.shape[3]
    likelihood = np.zeros((visits, kinds))
    reason, growth = np.ones((2, visits, kinds, reasons), np.float32)
    fresh = np.ones((visits, kinds), np.float32)
    for found in judge(model, data, sharpness):
        rows = found.group.visits
        likelihood[rows], reason[rows], growth[rows] = found.likelihood, found.reason, found.growth
        fresh[rows] = found.fresh
    joint = of_people(model, data, likelihood)
    total = np.logaddexp.reduce(joint, axis=1)
    flat = sharpness * joint
    people = np.exp(flat - np.logaddexp.reduce(flat, axis=1)[:, None])
    return Expected(people, reason, growth, fresh), total


def maximise(
    model: LatentModel, data: Prepared, expected: Expected, reasons: Reasons, curves: CurveConfig
) -> LatentModel:
    """Rates given classes."""
    person = expected.people[data.histories.visit_subject] * expected.fresh
    joint = expected.reason * person[:, :, None].astype(np.float32)
    grown = joint * expected.growth
    weight = (person, joint.sum(1, dtype=np.float64))
    reach = (grown.sum(2, dtype=np.float64), grown.sum(1, dtype=np.float64))
    sides = []
    for number, side in enumerate(model.sides):
        tally = count(model, data, number, weight[number], reach[number])
        sides.append(_new_side(model, side, tally, curves))
    by_group = np.zeros(model.reason.shape)
    for group in data.groups:
        by_group[group.later, group.cell] += joint[group.visits].sum(0, dtype=np.float64)
    return dataclasses.replace(
        model,
        people=sides[0],
        visits=sides[1],
        who=_who(data, expected.people),
        reason=reasons.fit(by_group),
        stop=_stops(data, expected.people),
        repeat=_repeats(model, data, expected),
    )


def count(model: LatentModel, data: Prepared, number: int, weight: Floats, reach: Floats) -> Tally:
    """Counts and exposures of one side.

    Args:
        model: As it was.
        data: Histories.
        number: Of the side.
        weight: `[visit, class]`, probability of each class.
        reach: `[visit, class]`, the same times how much codes are favoured by the sizes that are kept.
    """
    side, sets = model.sides[number], data.sets[number]
    tally = Tally(side, len(model.cells))
    for group in data.groups:
        part, where = sets.rows(group.visits), (group.later, group.cell)
        is_, may = weight[group.visits], reach[group.visits]
        hazard = side.hazards(*where, model.allowed)
        here, (weigh, less) = (part.new.T @ is_).T, _linear(hazard)
        counted, exposed = here * weigh, may.sum(0)[:, None] - here * less
        if group.later:
            instead = side.hazards_again(hazard, group.cell, model.allowed)
            for state, total in enumerate(instead):
                seen, again = (part.seen[state].T @ may).T, (part.again[state].T @ is_).T
                weigh, less = _linear(total)
                kept = side.kept[state][side.group]
                own = again * weigh * kept * hazard / np.maximum(total, _LEAST)
                other, left = again * weigh - own, np.maximum(seen - again * less, 0)
                exposed = exposed - seen + left * kept
                counted = counted + own
                tally.again[state] += other
                tally.could_again[state] += left
                tally.kept[state] += tally.by_group(own.sum(0))
                tally.could_keep[state] += tally.by_group((left * hazard).sum(0))
        exposed = np.maximum(exposed, _LEAST_LEFT * here)
        counted = counted * model.allowed[side.codes, group.cell]  # what nobody may have teaches nothing
        tally.count += counted
        tally.exposure += exposed * side.factor(*where, model.allowed)
        tally.by_cell[:, group.later, group.cell] += tally.by_curve(counted.sum(0))
        tally.visits[where] = tally.visits.get(where, np.zeros(1)) + exposed
    return tally


def _new_side(model: LatentModel, side: Side, tally: Tally, curves: CurveConfig) -> Side:
    groups = len(side.later)
    rate = class_rates(tally.count, np.maximum(tally.exposure, 0), side.group, groups)
    could = np.zeros(tally.by_cell.shape)
    for (rank, cell), exposed in tally.visits.items():
        may = model.allowed[side.codes, cell]
        could[:, rank, cell] = tally.by_curve((exposed * rate).sum(0) * may)
    could = np.maximum(could, 0)
    group_of = np.zeros(len(side.curve), np.int64)
    group_of[side.curved] = side.group
    factor = np.stack([np.ones(len(group_of)), side.later[group_of]], 1)
    curve = np.ones(side.curve.shape)
    some = tally.by_cell.sum((1, 2)) > 0
    expected = (could * factor[:, :, None]).sum(1)
    curve[some] = age_curves(tally.by_cell.sum(1)[some], expected[some], model.cells.edges, curves)
    at_later, often = (
        np.bincount(group_of, each[:, 1].sum(1), groups).astype(np.float64)
        for each in (could * curve[:, None], tally.by_cell)
    )
    later = shrunk(often, at_later, (often.sum() + 0.1) / (at_later.sum() + 0.1))
    kept, again, recurs = (np.empty_like(each) for each in (side.kept, side.again, side.recurs))
    for state in range(2):
        n, e = tally.kept[state], tally.could_keep[state]
        kept[state] = np.minimum(shrunk(n, e, (n.sum() + 0.1) / (e.sum() + 0.2)), 1.5)
        n, e = tally.again[state].sum(0), side.recurs[state] @ tally.could_again[state]
        mean = (n.sum() + 0.01) / (e.sum() + 0.2)
        usual = shrunk(tally.by_group(n), tally.by_group(e), mean)[side.group]
        again[state] = drawn_to(n, e, usual, likeliest_shape(n, e * usual, _CLOSE))
        # Given what codes do by now: both found at once would each make up for all that the other lacked.
        recurs[state] = shrunk(tally.again[state].sum(1), tally.could_again[state] @ again[state], 1.0)
    return dataclasses.replace(
        side, rate=rate, curve=curve, later=later, kept=kept, again=again, recurs=recurs
    )


class Reasons:
    """Why people come: usual reasons of a class, times what age and sex, and what being a later visit, do to each.

    The factors are found in turn, and kept for the next time.
    """

    def __init__(self, reasons: int, cells: int, edges: Ints) -> None:
        self._by_cell, self._by_later = np.ones((reasons, cells)), np.ones((reasons, 2))
        self._edges = edges

    def fit(self, count: Floats) -> Floats:
        """Log probabilities from counts `[later, cell, K, A]`."""
        usual = count.sum((0, 1, 2)) + 0.1
        usual = _REASONS * usual / usual.sum()
        own = count.sum((0, 1)) + usual
        own /= own.sum(1, keepdims=True)
        visits = count.sum(3, keepdims=True)
        for _ in range(3):
            expected = visits * self._joint(own)
            own = own * (count.sum((0, 1)) + usual) / (expected.sum((0, 1)) + usual)
            expected = visits * self._joint(own)
            could = expected.sum((0, 2)).T / self._by_cell
            curves = age_curves(count.sum((0, 2)).T, could, self._edges, REASONS)
            self._by_cell = np.clip(curves, 1e-4, 1e3)
            expected = visits * self._joint(own)
            self._by_later = self._by_later * (count.sum((1, 2)).T + 0.1) / (expected.sum((1, 2)).T + 0.1)
        return np.log(self._joint(own) + _LEAST)

    def _joint(self, own: Floats) -> Floats:
        out = own * self._by_cell.T[None, :, None] * self._by_later.T[:, None, None]
        return np.asarray(out / out.sum(3, keepdims=True))


def fit_sizes(model: LatentModel, data: Prepared, expected: Expected) -> SizeWeights:
    """What sizes are kept: those that came over those that would have come."""
    person = expected.people[data.histories.visit_subject] * expected.fresh
    observed = np.bincount(data.histories.code_count, person.sum(1))
    old = model.sizes
    if old.simple:
        weight = np.full(len(observed), old.tail)
        weight[0] = old.weight[0]
        old = SizeWeights(weight, old.tail)
    sized = dataclasses.replace(model, sizes=old)
    rng, would = np.random.default_rng(0), np.zeros(len(observed) + 1)
    part = min(1.0, _SAMPLED / max(1, len(data.histories.code_count)))
    powers = old.circle[:, None] ** -np.arange(len(observed)) * (2 / old.points)
    for group in data.groups:
        many = max(1, round(part * len(group.visits)))
        rows = rng.choice(group.visits, many, replace=False)
        people, visits = (
            share_of(side, sets.rows(rows), group, sized)
            for side, sets in zip(model.sides, data.sets, strict=True)
        )
        likely = person[rows][:, :, None] * expected.reason[rows]
        likely = likely * (len(group.visits) / many)
        assert people.generating is not None
        assert visits.generating is not None
        share = (visits.generating * old.over_circle(old.weight - old.tail)).swapaxes(1, 2)
        share = np.maximum((people.generating @ share).real + old.tail, _LEAST)
        likely = likely / share
        mixed = (people.generating * (likely @ visits.generating)).sum((0, 1))
        each = (mixed[:, None] * powers).sum(0).real
        would += np.append(old.weight * each, old.tail * (likely.sum() - each.sum()))
    ratio = (np.append(observed, 0) + 1) / (np.maximum(would, 0) + 1)
    new = np.append(old.weight, old.tail) * ratio
    new[0] *= observed[0] > 0
    new = np.maximum(new / new.max(), np.where(np.arange(len(new)) > 0, _LEAST_WEIGHT, 0))
    return SizeWeights(new[:-1], float(new[-1]))


def _who(data: Prepared, people: Floats) -> Floats:
    """`[age, sex, K]`: log probabilities, by a kernel over age; newborns are apart."""
    h, age = data.histories, np.arange(AGES)
    count = np.zeros((AGES, 2, people.shape[1]))
    np.add.at(count, (np.minimum(h.age, AGES - 1), h.sex), people)
    kernel = np.exp(-0.5 * ((age[:, None] - age) / _YEARS) ** 2)
    kernel[0, 1:] = kernel[1:, 0] = 0
    near = np.einsum("ab,bsk->ask", kernel, count)
    usual = near.sum(1, keepdims=True) + 1e-3 * (count.sum((0, 1)) + 0.1) / (count.sum() + 0.1)
    share = near + 0.5 * usual / usual.sum(2, keepdims=True)
    return np.log(share / share.sum(2, keepdims=True))


def _stops(data: Prepared, people: Floats) -> Floats:
    """`[K, rank]`: how often a history is over after so many visits, drawn to what rank and class say apart."""
    h = data.histories
    rank = np.minimum(h.visit_rank + 1, MAX_RANK)
    over = h.visit_rank + 1 == h.visit_count[h.visit_subject]
    at, ended = np.zeros((2, MAX_RANK + 1, people.shape[1]))
    person = people[h.visit_subject]
    np.add.at(at, rank, person)
    np.add.at(ended, rank[over], person[over])
    odds = _odds(ended.sum(1) + 0.5, at.sum(1) + 1)[:, None] + _odds(ended.sum(0) + 1, at.sum(0) + 2)
    usual = 1 / (1 + np.exp(_odds(ended.sum() + 1, at.sum() + 2) - odds))
    stop = np.clip((ended + _STOPS * usual) / (at + _STOPS), 1e-6, 1 - 1e-6)
    stop[0] = (h.visit_count == 0).mean() if len(h) else 0.0
    return np.ascontiguousarray(stop.T)


def _repeats(model: LatentModel, data: Prepared, expected: Expected) -> Floats:
    """`[K]`: how often a later visit is the last one over again.

    Expectation and maximisation of this alone, classes of people as they are: what is said by the codes of a visit
    that is like the last one does not change meanwhile, and alone it takes many rounds.
    """
    h, repeat = data.histories, model.repeat
    many = expected.people[h.visit_subject[h.visit_rank > 0]].sum(0)
    person = expected.people[h.visit_subject[data.same]]
    fresh = np.minimum(expected.fresh[data.same].astype(np.float64), _SURELY_FRESH)
    likelihood = fresh / (1 - fresh) * repeat / (1 - repeat)
    for _ in range(_ALONE):
        again = (person * repeat / (repeat + (1 - repeat) * likelihood)).sum(0)
        usual = again.sum() / max(1.0, many.sum())
        repeat = np.maximum((again + _REPEATS * usual) / (many + _REPEATS), LEAST_REPEAT)
    return np.asarray(repeat)


def _odds(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.log(part) - np.log(whole - part))


def _linear(hazard: Floats) -> tuple[Floats, Floats]:
    """What a code that is there counts, and what exposure it takes away, so that counts are as good as Poisson.

    Per visit the score of a hazard h is y / (exp(h) - 1) - (1 - y). Any y (h / (1 - exp(-h)) - a h) over 1 - a y has
    the same root; a = 0 is expectation and maximisation, slow where codes are nearly certain, and this a makes it
    Newton's method, with counts that are the Fisher information of log h.
    """
    h = np.maximum(hazard, 1e-6)
    present, odds = -np.expm1(-h), np.expm1(np.minimum(h, 50.0))
    less = (1 - h / odds) / present
    return h / present - less * h, less
