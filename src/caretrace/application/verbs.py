"""What can be asked of an application, and who answers: what is written once for labels, or the application itself.

Verbs that only some applications have are a protocol each; whoever has the method has the verb.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from caretrace import schema
from caretrace.application import Application, Own, Progress, Supervised, silent
from caretrace.errors import ConfigError

if TYPE_CHECKING:  # torch comes with the verbs that need it
    from caretrace.application.run import Run
    from caretrace.dataset import Dataset

# In the order of the flow.
VERBS = ("cohort", "train", "evaluate", "predict", "explain", "generate", "report")
# Keys of what `evaluate` returns, in every application.
SHAPE = ("application", "split", "n_subjects", "n", "metrics", "comparators", "paired", "gates")
_OF_LABELS = frozenset({"cohort", "train", "evaluate", "predict", "report"})
_OF_ALL = frozenset({"train", "evaluate", "report"})


@dataclasses.dataclass(frozen=True)
class Draw:
    """What to generate.

    Args:
        subjects: How many.
        format: Name of a format that the application writes.
        seed: The same seed draws the same subjects; more repeat them.
        age: Years, of all; None as in training.
        sex: `F` or `M`, of all; None as in training.
        temperature: 1 samples the model as it is.
        top_k: Only the most probable of each choice; 0 for all.
        top_p: Only the most probable that together have this probability.
    """

    subjects: int
    format: str = "meds"
    seed: int = 0
    age: int | None = None
    sex: str | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@runtime_checkable
class Predicts(Protocol):
    """An application of its own way that predicts."""

    def predict(
        self, run: Run, dataset: Dataset, out: Path, *, split: str | None, progress: Progress
    ) -> dict[str, Any]:
        """Write predictions to a Parquet file, whole or not at all; returns counts and `out`."""
        ...


@runtime_checkable
class Explains(Protocol):
    """An application of its own way that explains."""

    def explain(self, run: Run, *, subject: int | None, progress: Progress) -> dict[str, Any]:
        """One subject's result in words: `heading`, `columns`, `rows`, `limits`, and what else `--json` shall say."""
        ...


@runtime_checkable
class Generates(Protocol):
    """An application that writes synthetic subjects."""

    def generate(self, run: Run, out: Path, draw: Draw, *, progress: Progress) -> dict[str, Any]:
        """Write subjects into a new folder, whole or not at all; returns counts, `format` and `out`."""
        ...


@runtime_checkable
class Reports(Protocol):
    """An application whose page is not that of a risk."""

    def report(self, run: Run, out: Path | None) -> Path:
        """Write one self-contained HTML page; None is `report.html` in the run folder. Returns the file."""
        ...


def verbs_of(application: Application) -> tuple[str, ...]:
    """The verbs of `VERBS` that an application answers."""
    return tuple(verb for verb in VERBS if offers(application, verb))


def offers(application: Application, verb: str) -> bool:
    """Whether an application answers a verb."""
    if isinstance(application, Supervised):
        return verb in _OF_LABELS or (verb == "explain" and callable(getattr(application, "score", None)))
    return verb in _OF_ALL or (verb in VERBS and callable(getattr(application, verb, None)))


def supervised(application: Application) -> Supervised:
    """The same application, known to learn from labels.

    Raises:
        ConfigError: It does not.
    """
    if isinstance(application, Supervised):
        return application
    raise ConfigError(f"{application.name} learns without labels, so there are none to ask it for")


def train(
    application: Application,
    dataset: Dataset,
    config: Any,
    path: Path,
    *,
    task: str | None = None,
    labels: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train; arguments as in `train.train`. Returns what stands in `run.json`.

    Raises:
        ConfigError: Labels for an application that learns without.
    """
    if isinstance(application, Own):
        for option, given in (("--task", task), ("--labels", labels)):
            if given is not None:
                raise ConfigError(f"{option} {given}: {application.name} learns without labels; leave it out")
        return application.train(dataset, config, path, resume=resume, progress=progress)
    from caretrace.application.train import train as from_labels

    return from_labels(
        supervised(application),
        dataset,
        config,
        path,
        task=task,
        labels=labels,
        resume=resume,
        progress=progress,
    )


def evaluate(
    application: Application,
    run: Run,
    dataset: Dataset | None = None,
    *,
    split: str | None = schema.HELD_OUT,
    replicates: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge a run and write `evaluation/evaluation.json` into it; arguments as in `evaluate.evaluate`.

    Returns:
        A mapping with at least the keys of `SHAPE`.
    """
    asked: dict[str, Any] = {"split": split, "replicates": replicates, "seed": seed, "progress": progress}
    if isinstance(application, Own):
        from caretrace.files import write_json

        figures = application.evaluate(run, dataset, **asked)
        write_json(run.evaluation / "evaluation.json", figures)
        return figures
    from caretrace.application.evaluate import evaluate as from_labels

    return from_labels(supervised(application), run, dataset, **asked)


def predict(
    application: Application,
    run: Run,
    dataset: Dataset,
    out: Path,
    *,
    labels: Path | None = None,
    split: str | None = schema.HELD_OUT,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Predict for a dataset; arguments as in `predict.predict`.

    Raises:
        ConfigError: The application predicts nothing, or labels for one that learns without.
    """
    if isinstance(application, Supervised):
        from caretrace.application.predict import predict as from_labels

        return from_labels(application, run, dataset, out, labels=labels, split=split, progress=progress)
    if labels is not None:
        raise ConfigError(f"--labels {labels}: {application.name} learns without labels; leave it out")
    if isinstance(application, Predicts):
        return application.predict(run, dataset, out, split=split, progress=progress)
    raise ConfigError(_lacks(application, "predict"))


def explain(
    application: Application, run: Run, subject: int | None = None, *, progress: Progress = silent
) -> dict[str, Any]:
    """Explain in the application's own way; labels are explained by `explain.explain`.

    Raises:
        ConfigError: It has none.
    """
    if isinstance(application, Explains):
        return application.explain(run, subject=subject, progress=progress)
    raise ConfigError(_lacks(application, "explain"))


def generate(
    application: Application, run: Run, out: Path, draw: Draw, *, progress: Progress = silent
) -> dict[str, Any]:
    """Write synthetic subjects.

    Raises:
        ConfigError: The application generates nothing.
    """
    if isinstance(application, Generates):
        return application.generate(run, out, draw, progress=progress)
    raise ConfigError(_lacks(application, "generate"))


def report(application: Application, run: Run, out: Path | None = None) -> Path:
    """Write the page of a run: the application's own if it has one, else that of a risk."""
    if isinstance(application, Reports):
        return application.report(run, out)
    from caretrace.report import render_run_report

    return render_run_report(run.path, out)


def _lacks(application: Application, verb: str) -> str:
    return f"{application.name} has no {verb}; it has {', '.join(verbs_of(application))}"
