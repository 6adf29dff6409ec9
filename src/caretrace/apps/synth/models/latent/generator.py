"""The latent-class model as a generator: fitted, judged, sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import AGES, Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.latent import starting
from caretrace.apps.synth.models.latent.cells import Cells, groups_of_codes, groups_of_visits, sets_of
from caretrace.apps.synth.models.latent.drawing import Drawing
from caretrace.apps.synth.models.latent.learning import (
    Expected,
    Reasons,
    expect,
    fit_sizes,
    maximise,
)
from caretrace.apps.synth.models.latent.model import (
    MAX_RANK,
    LatentModel,
    Prepared,
    Side,
    of_people,
    visit_likelihoods,
)
from caretrace.apps.synth.models.latent.shrinkage import CurveConfig
from caretrace.apps.synth.models.latent.sizes import SizeWeights
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.histories import Floats, Histories, Ints

ANNEALING = (
    0.5,
    0.7,
    0.85,
)  # sharpness of classes in the first iterations; flatter ones melt into one another
_BLOCK = 4000  # subjects judged together
_CHECK = 5  # iterations between looks at the tuning subjects
_ENOUGH = 0.3  # share of lasting codes from which people are told apart by these alone
_SIDE = ("codes", "group", "rate", "curve", "later", "kept", "again")


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """Size and parts of the model.

    Args:
        people: Classes of people.
        visits: Classes of visits.
        iterations: Rounds of expectation and maximisation.
        sized: Of them at the end, those that know what sizes of visits are kept.
        lasting: Codes of a group that come again at the next visit more often than this follow the person.
        seed: Of where the search begins.
        curves: What age curves are like.
    """

    people: int = 30
    visits: int = 30
    iterations: int = 30
    sized: int = 8
    lasting: float = 0.3
    seed: int = 0
    curves: CurveConfig = dataclasses.field(default_factory=CurveConfig)

    def __post_init__(self) -> None:
        for name in ("people", "visits", "iterations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"latent.{name}: got {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.sized <= self.iterations:
            raise ConfigError(f"latent.sized: got {self.sized}; give 0 to {self.iterations}, the iterations")
        if not 0 < self.lasting < 1:
            raise ConfigError(f"latent.lasting: got {self.lasting}, it must lie in (0, 1)")


@dataclasses.dataclass(frozen=True, eq=False)
class LatentGenerator:
    """A fitted model, the codes it writes and the people it writes them for.

    Args:
        model: The model.
        vocabulary: Its codes.
        demographics: Of the training subjects.
    """

    model: LatentModel
    vocabulary: Vocabulary
    demographics: Demographics

    def log_likelihood(self, records: Records) -> Floats:
        """`[subject]`: log p(visits and their codes | age, sex), nats, exact; -inf for the impossible."""
        parts = [np.logaddexp.reduce(joint, axis=1) for _, joint in self._judged(records.histories)]
        possible = self._possible(records.histories)
        return np.where(possible, np.concatenate([np.zeros(0), *parts]), -np.inf)

    def people(self, histories: Histories, *, ended: bool = True) -> Floats:
        """`[subject, class]`: probability of each class of people given the whole history.

        Args:
            histories: Whose.
            ended: Whether nothing comes after; else more may.
        """
        parts = [joint for _, joint in self._judged(histories, ended=ended)]
        joint = np.concatenate([np.zeros((0, len(self.model.stop))), *parts])
        return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])

    def draw(self, wanted: Wanted, seed: int, config: SamplingConfig) -> Records:
        """One history for each subject wanted.

        Raises:
            ConfigError: Conditions, which this model does not know.
        """
        if wanted.conditions is not None and wanted.conditions.shape[1]:
            raise ConfigError("conditions: classes know age and sex only; train `decoder` for conditions")
        known = None if wanted.begun is None else wanted.begun.histories.with_codes_sorted()
        people = None if known is None else self.people(known, ended=False)
        return Records(Drawing(self.model, config, seed).draw(wanted, known, people))

    def settings(self) -> dict[str, Any]:
        """What a bundle keeps beside the tensors."""
        return {"tail": self.model.sizes.tail}

    def state(self) -> dict[str, Tensor]:
        """What a bundle keeps."""
        model = self.model
        out = {
            f"{name}.{part}": getattr(getattr(model, name), part)
            for name in ("people", "visits")
            for part in _SIDE
        }
        out.update(edges=model.cells.edges, allowed=model.allowed, who=model.who, reason=model.reason)
        out.update(stop=model.stop, sizes=model.sizes.weight)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}

    @classmethod
    def restore(
        cls, settings: dict[str, Any], state: dict[str, Tensor], vocabulary: Vocabulary, people: Demographics
    ) -> LatentGenerator:
        """From what a bundle kept."""
        kept = {name: value.numpy() for name, value in state.items()}
        sides = [Side(*(kept[f"{name}.{part}"] for part in _SIDE)) for name in ("people", "visits")]
        model = LatentModel(
            Cells(kept["edges"]), kept["allowed"], sides[0], sides[1], who=kept["who"], reason=kept["reason"],
            stop=kept["stop"], sizes=SizeWeights(kept["sizes"], settings["tail"]),
        )  # fmt: skip
        return cls(model, vocabulary, people)

    def _judged(self, histories: Histories, *, ended: bool = True) -> Iterator[tuple[Ints, Floats]]:
        codes = self.model.people.codes, self.model.visits.codes
        for first in range(0, len(histories), _BLOCK):
            places = np.arange(first, min(first + _BLOCK, len(histories)))
            data = Prepared.of(histories.take(places), self.model.cells, codes)
            yield places, of_people(self.model, data, visit_likelihoods(self.model, data), ended=ended)

    def _possible(self, histories: Histories) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """`[subject]`: whether it may have all its codes."""
        cell = self.model.cells.of_people(histories.age, histories.sex)
        subject = histories.token_subject
        wrong = ~self.model.allowed[histories.code, cell[subject]]
        return np.bincount(subject, wrong, len(histories)) == 0


def fit_latent(
    train: Records,
    tuning: Records,
    vocabulary: Vocabulary,
    config: LatentConfig | None = None,
    *,
    masked: bool = True,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[LatentGenerator, list[dict[str, float]]]:
    """Fit the model.

    Args:
        train: Subjects to learn from.
        tuning: Subjects that say when to stop.
        vocabulary: Of the histories.
        config: Size and parts.
        masked: Whether codes that the Medicare Code Editor calls impossible at an age or sex are impossible.
        progress: Told of each look at the tuning subjects.

    Returns:
        The generator, and a record per look: `epoch` (iterations), `train_loss`, `tuning_loss`, nats per subject;
        tuning subjects that are impossible are left out.

    Raises:
        CohortError: Nobody to learn from or to stop by.
        ConfigError: Marks or conditions, which this model does not know.
    """
    if not len(train) or not len(tuning):
        raise CohortError(
            f"{len(train)} training and {len(tuning)} tuning subjects: give at least one of each"
        )
    if (train.marks is not None and train.marks.size) or (
        train.conditions is not None and train.conditions.size
    ):
        raise ConfigError("marks, conditions: classes know age and sex only; train `decoder` for these")
    chosen = config or LatentConfig()
    learner = _Learner(train.histories.with_codes_sorted(), tuning, vocabulary, chosen, masked)
    return learner.fit(progress)


class _Learner:
    """Rounds of expectation and maximisation."""

    def __init__(
        self, train: Histories, tuning: Records, vocabulary: Vocabulary, config: LatentConfig, masked: bool
    ) -> None:
        self._config, self._vocabulary, self._tuning = config, vocabulary, tuning
        self._demographics = Demographics.of(train)
        limits = icd9.limits(vocabulary.normal_codes)
        cells, group = Cells.of(train, limits), groups_of_codes(vocabulary)
        allowed = cells.allowed(limits)
        whole = sets_of(train)
        lasting = starting.lasting_codes(whole, group, config.lasting)
        codes = np.flatnonzero(lasting), np.flatnonzero(~lasting)
        sets = whole.columns(codes[0]), whole.columns(codes[1])
        self._data = Prepared(train, groups_of_visits(train, cells), sets)
        self._reasons = Reasons(config.visits, len(cells), cells.edges)
        many, groups = (config.people, config.visits), int(group.max()) + 1
        sides = [
            _empty_side(each, group[each], groups, classes, len(cells))
            for each, classes in zip(codes, many, strict=True)
        ]
        shape = (2, len(cells), config.people, config.visits)
        empty = float((train.code_count == 0).any())
        self._model = LatentModel(
            cells, allowed if masked else np.ones_like(allowed), sides[0], sides[1],
            who=np.zeros((AGES, 2, config.people)), reason=np.zeros(shape),
            stop=np.full((config.people, MAX_RANK + 1), 0.5), sizes=SizeWeights(np.array([empty]), 1.0),
        )  # fmt: skip
        self._expected = self._begin(group, groups)

    def fit(
        self, progress: Callable[[dict[str, float]], None]
    ) -> tuple[LatentGenerator, list[dict[str, float]]]:
        """The best generator, and a record per look at the tuning subjects."""
        config, log = self._config, list[dict[str, float]]()
        best = self._generator()
        for done in range(1, config.iterations + 1):
            found = self._round(done)
            if done % _CHECK and done < config.iterations:
                continue
            now = self._generator()
            likelihood = now.log_likelihood(self._tuning)
            possible = likelihood[np.isfinite(likelihood)]
            loss = -float(possible.mean()) if len(possible) else float("inf")
            log.append({"epoch": float(done), "train_loss": -float(found.mean()), "tuning_loss": loss})
            progress(log[-1])
            if loss <= min(record["tuning_loss"] for record in log):
                best = now
        return best, log

    def _round(self, done: int) -> Floats:
        """Rates given classes, then classes given rates; log-likelihood of each subject."""
        config = self._config
        self._model = maximise(self._model, self._data, self._expected, self._reasons, config.curves)
        if done > config.iterations - config.sized:
            sizes = fit_sizes(self._model, self._data, self._expected)
            self._model = dataclasses.replace(self._model, sizes=sizes)
        sharpness = ANNEALING[done - 1] if done <= len(ANNEALING) else 1.0
        self._expected, found = expect(self._model, self._data, sharpness)
        return found

    def _generator(self) -> LatentGenerator:
        return LatentGenerator(self._model, self._vocabulary, self._demographics)

    def _begin(self, group: Ints, groups: int) -> Expected:
        """Clusters of what people have that stays, and of the rest of what visits have."""
        config, data = self._config, self._data
        h, rng = data.histories, np.random.default_rng(config.seed)
        lasting, passing = (
            starting.grouped(sets, group[side.codes], groups)
            for sets, side in zip(data.sets, self._model.sides, strict=True)
        )
        enough = lasting.sum() > _ENOUGH * (lasting.sum() + passing.sum())
        whole = lasting if enough else lasting + passing
        people = starting.clusters(starting.of_people(whole, h), h.age, h.sex, config.people, rng)
        whose = h.visit_subject
        visits = starting.clusters(passing, h.age[whose], h.sex[whose], config.visits, rng)
        reason = np.repeat(visits[:, None].astype(np.float32), config.people, axis=1)
        return Expected(people, reason, np.ones_like(reason))


def _empty_side(codes: Ints, group: Ints, groups: int, classes: int, cells: int) -> Side:
    """A side before anything is counted."""
    return Side(
        codes=codes,
        group=group,
        rate=np.full((classes, len(codes)), 0.01),
        curve=np.ones((groups, cells)),
        later=np.ones(groups),
        kept=np.full((2, groups), 0.5),
        again=np.full((2, len(codes)), 0.1),
    )
