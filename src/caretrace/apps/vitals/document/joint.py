"""The document's third tier in a run: two autoencoders, each on its own signals, fused by attention.

The joint truth is known because deviations are put into training recordings. What the fusion adds is told beside
what each encoder finds alone, by the same network with one view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caretrace.apps.vitals.config import DocumentConfig
from caretrace.apps.vitals.document.fusion import (
    CARDIOVASCULAR,
    RESPIRATORY,
    AttentionFusion,
    Views,
    fit_fusion,
)
from caretrace.apps.vitals.document.monitor import DocumentMonitor, only
from caretrace.apps.vitals.task import Recordings
from caretrace.data.grid import GridSettings, Stretch, cut
from caretrace.errors import CohortError
from caretrace.evaluation.discrimination import auroc

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
DURING = 0.5  # share of a window's steps within a deviation that makes it one of the deviation
MOST_WINDOWS = 4_000  # to learn the fusion from
NAMES = ("cardiovascular", "respiratory")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Recordings whose truth is known.

    Args:
        stretches: With every channel.
        labels: [step] of each, whether it lies within a deviation.
    """

    stretches: Sequence[Stretch]
    labels: Sequence[BoolArray]


@dataclasses.dataclass(frozen=True)
class Joint:
    """Two encoders, their fusion, and each alone.

    Args:
        encoders: Cardiovascular, respiratory.
        fusion: Of both.
        alone: The same network with one view each.
        threshold: Log-odds from which a window is flagged, with the best F1 on tuning windows.
    """

    encoders: tuple[DocumentMonitor, DocumentMonitor]
    fusion: AttentionFusion
    alone: tuple[AttentionFusion, AttentionFusion]
    threshold: float

    @classmethod
    def fit(
        cls, train: Recordings, known: Labelled, tuning: Labelled, config: DocumentConfig, seed: int
    ) -> Joint:
        """Learn encoders from recordings as they are, and the fusion from those with deviations.

        Args:
            train: Recordings of training subjects.
            known: The same subjects, with deviations.
            tuning: Tuning subjects, with deviations; they choose the threshold.
            config: Of both encoders; their channels are those of each system that are recorded.
            seed: Of everything random.

        Raises:
            CohortError: A system without a channel, too few windows, or windows of one kind only.
        """
        groups = [
            tuple(name for name in system if name in train.channels)
            for system in (CARDIOVASCULAR, RESPIRATORY)
        ]
        if not all(groups):
            raise CohortError(
                f"fusion: it needs a channel of each of {', '.join(CARDIOVASCULAR)} and {', '.join(RESPIRATORY)}; "
                f"found {', '.join(train.channels)}"
            )
        heart, lungs = (
            DocumentMonitor.fit(train, dataclasses.replace(config, channels=group), seed) for group in groups
        )
        views, truth = _views((heart, lungs), known, train.channels, seed)
        fusion = fit_fusion(views, truth, seed)
        alone = tuple(fit_fusion(_one(views, place), truth, seed) for place in (0, 1))
        shown, wanted = _views((heart, lungs), tuning, train.channels, seed)
        return cls(
            (heart, lungs), fusion, (alone[0], alone[1]), _best_threshold(_logits(fusion, shown), wanted)
        )

    def table(self, held: Labelled, channels: tuple[str, ...], seed: int = 0) -> dict[str, float]:
        """AUROC and F1 of the fusion on windows of held-out subjects, AUROC of each encoder alone.

        Windows that lie partly in an event count neither way; nothing where one kind is missing.
        """
        views, truth = _views(self.encoders, held, channels, seed)
        if not 0 < truth.sum() < truth.size:
            return {}
        logit = _logits(self.fusion, views)
        found = {
            "fusion_auc": auroc(truth, logit),
            "fusion_f1": _f1(logit >= self.threshold, truth),
            "fusion_f1_if_all_flagged": _f1(np.ones_like(truth), truth),
            "fusion_windows": float(truth.size),
            "fusion_windows_in_events": float(truth.sum()),
        }
        for place, name in enumerate(NAMES):
            found[f"{name}_auc"] = auroc(truth, _logits(self.alone[place], _one(views, place)))
        return found

    def settings(self) -> dict[str, Any]:
        """What is not a tensor, as JSON has it."""
        return {
            "threshold": self.threshold,
            "encoders": [each.settings() for each in self.encoders],
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        parts = [
            *((f"encoder{place}", each.state()) for place, each in enumerate(self.encoders)),
            ("fusion", self.fusion.state_dict()),
            *((f"alone{place}", each.state_dict()) for place, each in enumerate(self.alone)),
        ]
        return {f"{prefix}.{name}": tensor for prefix, state in parts for name, tensor in state.items()}

    @classmethod
    def restore(
        cls, config: DocumentConfig, settings: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> Joint:
        """What `settings` and `state` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            own = f"{prefix}."
            return {name[len(own) :]: tensor for name, tensor in state.items() if name.startswith(own)}

        def network(prefix: str, views: int) -> AttentionFusion:
            model = AttentionFusion((config.latent,) * views)
            model.load_state_dict(part(prefix))
            return model.eval()

        heart, lungs = (
            DocumentMonitor.restore(
                dataclasses.replace(config, channels=tuple(each["grid"]["channels"])),
                each,
                part(f"encoder{place}"),
            )
            for place, each in enumerate(settings["encoders"])
        )
        return cls(
            (heart, lungs),
            network("fusion", 2),
            (network("alone0", 1), network("alone1", 1)),
            float(settings["threshold"]),
        )


def _views(
    encoders: tuple[DocumentMonitor, DocumentMonitor], known: Labelled, channels: tuple[str, ...], seed: int
) -> tuple[Views, BoolArray]:
    """The same windows as both encoders see them, and whether each lies in a deviation."""
    grid: GridSettings = dataclasses.replace(encoders[0].grid, min_observed=0.0)
    windows = cut(known.stretches, grid)
    share = np.array([known.labels[w.stretch][w.start : w.start + grid.length].mean() for w in windows])
    kept = np.flatnonzero((share == 0) | (share >= DURING))
    if kept.size > MOST_WINDOWS:
        kept = np.sort(np.random.default_rng(seed).choice(kept, MOST_WINDOWS, replace=False))
    some = [windows[int(place)] for place in kept]
    vectors = tuple(
        each.embed(only(known.stretches, channels, each.config.channels), some) for each in encoders
    )
    return Views(tuple(each.config.channels for each in encoders), vectors), share[kept] >= DURING


def _one(views: Views, place: int) -> Views:
    return Views((views.channels[place],), (views.embeddings[place],))


@torch.no_grad()
def _logits(model: AttentionFusion, views: Views) -> npt.NDArray[np.float64]:
    return np.asarray(model(views.tensors()).numpy(), np.float64)


def _best_threshold(logit: npt.NDArray[np.float64], truth: BoolArray) -> float:
    """Of 100 quantiles of the scores, the one with the best F1; 0 where one kind is missing."""
    if not 0 < truth.sum() < truth.size:
        return 0.0
    tried = np.quantile(logit, np.linspace(0, 0.99, 100))
    return float(tried[int(np.argmax([_f1(logit >= each, truth) for each in tried]))])


def _f1(flagged: BoolArray, truth: BoolArray) -> float:
    return float(2 * (flagged & truth).sum() / max(1, flagged.sum() + truth.sum()))
