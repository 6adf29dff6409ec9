"""What the defaults mean does not change by accident: published figures were made with them."""

import dataclasses
import hashlib

import torch

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.model import MortalityModel
from caretrace.schema import EventType

# Of the weights that seed 0 draws, names included: another draw, another order or another tensor changes it.
GOLDEN = "eb5a198147aa0e957210899647084971487b0595114394d368eaae4e8edd9c0e"


def digest(config: MortalityConfig) -> str:
    torch.manual_seed(0)
    model = MortalityModel(config, n_codes=7, n_types=len(EventType), n_static=3)
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def test_the_default_model_starts_from_the_weights_it_always_started_from():
    assert digest(MortalityConfig()) == GOLDEN


def test_another_default_would_be_noticed():
    assert digest(dataclasses.replace(MortalityConfig(), landmark_half_life_hours=12.0)) != GOLDEN
    assert digest(dataclasses.replace(MortalityConfig(), n_bins=9)) != GOLDEN
