"""From a MEDS dataset to a run folder with a generator in it.

The `Application` contract asks for labels, inputs before each label and a model of risk; a generator has none of
them, so this stands beside it until the contract lets an application bring a training of its own.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from caretrace import __version__, schema
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.config import HistoryConfig
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.decoder.generator import fit_decoder
from caretrace.apps.synth.models.decoder.network import DecoderConfig
from caretrace.apps.synth.models.fitting import FitConfig
from caretrace.apps.synth.models.generator import Generator
from caretrace.apps.synth.models.prompt_bart.generator import fit_prompt_bart
from caretrace.apps.synth.models.prompt_bart.network import PromptBartConfig
from caretrace.apps.synth.models.storing import APPLICATION, load_generator, save_generator
from caretrace.apps.synth.task import collect_histories, read_vocabulary
from caretrace.config import to_dict
from caretrace.dataset import Dataset
from caretrace.errors import BundleError
from caretrace.files import read_json, whole_folder, write_json

Model = Literal["decoder", "gru", "prompt-bart", "n-gram", "marginals"]
Told = Callable[[dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    """Settings of a training.

    Args:
        model: `decoder` is the one we recommend, `prompt-bart` the document's; the others are comparators.
        history: What makes a history.
        decoder: Size and parts of `decoder`, and of `gru`, which has another backbone and no memory of its own.
        prompt_bart: Size and losses of `prompt-bart`.
        fit: How those that learn by gradients are fitted.
    """

    model: Model = "decoder"
    history: HistoryConfig = dataclasses.field(default_factory=HistoryConfig)
    decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    prompt_bart: PromptBartConfig = dataclasses.field(default_factory=PromptBartConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)


def fit_generator(
    train: Records,
    tuning: Records,
    vocabulary: Vocabulary,
    config: SynthConfig,
    progress: Told = lambda _: None,
) -> tuple[Generator, list[dict[str, float]]]:
    """Fit the model that `config.model` names; the log is empty where nothing is learned by gradients."""
    if config.model in ("n-gram", "marginals"):
        return CountGenerator.fit(
            train, vocabulary, "n-gram" if config.model == "n-gram" else "marginals"
        ), []
    if config.model == "prompt-bart":
        return fit_prompt_bart(train, tuning, vocabulary, config.prompt_bart, config.fit, progress)
    settings = config.decoder
    if config.model == "gru":
        settings = dataclasses.replace(settings, backbone="gru", memory=False)
    return fit_decoder(train, tuning, vocabulary, settings, config.fit, progress)


def train(
    dataset: Dataset, config: SynthConfig, path: Path, progress: Told = lambda _: None
) -> dict[str, Any]:
    """Train a generator on the training subjects, stop by the tuning subjects, and write the run.

    Args:
        dataset: MEDS dataset with diagnoses.
        config: Settings.
        path: The run folder to make; it appears whole or not at all.
        progress: Told after each epoch.

    Returns:
        What `run.json` says.

    Raises:
        CaretraceError: Anything the user can mend; the message says how.
    """
    vocabulary = read_vocabulary(dataset, config.history)
    learned = collect_histories(dataset, schema.TRAIN, vocabulary, config.history)
    tuned = collect_histories(dataset, schema.TUNING, vocabulary, config.history)
    tuning = Records(tuned.histories)
    generator, log = fit_generator(Records(learned.histories), tuning, vocabulary, config, progress)
    likelihood = generator.log_likelihood(tuning)
    possible = likelihood > -float("inf")
    run = {
        "application": APPLICATION,
        "source": dataset.metadata.get("dataset_name", "unknown"),
        "dataset": str(dataset.path.resolve()),
        "fingerprint": dataset.fingerprint,
        "config": to_dict(config),
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {"caretrace": __version__},
        "n_train": len(learned.histories),
        "n_tuning": len(tuned.histories),
        "n_codes": vocabulary.n_codes,
        "attrition": learned.attrition,
        "tuning": {
            "nats_per_subject": float(-likelihood[possible].mean()) if possible.any() else None,
            "impossible_subjects": int((~possible).sum()),
        },
    }
    with whole_folder(path) as folder:
        save_generator(generator, folder / "bundle", run["tuning"])
        lines = "".join(json.dumps(record) + "\n" for record in log)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        write_json(folder / "run.json", run)
    return run


def load(path: Path) -> Generator:
    """The generator of a run.

    Raises:
        BundleError: Not a run of this application.
    """
    if not (path / "run.json").is_file():
        raise BundleError(
            f"{path} is not a run: run.json is missing; make one with `apps.synth.training.train`"
        )
    found = read_json(path / "run.json").get("application")
    if found != APPLICATION:
        raise BundleError(
            f"{path} is a run of {found}, which writes no histories; give a run of {APPLICATION}"
        )
    return load_generator(path / "bundle")
