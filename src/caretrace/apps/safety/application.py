"""The application `safety`, as the verbs know it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from caretrace import schema
from caretrace.application import Progress, silent
from caretrace.errors import ConfigError

if TYPE_CHECKING:
    from caretrace.application.run import Run
    from caretrace.dataset import Dataset


class Safety:
    """Forecasts of crowding, delay, strain and harm in ambulance services and emergency departments."""

    name = "safety"
    title = "Safety of emergency care"
    summary = (
        "foresees crises of emergency departments 1, 8 and 24 hours ahead, ambulance delays, strain on groups of "
        "staff, quality of handoffs and records, and adverse events."
    )

    @property
    def config_class(self) -> type[Any]:
        """Dataclass of the settings."""
        from caretrace.apps.safety.config import SafetyConfig

        return SafetyConfig

    def limits(self, source: str) -> list[str]:
        """What a model of this application must not be used for, one plain sentence each."""
        lines = [
            "Research use only: it must not decide who is sent where, who works when, or who is believed.",
            "It speaks of organisations and of groups of at least five people; it never ranks a person.",
            "Learned relations are not causes: what would help is asked of the simulator, not of the model.",
        ]
        if source.startswith("hospital"):
            lines.append(
                "It was trained on simulated data; retention and adverse events have no open data at all."
            )
        return lines

    def train(
        self, dataset: Dataset, config: Any, path: Path, *, resume: bool = False, progress: Progress = silent
    ) -> dict[str, Any]:
        """Learn from training blocks of time; see `training.train`."""
        from caretrace.apps.safety.training import train

        if resume:
            raise ConfigError("safety trains in minutes and cannot go on with a run; train into a new folder")
        return train(dataset, config, path, self.title, progress)

    def evaluate(
        self,
        run: Run,
        dataset: Dataset | None = None,
        *,
        split: str | None = schema.HELD_OUT,
        replicates: int = 1000,
        seed: int = 0,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Judge on the held-out blocks of the run's dataset, or on all of another dataset."""
        from caretrace.apps.safety.verdict import verdict

        whole = dataset is not None or split is None
        found = verdict(
            run,
            dataset or run.dataset(),
            None if whole else split,
            replicates=replicates,
            seed=seed,
            progress=progress,
        )
        return {"application": self.name, "split": None if whole else split, **found}

    def predict(
        self, run: Run, dataset: Dataset, out: Path, *, split: str | None, progress: Progress
    ) -> dict[str, Any]:
        """Write forecasts of hospitals, of pathways, and of groups of staff; see `answers.predict`."""
        from caretrace.apps.safety.answers import predict

        return predict(run, dataset, out, split=split, progress=progress)

    def explain(self, run: Run, *, subject: int | None, progress: Progress) -> dict[str, Any]:
        """What drives the outlook of each hospital; people are not explained."""
        from caretrace.apps.safety.answers import explain

        return explain(run, subject=subject, progress=progress)

    @property
    def configs(self) -> Path:
        """Where the named configurations lie."""
        return Path(__file__).parent / "configs"

    def report(self, run: Run, out: Path | None = None) -> Path:
        """Write the page of a run."""
        from caretrace.report.safety_page import render_safety_report

        return render_safety_report(run.path, self.limits(str(run.read().get("source", ""))), out)


APPLICATION = Safety()
