"""What the mortality application reads, labels and builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from caretrace import schema
from caretrace.apps.mortality.config import MortalityConfig
from caretrace.errors import ConfigError

if TYPE_CHECKING:  # torch is imported by the methods that need it: `caretrace cohort` does not
    import polars as pl
    from torch import nn

    from caretrace.data.batch import EventBatch
    from caretrace.data.inputs import Inputs
    from caretrace.data.samples import Preprocessor
    from caretrace.data.text import TextReader
    from caretrace.dataset import Dataset
    from caretrace.explain.scores import Score


@dataclasses.dataclass(frozen=True)
class Mortality:
    """The `Application` of this folder."""

    name: str = "mortality"
    title: str = "Risk of death in intensive care"
    summary: str = (
        "Estimates, at a fixed hour after ICU admission, the risk that the patient dies, "
        "from everything measured up to that hour."
    )
    config_class: type[Any] = MortalityConfig
    task_order: tuple[str, ...] = (
        "in_icu_death_24h",
        "in_icu_death_48h",
        "physionet_2012_48h",
        "in_hospital_death_24h",
        "in_hospital_death_48h",
        "in_icu_death_trajectory",
        "physionet_2012_trajectory",
    )

    @property
    def tasks(self) -> Path:
        """Folder of task files."""
        return Path(__file__).parent / "tasks"

    @property
    def configs(self) -> Path:
        """Folder of named configurations."""
        return Path(__file__).parent / "configs"

    def collect(
        self, dataset: Dataset, labels: pl.DataFrame, split: str | None, progress: Callable[[int, int], None]
    ) -> Inputs:
        """The whole record up to each prediction time."""
        from caretrace.data.inputs import collect_inputs

        return collect_inputs(dataset, labels, split, progress=progress)

    def preprocess(self, train: Inputs, config: MortalityConfig) -> Preprocessor:
        """Fit on training samples; a small cohort keeps rarer codes than `min_samples` asks."""
        from caretrace.data.samples import Preprocessor

        fitted = Preprocessor.fit(
            train,
            static_prefixes=config.static,
            min_samples=min(config.min_samples, max(2, len(train) // 20)),
            max_measurements=config.max_measurements,
            forget_hours=config.forget_hours,
        )
        return dataclasses.replace(fitted, texts=self._texts(train, config))

    def _texts(self, train: Inputs, config: MortalityConfig) -> TextReader | None:
        """What reads texts, fitted on what training subjects' texts said before their prediction times."""
        from caretrace.data.text import PretrainedEncoder, TextReader, fit_on_inputs

        if config.text == "none":
            return None
        store = None if config.text_store is None else Path(config.text_store)
        if config.text == "tfidf":
            return TextReader(fit_on_inputs(train, seed=config.training.seed), store)
        return TextReader(PretrainedEncoder.load(config.text), store)

    def model(self, preprocessor: Preprocessor, config: MortalityConfig) -> nn.Module:
        """A fresh model."""
        from caretrace.apps.mortality.document import DocumentModel
        from caretrace.apps.mortality.model import MortalityModel

        n_static, texts = len(preprocessor.static.names), preprocessor.texts
        if config.design == "clinical-longformer":
            assert texts is not None  # the config refuses to be without
            return DocumentModel(config, n_static=n_static, texts=texts)
        return MortalityModel(
            config,
            n_codes=len(preprocessor.vocabulary),
            n_types=len(schema.EventType),
            n_static=n_static,
            texts=texts,
        )

    def score(self, members: list[nn.Module]) -> Score:
        """The ensemble's logit, for `caretrace explain`."""
        from caretrace.apps.mortality.explanation import ensemble_score

        return ensemble_score(members)

    def watch(self, model: nn.Module, config: MortalityConfig, folder: Path) -> None:
        """Save attention while the model is trained, if asked; only the first of several processes does."""
        from caretrace.training.processes import started

        if config.save_attention_every is None or not started().main:
            return
        if config.training.strategy == "fsdp":
            raise ConfigError(
                "save_attention_every: a model divided by fsdp cannot be looked at; leave one out"
            )
        from caretrace.apps.mortality.attention import AttentionRecorder

        AttentionRecorder(
            cast("Any", model),
            folder,
            every=config.save_attention_every,
            megabytes=config.attention_megabytes,
        )

    def save_attention(
        self, model: nn.Module, config: MortalityConfig, batch: EventBatch, path: Path
    ) -> dict[str, int]:
        """Attention of one model over a batch, into a file of bounded size."""
        from caretrace.apps.mortality.attention import save_attention

        return save_attention(path, cast("Any", model), batch, config.attention_megabytes)

    def limits(self, source: str) -> list[str]:
        """What the model must not be used for."""
        general = [
            "Never at a bedside: it has not been tested prospectively, and no device authority has seen it.",
            "Not to decide on admission, treatment or its withdrawal for any person.",
            "Not on another hospital without judging it there first: `caretrace evaluate RUN DATASET`.",
            "Its risk holds at the hour it was trained for, not before and not after.",
        ]
        special = {
            "hospital": "Trained on simulated patients: the figures say that the method works, not how patients fare.",
            "physionet-2012": "Trained on stays of 2001 to 2008 that lasted at least 48 hours; care has changed since.",
            "mimic-iv": "Trained on one hospital in Boston.",
        }
        return [special[source], *general] if source in special else general


APPLICATION = Mortality()
