"""A bundle brought to life: risks for any inputs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from caretrace.application import Supervised
from caretrace.application.hub import fetch, push
from caretrace.application.texts import bundle_reader
from caretrace.config import from_dict
from caretrace.data.inputs import Inputs
from caretrace.data.samples import Preprocessor, Samples
from caretrace.errors import BundleError, ConfigError
from caretrace.evaluation import PlattScaling
from caretrace.files import whole_folder
from caretrace.training.bundle import read_bundle

_BATCH = 256
RISK, LOW, HIGH = "risk", "low", "high"
_DEVIATIONS = 2.0


@dataclasses.dataclass(frozen=True)
class Predictor:
    """An ensemble with what it needs to read measurements.

    Args:
        application: The application it belongs to.
        config: Settings of the application.
        preprocessor: Fitted on training subjects.
        members: Models in evaluation mode; their logits are averaged.
        calibration: Recalibration of the averaged logit, fitted on tuning subjects.
        path: The bundle's folder.
    """

    application: Supervised
    config: Any
    preprocessor: Preprocessor
    members: list[nn.Module]
    calibration: PlattScaling
    path: Path

    @classmethod
    def from_pretrained(
        cls, application: Supervised, source: Path | str, *, text_encoder: Path | str | None = None
    ) -> Predictor:
        """Load a bundle.

        Args:
            application: The application it should belong to.
            source: Its folder, or `owner/name` on the Hugging Face hub.
            text_encoder: Folder or hub id of the pretrained text encoder, if it has moved since the training.

        Raises:
            BundleError: The bundle is damaged, or belongs to another application or version.
            ConfigError: The hub is asked and the extra `hub` is not installed.
        """
        folder = fetch(source) if isinstance(source, str) and not Path(source).exists() else Path(source)
        bundle = read_bundle(folder)
        if bundle.application != application.name:
            raise BundleError(f"{folder} is a bundle of {bundle.application!r}, not of {application.name!r}")
        try:
            config = from_dict(application.config_class, bundle.parts["config"])
            preprocessor = dataclasses.replace(
                Preprocessor.from_dict(bundle.parts["preprocessor"]),
                texts=bundle_reader(folder, config, text_encoder),
            )
            members = []
            for weights in bundle.members:
                model = application.model(preprocessor, config)
                model.load_state_dict(weights)
                members.append(model.eval())
            calibration = PlattScaling.from_dict(bundle.parts["calibration"])
        except (KeyError, RuntimeError, ConfigError) as error:
            raise BundleError(
                f"{folder}: weights, vocabulary and settings do not belong together ({error}); train again"
            ) from None
        return cls(application, config, preprocessor, members, calibration, folder)

    def save_pretrained(self, folder: Path) -> None:
        """Copy the bundle to `folder`, whole or not at all.

        Raises:
            OutputExistsError: The folder is taken.
        """
        with whole_folder(folder) as partial:
            shutil.copytree(self.path, partial, dirs_exist_ok=True)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Upload the bundle to the Hugging Face hub as `owner/name` and return its address."""
        return push(self.path, repo_id, private=private)

    def risks(self, inputs: Inputs) -> np.ndarray:
        """Calibrated probability per sample, float64 [sample]."""
        return self.risks_of(self.preprocessor.transform(inputs))

    def risks_of(self, samples: Samples) -> np.ndarray:
        """The same, of samples that the preprocessor has made already."""
        return self.calibration.apply(member_logits(self.members, samples).mean(0))


def member_logits(members: list[nn.Module], samples: Samples) -> np.ndarray:
    """Logit of every member for every sample, float64 [member, sample]."""
    device = next(members[0].parameters()).device
    rows = np.array_split(np.arange(len(samples)), max(1, -(-len(samples) // _BATCH)))
    with torch.inference_mode():
        parts = []
        for chunk in rows:
            batch = samples.batch(chunk).to(device)
            parts.append(torch.stack([member(batch) for member in members]).double().cpu().numpy())
    return np.concatenate(parts, axis=1)


def band(predictor: Predictor, logits: np.ndarray) -> dict[str, Any]:
    """Risk with the members' disagreement.

    Args:
        predictor: Whose calibration.
        logits: Of each member, [member, sample].

    Returns:
        `risk`, and `low` and `high`: the mean logit ± 2 standard deviations of the members' logits, calibrated; null
        for a single member.
    """
    mean, spread = logits.mean(0), logits.std(0)
    risk = predictor.calibration.apply(mean)
    if len(logits) < 2:
        nothing = [None] * len(risk)
        return {RISK: risk, LOW: nothing, HIGH: nothing}
    low, high = (predictor.calibration.apply(mean + sign * _DEVIATIONS * spread) for sign in (-1, 1))
    return {RISK: risk, LOW: low, HIGH: high}
