"""The safety models on simulated cities: trained on one replication, judged on another, with several seeds.

    caretrace bench safety -- --work build/safety
    caretrace bench safety -- --work build/safety --seeds 0 1 --days 112 --set model.backbone=mamba
    caretrace bench safety -- --work build/varied --vary-staffing --seeds 0 --branches 0

Cities, sequences, boosted trees and every seed's verdict stay in the folder, so that a call that was stopped goes on
where it was. Beside every figure: the comparators on the same hours, and how well somebody could do who saw
everything latent (the oracle, which runs the whole city forward many times). `figures.md` in the folder is the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import polars as pl
import safety_false
import safety_oracle
import torch
from cases import Case, run, say
from safety_table import Table

from caretrace import schema
from caretrace.application.run import Run
from caretrace.apps.safety import comparators
from caretrace.apps.safety.application import APPLICATION
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.evaluate import judge
from caretrace.apps.safety.learning import fit_ensemble
from caretrace.apps.safety.lending import with_lent
from caretrace.apps.safety.reading import Kinds, read_splits, read_whole
from caretrace.apps.safety.sequences import HOSPITAL, Scaling, Sequences
from caretrace.apps.safety.training import Fitted, finish, fit_comparators, predict_all, save_run
from caretrace.apps.safety.training import load as read_run
from caretrace.apps.safety.verdict import by_part, decision
from caretrace.config import load
from caretrace.dataset import Dataset
from caretrace.files import whole_folder, write_json
from caretrace.hospital.operations import OperationsConfig, simulate_operations
from caretrace.hospital.operations.ceilings import ceilings
from caretrace.hospital.operations.config import VARIED, Trials
from caretrace.ingest import ingest

CITY = OperationsConfig()
LEARNED, JUDGED, HOURS = "learned", "judged", "hours"


def parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, required=True, help="folder for cities, sequences and verdicts")
    made.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the network")
    made.add_argument("--days", type=int, default=364)
    made.add_argument("--learned", type=int, default=11, help="seed of the city that is learned from")
    made.add_argument("--judged", type=int, default=12, help="seed of the city that is judged on")
    made.add_argument(
        "--vary-staffing",
        action="store_true",
        help="the city that is learned from tries out other numbers of crews and nurses; give it a folder of its own",
    )
    made.add_argument(
        "--branches", type=int, default=30, help="futures per hour the oracle is asked; 0: none"
    )
    made.add_argument(
        "--oracle-step", type=int, default=61, help="hours from one question to the oracle to the next"
    )
    made.add_argument(
        "--oracle-hours", type=int, nargs="*", default=[1, 8, 24], help="horizons the oracle is asked for"
    )
    made.add_argument(
        "--oracle-hourly",
        type=int,
        nargs=2,
        metavar=("FROM", "UNTIL"),
        help="days in which the oracle is asked every hour, 8 h ahead, for its false warnings",
    )
    made.add_argument("--replicates", type=int, default=500, help="of the bootstrap")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--set", nargs="*", default=[], help="settings, as `caretrace train --set` takes them")
    return made


def bench(options: argparse.Namespace) -> list[Case]:
    """Every seed's verdict, and the figures over the seeds."""
    torch.set_num_threads(options.threads)
    config: SafetyConfig = load(SafetyConfig, None, options.set)
    # What it learns from is read first: the city of a folder is made once.
    trials = VARIED if options.vary_staffing else Trials()
    learned_city = dataclasses.replace(CITY, trials=trials)
    city(options.work, options.learned, options.days, learned_city)
    learned = with_lent(sequences(options.work, options.learned, options.days, config, LEARNED))
    judged = sequences(options.work, options.judged, options.days, config, JUDGED)[JUDGED]
    base = _with_comparators(options.work, learned, config)
    verdicts = [_verdict(options, base, learned, judged, seed) for seed in options.seeds]
    chances = [pl.read_parquet(_chances(options, seed)) for seed in options.seeds]
    oracle = _against_oracle(options, chances)
    raw = options.work / f"raw-{options.judged}"
    table = Table(verdicts, {name: each.value for name, each in ceilings(raw).items()}, oracle)
    false = [safety_false.table(chances, safety_oracle.WHO[1:]), *_false_of_oracle(options, chances)]
    text = "\n\n".join([table.markdown(), *false]) + "\n"
    (options.work / "figures.md").write_text(text, encoding="utf-8")
    say(text)
    return table.cases()


def city(work: Path, seed: int, days: int, settings: OperationsConfig | None = None) -> Dataset:
    """A simulated city as a dataset, made if it is not there yet; `CITY` by default."""
    raw, data = work / f"raw-{seed}", work / f"data-{seed}"
    if not raw.exists():
        say(f"simulating city {seed}")
        simulate_operations(raw, settings or CITY, days, seed)
    if not data.exists():
        ingest("hospital-operations", raw, data)
    return Dataset(data)


def sequences(work: Path, seed: int, days: int, config: SafetyConfig, use: str) -> dict[str, Kinds]:
    """Sequences of training and tuning blocks (`LEARNED`), or of all the time; read once, then kept by use."""
    folder = work / f"sequences-{seed}-{use}"
    if not (folder / "about.json").exists():
        dataset = city(work, seed, days)
        say(f"reading city {seed}")
        if use != LEARNED:
            parts = {use: read_whole(dataset, config)}
        else:
            parts = read_splits(dataset, config, (schema.TRAIN, schema.TUNING))
        _keep(folder, parts)
    return _kept(folder)


def _keep(folder: Path, parts: dict[str, Kinds]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    for part, kinds in parts.items():
        for kind, each in kinds.items():
            each.steps.write_parquet(folder / f"{part}-{kind}.parquet")
            fields = {name: getattr(each, name) for name in ("numeric", "categorical", "targets")}
            about.setdefault(part, {})[kind] = fields
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _kept(folder: Path) -> dict[str, Kinds]:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return {
        part: {
            kind: Sequences(
                kind,
                pl.read_parquet(folder / f"{part}-{kind}.parquet"),
                **{name: tuple(value) for name, value in fields.items()},
            )
            for kind, fields in kinds.items()
        }
        for part, kinds in about.items()
    }


def _with_comparators(work: Path, learned: dict[str, Kinds], config: SafetyConfig) -> Fitted:
    """Scalings and comparators, which do not depend on the seed of the network; fitted once, then kept."""
    train, tuning = learned[schema.TRAIN], learned[schema.TUNING]
    scalings = {kind: Scaling.fit(each) for kind, each in train.items()}
    for kind in train:
        folder = work / "comparators" / kind
        if folder.exists():
            continue
        say(f"fitting comparators of {kind}")
        only = {kind: train[kind]}, {kind: tuning[kind]}
        each = fit_comparators(*only, scalings, config)[kind]
        with whole_folder(folder) as made:
            comparators.save(made, each[comparators.TREES], each[comparators.LINEAR], each["tables"])
    others = {kind: comparators.read(work / "comparators" / kind) for kind in train}
    return Fitted(config, scalings, [], others)


def _verdict(
    options: argparse.Namespace, base: Fitted, learned: dict[str, Kinds], judged: Kinds, seed: int
) -> dict[str, Any]:
    """Fit one seed and judge it; read back if that was done before."""
    file = options.work / f"seed-{seed}-city-{options.judged}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    say(f"seed {seed}")
    folder = options.work / f"run-{seed}"
    if not folder.exists():
        descent = dataclasses.replace(base.config.descent, seed=seed)
        made, log = _fit(base, dataclasses.replace(base.config, descent=descent), learned)
        dataset = city(options.work, options.learned, options.days)
        save_run(folder, made, dataset, APPLICATION.title, log, {})
    fitted = read_run(Run(folder))
    predictions = predict_all(fitted, judged)
    say("  judging")
    found = judge(judged, predictions, replicates=options.replicates, seed=0)
    found |= {
        "application": APPLICATION.name,
        "split": None,
        "n": sum(len(each.steps) for each in judged.values()),
    }
    found["n_subjects"] = sum(each.steps["sequence"].n_unique() for each in judged.values())
    found["by"] = by_part(judged, predictions, options.replicates, 0)
    found["decision"] = decision(judged, predictions)
    write_json(Run(folder).evaluation / "evaluation.json", found)
    found["shares"] = {kind: each.share for kind, each in fitted.finishes.items()}
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found["log"] = [json.loads(line) for line in lines]
    safety_oracle.keep_chances(_chances(options, seed), judged[HOSPITAL], predictions[HOSPITAL])
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


def _chances(options: argparse.Namespace, seed: int) -> Path:
    work: Path = options.work
    return work / f"chances-{seed}-city-{options.judged}.parquet"


def _fit(
    base: Fitted, config: SafetyConfig, learned: dict[str, Kinds]
) -> tuple[Fitted, list[dict[str, float]]]:
    """The network of one seed beside the comparators that are there, and its log."""
    arrays = {
        split: {kind: base.scalings[kind].apply(each) for kind, each in kinds.items()}
        for split, kinds in learned.items()
    }
    members, log = fit_ensemble(
        base.scalings,
        arrays[schema.TRAIN],
        arrays[schema.TUNING],
        config,
        lambda _member, record: say(
            f"  epoch {record['epoch']:.0f}, tuning loss {record['tuning_loss']:.4f}"
        ),
    )
    return finish(dataclasses.replace(base, config=config, members=members), learned[schema.TUNING]), log


def _against_oracle(options: argparse.Namespace, chances: list[pl.DataFrame]) -> dict[str, dict[str, float]]:
    """What `safety_oracle.against` finds; nothing where the oracle is not asked."""
    if not options.branches:
        return {}
    hours = safety_oracle.spread(options.days, options.oracle_step, options.oracle_hours)
    asked = options.work, CITY, options.judged, hours, options.branches, options.oracle_hours
    return safety_oracle.against(safety_oracle.ask(*asked), chances)


def _false_of_oracle(options: argparse.Namespace, chances: list[pl.DataFrame]) -> list[str]:
    """A table of false warnings in the days in which the oracle was asked every hour, its own among them."""
    if not options.branches or not options.oracle_hourly:
        return []
    first, until = options.oracle_hourly
    hours = list(range(24 * first, 24 * until))
    ahead = [safety_false.AHEAD]
    asked = safety_oracle.ask(options.work, CITY, options.judged, hours, options.branches, ahead)
    both = [safety_oracle.beside(asked, one, safety_false.AHEAD) for one in chances]
    return [safety_false.table(both, safety_oracle.WHO)]


if __name__ == "__main__":
    raise SystemExit(run(bench, parser(), lambda options: options.threads))
