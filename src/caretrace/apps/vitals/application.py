"""The application: what `caretrace … vitals` does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caretrace.apps.vitals.config import VitalsConfig

if TYPE_CHECKING:  # choosing an application must not cost the seconds that torch takes
    from caretrace.application import Progress
    from caretrace.application.run import Run
    from caretrace.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Vitals:
    """Alarms from vital signs, learned without labels."""

    name: str = "vitals"
    title: str = "Alarms from vital signs"
    summary: str = "Watches vital signs and raises alarms at a stated rate of false ones."
    config_class: type[Any] = VitalsConfig
    configs: Path = Path(__file__).parent / "configs"

    def train(
        self, dataset: Dataset, config: VitalsConfig, path: Path, *, resume: bool, progress: Progress
    ) -> dict[str, Any]:
        """Learn from training subjects, choose thresholds on tuning subjects, write the run."""
        from caretrace.apps.vitals.training import train

        limits = self.limits(str(dataset.metadata.get("dataset_name", "unknown")))
        return train(dataset, config, path, limits, resume=resume, progress=progress)

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
        """Judge a run on subjects it has never seen, beside everything a ward has today."""
        from caretrace.apps.vitals.evaluate import evaluate

        return evaluate(run, dataset, split=split, replicates=replicates, seed=seed, progress=progress)

    def predict(
        self, run: Run, dataset: Dataset, out: Path, *, split: str | None, progress: Progress
    ) -> dict[str, Any]:
        """Write the alarms that a ward would have heard."""
        from caretrace.apps.vitals.evaluate import predict

        return predict(run, dataset, out, split=split, progress=progress)

    def report(self, run: Run, out: Path | None) -> Path:
        """The page of a run."""
        from caretrace.report.vitals_page import render_vitals_report

        return render_vitals_report(run.path, self.limits(run.read()["source"]), out)

    def limits(self, source: str) -> list[str]:
        """What a model of this application must not be used for."""
        general = [
            "Never at a bedside: it has not been tested prospectively, and no device authority has seen it.",
            "Never instead of a monitor's own alarms: it has never seen most of the ways in which people die.",
            "Not on another ward without choosing thresholds and judging it there first.",
            "Its rate of false alarms holds for sensors like those it was tuned on; heed the drift it reports.",
        ]
        special = {
            "hospital-vitals": "Trained on simulated signals: the figures show the method, not how patients fare.",
            "icu-hourly": "Trained on hourly charts: what happens within an hour is not in them.",
        }
        return [special[source], *general] if source in special else general


APPLICATION = Vitals()
