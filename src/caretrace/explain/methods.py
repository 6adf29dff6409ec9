"""The methods by name. To add one: one row in `METHODS`; `caretrace explain --certify` then judges it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from caretrace.data.batch import EventBatch
from caretrace.errors import ConfigError, unknown_name
from caretrace.explain.attribution import Attribution
from caretrace.explain.gradients import gradient_shap, integrated_gradients
from caretrace.explain.groups import Groups, members, summed
from caretrace.explain.removal import ablation, blanked, per_group, removal
from caretrace.explain.scores import Attends, Score, copies, score_once, score_without

Kind = Literal["removal", "gradient", "attention"]
ByGroup = Callable[[Score, EventBatch, Groups], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to give credit.

    Args:
        name: Its key.
        title: What a page says over it.
        kind: "removal" takes away, "gradient" differentiates, "attention" is what the model looks at: that is
            drawn, and never called importance whatever gates it passes.
        run: Score and a batch of one sample → credit of every measurement.
        by_group: The same for groups of measurements, [group].
        literal: What the credit of groups is by definition, computed the long way; None where there is no such.
        complete: Whether the credits must sum to the score less that of the reference.
    """

    name: str
    title: str
    kind: Kind
    run: Callable[[Score, EventBatch], Attribution]
    by_group: ByGroup
    literal: ByGroup | None = None
    complete: bool = False


def find_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        ConfigError: No such method.
    """
    if name not in METHODS:
        raise ConfigError(unknown_name("method", name, METHODS))
    return METHODS[name]


def attention(kind: str) -> Callable[[Score, EventBatch], Attribution]:
    """A method that shows one kind of attention; weights, not differences of the score."""

    def run(score: Score, sample: EventBatch) -> Attribution:
        weights: dict[str, Tensor] = score.attention(sample) if isinstance(score, Attends) else {}
        if kind not in weights:
            raise ConfigError(f"this model has no {kind} attention to draw; it has {list(weights) or 'none'}")
        credit = weights[kind].double().cpu().numpy()
        none = np.zeros(sample.static.shape[1])
        return Attribution(
            credit, none, score_once(score, sample), None, "none: a weight is not a difference"
        )

    return run


def summed_by_group(run: Callable[[Score, EventBatch], Attribution]) -> ByGroup:
    """Credit of groups as the sum over their members, for methods whose credits add up."""
    return lambda score, sample, groups: summed(groups, run(score, sample).credit)


def _removal_by_group(score: Score, sample: EventBatch, groups: Groups) -> np.ndarray:
    return per_group(groups, removal(score, sample, groups).credit)


def _removal_literally(score: Score, sample: EventBatch, groups: Groups) -> np.ndarray:
    return score_once(score, sample) - score_without(score, sample, members(groups))


def _ablation_by_group(score: Score, sample: EventBatch, groups: Groups) -> np.ndarray:
    return per_group(groups, ablation(score, sample, groups).credit)


def _ablation_literally(score: Score, sample: EventBatch, groups: Groups) -> np.ndarray:
    found = []
    for inside in members(groups):
        told = blanked(copies(sample, 1), torch.from_numpy(inside[None]), "unknown")
        found.append(score_once(score, sample) - score_once(score, told))
    return np.array(found)


def _drawn(name: str, title: str) -> Method:
    run = attention(name)
    return Method(name, title, "attention", run, summed_by_group(run))


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "removal",
            "What the risk would be without the measurement",
            "removal",
            removal,
            _removal_by_group,
            _removal_literally,
        ),
        Method(
            "ablation",
            "What the risk would be had the measurement said nothing",
            "removal",
            ablation,
            _ablation_by_group,
            _ablation_literally,
        ),
        Method(
            "integrated_gradients",
            "Integrated gradients of the logit",
            "gradient",
            integrated_gradients,
            summed_by_group(integrated_gradients),
            complete=True,
        ),
        Method(
            "gradient_shap",
            "Expected gradients of the logit",
            "gradient",
            gradient_shap,
            summed_by_group(gradient_shap),
        ),
        _drawn("pooling", "What the pooling attends to"),
        _drawn("rollout", "Attention roll-out"),
    )
}
DEFAULT = "removal"
