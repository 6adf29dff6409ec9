"""The five-minute generators every model stands beside: independent marginals, and an n-gram over visits.

Both say of each code of a visit, independently of the others, how likely it is. *Marginals* know nothing but how
common a code is. The *n-gram* knows the visit before (and that a code stood in one before that), age band and sex;
rates of few subjects are drawn to those of more.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.noise import uniform
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

Kind = Literal["marginals", "n-gram"]
BANDS = np.array([0, 1, 5, 18, 35, 45, 55, 65, 75, 85])  # first age of each, years
MAX_RANK = 20
_PRIOR = 20.0  # visits that the rate of a larger group weighs
_BLOCK = 1000  # visits computed together
_TRIES = 1 << 12  # for a visit that is not empty
_NEVER, _LAST, _EARLIER = range(3)


@dataclasses.dataclass(frozen=True, eq=False)
class CountGenerator:
    """Rates of codes.

    Args:
        vocabulary: The codes.
        demographics: Of the training subjects.
        rate: `[state, band, sex, code]`; never had, had at the last visit, had before; axes of size 1 are shared.
        stop: `[rank]`, probability that a history is over after so many visits.
    """

    vocabulary: Vocabulary
    demographics: Demographics
    rate: Floats
    stop: Floats

    @classmethod
    def fit(cls, train: Records, vocabulary: Vocabulary, kind: Kind) -> CountGenerator:
        """Count, and smooth.

        Raises:
            ConfigError: No such kind.
        """
        h = train.histories.with_codes_sorted()
        if kind == "marginals":
            rate = _shrunk(*_counts(h, shared=True), _floor(h))[None, None, None]
        elif kind == "n-gram":
            rate = _rates(h)
        else:
            raise ConfigError(f"kind {kind!r}: give marginals or n-gram")
        return cls(vocabulary, Demographics.of(h), rate, _stops(h))

    def log_likelihood(self, records: Records) -> Floats:
        """`[subject]`: log p(number of visits, code sets | age, sex), nats."""
        h = records.histories.with_codes_sorted()
        rank, subject = np.minimum(h.visit_rank + 1, MAX_RANK), h.visit_subject
        over = h.visit_rank + 1 == h.visit_count[subject]
        with np.errstate(divide="ignore"):
            visit = np.where(over, np.log(self.stop[rank]), np.log1p(-self.stop[rank]))
            start = np.where(h.visit_count > 0, np.log1p(-self.stop[0]), np.log(self.stop[0]))
        state = _States(h)
        for first in range(0, len(h.code_count), _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, len(h.code_count)))
            rate = self._rate(state(rows), h.age[subject[rows]], h.sex[subject[rows]])
            had = _had(h, rows)
            none = np.log1p(-rate).sum(1)
            with np.errstate(divide="ignore"):
                visit[rows] += np.where(had, np.log(rate), np.log1p(-rate)).sum(1) - np.log(-np.expm1(none))
            visit[rows[h.code_count[rows] == 0]] = -np.inf
        return start + np.bincount(subject, visit, len(h))

    def draw(self, wanted: Wanted, seed: int, config: SamplingConfig) -> Records:
        """One history for each subject wanted; only the plain model is sampled, from the beginning.

        Raises:
            ConfigError: Sharpened choices, or histories that are begun.
        """
        if not config.plain or wanted.begun is not None:
            raise ConfigError(
                "counted rates are sampled as they are: no temperature, top-k, top-p or begun history"
            )
        n, codes = len(wanted), self.vocabulary.n_codes
        seen = np.full((n, codes), _NEVER)
        count, parts = np.zeros(n, np.int64), []
        alive = uniform(seed, wanted.subject, np.array(0)) >= self.stop[0]
        for rank in range(10_000):
            rows = np.flatnonzero(alive)
            if not len(rows):
                break
            had = self._visit(wanted, rows, rank, seen[rows], seed)
            parts.append((rows, had))
            count[rows] += 1
            now = seen[rows]
            now[now == _LAST] = _EARLIER
            now[had] = _LAST
            seen[rows] = now
            draw = np.array((rank + 1) * _TRIES * (codes + 1))
            over = uniform(seed, wanted.subject[rows], draw) < self.stop[min(rank + 1, MAX_RANK)]
            alive[rows[over]] = False
        return Records(_assembled(wanted, count, parts, codes))

    def settings(self) -> dict[str, object]:
        """What a bundle keeps beside the tensors."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a bundle keeps."""
        return {"rate": torch.from_numpy(self.rate), "stop": torch.from_numpy(self.stop)}

    def _visit(self, wanted: Wanted, rows: Ints, rank: int, seen: Ints, seed: int) -> Bools:
        """`[row, code]`: codes of one visit; what is empty is drawn anew."""
        codes = self.vocabulary.n_codes
        rate = self._rate(seen, wanted.age[rows], wanted.sex[rows])
        had = np.zeros((len(rows), codes), bool)
        for attempt in range(_TRIES):
            empty = np.flatnonzero(~had.any(1))
            if not len(empty):
                break
            address = (rank * _TRIES + attempt) * (codes + 1) + 1 + np.arange(codes)
            had[empty] = uniform(seed, wanted.subject[rows[empty], None], address) < rate[empty]
        return had

    def _rate(self, state: Ints, age: Ints, sex: Ints) -> Floats:
        """`[row, code]`."""
        states, bands, sexes, codes = self.rate.shape
        band = np.minimum(np.searchsorted(BANDS, age, side="right") - 1, bands - 1)
        state, code = np.minimum(state, states - 1), np.arange(codes)
        return self.rate[state, band[:, None], np.minimum(sex, sexes - 1)[:, None], code]


def _counts(h: Histories, shared: bool = False) -> tuple[Floats, Floats]:
    """How often each code was there, and how often it might have been; `[state, band, sex, code]` unless shared."""
    if shared:
        return np.bincount(h.code, minlength=h.n_codes).astype(float), np.full(
            h.n_codes, len(h.code_count) * 1.0
        )
    shape = (3, len(BANDS), 2, h.n_codes)
    yes, all_ = np.zeros(shape), np.zeros(shape)
    subject, state, code = h.visit_subject, _States(h), np.arange(h.n_codes)
    band = np.searchsorted(BANDS, h.age, side="right") - 1
    for first in range(0, len(h.code_count), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(h.code_count)))
        who, now = subject[rows], state(rows)
        for group in np.unique(band[who] * 2 + h.sex[who]):
            part = (band[who] * 2 + h.sex[who]) == group
            had = _had(h, rows[part])
            for s in range(3):
                here = now[part] == s
                all_[s, group // 2, group % 2, code] += here.sum(0)
                yes[s, group // 2, group % 2, code] += (here & had).sum(0)
    return yes, all_


def _rates(h: Histories) -> Floats:
    """Each rate drawn to the same code's at any age and sex, that to any code's in the same state."""
    yes, all_ = _counts(h)
    of_state = (yes.sum((1, 2, 3)) / np.maximum(all_.sum((1, 2, 3)), 1))[:, None]
    of_state[_NEVER] = _floor(h)
    of_code = _shrunk(yes.sum((1, 2)), all_.sum((1, 2)), of_state)
    return _shrunk(yes, all_, of_code[:, None, None])


def _shrunk(yes: Floats, all_: Floats, toward: Floats | float) -> Floats:
    weight = 1.0 if isinstance(toward, float) else _PRIOR
    return np.asarray(np.clip((yes + weight * toward) / (all_ + weight), 1e-9, 1 - 1e-6))


def _floor(h: Histories) -> float:
    """Rate of a code that nobody had."""
    return 0.5 / max(1, len(h.code_count))


def _stops(h: Histories) -> Floats:
    rank = np.minimum(h.visit_rank + 1, MAX_RANK)
    over = h.visit_rank + 1 == h.visit_count[h.visit_subject]
    at = np.bincount(rank, minlength=MAX_RANK + 1).astype(float)
    stop = (np.bincount(rank, over, MAX_RANK + 1) + 0.5) / (at + 1)
    stop[0] = (h.visit_count == 0).mean() if len(h) else 0
    return np.asarray(stop)


class _States:
    """`[visit, code]` for chosen visits: never had before, had at the last visit, had before that."""

    def __init__(self, h: Histories) -> None:
        token_subject, self._codes = h.token_subject, h.n_codes
        key = token_subject * h.n_codes + h.code
        order = np.argsort(key, kind="stable")
        self._key, self._visit = key[order], h.token_visit[order]
        self._subject, self._rank, self._h = h.visit_subject, h.visit_rank, h

    def __call__(self, visits: Ints) -> Ints:
        out = np.full((len(visits), self._codes), _NEVER)
        for place, visit in enumerate(visits.tolist()):
            if self._rank[visit] == 0:
                continue
            subject = self._subject[visit]
            low, high = np.searchsorted(self._key, [subject * self._codes, (subject + 1) * self._codes])
            code, when = self._key[low:high] % self._codes, self._visit[low:high]
            out[place, code[when < visit - 1]] = _EARLIER
            out[place, code[when == visit - 1]] = _LAST
        return out


def _had(h: Histories, visits: Ints) -> Bools:
    """`[visit, code]`."""
    out = np.zeros((len(visits), h.n_codes), bool)
    starts = np.cumsum(h.code_count) - h.code_count
    for place, visit in enumerate(visits.tolist()):
        out[place, h.code[starts[visit] : starts[visit] + h.code_count[visit]]] = True
    return out


def _assembled(wanted: Wanted, count: Ints, parts: list[tuple[Ints, Bools]], n_codes: int) -> Histories:
    """Visits drawn rank by rank, in order of subjects."""
    first = np.cumsum(count) - count
    visit, code = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rank, (rows, had) in enumerate(parts):
        place, number = np.nonzero(had)
        visit.append(first[rows[place]] + rank)
        code.append(number)
    whose, codes = np.concatenate(visit), np.concatenate(code)
    order = np.argsort(whose, kind="stable")
    return Histories(
        age=wanted.age,
        sex=wanted.sex,
        visit_count=count,
        code_count=np.bincount(whose, minlength=int(count.sum())),
        code=codes[order],
        n_codes=n_codes,
    )
