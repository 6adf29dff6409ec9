"""Rates set right by what they lead to: what is drawn has each code as often as training subjects had it.

Each rate of a class is drawn to those of its like, and classes, age curves, recurrence and sizes are found in turn.
Each is a good estimate by itself; together they need not add up to how common a code is, which is known far better
than any of them. So subjects of the training subjects' ages and sexes are drawn and counted, and every code, and
every age curve in each age band and sex, gets the factor that is missing, as far as counts say that one is
missing at all (`shrinkage.shrunk`: empirical Bayes). The principle is that of raking a table to known margins
(Deming and Stephan 1940, Annals of Mathematical Statistics 11:427).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from caretrace.application import Progress, silent
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.latent.drawing import Drawing
from caretrace.apps.synth.models.latent.model import LatentModel, Side
from caretrace.apps.synth.models.latent.shrinkage import shrunk
from caretrace.evaluation.histories import Floats, Histories, Ints

_BLOCK = 4000  # subjects drawn together
_MOST = 4.0  # largest factor of a round
_KEPT_MOST = 1.5  # as in `learning`
_ADDRESS = 1 << 40  # of random numbers that no subject asked for later has


@dataclasses.dataclass(frozen=True, eq=False)
class _Counts:
    """Codes that subjects have for the first time, and again; per training subject.

    Args:
        new: `[code, cell]`.
        again: `[code]`.
    """

    new: Floats
    again: Floats


def calibrated(
    model: LatentModel, train: Histories, rounds: int, times: int, seed: int, progress: Progress = silent
) -> LatentModel:
    """The model with factors on its rates, age curves and recurrence.

    Args:
        model: Fitted to the training subjects.
        train: The training subjects, codes sorted.
        rounds: How often subjects are drawn; each round sets right what the last one left.
        times: Subjects drawn for each training subject in each round.
        seed: Of the draws.
        progress: Told of the subjects drawn.
    """
    if not len(train):
        return model
    found = _count([train], model)
    each = times * len(train)
    for number in range(rounds):

        def tell(done: int, before: int = number * each) -> None:
            progress("setting right how common codes are", before + done, rounds * each)

        drawn = _count(_drawn(model, train, times, seed + number, tell), model)
        drawn = _Counts(drawn.new / times, drawn.again / times)
        code = _factor(found.new.sum(1), drawn.new.sum(1))
        again = _factor(found.again, drawn.again)
        sides = []
        for side in model.sides:
            groups = len(side.later)
            counts = (found.new, drawn.new * code[:, None])
            cell = _factor(*(_by_group(count[side.codes], side.curved, len(side.curve)) for count in counts))
            pairs = (found.again, drawn.again)
            kept = _factor(*(_by_group(count[side.codes], side.group, groups) for count in pairs))
            sides.append(_scaled(side, code[side.codes], cell, again[side.codes], kept))
        model = dataclasses.replace(model, people=sides[0], visits=sides[1])
    return model


def _scaled(side: Side, code: Floats, cell: Floats, again: Floats, kept: Floats) -> Side:
    return dataclasses.replace(
        side,
        rate=side.rate * code,
        curve=side.curve * cell,
        again=side.again * again,
        # What is kept is kept of a rate that has its own factor now.
        kept=np.minimum(side.kept * kept, _KEPT_MOST),
    )


def _factor(found: Floats, drawn: Floats) -> Floats:
    """What is missing, as far as the counts agree that something is."""
    if not found.size:
        return np.ones(found.shape)
    return np.clip(shrunk(found, drawn, 1.0), 1 / _MOST, _MOST)


def _count(parts: Iterable[Histories], model: LatentModel) -> _Counts:
    codes, cells = model.allowed.shape
    new, again = np.zeros((codes, cells)), np.zeros(codes)
    for h in parts:
        subject = h.token_subject
        _, first = np.unique(subject * codes + h.code, return_index=True)
        cell = model.cells.of_people(h.age, h.sex)[subject[first]]
        new += np.bincount(h.code[first] * cells + cell, minlength=codes * cells).reshape(codes, cells)
        again += np.bincount(h.code, minlength=codes) - np.bincount(h.code[first], minlength=codes)
    return _Counts(new, again)


def _by_group(values: Floats, group: Ints, groups: int) -> Floats:
    out = np.zeros((groups, *values.shape[1:]))
    np.add.at(out, group, values)
    return out


def _drawn(
    model: LatentModel, like: Histories, times: int, seed: int, tell: Callable[[int], None]
) -> Iterator[Histories]:
    """Subjects with the ages and sexes of these, block by block."""
    drawing = Drawing(model, SamplingConfig(), seed)
    for first in range(0, times * len(like), _BLOCK):
        tell(first)
        subject = np.arange(first, min(first + _BLOCK, times * len(like)))
        who = subject % len(like)
        yield drawing.draw(Wanted(_ADDRESS + subject, like.age[who], like.sex[who]), None, None)
