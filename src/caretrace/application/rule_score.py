"""A score that *is* a planted rule, for telling what a method does from what a model does.

A trained model may lean on a decoy, because it travels with the cause; then a method that says so is right. This score
cannot: whatever credit a decoy gets here is the method's own.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from caretrace.data.batch import EventBatch
from caretrace.explain.scores import Path
from caretrace.hospital.config import Rule

_STRENGTH = 5.0


class RuleScore:
    """+5 where a rule holds, -5 where it does not.

    Args:
        rule: The rule.
        codes: Code numbers of its events, A first.
        within_hours: Events count that are at most this old.
    """

    reference = "a record without measurements"

    def __init__(self, rule: Rule, codes: Sequence[int], within_hours: float) -> None:
        self.rule, self.within_hours = rule, within_hours
        self.first, self.second = codes[0], codes[-1]

    def __call__(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """The rule, by presence and times."""
        a, b = (self._where(batch, code) for code in (self.first, self.second))
        never = torch.full_like(batch.time_hours, torch.inf)
        earliest = torch.where(a, batch.time_hours, never).amin(1)
        latest = torch.where(b, batch.time_hours, -never).amax(1)
        holds = {
            "conjunctive": a.any(1) & b.any(1),
            "ordered": earliest < latest,
            "redundant": a.any(1) | b.any(1),
        }.get(self.rule, a.any(1))
        return _logit(holds.to(batch.static.dtype))

    def path(self, sample: EventBatch) -> Path:
        """Events that are there in part make the rule hold in part: the chance of it, were presences chances."""
        a, b = (self._where(sample, code)[0].nonzero()[:, 0] for code in (self.first, self.second))
        times = sample.time_hours[0]

        def score(presence: Tensor, static: Tensor) -> Tensor:
            del static
            some_a, some_b = (1 - (1 - presence[:, each]).prod(1) for each in (a, b))
            if self.rule == "conjunctive":
                return _logit(some_a * some_b)
            if self.rule == "redundant":
                return _logit(1 - (1 - some_a) * (1 - some_b))
            if self.rule == "ordered":
                pairs = presence[:, a, None] * presence[:, None, b] * (times[a, None] < times[None, b])
                return _logit(1 - (1 - pairs).flatten(1).prod(1))
            return _logit(some_a)

        return score

    def _where(self, batch: EventBatch, code: int) -> Tensor:
        return (batch.code == code) & ~batch.padding_mask & (batch.time_hours >= -self.within_hours)


def _logit(holds: Tensor) -> Tensor:
    return _STRENGTH * (2 * holds - 1)
