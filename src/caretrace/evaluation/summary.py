"""The one answer of `caretrace evaluate`: figures with intervals, comparators beside them, gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from caretrace.errors import ConfigError, unknown_name
from caretrace.evaluation.intervals import Resamples, bootstrap

# A bundle above this expected calibration error must not call its scores risks.
ECE_BOUND = 0.05


def gate(value: float, *, at_most: float | None = None, at_least: float | None = None) -> dict[str, Any]:
    """One gate, {"passed", "value", "bound"}: a value that must not cross one bound.

    Args:
        value: What was measured.
        at_most: The largest value that passes.
        at_least: The smallest value that passes; give this or `at_most`.

    Raises:
        ConfigError: Both bounds or none.
    """
    if (at_most is None) == (at_least is None):
        raise ConfigError("gate: give exactly one of at_most and at_least")
    if at_most is not None:
        return {"passed": bool(value <= at_most), "value": float(value), "bound": float(at_most)}
    assert at_least is not None
    return {"passed": bool(value >= at_least), "value": float(value), "bound": float(at_least)}


def evaluate(
    labels: npt.ArrayLike,
    scores_by_model: Mapping[str, npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    model: str = "caretrace",
    *,
    application: str,
    split: str,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Held-out figures of a model beside its comparators, in the shape `caretrace evaluate --json` prints.

    Args:
        labels: [n], 0 or 1.
        scores_by_model: {model: [n] risks}, the model and its comparators.
        subject_ids: [n], who each row belongs to; intervals resample subjects.
        model: Which of the models is ours; the others are its comparators.
        application: Name for the answer.
        split: Which split the rows are.
        replicates: Resamples behind every interval.
        seed: The same seed gives the same answer.

    Returns:
        {"application", "split", "n_subjects", "n", "metrics", "comparators", "paired", "gates",
        "recommended": {"name", "reason"}, "bootstrap": {"replicates", "redrawn", "seed"}}; a paired
        difference is the model minus the comparator.

    Raises:
        ConfigError: `model` has no scores.
        CohortError: One class only, or unusable labels, risks or subjects.
    """
    if model not in scores_by_model:
        raise ConfigError(unknown_name("model", model, scores_by_model))
    resamples = Resamples(labels, subject_ids, replicates, seed)
    result = bootstrap(scores_by_model, resamples)
    figures = result.intervals()
    paired = result.paired(model)
    return {
        "application": application,
        "split": split,
        "n_subjects": resamples.n_subjects,
        "n": int(resamples.labels.size),
        "metrics": figures[model],
        "comparators": {name: values for name, values in figures.items() if name != model},
        "paired": paired,
        "gates": {"calibration": gate(figures[model]["ece"]["value"], at_most=ECE_BOUND)},
        "recommended": recommend(model, paired),
        "bootstrap": {"replicates": replicates, "redrawn": result.redrawn, "seed": seed},
    }


def recommend(model: str, paired: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, str]:
    """Which of the models to use, and why, judged by the paired AUROC differences.

    A comparator is recommended when it ranks better: clearly so when the interval of (model - comparator)
    lies below zero, and also when the interval overlaps zero but the comparator is ahead, because it is the
    simpler of two that cannot be told apart. Of several, the one furthest ahead.

    Args:
        model: Our model.
        paired: {comparator: {"auroc": {"difference", "low", "high"}, ...}}.

    Returns:
        {"name", "reason"}, the reason one plain sentence.
    """
    if not paired:
        return {"name": model, "reason": f"{model} was scored alone; no comparator stood beside it."}
    differences = {name: metrics["auroc"] for name, metrics in paired.items()}
    nearest = min(differences, key=lambda name: differences[name]["difference"])
    beaten_by = [name for name in differences if differences[name]["high"] < 0]
    if beaten_by:
        nearest = min(beaten_by, key=lambda name: differences[name]["difference"])
    spelled = _spelled(model, nearest, differences[nearest])
    if beaten_by:
        return {
            "name": nearest,
            "reason": f"{nearest} ranks better than {model}: {spelled} lies entirely below zero.",
        }
    if differences[nearest]["difference"] < 0:
        return {
            "name": nearest,
            "reason": f"these subjects cannot tell {nearest} from {model} ({spelled}); it is ahead and simpler.",
        }
    unclear = sorted(name for name, difference in differences.items() if difference["low"] <= 0)
    if not unclear:
        return {
            "name": model,
            "reason": f"{model} ranks better than every comparator; the nearest is {spelled}.",
        }
    return {
        "name": model,
        "reason": f"{model} is behind no comparator, but its interval overlaps zero against "
        f"{' and '.join(unclear)} ({spelled}): these subjects are too few to be sure.",
    }


def _spelled(model: str, other: str, difference: Mapping[str, float]) -> str:
    return (
        f"AUROC {model} minus {other} {difference['difference']:+.3f} "
        f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
    )
