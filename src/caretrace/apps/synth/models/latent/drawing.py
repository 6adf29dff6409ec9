"""Drawing histories from classes: a person's class, then visit by visit a class and its codes.

The codes of a visit are independent, and each is there if a Poisson process with its hazard has a point. So points
fall on the sum of all hazards, in the order of codes, and codes are where they fall; a set whose size is not kept is
drawn anew. Random numbers have addresses (`noise.py`): a subject is the same whoever is drawn beside.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from caretrace.apps.synth.codes.sequences import AGES
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted, choose
from caretrace.apps.synth.models.latent.cells import EARLIER, LAST
from caretrace.apps.synth.models.latent.model import MAX_RANK, LatentModel, Side
from caretrace.apps.synth.models.noise import uniform
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

_TRIES = 1 << 12  # of a visit whose size is not kept; then the last of them stands
_TRIES_SHARPENED = 16  # of sharpened choices, which would be the same again
_ROWS = 512  # visits drawn together
_STEPS = 1 << 15  # addresses of a try
_PERSON = 1 << 61  # address of a person's class
_TURN, _REASON, _KEPT, _REPEAT = (_STEPS - n for n in (1, 2, 3, 4))  # addresses within a try, from its end
_POINTS = 32  # of the process, drawn at a time
_UNSEEN, _CERTAIN = -1, 40.0  # a state; a hazard that is as good as certain


@dataclasses.dataclass(eq=False)
class _State:
    """People whose histories are under way.

    Args:
        subject: `[subject]`, addresses.
        cell: `[subject]`.
        kind: `[subject]`, class of the person.
        visits: `[subject]`, visits so far.
        seen: `[subject, code]`, what a code was last seen in.
    """

    subject: Ints
    cell: Ints
    kind: Ints
    visits: Ints
    seen: np.ndarray[tuple[int, ...], np.dtype[np.int8]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Visits:
    """Visits written: `[visit]` whose and how many codes, `[token]` the codes."""

    whose: Ints
    count: Ints
    code: Ints


class Drawing:
    """Draws histories from a model.

    Args:
        model: The model.
        config: How choices are sharpened.
        seed: Of the sample.
    """

    def __init__(self, model: LatentModel, config: SamplingConfig, seed: int) -> None:
        self._model, self._config, self._seed = model, config, seed
        self._factor = [_factors(side, model.allowed) for side in model.sides]
        self._none_at_all = bool(model.sizes.weight[0] > 0)

    def draw(self, wanted: Wanted, begun: Histories | None, people: Floats | None) -> Histories:
        """One history for each subject.

        Args:
            wanted: Who.
            begun: Visits that are known, codes sorted.
            people: `[subject, class]`, probabilities given these; None without.
        """
        n = len(wanted)
        age = np.minimum(wanted.age, AGES - 1)
        chance = np.exp(self._model.who[age, wanted.sex]) if people is None else people
        kind = self._choose(chance, uniform(self._seed, wanted.subject, np.array(_PERSON)))
        cell = self._model.cells.of_people(wanted.age, wanted.sex)
        seen = np.full((n, len(self._model.allowed)), _UNSEEN, np.int8)
        state = _State(wanted.subject, cell, kind, np.zeros(n, np.int64), seen)
        written, tokens = [_Visits(*np.zeros((3, 0), np.int64))], np.ones(n, np.int64)
        if begun is not None:
            written.append(_remember(begun, state))
            tokens += begun.visit_count + begun.tokens_per_subject
        rows = self._going_on(state, np.arange(n))
        while len(rows):
            for first in range(0, len(rows), _ROWS):
                visits = self._visit(state, rows[first : first + _ROWS])
                tokens[visits.whose] += 1 + visits.count
                written.append(visits)
            state.visits[rows] += 1
            rows = self._going_on(state, rows[tokens[rows] < self._config.max_tokens])
        return _assembled(wanted, written, len(self._model.allowed))

    def _going_on(self, state: _State, rows: Ints) -> Ints:
        """Those of these people who have another visit."""
        rank = state.visits[rows]
        stop = self._model.stop[state.kind[rows], np.minimum(rank, MAX_RANK)]
        stop = self._sharpened(stop)
        address = rank * _TRIES * _STEPS + _TURN
        return rows[uniform(self._seed, state.subject[rows], address) >= stop]

    def _visit(self, state: _State, rows: Ints) -> _Visits:
        """One visit of each of these people, and what they will have seen."""
        first = state.visits[rows] * _TRIES * _STEPS
        later, cell = np.minimum(state.visits[rows], 1), state.cell[rows]
        chance = np.exp(self._model.reason[later, cell, state.kind[rows]])
        reason = self._choose(chance, uniform(self._seed, state.subject[rows], first + _REASON))
        hazard = self._hazards(state, rows, later, reason)
        again = self._again(state, rows, first)
        last = (state.seen[rows] == LAST) & again[:, None]
        codes = [np.flatnonzero(row) for row in last]
        left = np.flatnonzero(~again)
        tries = _TRIES if self._config.plain else _TRIES_SHARPENED
        reach = hazard.cumsum(1)
        for attempt in range(tries):
            if not len(left):
                break
            base = first[left] + attempt * _STEPS
            found = self._sets(hazard[left], reach[left], state.subject[rows[left]], base)
            for place, chosen in zip(left.tolist(), found, strict=True):
                codes[place] = chosen
            kept = self._model.sizes.of(np.array([len(each) for each in found]))
            left = left[uniform(self._seed, state.subject[rows[left]], base + _KEPT) >= kept]
        if not self._none_at_all:  # sharpened choices may leave nothing: then the likeliest code
            for place in left.tolist():
                codes[place] = codes[place] if len(codes[place]) else hazard[place].argmax(keepdims=True)
        count = np.array([len(each) for each in codes])
        visits = _Visits(rows, count, np.concatenate(codes))
        _see(state, visits)
        return visits

    def _again(self, state: _State, rows: Ints, first: Ints) -> Bools:
        """Whether a visit is the last one over again."""
        chance = self._sharpened(self._model.repeat[state.kind[rows]])
        drawn = uniform(self._seed, state.subject[rows], first + _REPEAT) < chance
        return np.asarray(drawn & (state.visits[rows] > 0))

    def _sets(self, hazard: Floats, reach: Floats, subject: Ints, base: Ints) -> list[Ints]:
        """Codes of each row."""
        if not self._config.plain:
            draw = uniform(self._seed, subject[:, None], base[:, None] + np.arange(hazard.shape[1]))
            return [np.flatnonzero(row) for row in draw < -np.expm1(-hazard)]
        most, points = reach[:, -1], np.zeros((len(base), 0))
        while not points.shape[1] or (points[:, -1] <= most).any():
            address = base[:, None] + points.shape[1] + np.arange(_POINTS)
            steps = -np.log(uniform(self._seed, subject[:, None], address))
            start = points[:, -1:] if points.shape[1] else 0.0
            points = np.concatenate([points, start + steps.cumsum(1)], 1)
        within = (points <= most[:, None]).sum(1)
        return [
            np.unique(np.searchsorted(row, where[:many], side="left"))
            for row, where, many in zip(reach, points, within.tolist(), strict=True)
        ]

    def _hazards(self, state: _State, rows: Ints, later: Ints, reason: Ints) -> Floats:
        """`[row, code]`."""
        out = np.zeros((len(rows), len(self._model.allowed)))
        cell, again = state.cell[rows], np.flatnonzero(later)
        sides = zip(self._model.sides, (state.kind[rows], reason), self._factor, strict=True)
        for side, kind, factor in sides:
            if not len(side.codes):
                continue
            hazard = side.rate[kind] * factor[later, cell]
            seen = state.seen[np.ix_(rows[again], side.codes)]
            for number in (LAST, EARLIER):
                place, column = np.nonzero(seen == number)
                place = again[place]
                old = hazard[place, column]
                new = side.again[number, column] * side.recurs[number, kind[place]]
                new += side.kept[number, side.group[column]] * old
                hazard[place, column] = new * self._model.allowed[side.codes[column], cell[place]]
            out[:, side.codes] = hazard
        if not self._config.plain:
            chance = self._sharpened(-np.expm1(-out))
            out = np.where(chance < 1, -np.log1p(-np.minimum(chance, 1 - 1e-16)), _CERTAIN)
        return out

    def _sharpened(self, chance: Floats) -> Floats:
        """Probability of yes after temperature, top-k and top-p, of yes or no."""
        config = self._config
        if config.plain:
            return chance
        with np.errstate(divide="ignore"):
            odds = (np.log(chance) - np.log1p(-chance)) / config.temperature
        out = 1 / (1 + np.exp(-odds))
        sure = np.maximum(out, 1 - out) >= (0.0 if config.top_k == 1 else config.top_p)
        return np.where(sure & (config.top_k == 1 or config.top_p < 1), out > 0.5, out)

    def _choose(self, chance: Floats, draw: Floats) -> Ints:
        """A class per row."""
        picked = choose(torch.from_numpy(chance), torch.from_numpy(np.asarray(draw)), self._config)
        return np.asarray(picked.numpy())


def _factors(side: Side, allowed: Bools) -> Floats:
    """`[later, cell, column]`."""
    cells = range(allowed.shape[1])
    return np.stack([[side.factor(later, cell, allowed) for cell in cells] for later in (0, 1)])


def _see(state: _State, visits: _Visits) -> None:
    """What was in the last visit is in an earlier one from now on."""
    seen = state.seen[visits.whose]
    seen[seen == LAST] = EARLIER
    seen[np.repeat(np.arange(len(visits.whose)), visits.count), visits.code] = LAST
    state.seen[visits.whose] = seen


def _remember(begun: Histories, state: _State) -> _Visits:
    """Visits that are known."""
    out = _Visits(begun.visit_subject, begun.code_count, begun.code)
    start = np.cumsum(begun.code_count) - begun.code_count
    for rank in range(int(begun.visit_count.max(initial=0))):
        at = np.flatnonzero(begun.visit_rank == rank)
        codes = [begun.code[start[v] : start[v] + begun.code_count[v]] for v in at.tolist()]
        _see(state, _Visits(out.whose[at], begun.code_count[at], np.concatenate(codes)))
    state.visits += begun.visit_count
    return out


def _assembled(wanted: Wanted, written: list[_Visits], n_codes: int) -> Histories:
    """Visits in the order of subjects, then of time."""
    whose, count, code = (
        np.concatenate([getattr(part, name) for part in written]) for name in ("whose", "count", "code")
    )
    order = np.argsort(whose, kind="stable")
    token_order = np.argsort(np.repeat(whose, count), kind="stable")
    return Histories(
        age=wanted.age,
        sex=wanted.sex,
        visit_count=np.bincount(whose, minlength=len(wanted)),
        code_count=count[order],
        code=code[token_order],
        n_codes=n_codes,
    )
