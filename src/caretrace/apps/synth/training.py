"""From a MEDS dataset to a run folder with a generator in it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Literal

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.application.run import Run, describe
from caretrace.apps.synth.codes.sequences import Records
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.config import HistoryConfig, JudgingConfig
from caretrace.apps.synth.models.counting import CountGenerator
from caretrace.apps.synth.models.decoder.generator import fit_decoder
from caretrace.apps.synth.models.decoder.network import DecoderConfig
from caretrace.apps.synth.models.fitting import FitConfig
from caretrace.apps.synth.models.generator import Generator
from caretrace.apps.synth.models.latent.generator import fit_latent
from caretrace.apps.synth.models.latent.search import LatentConfig
from caretrace.apps.synth.models.prompt_bart.generator import fit_prompt_bart
from caretrace.apps.synth.models.prompt_bart.network import PromptBartConfig
from caretrace.apps.synth.models.storing import APPLICATION, load_generator, save_generator
from caretrace.apps.synth.task import collect_histories, read_vocabulary
from caretrace.config import to_dict
from caretrace.dataset import Dataset
from caretrace.errors import BundleError
from caretrace.files import refuse_existing, whole_folder

Model = Literal["latent", "decoder", "gru", "prompt-bart", "n-gram", "marginals"]


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    """Settings of a training.

    Args:
        model: `latent` is the one we recommend; `decoder` is a transformer, for marks and conditions too, and
            `prompt-bart` the document's; the others are comparators.
        history: What makes a history.
        latent: Size and parts of `latent`.
        decoder: Size and parts of `decoder`, and of `gru`, which has another backbone and no memory of its own.
        prompt_bart: Size and losses of `prompt-bart`.
        fit: How those that learn by gradients are fitted.
        judging: How `caretrace evaluate` judges.
    """

    model: Model = "latent"
    history: HistoryConfig = dataclasses.field(default_factory=HistoryConfig)
    latent: LatentConfig = dataclasses.field(default_factory=LatentConfig)
    decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    prompt_bart: PromptBartConfig = dataclasses.field(default_factory=PromptBartConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)
    judging: JudgingConfig = dataclasses.field(default_factory=JudgingConfig)


def fit_generator(
    train: Records,
    tuning: Records,
    vocabulary: Vocabulary,
    config: SynthConfig,
    progress: Progress = silent,
) -> tuple[Generator, list[dict[str, float]]]:
    """Fit the model that `config.model` names; the log is empty where rates are only counted."""

    def tell(record: dict[str, float]) -> None:
        what = f"training {config.model}, tuning loss {record['tuning_loss']:.3f}"
        progress(what, record["epoch"] + 1, config.fit.epochs)

    progress(f"training {config.model}", 0, None)
    if config.model == "latent":
        return fit_latent(train, tuning, vocabulary, config.latent, progress=progress)
    if config.model in ("n-gram", "marginals"):
        return CountGenerator.fit(
            train, vocabulary, "n-gram" if config.model == "n-gram" else "marginals"
        ), []
    if config.model == "prompt-bart":
        return fit_prompt_bart(train, tuning, vocabulary, config.prompt_bart, config.fit, tell)
    settings = config.decoder
    if config.model == "gru":
        settings = dataclasses.replace(settings, backbone="gru", memory=False)
    return fit_decoder(train, tuning, vocabulary, settings, config.fit, tell)


def train(
    dataset: Dataset, config: SynthConfig, path: Path, progress: Progress = silent, title: str = APPLICATION
) -> dict[str, Any]:
    """Train a generator on the training subjects, stop by the tuning subjects, and write the run.

    Args:
        dataset: MEDS dataset with diagnoses.
        config: Settings.
        path: The run folder to make; it appears whole or not at all.
        progress: Told about each piece of work.
        title: For headings.

    Returns:
        What `run.json` says.

    Raises:
        CaretraceError: Anything the user can mend; the message says how.
    """
    refuse_existing(path)
    progress("reading histories", 0, None)
    began = time.perf_counter()
    vocabulary = read_vocabulary(dataset, config.history)
    learned = collect_histories(dataset, schema.TRAIN, vocabulary, config.history)
    tuned = collect_histories(dataset, schema.TUNING, vocabulary, config.history)
    tuning = Records(tuned.histories)
    generator, log = fit_generator(Records(learned.histories), tuning, vocabulary, config, progress)
    with whole_folder(path) as folder:
        run = Run(folder)
        settings, seed = to_dict(config), config.fit.seed
        run.start(describe(APPLICATION, title, dataset, None, settings, seed), dataset)
        figures = tuning_figures(generator, tuning)
        save_generator(generator, run.bundle, figures)
        lines = "".join(json.dumps(record) + "\n" for record in log)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        run.update(
            model=config.model,
            n_train=len(learned.histories),
            n_tuning=len(tuned.histories),
            n_codes=vocabulary.n_codes,
            attrition=learned.attrition,
            seconds=round(time.perf_counter() - began, 1),
            tuning=figures,
        )
    return Run(path).read()


def tuning_figures(generator: Generator, tuning: Records) -> dict[str, Any]:
    """Mean negative log-likelihood of tuning subjects, per subject and per code, and how many are impossible."""
    likelihood = generator.log_likelihood(tuning)
    possible = likelihood > -float("inf")
    codes = int(tuning.histories.tokens_per_subject[possible].sum())
    nats = -float(likelihood[possible].sum())
    return {
        "n": len(tuning),
        "nats_per_subject": nats / int(possible.sum()) if possible.any() else None,
        "nats_per_code": nats / codes if codes else None,
        "impossible_subjects": int((~possible).sum()),
    }


def load(path: Path) -> Generator:
    """The generator of a run.

    Raises:
        BundleError: Not a run of this application.
    """
    found = Run(path).read().get("application")
    if found != APPLICATION:
        raise BundleError(
            f"{path} is a run of {found}, which writes no histories; give a run of {APPLICATION}"
        )
    return load_generator(Run(path).bundle)
