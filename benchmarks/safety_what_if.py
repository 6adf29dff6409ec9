"""What-if: interventions switched in the simulator, beside what a trained model says of them.

    caretrace bench safety -- --work build/safety --seeds 0
    caretrace bench safety_what_if -- --run build/safety/run-0

Cities with one intervention each (ten more ambulances, one more nurse, a discharge lounge) and without any share
their demand. The table, with intervals over weeks, is written into the run, whose report then shows it.
"""

from __future__ import annotations

import argparse
import dataclasses
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


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--run", type=Path, required=True, help="a run of safety")
    made.add_argument("--seeds", type=int, nargs="*", default=[21, 22, 23], help="of the cities")
    made.add_argument("--days", type=int, default=42)
    made.add_argument("--levers", nargs="*", default=list(LEVERS), choices=list(LEVERS))
    made.add_argument("--threads", type=int, default=1)
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every lever's effect, simulated and as the model sees it."""
    torch.set_num_threads(options.threads)
    fitted = load(Run(options.run))
    settings = dataclasses.replace(fitted.config, kinds=(HOSPITAL, PATHWAY))
    fitted = dataclasses.replace(fitted, config=settings)
    base: list[Weeks] = []
    changed: dict[str, list[Weeks]] = {name: [] for name in options.levers}
    edited: dict[str, list[Weeks]] = {name: [] for name in options.levers if LEVERS[name].edit}
    for seed in options.seeds:
        kinds = _city(fitted, options.days, seed, Interventions())
        base.append(weeks(fitted, kinds))
        for name, each in edited.items():
            edit = LEVERS[name].edit
            if edit is not None:
                each.append(weeks(fitted, {kind: edit(one) for kind, one in kinds.items()}))
        for name, each in changed.items():
            each.append(weeks(fitted, _city(fitted, options.days, seed, LEVERS[name].interventions)))
        say(f"city {seed} done")
    found = {name: effects(base, changed[name], edited.get(name)) for name in options.levers}
    told = {name: {"words": LEVERS[name].words, "outcomes": each} for name, each in found.items()}
    write_json(Run(options.run).evaluation / "what_if.json", told)
    say(
        markdown(
            HEAD, [_row(name, outcome, each) for name, one in found.items() for outcome, each in one.items()]
        )
    )
    return [
        Case(f"{LEVERS[name].words}: {OUTCOMES[outcome]}", "", each["seen"]["value"],
             {"simulated": each["simulated"]["value"]})
        for name, one in found.items()
        for outcome, each in one.items()
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
