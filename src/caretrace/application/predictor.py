"""A bundle brought to life: risks for any inputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from caretrace.application import Application
from caretrace.config import from_dict
from caretrace.data.inputs import Inputs
from caretrace.data.samples import Preprocessor, Samples
from caretrace.errors import BundleError, ConfigError
from caretrace.evaluation import PlattScaling
from caretrace.training.bundle import read_bundle

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Predictor:
    """An ensemble with what it needs to read measurements.

    Args:
        application: The application it belongs to.
        config: Settings of the application.
        preprocessor: Fitted on training subjects.
        members: Models in evaluation mode; their logits are averaged.
        calibration: Recalibration of the averaged logit, fitted on tuning subjects.
    """

    application: Application
    config: Any
    preprocessor: Preprocessor
    members: list[nn.Module]
    calibration: PlattScaling

    @classmethod
    def from_pretrained(cls, application: Application, folder: Path) -> Predictor:
        """Load a bundle.

        Raises:
            BundleError: The bundle is damaged, or belongs to another application or version.
        """
        bundle = read_bundle(folder)
        if bundle.application != application.name:
            raise BundleError(f"{folder} is a bundle of {bundle.application!r}, not of {application.name!r}")
        try:
            config = from_dict(application.config_class, bundle.parts["config"])
            preprocessor = Preprocessor.from_dict(bundle.parts["preprocessor"])
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
        return cls(application, config, preprocessor, members, calibration)

    def risks(self, inputs: Inputs) -> np.ndarray:
        """Calibrated probability per sample, float64 [sample]."""
        samples = self.preprocessor.transform(inputs)
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
