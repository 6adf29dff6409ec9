"""Generators on disk: a bundle of safetensors and JSON, for every kind.

manifest.json, config.json, vocabulary.json, demographics.json, metrics.json, model.safetensors, README.md
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from caretrace.apps.synth.codes.sequences import AGES, CodeTables
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.decoder.generator import DecoderGenerator
from caretrace.apps.synth.models.decoder.network import DecoderConfig, DecoderModel
from caretrace.apps.synth.models.generator import Demographics, Generator
from caretrace.apps.synth.models.latent.generator import LatentGenerator
from caretrace.apps.synth.models.prompt_bart.generator import PromptBartGenerator
from caretrace.config import from_dict
from caretrace.errors import BundleError, InputError
from caretrace.files import whole_folder
from caretrace.training.bundle import read_bundle, write_bundle

APPLICATION = "synth"
CARD = """# A generator of synthetic histories of diagnoses

Made by caretrace. What it writes describes nobody; nothing about real patients follows from it. It was fitted to
the subjects named in `run.json`, and what it may have kept of them is measured by `caretrace evaluate`, not excluded.
Not for a bedside, not for billing, and never to be mixed with real records: every file it writes says that it is
synthetic.
"""


def save_generator(generator: Generator, folder: Path, metrics: Mapping[str, Any] | None = None) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Args:
        generator: What `load_generator` shall give back.
        folder: Must not exist.
        metrics: Figures to keep with it.
    """
    kind, settings, state = _taken_apart(generator)
    parts = {
        "config": {"kind": kind, **settings},
        "vocabulary": {"codes": list(generator.vocabulary.codes)},
        "demographics": {"count": generator.demographics.count.tolist()},
        "metrics": dict(metrics or {}),
    }
    with whole_folder(folder) as target:
        write_bundle(target, APPLICATION, parts, [state], {"README.md": CARD})


def load_generator(folder: Path) -> Generator:
    """Read what `save_generator` wrote, every byte checked.

    Raises:
        BundleError: Not a bundle of this application, or a damaged one.
    """
    bundle = read_bundle(folder)
    if bundle.application != APPLICATION:
        raise BundleError(
            f"{folder} is a bundle of {bundle.application}, which writes no histories; give a run of {APPLICATION}"
        )
    try:
        config = dict(bundle.parts["config"])
        vocabulary = Vocabulary.of(bundle.parts["vocabulary"]["codes"])
        count = np.array(bundle.parts["demographics"]["count"], np.int64).reshape(AGES, 2)
        kind, people, state = config.pop("kind"), Demographics(count), bundle.members[0]
        return _put_together(kind, config, state, vocabulary, people)
    except (KeyError, ValueError, TypeError, RuntimeError, InputError) as error:
        raise BundleError(f"{folder}: not a generator of this caretrace ({error}); train again") from None


def _taken_apart(generator: Generator) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    if isinstance(generator, DecoderGenerator):
        return "decoder", generator.settings(), generator.state()
    if isinstance(generator, LatentGenerator):
        return "latent", generator.settings(), generator.state()
    if isinstance(generator, CountGenerator):
        return "counts", generator.settings(), generator.state()
    if isinstance(generator, PromptBartGenerator):
        return "prompt-bart", generator.settings(), generator.state()
    raise BundleError(f"{type(generator).__name__} cannot be stored; give a generator of this application")


def _put_together(
    kind: str, config: dict[str, Any], state: dict[str, Tensor], vocabulary: Vocabulary, people: Demographics
) -> Generator:
    if kind == "decoder":
        marks, conditions = tuple(config["marks"]), config["conditions"]
        settings = from_dict(DecoderConfig, config["model"])
        model = DecoderModel(settings, CodeTables(vocabulary), marks, conditions)
        model.load_state_dict(state)
        return DecoderGenerator(model.eval(), vocabulary, people, config["masked"])
    if kind == "latent":
        return LatentGenerator.restore(config, state, vocabulary, people)
    if kind == "counts":
        return CountGenerator(vocabulary, people, state["rate"].numpy(), state["stop"].numpy())
    if kind == "prompt-bart":
        return PromptBartGenerator.restore(config, state, vocabulary, people)
    raise BundleError(f"a generator of kind {kind!r}; install a newer caretrace")
