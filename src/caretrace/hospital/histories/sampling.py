"""Draw subjects from a `HistoryModel`; the same seed draws the same subjects, however many are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from caretrace.errors import ConfigError
from caretrace.hospital.histories.catalogue import SEXES
from caretrace.hospital.histories.model import Floats, HistoryModel
from caretrace.hospital.histories.records import Histories, Ints, join

CHUNK = 500  # subjects drawn together; fixed, because it is part of what a seed means
TRIES_MAX = 10_000  # redraws of a visit with an impossible number of codes


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Histories and what was latent.

    Args:
        histories: What a hospital would see.
        phenotype: `[subject]`, place in `HistoryModel.phenotypes`.
        episode: `[visit]`, place in `HistoryModel.episodes`.
    """

    histories: Histories
    phenotype: Ints
    episode: Ints

    def part(self, first: int, last: int) -> Drawn:
        """Subjects `first` to `last - 1`."""
        visits = np.concatenate([[0], np.cumsum(self.histories.visit_count)])
        last = min(last, len(self.histories))
        return Drawn(
            self.histories.part(first, last),
            self.phenotype[first:last],
            self.episode[visits[first] : visits[last]],
        )


def draw(subjects: int, seed: int, model: HistoryModel) -> Drawn:
    """Draw `subjects` subjects into memory (`iter_chunks` keeps one chunk at a time).

    Args:
        subjects: How many; the first ones are the same for every larger number.
        seed: Not negative.
        model: What to draw from.
    """
    parts = list(iter_chunks(subjects, seed, model))
    return Drawn(
        join([p.histories for p in parts]),
        np.concatenate([p.phenotype for p in parts]),
        np.concatenate([p.episode for p in parts]),
    )


def iter_chunks(subjects: int, seed: int, model: HistoryModel) -> Iterator[Drawn]:
    """The same subjects in chunks of `CHUNK`, the last one cut.

    Raises:
        ConfigError: `subjects` is not positive or `seed` is negative.
    """
    check_sample(subjects, seed)
    for chunk in range(-(-subjects // CHUNK)):
        yield draw_chunk(chunk, seed, model).part(0, subjects - chunk * CHUNK)


def check_sample(subjects: int, seed: int) -> None:
    """Stop before work that cannot be done.

    Raises:
        ConfigError: `subjects` is not positive or `seed` is negative.
    """
    if subjects < 1:
        raise ConfigError(f"subjects: got {subjects}; give 1 or more")
    if seed < 0:
        raise ConfigError(f"seed: got {seed}; give 0 or more")


def draw_chunk(chunk: int, seed: int, model: HistoryModel) -> Drawn:
    """Draw the `CHUNK` subjects number `chunk`, from a stream of their own."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 0)))
    cell = _choose(np.broadcast_to(model.demographics.reshape(-1), (CHUNK, model.demographics.size)), rng)
    age, sex = np.divmod(cell, len(SEXES))
    phenotype = _choose(model.phenotype[age, sex], rng)
    visit_count = 1 + _choose(model.visits[phenotype], rng)
    order = np.argsort(-visit_count, kind="stable")  # at visit t those still coming are the first rows
    at_last = np.zeros((CHUNK, int(model.chronic.sum())), bool)
    ever = at_last.copy()
    codes, reasons, whose = [], [], []
    for rank in range(int(visit_count.max())):
        who = order[: int((visit_count > rank).sum())]
        demographic = (min(rank, 1), model.band(age[who]), sex[who])
        reason = _choose(model.episode[(*demographic, phenotype[who])], rng)
        rates = model.onset[(*demographic, phenotype[who])]
        if rank:
            again = np.where(at_last[who], model.recurrence[0], model.recurrence[1])
            rates = np.where(ever[who], again, rates)
        lasting, passing = _draw_visits(rates, model.acute[(*demographic[1:], reason)], model.max_codes, rng)
        at_last[who] = lasting
        ever[who] |= lasting
        codes.append(_tokens(lasting, passing, model))
        reasons.append(reason)
        whose.append(who)
    return _assemble(age, sex, visit_count, phenotype, (codes, reasons, whose))


def _draw_visits(
    chronic: Floats, acute: Floats, max_codes: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Code sets of visits from the rates of their codes, `[visit, code]`, redrawn until the number fits."""
    lasting, passing = rng.random(chronic.shape) < chronic, rng.random(acute.shape) < acute
    for _ in range(TRIES_MAX):
        size = lasting.sum(1) + passing.sum(1)
        wrong = np.flatnonzero((size < 1) | (size > max_codes))
        if not len(wrong):
            return lasting, passing
        lasting[wrong] = rng.random((len(wrong), chronic.shape[1])) < chronic[wrong]
        passing[wrong] = rng.random((len(wrong), acute.shape[1])) < acute[wrong]
    raise ConfigError(
        f"a visit had no code or more than {max_codes} in {TRIES_MAX} draws; give larger or smaller rates"
    )


def _tokens(lasting: NDArray[np.bool_], passing: NDArray[np.bool_], model: HistoryModel) -> tuple[Ints, Ints]:
    """Row and code of each code present, by row, then by code."""
    present = np.empty((len(lasting), len(model.codes)), bool)
    present[:, model.chronic] = lasting
    present[:, ~model.chronic] = passing
    rows, codes = np.nonzero(present)
    return rows, codes


def _assemble(
    age: Ints,
    sex: Ints,
    visit_count: Ints,
    phenotype: Ints,
    drawn: tuple[list[tuple[Ints, Ints]], list[Ints], list[Ints]],
) -> Drawn:
    """Visits drawn rank by rank, put in order: by subject, then by rank."""
    codes, reasons, whose = drawn
    first = np.cumsum(visit_count) - visit_count
    token_visit = np.concatenate(
        [first[who[rows]] + t for t, (who, (rows, _)) in enumerate(zip(whose, codes, strict=True))]
    )
    visit = np.concatenate([first[who] + t for t, who in enumerate(whose)])
    order = np.argsort(token_visit, kind="stable")
    episode = np.empty(len(visit), np.int64)
    episode[visit] = np.concatenate(reasons)
    histories = Histories(
        age=age,
        sex=sex,
        visit_count=visit_count,
        code_count=np.bincount(token_visit, minlength=len(visit)),
        code=np.concatenate([c for _, c in codes])[order],
    )
    return Drawn(histories, phenotype, episode)


def _choose(probabilities: Floats, rng: np.random.Generator) -> Ints:
    """One choice per row of `[row, option]`; an option with probability 0 is never chosen."""
    cumulative = np.cumsum(probabilities, axis=1)
    u = rng.random(len(cumulative)) * cumulative[:, -1]
    return (cumulative <= u[:, None]).sum(1)
