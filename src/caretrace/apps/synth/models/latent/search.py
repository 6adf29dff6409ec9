"""The search for classes: several beginnings on a few subjects, and the best of them on all.

What is found depends on where the search begins. Flattening the classes at first (annealing; Ueda and Nakano 1998,
Neural Networks 11:271) frees it from the clusters it began with, and melts classes of visits with few codes into one
another; so it is tried with more and with less.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from caretrace.application import Progress, silent
from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import AGES
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.latent import starting
from caretrace.apps.synth.models.latent.cells import Cells, curves_of_codes, groups_of_codes, sets_of
from caretrace.apps.synth.models.latent.learning import (
    LEAST_REPEAT,
    Expected,
    Reasons,
    expect,
    fit_sizes,
    maximise,
)
from caretrace.apps.synth.models.latent.model import MAX_RANK, LatentModel, Prepared, Side
from caretrace.apps.synth.models.latent.shrinkage import CurveConfig
from caretrace.apps.synth.models.latent.sizes import SizeWeights
from caretrace.errors import ConfigError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

ANNEALINGS: tuple[tuple[float, ...], ...] = (
    (0.3, 0.5, 0.7, 0.85),
    (0.7, 0.85),
)  # of classes at first
_ENOUGH = 0.3  # share of lasting codes from which people are told apart by these alone
_TUNING = 1500  # tuning subjects that beginnings are compared by


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """Size and parts of the model.

    Args:
        people: Classes of people.
        visits: Classes of visits.
        starts: Beginnings that are tried; 1 takes the first untried.
        sample: Subjects that a beginning is tried on.
        starting: Rounds of expectation and maximisation of a beginning.
        iterations: Rounds on all subjects.
        sized: Of them at the end, those that know what sizes of visits are kept; all of them where there are fewer.
        lasting: Codes of a group that come again at the next visit more often than this follow the person.
        common: Codes that training subjects have at least so often have an age curve of their own, others that of
            their group.
        calibrations: Rounds at the very end that set right how common each code is (`calibration.py`); what comes of
            them is kept if tuning subjects are not less likely by it.
        calibrated_by: Subjects drawn for that, for each training subject and round.
        seed: Of where the search begins.
        curves: What age curves are like.
    """

    people: int = 40
    visits: int = 64
    starts: int = 3
    sample: int = 4000
    starting: int = 8
    iterations: int = 26
    sized: int = 5
    lasting: float = 0.3
    common: int = 300
    calibrations: int = 3
    calibrated_by: int = 3
    seed: int = 0
    curves: CurveConfig = dataclasses.field(default_factory=CurveConfig)

    def __post_init__(self) -> None:
        for name in ("people", "visits", "starts", "sample", "starting", "iterations", "common"):
            if getattr(self, name) < 1:
                raise ConfigError(f"latent.{name}: got {getattr(self, name)}, it must be at least 1")
        if self.sized < 0:
            raise ConfigError(f"latent.sized: got {self.sized}; give 0 or more rounds")
        if self.calibrations < 0 or self.calibrated_by < 1:
            raise ConfigError(
                f"latent.calibrations {self.calibrations} must not be negative, "
                f"latent.calibrated_by {self.calibrated_by} at least 1"
            )
        if not 0 < self.lasting < 1:
            raise ConfigError(f"latent.lasting: got {self.lasting}, it must lie in (0, 1)")


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """What the data decide before any class is sought.

    Args:
        cells: Age bands and sexes.
        allowed: `[code, cell]`, who may have what.
        group: `[code]`.
        curved: `[code]`, number of its age curve.
        codes: Numbers of the codes that follow people, and of those that follow visits.
        empty: Whether visits without codes occur.
    """

    cells: Cells
    allowed: Bools
    group: Ints
    curved: Ints
    codes: tuple[Ints, Ints]
    empty: bool

    @classmethod
    def of(cls, train: Histories, vocabulary: Vocabulary, config: LatentConfig, masked: bool) -> Self:
        """From training subjects, codes sorted."""
        limits = icd9.limits(vocabulary.normal_codes)
        cells, group = Cells.of(train, limits), groups_of_codes(vocabulary)
        allowed = cells.allowed(limits)
        lasting = starting.lasting_codes(sets_of(train), group, config.lasting)
        curved = curves_of_codes(group, np.bincount(train.code, minlength=train.n_codes), config.common)
        codes = np.flatnonzero(lasting), np.flatnonzero(~lasting)
        some = allowed if masked else np.ones_like(allowed)
        return cls(cells, some, group, curved, codes, bool((train.code_count == 0).any()))

    def model(self, people: int, visits: int) -> LatentModel:
        """A model that knows nothing yet."""
        groups, curves, cells = int(self.group.max()) + 1, int(self.curved.max()) + 1, len(self.cells)
        sides = [
            Side(
                codes=codes,
                group=self.group[codes],
                curved=self.curved[codes],
                rate=np.full((classes, len(codes)), 0.01),
                curve=np.ones((curves, cells)),
                later=np.ones(groups),
                kept=np.full((2, groups), 0.5),
                again=np.full((2, len(codes)), 0.1),
                recurs=np.ones((2, classes)),
            )
            for codes, classes in zip(self.codes, (people, visits), strict=True)
        ]
        return LatentModel(
            cells=self.cells,
            allowed=self.allowed,
            people=sides[0],
            visits=sides[1],
            who=np.zeros((AGES, 2, people)),
            reason=np.zeros((2, cells, people, visits)),
            stop=np.full((people, MAX_RANK + 1), 0.5),
            repeat=np.full(people, LEAST_REPEAT),
            sizes=SizeWeights(np.array([float(self.empty)]), 1.0),
        )


class Search:
    """Rounds of expectation and maximisation on some subjects.

    Args:
        train: The subjects, codes sorted.
        design: Of all of them.
        config: Size and parts.

    Attributes:
        model: As it is.
    """

    def __init__(self, train: Histories, design: Design, config: LatentConfig) -> None:
        self._config, self._design = config, design
        self._data = Prepared.of(train, design.cells, design.codes)
        self._reasons = Reasons(config.visits, len(design.cells), design.cells.edges)
        self.model = design.model(config.people, config.visits)
        self._expected: Expected

    def begin(self, seed: int) -> None:
        """At clusters of what people have that stays, and of the rest of what visits have."""
        config, data = self._config, self._data
        h, rng = data.histories, np.random.default_rng(seed)
        groups = int(self._design.group.max()) + 1
        lasting, passing = (
            starting.grouped(sets, self._design.group[codes], groups)
            for sets, codes in zip(data.sets, self._design.codes, strict=True)
        )
        enough = lasting.sum() > _ENOUGH * (lasting.sum() + passing.sum())
        whole = lasting if enough else lasting + passing
        people = starting.clusters(starting.of_people(whole, h), h.age, h.sex, config.people, rng)
        whose = h.visit_subject
        visits = starting.clusters(passing, h.age[whose], h.sex[whose], config.visits, rng)
        reason = np.repeat(visits[:, None].astype(np.float32), config.people, axis=1)
        self._expected = Expected(people, reason, np.ones_like(reason), np.ones_like(reason[:, :, 0]))

    def learn(self, people: Floats, reason: Floats, *, sized: bool = False) -> None:
        """Rates given classes that are known, as a benchmark knows them.

        Args:
            people: `[subject, K]`, probability of each class of people.
            reason: `[visit, A]`, probability of each class of visits.
            sized: Whether to learn what sizes of visits are kept.
        """
        found = expect(self.model, self._data)[0]
        each = np.repeat(reason[:, None].astype(np.float32), people.shape[1], axis=1)
        self._expected = Expected(people, each, found.growth, found.fresh)
        self._improve(sized=sized)

    def round(self, sharpness: float = 1.0, *, sized: bool = False) -> Floats:
        """Rates given classes, then classes given rates; log-likelihood of each subject."""
        self._improve(sized=sized)
        self._expected, found = expect(self.model, self._data, sharpness)
        return found

    def _improve(self, *, sized: bool) -> None:
        self.model = maximise(self.model, self._data, self._expected, self._reasons, self._config.curves)
        if sized:
            sizes = fit_sizes(self.model, self._data, self._expected)
            self.model = dataclasses.replace(self.model, sizes=sizes)


def best_beginning(
    train: Histories, tuning: Histories, design: Design, config: LatentConfig, progress: Progress = silent
) -> tuple[int, tuple[float, ...]]:
    """Seed and annealing that came furthest on a few subjects."""
    order = np.random.default_rng(config.seed).permutation(len(train))
    few = train.take(np.sort(order[: config.sample]))
    check = Prepared.of(tuning.take(np.arange(min(_TUNING, len(tuning)))), design.cells, design.codes)
    best: tuple[int, tuple[float, ...]] = (config.seed, ANNEALINGS[0])
    furthest = -np.inf
    for number in range(config.starts if config.starts > 1 else 0):
        seed, annealing = config.seed + number, ANNEALINGS[number % len(ANNEALINGS)]
        search = Search(few, design, config)
        search.begin(seed)
        for done in range(config.starting):
            progress("trying beginnings", number * config.starting + done, config.starts * config.starting)
            search.round(annealing[done] if done < len(annealing) else 1.0)
        found = expect(search.model, check)[1]
        reached = float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else -np.inf
        if reached > furthest:
            best, furthest = (seed, annealing), reached
    return best
