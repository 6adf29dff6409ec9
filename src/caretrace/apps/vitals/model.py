"""A trained monitor: scores, thresholds and what it was tuned on; and its bundle on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caretrace.apps.vitals.config import Resolution, VitalsConfig
from caretrace.apps.vitals.detector.history import HistorySettings
from caretrace.apps.vitals.detector.network import REASONS, Detector
from caretrace.apps.vitals.detector.scoring import RECONSTRUCTION, SURPRISE, Scored, Scorer
from caretrace.apps.vitals.drift import Reference
from caretrace.apps.vitals.policy import Alarms, Scores, Thresholds, raise_alarms
from caretrace.apps.vitals.task import Recordings
from caretrace.config import from_dict, to_dict
from caretrace.data.grid import ChannelScaler, GridSettings, Stretch
from caretrace.errors import BundleError, CohortError, ConfigError
from caretrace.training.bundle import Bundle, read_bundle, write_bundle

if TYPE_CHECKING:
    from caretrace.apps.vitals.document.joint import Joint
    from caretrace.apps.vitals.document.monitor import DocumentMonitor

APPLICATION = "vitals"
RISK = "risk"  # the one reason of the document's model
REASONS_OF: Mapping[str, tuple[str, ...]] = {
    "evidence": REASONS,
    "likelihood": (SURPRISE,),
    "reconstruction": (RECONSTRUCTION,),
    "conv-lstm-autoencoder": (RISK,),
}
TRAILING_SECONDS = 60.0  # of the surprise, at monitor resolution
FloatArray = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Monitor:
    """Everything that is needed to watch somebody.

    Args:
        config: Settings of the training.
        design: Which scores raise alarms; a key of `REASONS_OF`.
        like: Channels, step and window, with no recordings.
        scorer: The detector.
        document: The document's model, if it was fitted.
        thresholds: Design → thresholds.
        reference: What tuning recordings were like.
        joint: The document's fused encoders, if they were fitted.
    """

    config: VitalsConfig
    design: str
    like: Recordings
    scorer: Scorer
    document: DocumentMonitor | None
    thresholds: Mapping[str, Thresholds]
    reference: Reference
    joint: Joint | None = None

    def scored(self, stretches: Sequence[Stretch]) -> list[Scored]:
        """What the detector says of each recording."""
        return self.scorer.score([stretch.values for stretch in stretches])

    def scores(self, stretches: Sequence[Stretch], design: str | None = None) -> list[Scores]:
        """Scores of a design, with the times at which they are known.

        Raises:
            ConfigError: The run has no such design.
        """
        design = design or self.design
        if design == "conv-lstm-autoencoder":
            if self.document is None:
                raise ConfigError("the document's model is not in this run; train with document.fitted=true")
            risks = self.document.risks(stretches, self.like.channels)
            return [
                Scores(stretch.subject, self.like.times(stretch), {RISK: risk})
                for stretch, risk in zip(stretches, risks, strict=True)
            ]
        return as_scores(self.like, stretches, self.scored(stretches))

    def alarms(self, scores: Sequence[Scores], design: str | None = None) -> Alarms:
        """The alarms that a ward would hear."""
        thresholds = self.thresholds[design or self.design]
        return raise_alarms(scores, thresholds.raise_at, self.config.policy)

    def save(self, folder: Path, metrics: Mapping[str, Any], card: str) -> None:
        """Write the bundle into an existing folder."""
        scaler, like = self.scorer.scaler, self.like
        parts: dict[str, Any] = {
            "config": to_dict(self.config),
            "grid": {
                "settings": to_dict(like.settings),
                "resolution": to_dict(like.resolution),
                "known_after": like.known_after,
            },
            "preprocessor": {
                "channels": list(scaler.channels),
                "mean": scaler.mean.tolist(),
                "sd": scaler.sd.tolist(),
            },
            "policy": {
                "design": self.design,
                "thresholds": {name: to_dict(each) for name, each in self.thresholds.items()},
            },
            "reference": self.reference.to_dict(),
            "metrics": dict(metrics),
        }
        members = [dict(self.scorer.detector.state_dict())]
        if self.document is not None:
            parts["document"] = self.document.settings()
            members.append(self.document.state())
        if self.joint is not None:
            parts["joint"] = self.joint.settings()
            members.append(self.joint.state())
        write_bundle(folder, APPLICATION, parts, members, {"README.md": card})


def as_scores(like: Recordings, stretches: Sequence[Stretch], scored: Sequence[Scored]) -> list[Scores]:
    """Put times and subjects to what the detector said."""
    return [
        Scores(stretch.subject, like.times(stretch), each.scores)
        for stretch, each in zip(stretches, scored, strict=True)
    ]


def build_scorer(like: Recordings, scaler: ChannelScaler, detector: Detector) -> Scorer:
    """The detector with what it reads by."""
    resolution = like.resolution
    history = HistorySettings(len(like.channels), resolution.step_seconds, tuple(resolution.scales_seconds))
    trailing = max(TRAILING_SECONDS, resolution.step_seconds)
    return Scorer(detector, scaler, history, trailing)


def margins(scores: Scores, thresholds: Thresholds) -> npt.NDArray[np.float64]:
    """How far the worst reason is above its threshold, [step]: one score to rank steps by."""
    parts = [
        np.asarray(scores.reasons[reason], np.float64) - threshold
        for reason, threshold in thresholds.raise_at.items()
    ]
    return np.asarray(np.max(parts, axis=0), np.float64)


def load_monitor(folder: Path) -> Monitor:
    """Read what `Monitor.save` wrote, every byte checked.

    Raises:
        BundleError: Not a bundle of this application, or a damaged one.
    """
    bundle = read_bundle(folder)
    if bundle.application != APPLICATION:
        raise BundleError(
            f"{folder} is a bundle of {bundle.application!r}, not of {APPLICATION!r}; give a run of {APPLICATION}"
        )
    parts = bundle.parts
    try:
        config = from_dict(VitalsConfig, parts["config"])
        like = _like(parts["grid"])
        scaler = ChannelScaler(
            tuple(parts["preprocessor"]["channels"]),
            np.array(parts["preprocessor"]["mean"], np.float32),
            np.array(parts["preprocessor"]["sd"], np.float32),
        )
        history = HistorySettings(
            len(like.channels), like.resolution.step_seconds, tuple(like.resolution.scales_seconds)
        )
        detector = Detector(config.detector, history.n_features, history.n_channels)
        detector.load_state_dict(bundle.members[0])
        document, joint = _documents(config, bundle)
        return Monitor(
            config=config,
            joint=joint,
            design=parts["policy"]["design"],
            like=like,
            scorer=build_scorer(like, scaler, detector.eval()),
            document=document,
            thresholds={
                name: from_dict(Thresholds, value) for name, value in parts["policy"]["thresholds"].items()
            },
            reference=Reference.from_dict(parts["reference"]),
        )
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, ConfigError, CohortError) as error:
        raise BundleError(f"{folder}: parts do not belong together ({error}); train again") from None


def _documents(config: VitalsConfig, bundle: Bundle) -> tuple[DocumentMonitor | None, Joint | None]:
    """The document's models, where they were fitted; what they need takes a second to import."""
    document = joint = None
    if "document" in bundle.parts:
        from caretrace.apps.vitals.document.monitor import DocumentMonitor

        document = DocumentMonitor.restore(config.document, bundle.parts["document"], bundle.members[1])
    if "joint" in bundle.parts:
        from caretrace.apps.vitals.document.joint import Joint

        joint = Joint.restore(config.document, bundle.parts["joint"], bundle.members[-1])
    return document, joint


def _like(value: dict[str, Any]) -> Recordings:
    settings = from_dict(GridSettings, value["settings"])
    return Recordings(settings, from_dict(Resolution, value["resolution"]), [], value["known_after"])
