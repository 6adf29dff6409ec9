"""The steps of `caretrace demo`: commands that anybody can repeat, and how they are run one after another."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caretrace import schema
from caretrace.errors import CaretraceError

# Sizes and settings that keep everything within five minutes on two cores; a model that matters takes the defaults.
SIZES: dict[str, tuple[str, ...]] = {
    "mortality": (),
    "synth": ("--subjects", "2000"),
    "vitals": ("--days", "1", "--set", "monitors.people=260", "--set", "monitors.step_seconds=60"),
    "safety": ("--days", "28", "--set", "operations.size=0.2"),
}
QUICK: dict[str, tuple[str, ...]] = {
    "mortality": ("training.members=2", "training.max_steps=400"),
    "synth": ("latent.people=8", "latent.visits=8", "latent.iterations=8", "judging.comparators=[marginals]"),
    "vitals": ("grid.step_seconds=60", "detector.batches=300", "document.fitted=false"),
    "safety": (
        *("block_days=3", "model.d_model=32", "batches=20", "descent.epochs=4"),
        "most_pathways=3000",
    ),
}
# The configuration whose explanations can be certified, and on how much the demo judges it: see docs/explain.md.
EXPLAINED = "explained"
CERTIFY = ("--certify", "--judge", "removal", "--subjects", "600", "--set", "training.max_steps=200")
# Application → part of the simulated hospital, the source that reads it, and where in the raw folder it lies.
PARTS = {
    "mortality": ("stays", "hospital", ""),
    "synth": ("histories", "hospital-histories", "histories"),
    "vitals": ("vitals", "hospital-vitals", "monitors"),
    "safety": ("operations", "hospital-operations", "operations"),
}
# What each application calls the seed of its training.
SEEDS = {"mortality": "training.seed", "synth": "latent.seed", "vitals": "seed", "safety": "descent.seed"}
TASK = "in_icu_death_24h"
# Whom the records of beds are told by, and how often; a label's moment is when the replay begins.
RISKS: dict[str, Any] = {
    "run": "runs/mortality",
    "dataset": "dataset/mortality",
    "labels": "labels",
    "every_hours": 2,
}
# A recording's day passes in 24 minutes, so that something happens while somebody watches.
REPLAY: dict[str, Any] = {"split": schema.HELD_OUT, "speed": 60, "start_hours": 2, "ward": "A"}


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Args:
        application: Which part of the demo it belongs to.
        words: What stands behind `caretrace`.
    """

    application: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("caretrace", *self.words))


def steps(out: Path, applications: Sequence[str], subjects: int, seed: int) -> list[Step]:
    """Every command of the demo, in order.

    Args:
        out: Folder of the demo.
        applications: Which applications.
        subjects: People with stays, for `mortality`; the other parts have sizes of their own.
        seed: Of the simulation and of the training.
    """
    return [
        Step(name, tuple(words)) for name in applications for words in _commands(name, out, subjects, seed)
    ]


def _commands(name: str, out: Path, subjects: int, seed: int) -> list[list[str]]:
    part, source, folder = PARTS[name]
    raw, dataset, run = out / "raw" / name, out / "dataset" / name, out / "runs" / name
    size = [*SIZES[name], *(["--subjects", str(subjects)] if name == "mortality" else [])]
    simulate = ["simulate", f"{raw}", "--part", part, *size, "--seed", str(seed)]
    ingest = ["ingest", source, f"{raw / folder}", f"{dataset}"]
    train = ["train", name, f"{dataset}", "--out", f"{run}"]
    settings = list(QUICK[name])
    commands = [simulate, ingest]
    if name == "mortality":
        labels = f"{out / 'labels'}"
        commands.append(["cohort", name, f"{dataset}", "--task", TASK, "--out", labels])
        train += ["--labels", labels, "--config", EXPLAINED]
    if name == "vitals":  # alarms in known events are not false ones when thresholds are chosen
        settings.append(f"events={raw / folder / 'truth' / 'events.parquet'}")
    settings.append(f"{SEEDS[name]}={seed}")
    train += [word for setting in settings for word in ("--set", setting)]
    fewer = (
        ["--replicates", "100"] if name in ("vitals", "safety") else []
    )  # whole recordings, whole weeks: slow
    commands += [train, ["evaluate", f"{run}", *fewer]]
    if name == "mortality":
        commands.append(["explain", f"{run}", *CERTIFY])
    return [*commands, ["report", f"{run}", "--out", f"{out / name}.html"]]


def perform(step: Step) -> dict[str, Any]:
    """Run a command in this process, and return what it prints under `--json`.

    Raises:
        CaretraceError: It could not do what was asked.
    """
    from caretrace.cli import build_app

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = build_app()([*step.words, "--json", "--quiet"], standalone_mode=False)
    if code:
        raise CaretraceError(f"`{step}` ended with code {code}; run it alone to see why")
    answer = said.getvalue()
    return dict(json.loads(answer)) if answer else {}


def describe(applications: Sequence[str], out: Path | None = None) -> dict[str, Any]:
    """What `demo.json` says: runs to serve, the recordings to replay, and whose records lie in their beds.

    Args:
        applications: Which applications.
        out: Folder of the demo, to which the paths are relative; without it there are no records.
    """
    described: dict[str, Any] = {
        "runs": {name: f"runs/{name}" for name in applications},
        "datasets": {name: f"dataset/{name}" for name in applications},
        "pages": {name: f"{name}.html" for name in applications},
    }
    if "vitals" in applications:
        described["replay"] = {"run": "runs/vitals", "dataset": "dataset/vitals", **REPLAY}
        if out is not None and "mortality" in applications:
            described["risks"] = _risks(out)
    return described


def _risks(out: Path) -> dict[str, Any]:
    """Monitors and stays of the virtual hospital have different people, so the demo pairs them, and says so."""
    from caretrace.dataset import Dataset
    from caretrace.serve.paired import NOTE, pair

    beds, records = Dataset(out / "dataset/vitals"), Dataset(out / RISKS["dataset"])
    records_of = pair(beds, records, out / RISKS["labels"], REPLAY["split"])
    return {**RISKS, "split": REPLAY["split"], "note": NOTE, "records": records_of}
