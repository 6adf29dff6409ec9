"""The table of `caretrace bench safety`: figures over the seeds, beside comparators and the oracle."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from cases import Case

from caretrace.apps.safety import comparators
from caretrace.apps.safety.finishing import RECALL
from caretrace.apps.safety.training import NETWORK

OURS = "caretrace"
READINGS = (NETWORK, comparators.TREES, comparators.LINEAR)


@dataclasses.dataclass(frozen=True)
class Table:
    """Figures over the seeds.

    Args:
        verdicts: Of each seed, as `judge` gives them.
        ceilings: Target → figure of somebody who knows the latent state.
        oracle: Target → AUROC of oracle, ours and trees at the same hours.
    """

    verdicts: list[dict[str, Any]]
    ceilings: dict[str, float]
    oracle: dict[str, dict[str, float]]

    def cases(self) -> list[Case]:
        """As benchmarks report them."""
        return [
            Case(self.words(name), "", self.value(OURS, name), self.others(name)) for name in self.figures
        ]

    @property
    def figures(self) -> list[str]:
        """Names, in the order of the verdicts."""
        return list(self.verdicts[0]["metrics"])

    def models(self) -> list[str]:
        """Names of the comparators."""
        return list(self.verdicts[0]["comparators"])

    def each(self, model: str, figure: str, part: str = "value") -> list[float]:
        """One number per seed; empty where the model has no such figure."""
        found = [one["metrics"] if model == OURS else one["comparators"][model] for one in self.verdicts]
        return [one[figure][part] for one in found if figure in one]

    def value(self, model: str, figure: str) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.each(model, figure)))

    def others(self, figure: str) -> dict[str, float]:
        """Mean over the seeds of every comparator that has the figure."""
        return {name: self.value(name, figure) for name in self.models() if self.each(name, figure)}

    def words(self, figure: str) -> str:
        """The figure, and what is said about how sure it is."""
        low, high = (float(np.mean(self.each(OURS, figure, part))) for part in ("low", "high"))
        each = self.each(OURS, figure)
        return f"{figure} [{low:.3f}, {high:.3f}], seeds {min(each):.3f} to {max(each):.3f}"

    def markdown(self) -> str:
        """Two tables: every figure beside the comparators, and crises beside the oracle."""
        return "\n\n".join([self._beside(), self._warnings(), self._against_oracle(), self._shares()]) + "\n"

    def _beside(self) -> str:
        head = [
            "figure",
            "caretrace",
            "seeds",
            *self.models(),
            "less trees",
            "less linear",
            "knows the latent state",
        ]
        rows = [self._row(name) for name in self.figures]
        return markdown(head, rows)

    def _row(self, name: str) -> list[str]:
        low, high = (float(np.mean(self.each(OURS, name, part))) for part in ("low", "high"))
        each = self.each(OURS, name)
        others = self.others(name)
        target = name.rsplit("_", 1)[0]
        ceiling = self.ceilings.get(target) if name.endswith(("r2", "auroc")) else None
        return [
            name,
            f"{self.value(OURS, name):.4f} [{low:.4f}, {high:.4f}]",
            f"{min(each):.4f}–{max(each):.4f}",
            *(f"{others[model]:.4f}" if model in others else "" for model in self.models()),
            *(self._difference(model, name) for model in (comparators.TREES, comparators.LINEAR)),
            "" if ceiling is None else f"{ceiling:.3f}",
        ]

    def _difference(self, model: str, name: str) -> str:
        """Ours less a comparator, mean over the seeds, with the interval."""
        paired = [one["paired"].get(model, {}).get(name) for one in self.verdicts]
        found = [one for one in paired if one]
        if not found:
            return ""
        parts = [float(np.mean([one[part] for one in found])) for part in ("difference", "low", "high")]
        return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*parts)

    def _warnings(self) -> str:
        rows = []
        for model in self.verdicts[0]["warnings"]:
            for target in self.verdicts[0]["warnings"][model]:
                found = [one["warnings"][model][target] for one in self.verdicts]
                names = ("recall", "false_per_week", "precision", "lead_hours")
                rows.append([model, target, *(over_seeds([one[name] for one in found]) for name in names)])
        head = ["model", "target", "recall", "false warnings a week and hospital", "precision", "lead, h"]
        return markdown(head, rows)

    def _against_oracle(self) -> str:
        who = ("oracle", OURS, comparators.TREES)
        rows = []
        for target, found in self.oracle.items():
            cells = [_with_interval(found, name, 3) for name in who]
            cells += [_with_interval(found, "kept", 3)]
            cells += [_with_interval(found, f"{name} precision", 2) for name in who]
            rows.append([target, *cells, f"{found['hours']:.0f}", f"{found['crises']:.0f}"])
        head = ["target", *(f"AUROC {name}" for name in who), "ours of the oracle's"]
        head += [f"precision at recall {RECALL}, {name}" for name in who]
        return markdown([*head, "hours", "crises"], rows)

    def _shares(self) -> str:
        shares = [one["shares"] for one in self.verdicts]
        kinds = [(kind, target) for kind, each in shares[0].items() for target in each]
        rows = [
            [
                target,
                *(
                    f"{np.mean([one[kind].get(target, {}).get(name, 0.0) for one in shares]):.2f}"
                    for name in READINGS
                ),
            ]
            for kind, target in kinds
        ]
        return markdown(["share of", *READINGS], rows)


def _with_interval(found: dict[str, float], name: str, digits: int) -> str:
    value, low, high = (f"{found[key]:.{digits}f}" for key in (name, f"{name} low", f"{name} high"))
    return f"{value} [{low}, {high}]"


def over_seeds(values: list[float | None]) -> str:
    """Mean, and the range where seeds differ; nothing where no seed has a number."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean, low, high = f"{np.mean(known):.2f}", f"{min(known):.2f}", f"{max(known):.2f}"
    return mean if low == high else f"{mean} ({low}–{high})"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
