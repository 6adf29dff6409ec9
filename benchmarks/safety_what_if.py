"""What-if: interventions switched in the simulator, beside what a trained model says of them.

    caretrace bench safety -- --work build/safety --seeds 0
    caretrace bench safety_what_if -- --run build/safety/run-0
    caretrace bench safety_what_if -- --run build/safety/run-0 build/varied/run-0 --seeds 41 42 43

Cities with one intervention each (ten more ambulances, one more nurse, a discharge lounge) and without any share
their demand. The table, with intervals over weeks, is written into each run, whose report then shows it. What was
found of a city stays there too, so that a call that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from cases import Case, run, say
from safety_table import markdown

from caretrace.application.run import Run
from caretrace.apps.safety.reading import Kinds, read_whole
from caretrace.apps.safety.sequences import HOSPITAL, PATHWAY
from caretrace.apps.safety.training import Fitted, load
from caretrace.apps.safety.what_if import LEVERS, OUTCOMES, Weeks, effects, weeks
from caretrace.dataset import Dataset
from caretrace.files import write_json
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.hospital.operations.config import Interventions
from caretrace.ingest import ingest

CITY = OperationsConfig()
BASE = "base"


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--run", type=Path, nargs="+", required=True, help="runs of safety, asked of the same cities"
    )
    made.add_argument("--seeds", type=int, nargs="*", default=[21, 22, 23], help="of the cities")
    made.add_argument("--days", type=int, default=42)
    made.add_argument("--levers", nargs="*", default=list(LEVERS), choices=list(LEVERS))
    made.add_argument("--threads", type=int, default=1)
    return made


@dataclasses.dataclass
class Asked:
    """What one run said of every city."""

    run: Run
    fitted: Fitted
    base: list[Weeks]
    changed: dict[str, list[Weeks]]
    edited: dict[str, list[Weeks]]

    @classmethod
    def of(cls, path: Path, levers: list[str]) -> Asked:
        """Nothing asked yet."""
        fitted = load(Run(path))
        settings = dataclasses.replace(fitted.config, kinds=(HOSPITAL, PATHWAY))
        return cls(
            Run(path),
            dataclasses.replace(fitted, config=settings),
            [],
            {name: [] for name in levers},
            {name: [] for name in levers if LEVERS[name].edit},
        )

    def ask(self, kinds: Kinds, file: Path, *, edits: bool) -> None:
        """What it says of a city, and of the same with edited inputs, to a file."""
        found = {BASE: weeks(self.fitted, kinds)}
        for name in self.edited if edits else ():
            edit = LEVERS[name].edit
            if edit is not None:
                found[name] = weeks(self.fitted, {kind: edit(steps) for kind, steps in kinds.items()})
        write_json(file, {name: each.to_dict() for name, each in found.items()})

    def take(self, file: Path, variant: str) -> None:
        """What `ask` wrote of the city as it is (no variant) or with a lever."""
        found = {
            name: Weeks.from_dict(each) for name, each in json.loads(file.read_text(encoding="utf-8")).items()
        }
        (self.changed[variant] if variant else self.base).append(found[BASE])
        if not variant:
            for name, each in self.edited.items():
                each.append(found[name])

    def effects(self) -> dict[str, dict[str, Any]]:
        """Lever → outcome → what `what_if.effects` finds."""
        return {name: effects(self.base, each, self.edited.get(name)) for name, each in self.changed.items()}


def bench(options: argparse.Namespace) -> list[Case]:
    """Every lever's effect, simulated and as the models see it."""
    torch.set_num_threads(options.threads)
    asked = [Asked.of(path, options.levers) for path in options.run]
    for seed in options.seeds:
        for variant in ("", *options.levers):
            files = [
                one.run.evaluation / f"what_if-{seed}-{options.days}-{variant or BASE}.json" for one in asked
            ]
            if not all(file.exists() for file in files):
                changes = LEVERS[variant].interventions if variant else Interventions()
                kinds = _city(asked[0].fitted, options.days, seed, changes)
                for one, file in zip(asked, files, strict=True):
                    one.ask(kinds, file, edits=not variant)
            for one, file in zip(asked, files, strict=True):
                one.take(file, variant)
        say(f"city {seed} done")
    return [case for one in asked for case in _told(one)]


def _told(one: Asked) -> list[Case]:
    """The table of one run, written into it and said."""
    found = one.effects()
    told = {name: {"words": LEVERS[name].words, "outcomes": each} for name, each in found.items()}
    write_json(one.run.evaluation / "what_if.json", told)
    rows = [
        _row(name, outcome, each) for name, outcomes in found.items() for outcome, each in outcomes.items()
    ]
    say(f"{one.run.path}\n{markdown(HEAD, rows)}")
    return [
        Case(f"{one.run.path.parent.name}, {LEVERS[name].words}: {OUTCOMES[outcome]}", "", each["seen"]["value"],
             {"simulated": each["simulated"]["value"]})
        for name, outcomes in found.items()
        for outcome, each in outcomes.items()
    ]  # fmt: skip


HEAD = [
    "change",
    "outcome",
    "without",
    "simulated effect",
    "seen by the model",
    "part of it",
    "inputs edited",
]


def _city(fitted: Fitted, days: int, seed: int, interventions: Interventions) -> Kinds:
    """Sequences of a city that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        raw, data = Path(scratch) / "raw", Path(scratch) / "data"
        simulate_operations(raw, dataclasses.replace(CITY, interventions=interventions), days, seed)
        ingest("hospital-operations", raw, data)
        return read_whole(Dataset(data), fitted.config)


def _row(name: str, outcome: str, each: dict[str, Any]) -> list[str]:
    def cell(value: dict[str, float] | None, digits: int = 4) -> str:
        if value is None:
            return "no such input"
        return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(
            value["value"], value["low"], value["high"], n=digits
        )

    part = cell(each["seen_share"], 2) if each["seen_share"] else "effect not clear of 0"
    return [
        LEVERS[name].words,
        OUTCOMES[outcome],
        f"{each['base']:.3f}",
        cell(each["simulated"]),
        cell(each["seen"]),
        part,
        cell(each["edited"]),
    ]


if __name__ == "__main__":
    raise SystemExit(run(bench, parser(), lambda options: options.threads))
