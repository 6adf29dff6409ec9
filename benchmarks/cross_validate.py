"""Which settings rank best, by cross-validation among the subjects a model may be chosen on?

    python benchmarks/cross_validate.py APP DATASET [--folds 4] ["key=value key=value" ...]

Each argument in quotes is one row: settings as after `--set`. Only training and tuning subjects take
part: a setting chosen by looking at held-out subjects would make their figures worthless. Prints AUROC,
AUPRC and ECE (before recalibration) of the single members (mean) and of their ensemble, averaged over folds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from caretrace import schema
from caretrace.application import silent
from caretrace.application.predictor import member_logits
from caretrace.application.tasks import find_task
from caretrace.application.train import draw_folds
from caretrace.apps import load_application
from caretrace.cohort import build_labels
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.evaluation import auprc, auroc, ece
from caretrace.training.run import fit


def main() -> None:
    """One line per row of settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("app")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("settings", nargs="*", default=[""])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    application, dataset = load_application(asked.app), Dataset(asked.dataset)
    labels = build_labels(dataset, find_task(application, dataset)).frame
    allowed = dataset.splits.filter(dataset.splits[schema.SPLIT] != schema.HELD_OUT)
    labels = labels.join(allowed, on=schema.SUBJECT_ID, how="semi")
    inputs = application.collect(dataset, labels, None, lambda done, total: silent("", done, total))
    subjects = np.unique(inputs.subject_ids)
    parts = np.array_split(np.random.default_rng(asked.seed).permutation(subjects), asked.folds)
    print(f"{len(inputs)} labels, {asked.folds} folds by subject")
    print(f"{'':40}  member: AUROC  AUPRC    ECE   ensemble: AUROC  AUPRC    ECE  seconds")
    for row in asked.settings:
        started = time.perf_counter()
        single, together = cross_validate(
            application, inputs, load(application.config_class, None, row.split()), parts
        )
        figures = (
            "  ".join(f"{value:.4f}" for value in single),
            "  ".join(f"{value:.4f}" for value in together),
        )
        seconds = f"{time.perf_counter() - started:7.0f}"
        print(
            f"{row or '(defaults)':40}         {figures[0]}             {figures[1]}  {seconds}", flush=True
        )


def cross_validate(application, inputs, config, parts) -> tuple[np.ndarray, np.ndarray]:
    """Mean figures over folds: of single members, and of the ensemble."""
    single, together = [], []
    for number, left_out in enumerate(parts):
        rest = np.concatenate([part for other, part in enumerate(parts) if other != number])
        rows = {"test": left_out, "tuning": rest[: len(rest) // 7], "train": rest[len(rest) // 7 :]}
        found = {
            name: inputs.take(np.flatnonzero(np.isin(inputs.subject_ids, ids))) for name, ids in rows.items()
        }
        preprocessor = application.preprocess(found["train"], config)
        samples = {name: preprocessor.transform(part) for name, part in found.items()}

        def build(preprocessor=preprocessor):
            return application.model(preprocessor, config)

        with tempfile.TemporaryDirectory() as folder:
            folds = draw_folds(found, samples, config.training) if config.training.cross_fit else None
            members = fit(
                build, samples["train"], samples["tuning"], config.training, Path(folder), folds=folds
            )
        logits, outcomes = member_logits(members, samples["test"]), samples["test"].outcomes
        single.append(np.mean([judge(outcomes, each) for each in logits], axis=0))
        together.append(judge(outcomes, logits.mean(0)))
    return np.mean(single, axis=0), np.mean(together, axis=0)


def judge(outcomes: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """AUROC, AUPRC and ECE."""
    risks = 1 / (1 + np.exp(-logits))
    return np.array([auroc(outcomes, risks), auprc(outcomes, risks), ece(outcomes, risks)])


if __name__ == "__main__":
    main()
