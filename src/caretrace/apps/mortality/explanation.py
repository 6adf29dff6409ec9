"""The mortality ensemble as a score that can be explained: with gradients, short ways and attention.

The step embedding is a sum over codes, and so is the linear reading. So what a measurement adds to either, given
the earlier measurements of its own code, is computed once, and everything else is sums of that:

    v_i = e(measurements of its code up to i) - e(those before i)      e: embedding before its normalisation
    hidden(w) = b + sum_i w_i g (v_i - mean v_i) / s                     g, b, s: of the layer normalisation

`s` is held at the record's own (as Ali et al. 2022, "XAI for Transformers", section 3.2, do), which makes the
path from no measurement (w = 0) to the record (w = 1) straight, and smooth where a normalisation of almost
nothing would jump. Both ends are exact: the score of the empty record and of the record.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from caretrace.apps.mortality.document import DocumentModel, EventEmbedding
from caretrace.apps.mortality.model import MortalityModel
from caretrace.backbones.embedding import StepEmbedding
from caretrace.backbones.transformer import Transformer
from caretrace.data.batch import EventBatch
from caretrace.explain.attention import rollout
from caretrace.explain.heads import Looks
from caretrace.explain.scores import MOST_SLOTS, Score, copies, score_without

Member = MortalityModel | DocumentModel
# Longer records are looked into without their layers: weights grow with the square of the steps.
MOST_STEPS = 1024


class EnsembleScore:
    """Mean logit of an ensemble, before recalibration (which only shifts and stretches it).

    Args:
        members: Models in evaluation mode.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        self.members = [member for member in members if isinstance(member, MortalityModel | DocumentModel)]

    def __call__(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        return torch.stack([member(batch) for member in self.members]).mean(0)

    def without_each(self, sample: EventBatch) -> Float[Tensor, "measurement"]:
        """Logit without each measurement: where the embedding is a sum, only the sum of its code is exchanged."""
        return torch.stack([_without_each(member, sample) for member in self.members]).mean(0)

    def attention(self, sample: EventBatch) -> dict[str, Float[Tensor, "measurement"]]:
        """Pooling attention, and attention roll-out where the backbone is a Transformer; mean of heads and members.

        A step's weight is given to every measurement in it.
        """
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for member in self.members:
                for name, weight in _attention(member, sample).items():
                    found[name] = found.get(name, 0.0) + weight / len(self.members)
        return found

    def looks(self, sample: EventBatch) -> list[Looks]:
        """Where each member looks, head by head and layer by layer."""
        with torch.no_grad():
            return [_looks(member, sample) for member in self.members]


class MortalityScore(EnsembleScore):
    """The same where no reading is of trees: a step has no gradient, so gradient methods are not to be asked of it."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        steps = all(isinstance(member.embedding, StepEmbedding) for member in self.members)
        self.reference = "a record without measurements, of mean age, no category known"
        if not steps:
            self.reference = "as many blank measurements, mean age, no category known"

    def path(self, sample: EventBatch) -> "EnsemblePath":
        """The score of one sample whose measurements are there in part."""
        return EnsemblePath([MemberPath(member, sample) for member in self.members])


def ensemble_score(members: Sequence[nn.Module]) -> EnsembleScore:
    """The score of an ensemble, with what it can be asked."""
    graded = all(member.trees is None for member in EnsembleScore(members).members)
    return MortalityScore(members) if graded else EnsembleScore(members)


class EnsemblePath:
    """Mean of the members' paths."""

    def __init__(self, paths: "Sequence[MemberPath]") -> None:
        self.paths = paths

    def __call__(
        self, presence: Float[Tensor, "point measurement"], static: Float[Tensor, "point feature"]
    ) -> Float[Tensor, "point"]:
        """Logit at each point."""
        return torch.stack([path(presence, static) for path in self.paths]).mean(0)


class MemberPath:
    """One member's score of one sample, in part.

    Args:
        member: The model.
        sample: A batch of one sample.
    """

    def __init__(self, member: Member, sample: EventBatch) -> None:
        self.member, self.sample = member, sample
        with torch.no_grad():
            self.level = None if member.level is None else _level_parts(member, sample)
            if isinstance(member.embedding, StepEmbedding):
                self.share, self.blank = _step_shares(member.embedding, sample)
            else:
                hidden = _embedded(member, sample)[0][0]
                self.blank = _bias(member.embedding)
                self.share = hidden - self.blank

    def __call__(self, presence: Tensor, static: Tensor) -> Tensor:
        """Logit at each point."""
        if isinstance(self.member.embedding, StepEmbedding):
            hidden = self.blank + torch.einsum("pm,msd->psd", presence, self.share)
            padding = hidden.new_zeros(hidden.shape[:2], dtype=torch.bool)
        else:
            hidden = self.blank + presence[..., None] * self.share
            padding = self.sample.padding_mask.expand(len(presence), -1)
        course = _course(self.member, hidden, padding, static)
        if self.level is None:
            return course
        level = self.member.level(_nothing(len(presence), static)) + presence @ self.level  # type: ignore[misc]
        return (course + level) / 2


def _step_shares(embedding: StepEmbedding, sample: EventBatch) -> tuple[Tensor, Tensor]:
    """What each measurement adds to the hidden vectors, [measurement, step, d_model], and their blank value."""
    upto = torch.cat([_before_norm(embedding, part) for part in _same_code(sample, "up to")])
    added = upto - _previous(sample, upto)
    norm = embedding.norm
    spread = (added.sum(0).var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return norm.weight * (added - added.mean(-1, keepdim=True)) / spread, norm.bias


def _level_parts(member: Member, sample: EventBatch) -> Tensor:
    """What each measurement adds to the logit of the linear reading, [measurement]."""
    level = member.level
    assert level is not None
    upto = torch.cat([level(_plain(part)) for part in _same_code(sample, "up to")]) - level.bias
    return upto - _previous(sample, upto)


def _without_each(member: Member, sample: EventBatch) -> Tensor:
    """Logit of one member without each measurement."""
    if isinstance(member, DocumentModel) or not isinstance(member.embedding, StepEmbedding):
        return torch.from_numpy(_without_one(member, sample))
    everything = _before_norm(member.embedding, sample)
    courses, levels = [], []
    for all_of_code, others in zip(_same_code(sample, "all"), _same_code(sample, "others"), strict=True):
        exchanged = _before_norm(member.embedding, others) - _before_norm(member.embedding, all_of_code)
        hidden = member.embedding.norm(everything + exchanged)
        padding = hidden.new_zeros(hidden.shape[:2], dtype=torch.bool)
        courses.append(_course(member, hidden, padding, sample.static.expand(len(hidden), -1)))
        if member.level is not None:
            exchanged_level = member.level(_plain(others)) - member.level(_plain(all_of_code))
            levels.append(member.level(sample) + exchanged_level)
    level = torch.cat(levels) if levels else None
    trees = None
    if member.trees is not None:
        trees = torch.from_numpy(_without_one(member.trees, sample)).to(sample.static)
    return member.together(torch.cat(courses), level, trees)


def _without_one(score: Score, sample: EventBatch) -> Float[np.ndarray, "measurement"]:
    return score_without(score, sample, np.eye(sample.code.shape[1], dtype=bool))


def _same_code(sample: EventBatch, which: str) -> Iterator[EventBatch]:
    """For each measurement a record of its code alone: "up to" it, "all" of them, or the "others"."""
    code, width = sample.code[0], sample.code.shape[1]
    position = torch.arange(width, device=code.device)
    size = max(1, MOST_SLOTS // width)
    for start in range(0, width, size):
        own = position[start : start + size, None]
        keep = (code[own] == code) & ~sample.padding_mask & ~sample.padding_mask[0][own]
        if which == "up to":
            keep &= position <= own
        elif which == "others":
            keep &= position != own
        yield copies(sample, len(own)).without(~keep)


def _previous(sample: EventBatch, values: Tensor) -> Tensor:
    """`values` of the measurement of the same code before each; 0 for the first of a code."""
    code = sample.code[0]
    order = torch.argsort(code, stable=True)
    again = torch.zeros(len(code), dtype=torch.bool, device=code.device)
    again[order[1:]] = code[order[1:]] == code[order[:-1]]
    before = torch.zeros_like(order)
    before[order[1:]] = order[:-1]
    shape = (-1,) + (1,) * (values.ndim - 1)
    return torch.where(again.view(shape), values[before], 0.0)


def _before_norm(embedding: nn.Module, batch: EventBatch) -> Tensor:
    """What goes into the embedding's normalisation."""
    caught: list[Tensor] = []
    norm: nn.Module = embedding.norm  # type: ignore[assignment]
    handle = norm.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        embedding(batch)
    finally:
        handle.remove()
    return caught[0]


def _bias(embedding: nn.Module) -> Tensor:
    if isinstance(embedding, EventEmbedding):
        return embedding.blank
    found: Tensor = embedding.norm.bias  # type: ignore[union-attr,assignment]
    return found


def _embedded(member: Member, sample: EventBatch) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = member.embedding(sample)
    return found


def _course(member: Member, hidden: Tensor, padding_mask: Tensor, static: Tensor) -> Tensor:
    """The sequence's logit with other hidden vectors in place of the embedding's; gradients pass."""
    with _embedding_gives(member, (hidden, padding_mask)):
        return member.course(_nothing(len(hidden), static))


@contextmanager
def _embedding_gives(member: Member, output: tuple[Tensor, Tensor]) -> Iterator[None]:
    handle = member.embedding.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _nothing(count: int, static: Tensor) -> EventBatch:
    """Records of one padded slot each."""
    none = torch.zeros(count, 1, device=static.device)
    number = none.long()
    return EventBatch(
        code=number,
        numeric_value=none,
        numeric_mask=none.bool(),
        text_id=number - 1,
        event_type=number,
        time_hours=none,
        time_delta_hours=none,
        static=static,
        padding_mask=~none.bool(),
    )


def _plain(batch: EventBatch) -> EventBatch:
    """The same measurements with static features of zero."""
    return EventBatch(**{**vars(batch), "static": torch.zeros_like(batch.static)})


def _attention(member: Member, sample: EventBatch) -> dict[str, Tensor]:
    caught = _caught(member, sample)
    pooling = member.pooling.weights(*caught["pooling"]).mean(-1)[0]
    found = {"pooling": pooling}
    if isinstance(member.backbone, Transformer):
        mixed = rollout(member.backbone.attention_weights(*caught["backbone"]))
        found["rollout"] = pooling @ mixed[0]
    step = _step_of(member, sample)
    return {name: weight[step].masked_fill(sample.padding_mask[0], 0.0) for name, weight in found.items()}


def _looks(member: Member, sample: EventBatch) -> Looks:
    caught = _caught(member, sample)
    hidden, padding = caught["pooling"]
    real = ~padding[0]
    layers: np.ndarray | None = None
    if isinstance(member.backbone, Transformer) and real.sum() <= MOST_STEPS:
        weights = member.backbone.attention_weights(*caught["backbone"])[:, 0]
        layers = weights[:, :, real][..., real].cpu().numpy()
    hours = -sample.time_hours[0]
    if isinstance(member.embedding, StepEmbedding):
        hours = member.embedding.times(sample).ago_hours[0]
    keys = member.pooling.key(hidden).unflatten(-1, (member.pooling.n_heads, -1))[0, real]
    step = _step_of(member, sample).masked_fill(sample.padding_mask[0], -1)
    return Looks(
        pooling=member.pooling.weights(hidden, padding)[0, real].T.cpu().numpy(),
        query=member.pooling.query.detach().cpu().numpy(),
        keys=keys.cpu().numpy(),
        hours=hours[real].cpu().numpy(),
        step_of=step.cpu().numpy(),
        layers=layers,
    )


def _caught(member: Member, sample: EventBatch) -> dict[str, Any]:
    """What goes into the pooling and into the backbone."""
    caught: dict[str, Any] = {}
    handles = [
        member.pooling.register_forward_pre_hook(lambda _, inputs: caught.update(pooling=inputs)),
        member.backbone.register_forward_pre_hook(lambda _, inputs: caught.update(backbone=inputs)),
    ]
    try:
        member.course(sample)
    finally:
        for handle in handles:
            handle.remove()
    return caught


def _step_of(member: Member, sample: EventBatch) -> Tensor:
    """Number of the step that each measurement is in."""
    if not isinstance(member.embedding, StepEmbedding):
        return torch.arange(sample.code.shape[1], device=sample.code.device)
    n_steps = member.embedding.n_steps
    age = (-sample.time_hours[0] / member.embedding.step_hours).floor().clamp(max=n_steps - 1).long()
    return n_steps - 1 - age
