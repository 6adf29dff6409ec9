"""What is known beside the subjects, and figures, floors and gates as they come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from caretrace import schema
from caretrace.evaluation import fidelity, views
from caretrace.evaluation.histories import Bools, Floats, Histories, Ints
from caretrace.evaluation.summary import gate

SPREADS = fidelity.SPREADS
Sets = tuple[Histories, Histories, Histories]  # training, held-out, synthetic


@dataclasses.dataclass(frozen=True, eq=False)
class Limits:
    """Who may have a code, axis `[code]` of the histories; see `icd9.limits` and `limits_of`."""

    age_first: Ints
    age_last: Ints
    sexes: Bools


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihoods:
    """Log-likelihoods of training and held-out subjects, nats, for the membership attack.

    Args:
        train: `[training subject]`, under the generator.
        train_reference: Under a model that never saw them.
        held_out: `[held-out subject]`, under the generator.
        held_out_reference: Under the reference.
    """

    train: Floats
    train_reference: Floats
    held_out: Floats
    held_out_reference: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Canaries:
    """Planted inventions, and controls of the same make that were not planted (`privacy.plant_canaries`)."""

    planted: Histories
    controls: Histories


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What is known beside the subjects.

    Args:
        limits: Age and sex edits; without them validity counts duplicates only.
        likelihoods: For the membership attack; without them it has distances only.
        canaries: What was planted into training.
        nnaa_subjects: Most subjects of each kind for NNAA; 0 takes all.
        seed: Of every draw.
        split: Name for the answer.
    """

    limits: Limits | None = None
    likelihoods: Likelihoods | None = None
    canaries: Canaries | None = None
    nnaa_subjects: int = 8000
    seed: int = 0
    split: str = schema.HELD_OUT


class Verdict:
    """Figures, floors and gates as they come in."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}
        self.floors: dict[str, dict[str, float]] = {}
        self.gates: dict[str, dict[str, Any]] = {}
        self.goals: dict[str, dict[str, Any]] = {}

    def figure(self, name: str, value: float, low: float | None = None, high: float | None = None) -> None:
        """A figure of the synthetic subjects; without an interval it is its own."""
        self.metrics[name] = interval(value, low, high)

    def floor(self, name: str, value: float, low: float | None = None, high: float | None = None) -> None:
        """The same figure of fresh real subjects."""
        self.floors[name] = interval(value, low, high)

    def most(self, name: str, value: float, bound: float, goal: float | None = None) -> None:
        """A gate from above."""
        self.gates[name] = gate(value, at_most=bound if goal is None else max(bound, goal))
        if goal is not None:
            self.goals[name] = {"value": float(value), "goal": goal, "reached": bool(value <= goal)}

    def least(self, name: str, value: float, bound: float, goal: float | None = None) -> None:
        """A gate from below."""
        self.gates[name] = gate(value, at_least=bound if goal is None else min(bound, goal))
        if goal is not None:
            self.goals[name] = {"value": float(value), "goal": goal, "reached": bool(value >= goal)}


def counts(sets: Sets, events: Callable[[Histories], views.Events]) -> fidelity.Counts:
    """Events of each of the three, with the numbers of their subjects."""
    train, held_out, synthetic = sets
    return fidelity.Counts(
        events(train), events(held_out), events(synthetic), (len(train), len(held_out), len(synthetic))
    )


def interval(value: float, low: float | None, high: float | None) -> dict[str, float]:
    """A figure as JSON has it; without an interval it is its own."""
    return {
        "value": float(value),
        "low": float(value if low is None else low),
        "high": float(value if high is None else high),
    }
