"""The application: a generator is trained, judged and drawn from; it has no labels, so it brings its own verbs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caretrace.errors import ConfigError

if TYPE_CHECKING:  # torch is imported by the methods that need it
    from caretrace.application import Progress
    from caretrace.application.run import Run
    from caretrace.application.verbs import Draw
    from caretrace.apps.synth.training import SynthConfig
    from caretrace.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Synth:
    """The `Application` of this folder."""

    name: str = "synth"
    title: str = "Synthetic histories of diagnoses"
    summary: str = (
        "Learns histories of ICD-9 diagnoses given age and sex, draws subjects who do not exist, and says how far "
        "they can be told from real ones."
    )

    @property
    def config_class(self) -> type[Any]:
        """Settings."""
        from caretrace.apps.synth.training import SynthConfig

        return SynthConfig

    @property
    def configs(self) -> Path:
        """Folder of named configurations."""
        return Path(__file__).parent / "configs"

    def train(
        self, dataset: Dataset, config: SynthConfig, path: Path, *, resume: bool, progress: Progress
    ) -> dict[str, Any]:
        """Fit a generator.

        Raises:
            ConfigError: `resume`; a generator is trained in one go.
        """
        from caretrace.apps.synth.training import train

        if resume:
            raise ConfigError(
                f"--resume: a generator is trained in one go, and {path} appears when it is whole; leave the option out"
            )
        return train(dataset, config, path, progress, self.title)

    def evaluate(
        self,
        run: Run,
        dataset: Dataset | None,
        *,
        split: str | None,
        replicates: int,
        seed: int,
        progress: Progress,
    ) -> dict[str, Any]:
        """Judge subjects that it draws; intervals come from half-samples, so `replicates` has no part in them."""
        from caretrace.apps.synth.evaluate import evaluate

        del replicates
        return evaluate(run, dataset, split=split, seed=seed, progress=progress)

    def generate(self, run: Run, out: Path, draw: Draw, *, progress: Progress) -> dict[str, Any]:
        """Draw subjects and write them in one of the formats of `export`."""
        from caretrace.apps.synth.export import write_subjects
        from caretrace.apps.synth.export.tables import SEXES
        from caretrace.apps.synth.models.decoder.sampling import SamplingConfig
        from caretrace.apps.synth.models.generator import Request
        from caretrace.apps.synth.training import load

        sampling = SamplingConfig(temperature=draw.temperature, top_k=draw.top_k, top_p=draw.top_p)
        sex = None if draw.sex is None else SEXES.index(draw.sex)
        request = Request(draw.subjects, draw.seed, draw.age, sex)
        return write_subjects(
            load(run.path), request, out, draw.format, sampling,
            lambda done, of: progress("drawing subjects", done, of),
        )  # fmt: skip

    def report(self, run: Run, out: Path | None) -> Path:
        """The page of a generator."""
        from caretrace.report.synth_page import render_synth_report

        return render_synth_report(run.path, self.limits(run.read()["source"]), out)

    def limits(self, source: str) -> list[str]:
        """What synthetic subjects must not be used for."""
        general = [
            "Nobody in what it writes exists: nothing follows from a synthetic subject about any person.",
            "Never to be mixed with real records, and never for a bedside, for billing or for an effect of treatment.",
            "What a model learned from synthetic subjects must be tested on real ones before it is believed.",
            "What it may have kept of training subjects is measured, not excluded: ask whoever answers for them before "
            "you pass it on.",
        ]
        special = {
            "hospital-histories": "Trained on simulated patients: the figures say that the method works, no more.",
            "diabetes-130": "Trained on stays of diabetic patients, with three diagnoses at most each and no dates.",
            "eicu": "Trained on diagnoses of intensive care, entered at the bedside; care and coding have changed.",
        }
        return [special[source], *general] if source in special else general


APPLICATION = Synth()
