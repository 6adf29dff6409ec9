"""The decoder as a generator: fitted, judged, sampled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.sequences import Batch, CodeTables, Records, make_batch
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.decoder.network import DecoderConfig, DecoderModel, Masks
from caretrace.apps.synth.models.decoder.sampling import Sampler, SamplingConfig, Wanted
from caretrace.apps.synth.models.fitting import FitConfig, batches, fit
from caretrace.apps.synth.models.generator import Demographics
from caretrace.config import to_dict
from caretrace.evaluation.histories import Bools, Floats

_TOKENS = 4096  # of a batch when judging


@dataclasses.dataclass(frozen=True, eq=False)
class DecoderGenerator:
    """A fitted model, the codes it writes and the people it writes them for.

    Args:
        model: In evaluation mode.
        vocabulary: Its codes.
        demographics: Of the training subjects.
        masked: Whether codes that the Medicare Code Editor calls impossible at an age or sex are impossible. Real
            histories with such a code then have likelihood 0.
    """

    model: DecoderModel
    vocabulary: Vocabulary
    demographics: Demographics
    masked: bool = True

    @functools.cached_property
    def allowed(self) -> Bools | None:
        """`[age, sex, code]`, or None if nothing is masked."""
        if not self.masked:
            return None
        return self.model.tables.allowed(icd9.limits(self.vocabulary.normal_codes))

    @torch.no_grad()
    def log_likelihood(self, records: Records) -> Floats:
        """`[subject]`: log p(history | age, sex, conditions), marks included where the model has them, nats."""
        clean = records.sorted()
        learner = DecoderLearner(self.model)
        out = np.zeros(len(clean))
        allowed = self.allowed
        last = None if allowed is None else torch.from_numpy(self.model.tables.last_allowed(allowed))
        for subjects in batches(clean, _TOKENS, np.random.default_rng(0)):
            batch = learner.batch(clean.take(subjects))
            masks = None
            if allowed is not None and last is not None:
                age, sex = batch.age.cpu(), batch.sex.cpu()
                of_code = torch.from_numpy(allowed[age.numpy(), sex.numpy()])
                masks = Masks(last[age, sex].to(batch.age.device), of_code.to(batch.age.device))
            found = self.model.per_subject(batch, self.model(batch, masks))
            out[subjects] = found.double().cpu().numpy()
        return out

    def settings(self) -> dict[str, Any]:
        """What a bundle keeps beside the weights."""
        return {
            "model": to_dict(self.model.config),
            "marks": list(self.model.n_marks),
            "conditions": self.model.n_conditions,
            "masked": self.masked,
        }

    def state(self) -> dict[str, Tensor]:
        """Weights, for a bundle."""
        return dict(self.model.state_dict())

    def draw(self, wanted: Wanted, seed: int, config: SamplingConfig) -> Records:
        """One history for each subject wanted."""
        return Sampler(self.model, config, seed, self.allowed).draw(wanted).records


class DecoderLearner:
    """Batches and losses of the decoder.

    Args:
        model: The model.
    """

    def __init__(self, model: DecoderModel) -> None:
        self._model = model

    def batch(self, records: Records, rng: np.random.Generator | None = None) -> Batch:
        """Sequences of these subjects, codes sorted before."""
        del rng
        return make_batch(records).to(next(self._model.parameters()).device)

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log-likelihood, nats per subject."""
        return self._model.loss(batch)

    def tuning_loss(self, records: Records) -> Tensor:
        """The same."""
        return self._model.loss(self.batch(records))


def fit_decoder(
    train: Records,
    tuning: Records,
    vocabulary: Vocabulary,
    config: DecoderConfig | None = None,
    fitting: FitConfig | None = None,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[DecoderGenerator, list[dict[str, float]]]:
    """Fit the decoder.

    Args:
        train: Subjects to learn from; their marks and conditions, if any, are modelled.
        tuning: Subjects that say when to stop.
        vocabulary: Of the histories.
        config: Size and parts.
        fitting: How.
        progress: Told after each epoch.

    Returns:
        The generator, and a record per epoch.
    """
    chosen = fitting or FitConfig()
    torch.manual_seed(chosen.seed)
    marks = () if train.marks is None else tuple(int(n) + 1 for n in train.marks.max(0))
    conditions = 0 if train.conditions is None else train.conditions.shape[1]
    model = DecoderModel(config or DecoderConfig(), CodeTables(vocabulary), marks, conditions)
    clean, check = train.sorted(), tuning.sorted()
    model.start_at(clean.histories)
    log = fit(model, DecoderLearner(model), clean, check, chosen, progress)
    return DecoderGenerator(model, vocabulary, Demographics.of(clean.histories)), log
