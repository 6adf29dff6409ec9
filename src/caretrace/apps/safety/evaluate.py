"""The verdict on a run: every task beside its comparators, with intervals that resample weeks and not rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from caretrace import schema
from caretrace.apps.safety.finishing import CRISIS_LEVEL, RECALL, reach
from caretrace.apps.safety.hospital_steps import CRISIS, HORIZONS_HOURS
from caretrace.apps.safety.model import QUANTILES, SCALES
from caretrace.apps.safety.reading import Kinds
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, RESAMPLED, STAFF, Sequences
from caretrace.errors import CaretraceError
from caretrace.evaluation.forecasting import (
    Judged,
    mean,
    mean_sums,
    pinball,
    r2,
    r2_sums,
    warnings_at_recall,
)
from caretrace.evaluation.intervals import Resamples, bootstrap
from caretrace.evaluation.summary import gate

Floats = NDArray[np.float64]
Predictions = dict[str, dict[str, dict[str, Floats]]]

OURS = "caretrace"
# Gates of the simulated city; figures of another dataset are held against the same.
AUROC_BOUNDS = {"crisis_1_h": 0.98, "crisis_8_h": 0.88, "crisis_24_h": 0.82}
ECE_BOUND = 0.03
COVERAGE_BOUNDS = (0.78, 0.82)
FALSE_PER_WEEK = 1.0
BINARY = ("adverse", "retention")
_WEEK_HOURS, _FEWEST_WEEKS = 168, 4
_LOWER_IS_BETTER = ("brier", "ece", "pinball", "error")


def judge(kinds: Kinds, predictions: Predictions, *, replicates: int, seed: int) -> dict[str, Any]:
    """Figures of every target that has enough known values.

    Args:
        kinds: Held-out sequences by kind.
        predictions: Kind → model → target → `[step, …]`; `caretrace` is ours.
        replicates: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `metrics`, `comparators`, `paired`, `gates` as `evaluate` prints them, `warnings` (recall, false warnings a
        week and lead time of every model), `recommended` (task → model) and `too_few` (targets left out, with why).
    """
    verdict = _Verdict(replicates, seed)
    for kind, sequences in kinds.items():
        for target in sequences.targets:
            verdict.add(sequences, target, predictions[kind])
    if HOSPITAL in kinds:
        verdict.warn(kinds[HOSPITAL], predictions[HOSPITAL])
    return verdict.result()


class _Verdict:
    """Figures as they are found."""

    def __init__(self, replicates: int, seed: int) -> None:
        self.replicates, self.seed = replicates, seed
        self.metrics: dict[str, dict[str, dict[str, float]]] = {}
        self.paired: dict[str, dict[str, dict[str, float]]] = {}
        self.warnings: dict[str, dict[str, dict[str, float | None]]] = {}
        self.too_few: dict[str, str] = {}

    def add(self, sequences: Sequences, target: str, models: dict[str, dict[str, Floats]]) -> None:
        """Judge one target of every model that foresees it."""
        value = sequences.steps[target].cast(pl.Float64).to_numpy()
        rows = np.flatnonzero(~np.isnan(value))
        if not len(rows):
            self.too_few[target] = "the held-out time has no outcome of it"
            return
        group = resampled_together(sequences)[rows]
        found = {name: each[target][rows] for name, each in models.items() if target in each}
        value = value[rows]
        try:
            if target in CRISIS:
                scores = {name: reach(each) for name, each in found.items()}
                self._binary(target, value >= CRISIS_LEVEL, scores, group)
            elif target in BINARY:
                self._binary(target, value > 0, found, group)
            elif target in SCALES:
                self._quantiles(target, value, found, group)
            else:
                sums = {name: {"r2": r2_sums(value, each)} for name, each in found.items()}
                self._keep(
                    target, *Judged(value, group, self.replicates, self.seed).compare(sums, {"r2": r2}, OURS)
                )
        except CaretraceError as error:  # one class, or nothing at all: the other targets can still be judged
            self.too_few[target] = str(error)

    def _binary(
        self, target: str, outcome: NDArray[np.bool_], scores: dict[str, Floats], group: NDArray[np.int64]
    ) -> None:
        clipped = {name: np.clip(score, 0.0, 1.0) for name, score in scores.items()}
        resamples = Resamples(outcome, group, self.replicates, self.seed)
        result = bootstrap(clipped, resamples, ("auroc", "auprc", "ece"))
        self._keep(target, result.intervals(), result.paired(OURS))

    def _quantiles(
        self, target: str, value: Floats, quantiles: dict[str, Floats], group: NDArray[np.int64]
    ) -> None:
        sums = {}
        for name, each in quantiles.items():
            inside = (each[:, 0] <= value) & (value <= each[:, -1])
            sums[name] = {
                "pinball": mean_sums(pinball(value, each, QUANTILES)),
                "coverage": mean_sums(inside.astype(float)),
                "error": mean_sums(np.abs(value - each[:, QUANTILES.index(0.5)])),
            }
        figures = {"pinball": mean, "coverage": mean, "error": mean}
        self._keep(target, *Judged(value, group, self.replicates, self.seed).compare(sums, figures, OURS))

    def _keep(
        self,
        target: str,
        found: dict[str, dict[str, dict[str, float]]],
        paired: dict[str, dict[str, dict[str, float]]],
    ) -> None:
        for into, given in ((self.metrics, found), (self.paired, paired)):
            for model, figures in given.items():
                each = into.setdefault(model, {})
                each |= {f"{target}_{name}": value for name, value in figures.items()}

    def warn(self, sequences: Sequences, models: dict[str, dict[str, Floats]]) -> None:
        """What warnings of a crisis would cost and give, at one recall."""
        steps = sequences.steps
        for target, ahead in zip(CRISIS, HORIZONS_HOURS, strict=True):
            if target in self.too_few or not ahead:
                continue
            level = steps[target].cast(pl.Float64).to_numpy()
            for name, each in models.items():
                if target not in each:
                    continue
                score = np.where(np.isnan(level), np.nan, reach(each[target]))
                found = warnings_at_recall(
                    _by_site(steps, score),
                    _by_site(steps, level) >= CRISIS_LEVEL,
                    ahead,
                    RECALL,
                )
                self.warnings.setdefault(name, {})[target] = {
                    "threshold": found.threshold,
                    "recall": found.recall,
                    "false_per_week": found.false_per_week,
                    "precision": found.precision,
                    "lead_hours": None if np.isnan(found.lead_hours) else found.lead_hours,
                }

    def result(self) -> dict[str, Any]:
        """Everything that was found."""
        ours = self.metrics.get(OURS, {})
        return {
            "metrics": ours,
            "comparators": {name: each for name, each in self.metrics.items() if name != OURS},
            "paired": self.paired,
            "gates": self._gates(ours),
            "warnings": self.warnings,
            "recommended": self._recommended(),
            "too_few": self.too_few,
        }

    def _gates(self, ours: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
        gates = {}
        for target, bound in AUROC_BOUNDS.items():
            if f"{target}_auroc" in ours:
                gates[f"{target}_auroc"] = gate(ours[f"{target}_auroc"]["value"], at_least=bound)
                gates[f"{target}_ece"] = gate(ours[f"{target}_ece"]["value"], at_most=ECE_BOUND)
        if "crisis_8_h" in self.warnings.get(OURS, {}):
            false = self.warnings[OURS]["crisis_8_h"]["false_per_week"]
            gates["crisis_8_h_false_per_week"] = gate(float(false or 0.0), at_most=FALSE_PER_WEEK)
        if "delay_coverage" in ours:
            coverage, (low, high) = ours["delay_coverage"]["value"], COVERAGE_BOUNDS
            gates["delay_coverage_low"] = gate(coverage, at_least=low)
            gates["delay_coverage_high"] = gate(coverage, at_most=high)
        return gates

    def _recommended(self) -> dict[str, str]:
        """Figure → the model to use: ours unless one of the others is ahead of it."""
        best = {}
        for figure in self.metrics.get(OURS, {}):
            if figure.endswith(("_ece", "_coverage", "_auprc")):
                continue
            sign = -1 if figure.endswith(_LOWER_IS_BETTER) else 1
            having = {name: each[figure]["value"] for name, each in self.metrics.items() if figure in each}
            best[figure] = max(having, key=lambda name: (sign * having[name], name == OURS))
        return best


def resampled_together(sequences: Sequences) -> NDArray[np.int64]:
    """What is resampled together: the week; of staff the person, whose answers are alike.

    The day, where there are fewer than four weeks: an interval over one week would have no width.
    """
    if RESAMPLED in sequences.steps.columns:
        return sequences.steps[RESAMPLED].rank("dense").cast(pl.Int64).to_numpy()
    if sequences.kind == STAFF:
        return sequences.steps[schema.SUBJECT_ID].to_numpy()
    week = (sequences.steps[HOUR] // _WEEK_HOURS).cast(pl.Int64)
    if week.n_unique() >= _FEWEST_WEEKS:
        return week.to_numpy()
    return (sequences.steps[HOUR] // 24).cast(pl.Int64).to_numpy()


def _by_site(steps: pl.DataFrame, values: Floats) -> Floats:
    """`[site, hour]`, from the first hour to the last; NaN where there is no step."""
    hour = steps[HOUR].to_numpy().astype(np.int64)
    site = steps["site"].rank("dense").to_numpy().astype(np.int64) - 1
    out = np.full((site.max() + 1, hour.max() - hour.min() + 1), np.nan)
    out[site, hour - hour.min()] = values
    return out
