"""The latent-class model as a generator: fitted, judged, sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caretrace.application import Progress, silent
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.sampling import SamplingConfig, Wanted
from caretrace.apps.synth.models.generator import Demographics
from caretrace.apps.synth.models.latent.calibration import calibrated
from caretrace.apps.synth.models.latent.cells import Cells
from caretrace.apps.synth.models.latent.drawing import Drawing
from caretrace.apps.synth.models.latent.model import LatentModel, Prepared, Side, of_people, visit_likelihoods
from caretrace.apps.synth.models.latent.search import Design, LatentConfig, Search, best_beginning
from caretrace.apps.synth.models.latent.sizes import SizeWeights
from caretrace.errors import CohortError, ConfigError
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints

_BLOCK = 4000  # subjects judged together
_CHECK = 5  # iterations between looks at the tuning subjects
_SIDE = ("codes", "group", "curved", "rate", "curve", "later", "kept", "again", "recurs")


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
        out.update(stop=model.stop, repeat=model.repeat, sizes=model.sizes.weight)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}

    @classmethod
    def restore(
        cls, settings: dict[str, Any], state: dict[str, Tensor], vocabulary: Vocabulary, people: Demographics
    ) -> LatentGenerator:
        """From what a bundle kept."""
        kept = {name: value.numpy() for name, value in state.items()}
        kept.setdefault("repeat", np.zeros(len(kept["stop"])))  # bundles of before had none of these
        for name in ("people", "visits"):
            kept.setdefault(f"{name}.recurs", np.ones((2, len(kept[f"{name}.rate"]))))
            kept.setdefault(f"{name}.curved", kept[f"{name}.group"])
        sides = [Side(*(kept[f"{name}.{part}"] for part in _SIDE)) for name in ("people", "visits")]
        model = LatentModel(
            Cells(kept["edges"]), kept["allowed"], sides[0], sides[1], who=kept["who"], reason=kept["reason"],
            stop=kept["stop"], repeat=kept["repeat"], sizes=SizeWeights(kept["sizes"], settings["tail"]),
        )  # fmt: skip
        return cls(model, vocabulary, people)

    def _judged(self, histories: Histories, *, ended: bool = True) -> Iterator[tuple[Ints, Floats]]:
        codes = self.model.people.codes, self.model.visits.codes
        for first in range(0, len(histories), _BLOCK):
            places = np.arange(first, min(first + _BLOCK, len(histories)))
            data = Prepared.of(histories.take(places), self.model.cells, codes)
            yield places, of_people(self.model, data, visit_likelihoods(self.model, data), ended=ended)

    def _possible(self, histories: Histories) -> Bools:
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
    progress: Progress = silent,
) -> tuple[LatentGenerator, list[dict[str, float]]]:
    """Fit the model.

    Args:
        train: Subjects to learn from.
        tuning: Subjects that say when to stop.
        vocabulary: Of the histories.
        config: Size and parts.
        masked: Whether codes that the Medicare Code Editor calls impossible at an age or sex are impossible.
        progress: Told after each round.

    Returns:
        The generator, and a record per look: `epoch` (rounds before), `train_loss`, `tuning_loss`, nats per subject;
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
    learned = train.histories.with_codes_sorted()
    design = Design.of(learned, vocabulary, chosen, masked)
    search = Search(learned, design, chosen)
    seed, annealing = best_beginning(learned, tuning.histories, design, chosen, progress)
    search.begin(seed)
    demographics, log, what = Demographics.of(learned), list[dict[str, float]](), "training latent"
    best = LatentGenerator(search.model, vocabulary, demographics)
    for done in range(1, chosen.iterations + 1):
        sharpness = annealing[done - 1] if done <= len(annealing) else 1.0
        progress(what, done - 1, chosen.iterations)
        found = search.round(sharpness, sized=done > chosen.iterations - chosen.sized)
        if done % _CHECK and done < chosen.iterations:
            continue
        now = LatentGenerator(search.model, vocabulary, demographics)
        loss = _loss(now, tuning)
        log.append({"epoch": float(done - 1), "train_loss": -float(found.mean()), "tuning_loss": loss})
        what = f"training latent, tuning loss {loss:.3f}"
        if loss <= min(record["tuning_loss"] for record in log):
            best = now
    progress(what, chosen.iterations, chosen.iterations)
    right = calibrated(best.model, learned, chosen.calibrations, chosen.calibrated_by, chosen.seed, progress)
    now = dataclasses.replace(best, model=right)
    return (now if _loss(now, tuning) <= _loss(best, tuning) else best), log


def _loss(generator: LatentGenerator, tuning: Records) -> float:
    """Nats per subject, of those that are possible."""
    likelihood = generator.log_likelihood(tuning)
    possible = likelihood[np.isfinite(likelihood)]
    return -float(possible.mean()) if len(possible) else float("inf")
